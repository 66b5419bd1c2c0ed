//! Origins and locations: where a request goes, and what may follow it there.
//!
//! An origin is scheme, host and port; credentials are bound to one. A location adds path and query. Neither is ever shown
//! with its query, because signed addresses carry their signature there.

use std::fmt;

use http::uri::PathAndQuery;

/// How an origin is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Scheme {
    Http,
    Https,
}

/// Scheme, host and port; the host is lower case and without brackets.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Origin {
    pub(super) scheme: Scheme,
    pub(super) host: String,
    pub(super) port: u16,
}

/// An origin with a path and a query.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Location {
    pub(super) origin: Origin,
    pub(super) path: PathAndQuery,
}

impl Scheme {
    fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

impl Origin {
    /// Parses `host[:port]`, with an IPv6 address in brackets.
    pub(super) fn parse(scheme: Scheme, authority: &str) -> Option<Self> {
        let (host, port) = match authority.strip_prefix('[') {
            Some(bracketed) => {
                let (host, after) = bracketed.split_once(']')?;
                host.parse::<std::net::Ipv6Addr>().ok()?;
                (
                    host,
                    if after.is_empty() {
                        None
                    } else {
                        Some(after.strip_prefix(':')?)
                    },
                )
            }
            None => match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        let is_host_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
        if host.is_empty() || !host.bytes().all(is_host_byte) {
            return None;
        }
        let port = match port {
            Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
                port.parse().ok().filter(|port| *port != 0)?
            }
            Some(_) => return None,
            None => scheme.default_port(),
        };
        Some(Self {
            scheme,
            host: host.to_ascii_lowercase(),
            port,
        })
    }

    /// `host[:port]` as it stands in a `Host` header and in messages; the scheme's own port is left out.
    pub(super) fn authority(&self) -> String {
        if self.port == self.scheme.default_port() {
            self.bracketed_host()
        } else {
            self.authority_with_port()
        }
    }

    /// `host:port`, always with the port.
    pub(super) fn authority_with_port(&self) -> String {
        format!("{}:{}", self.bracketed_host(), self.port)
    }

    fn bracketed_host(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        }
    }

    /// Whether the host is this machine: `localhost`, 127.0.0.0/8 or ::1.
    pub(super) fn is_loopback(&self) -> bool {
        self.host == "localhost"
            || self.host.ends_with(".localhost")
            || self
                .host
                .parse::<std::net::IpAddr>()
                .is_ok_and(|address| address.is_loopback())
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.name(), self.authority())
    }
}

impl Location {
    /// A path on an origin; nothing if the path cannot stand in a request.
    pub(super) fn new(origin: Origin, path: &str) -> Option<Self> {
        let path = PathAndQuery::try_from(path).ok()?;
        Some(Self { origin, path })
    }

    /// Parses an absolute `http` or `https` URL. A fragment is dropped, user information is refused.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return None,
        };
        let rest = without_fragment(rest);
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let origin = Origin::parse(scheme, authority)?;
        Self::rooted(origin, path)
    }

    /// Resolves a `Location` header against this location (RFC 3986, section 5.2, for the forms servers use).
    pub(super) fn join(&self, text: &str) -> Option<Self> {
        let text = without_fragment(text.trim());
        if text.contains("://") && !text.starts_with(['/', '?']) {
            return Self::parse(text);
        }
        if let Some(rest) = text.strip_prefix("//") {
            return Self::parse(&format!("{}://{rest}", self.origin.scheme.name()));
        }
        if text.starts_with('/') {
            return Self::rooted(self.origin.clone(), text);
        }
        if text.starts_with('?') {
            return Self::rooted(self.origin.clone(), &format!("{}{text}", self.path.path()));
        }
        let folder = self
            .path
            .path()
            .rsplit_once('/')
            .map_or("", |(folder, _)| folder);
        Self::rooted(self.origin.clone(), &format!("{folder}/{text}"))
    }

    /// The same location with `name=value` pairs added to its query.
    pub(super) fn with_query(&self, pairs: &[(&str, &str)]) -> Option<Self> {
        let mut text = self.path.to_string();
        for (name, value) in pairs {
            text.push(if text.contains('?') { '&' } else { '?' });
            text.push_str(name);
            text.push('=');
            text.push_str(&percent_encoded(value));
        }
        Self::new(self.origin.clone(), &text)
    }

    fn rooted(origin: Origin, path: &str) -> Option<Self> {
        if path.starts_with('/') {
            Self::new(origin, path)
        } else {
            Self::new(origin, &format!("/{path}"))
        }
    }
}

/// Shows origin and path, and of a query only that there is one.
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let query = if self.path.query().is_some() {
            "?…"
        } else {
            ""
        };
        write!(f, "{}{}{query}", self.origin, self.path.path())
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Encodes everything but RFC 3986's unreserved characters.
pub(super) fn percent_encoded(text: &str) -> String {
    use fmt::Write as _;
    text.bytes()
        .fold(String::with_capacity(text.len()), |mut encoded, byte| {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                encoded.push(char::from(byte));
            } else {
                let _ = write!(encoded, "%{byte:02X}");
            }
            encoded
        })
}

fn without_fragment(text: &str) -> &str {
    text.split('#').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn resolves_redirects() {
        let base = Location::parse("https://r.example:5000/v2/a/blobs/x?q=1").unwrap();
        let table = [
            ("https://s.example/y", Some("https://s.example/y")),
            ("HTTPS://S.example:443/y", Some("https://s.example/y")),
            ("http://s.example:80", Some("http://s.example/")),
            ("https://s.example?sig=secret", Some("https://s.example/?…")),
            ("//s.example/y", Some("https://s.example/y")),
            ("/y?sig=secret#f", Some("https://r.example:5000/y?…")),
            ("y", Some("https://r.example:5000/v2/a/blobs/y")),
            ("?z", Some("https://r.example:5000/v2/a/blobs/x?…")),
            (
                "/y?next=https://other.example/",
                Some("https://r.example:5000/y?…"),
            ),
            ("https://[::1]:5000/y", Some("https://[::1]:5000/y")),
            ("https://user:password@s.example/y", None),
            ("ftp://s.example/y", None),
            ("https:///y", None),
            ("https://s.example:0/y", None),
            ("https://s.example:+1/y", None),
            ("https://s.example/a b", None),
        ];
        for (text, expected) in table {
            let shown = base.join(text).map(|location| location.to_string());
            assert_eq!(shown.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn equal_origins_compare_equal() {
        let origin = |text| Location::parse(text).unwrap().origin;
        assert_eq!(
            origin("https://R.example/a"),
            origin("https://r.example:443/b")
        );
        for other in [
            "http://r.example/",
            "https://r.example:444/",
            "https://r.example.evil/",
        ] {
            assert_ne!(origin("https://r.example/"), origin(other));
        }
    }

    #[test]
    fn queries_are_encoded() {
        let realm = Location::parse("https://auth.example/token?a=b").unwrap();
        let location = realm
            .with_query(&[("scope", "repository:a/b:pull"), ("service", "r & s")])
            .unwrap();
        assert_eq!(
            location.path,
            "/token?a=b&scope=repository%3Aa%2Fb%3Apull&service=r%20%26%20s"
        );
    }

    #[test]
    fn knows_this_machine() {
        for (host, expected) in [
            ("localhost:5000", true),
            ("127.0.0.9", true),
            ("[::1]:1", true),
            ("10.0.0.1", false),
            ("localhost.example", false),
        ] {
            assert_eq!(
                Origin::parse(Scheme::Http, host).unwrap().is_loopback(),
                expected,
                "{host}"
            );
        }
    }

    proptest! {
        #[test]
        fn random_locations_never_panic_and_never_show_their_query(
            text in "(https?|//|:|/|\\?|#|@|\\[|\\]|::1|[a-z0-9.]{1,5}|é| ){0,12}",
            query in "[A-Z]{8}",
        ) {
            let base = Location::parse("https://r.example/v2/").unwrap();
            if let Some(location) = base.join(&text) {
                prop_assert!(location.path.as_str().starts_with('/'));
            }
            if let Some(location) = base.join(&format!("{text}?{query}")) {
                let shown = format!("{location} {location:?}");
                prop_assert!(!shown.contains(&query));
            }
        }
    }
}
