//! Image references: `[host[:port]/]path[:tag][@sha256:…]`, with the short forms of Docker Hub.
//!
//! The grammar is that of the distribution project ("reference"). Which address a name's traffic goes to is decided here
//! too, because Docker Hub's differs from its name; how that address is spoken to is not.

use std::fmt;
use std::str::FromStr;

use crate::digest::Digest;

/// A complete, normalised image reference.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// A text that is not an image reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an image reference: {reason}")]
pub struct ReferenceError {
    text: String,
    reason: &'static str,
}

impl Reference {
    /// The registry's name with its port, `docker.io` for Docker Hub.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The `host[:port]` that requests go to: the domain, except that Docker Hub answers under another name.
    pub fn traffic_host(&self) -> &str {
        if self.domain == HUB {
            HUB_TRAFFIC
        } else {
            &self.domain
        }
    }

    /// The repository's path on its registry, such as `library/debian`.
    pub fn repository(&self) -> &str {
        &self.path
    }

    /// The tag, `latest` if neither tag nor digest was given.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if the reference is pinned.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// What names the manifest in a request: the digest if there is one, else the tag.
    pub fn target(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => LATEST.to_owned(),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.domain, self.path)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).map_err(|reason| ReferenceError {
            text: text.chars().take(120).collect(),
            reason,
        })
    }
}

fn parse(text: &str) -> Result<Reference, &'static str> {
    if text.len() > TEXT_BYTES_MAX {
        return Err("it is too long");
    }
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (
            rest,
            Some(
                digest
                    .parse()
                    .map_err(|_| "its digest is not sha256:<64 lower-case hex digits>")?,
            ),
        ),
        None => (text, None),
    };
    let (name, tag) = split_tag(rest);
    let (domain, path) = split_domain(name)?;
    let path = if domain == HUB && !path.contains('/') {
        format!("library/{path}")
    } else {
        path.to_owned()
    };
    if domain.len() + 1 + path.len() > NAME_BYTES_MAX {
        return Err("its name is longer than 255 characters");
    }
    if !path.split('/').all(is_path_component) {
        return Err(
            "its path may hold lower-case letters and digits, separated by '.', '_', '__', '-' and '/'",
        );
    }
    if tag.is_some_and(|tag| !is_tag(tag)) {
        return Err(
            "its tag may hold up to 128 letters, digits, '_', '.' and '-', and starts with none of the last two",
        );
    }
    let tag = match (tag, digest) {
        (None, None) => Some(LATEST.to_owned()),
        (tag, _) => tag.map(str::to_owned),
    };
    Ok(Reference {
        domain,
        path,
        tag,
        digest,
    })
}

/// Cuts the tag off: what follows the last colon, unless a slash comes after it (then it is a port).
fn split_tag(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') && !tag.contains(']') => (name, Some(tag)),
        Some(_) | None => (text, None),
    }
}

fn split_domain(name: &str) -> Result<(String, &str), &'static str> {
    let Some((first, rest)) = name.split_once('/') else {
        return Ok((HUB.to_owned(), name));
    };
    let is_domain = first == "localhost"
        || first.contains(['.', ':', '['])
        || first.bytes().any(|byte| byte.is_ascii_uppercase());
    if !is_domain {
        return Ok((HUB.to_owned(), name));
    }
    if first == HUB || first == HUB_INDEX || first == HUB_TRAFFIC {
        return Ok((HUB.to_owned(), rest));
    }
    check_domain(first)?;
    Ok((first.to_owned(), rest))
}

fn check_domain(domain: &str) -> Result<(), &'static str> {
    let (host, port) = match domain.strip_prefix('[') {
        Some(bracketed) => {
            let (address, after) = bracketed
                .split_once(']')
                .ok_or("its host has an unclosed bracket")?;
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return Err("its host is not an IPv6 address");
            }
            match after.strip_prefix(':') {
                Some(port) => (None, Some(port)),
                None if after.is_empty() => (None, None),
                None => return Err("its host has text after the bracket"),
            }
        }
        None => match domain.split_once(':') {
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(domain), None),
        },
    };
    if host.is_some_and(|host| !host.split('.').all(is_host_label)) {
        return Err("its host is not a host name");
    }
    let is_port = |port: &str| {
        port.bytes().all(|byte| byte.is_ascii_digit())
            && port.parse::<u16>().is_ok_and(|port| port != 0)
    };
    if port.is_some_and(|port| !is_port(port)) {
        return Err("its port is not a number from 1 to 65535");
    }
    Ok(())
}

fn is_host_label(label: &str) -> bool {
    !label.is_empty()
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Runs of letters and digits, separated by one `.`, one or two `_`, or any number of `-`.
fn is_path_component(component: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = component.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    is_word(*first)
        && is_word(*last)
        && bytes.split(|byte| is_word(*byte)).all(|separator| {
            matches!(separator, b"" | b"." | b"_" | b"__")
                || separator.iter().all(|byte| *byte == b'-')
        })
}

fn is_tag(tag: &str) -> bool {
    tag.len() <= TAG_BYTES_MAX
        && !tag.is_empty()
        && !tag.starts_with(['.', '-'])
        && tag
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

const HUB: &str = "docker.io";
const HUB_INDEX: &str = "index.docker.io";
const HUB_TRAFFIC: &str = "registry-1.docker.io";
const LATEST: &str = "latest";
const TAG_BYTES_MAX: usize = 128;
const NAME_BYTES_MAX: usize = 255;
const TEXT_BYTES_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn normalises_short_names_as_docker_does() {
        let pinned = format!("debian@{DIGEST}");
        let pinned_full = format!("docker.io/library/debian@{DIGEST}");
        let both = format!("[::1]:5000/a/b:1@{DIGEST}");
        let table = [
            (
                "debian",
                "docker.io/library/debian:latest",
                "registry-1.docker.io",
            ),
            (
                "debian:12",
                "docker.io/library/debian:12",
                "registry-1.docker.io",
            ),
            (
                "team/app",
                "docker.io/team/app:latest",
                "registry-1.docker.io",
            ),
            (
                "index.docker.io/debian",
                "docker.io/library/debian:latest",
                "registry-1.docker.io",
            ),
            (
                "docker.io/library/debian:12",
                "docker.io/library/debian:12",
                "registry-1.docker.io",
            ),
            (
                "registry-1.docker.io/team/app:1",
                "docker.io/team/app:1",
                "registry-1.docker.io",
            ),
            ("localhost/app", "localhost/app:latest", "localhost"),
            (
                "localhost:5000/app",
                "localhost:5000/app:latest",
                "localhost:5000",
            ),
            (
                "127.0.0.1:5000/a/b:1",
                "127.0.0.1:5000/a/b:1",
                "127.0.0.1:5000",
            ),
            ("Host/app", "Host/app:latest", "Host"),
            ("[::1]/app:1", "[::1]/app:1", "[::1]"),
            (
                "r.example/a__b/c.d/e---f/g_h:V-1.2_3",
                "r.example/a__b/c.d/e---f/g_h:V-1.2_3",
                "r.example",
            ),
            (&pinned, &pinned_full, "registry-1.docker.io"),
            (&both, &both, "[::1]:5000"),
        ];
        for (text, shown, traffic) in table {
            let reference: Reference = text.parse().unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(reference.to_string(), shown);
            assert_eq!(reference.traffic_host(), traffic, "{text}");
            assert_eq!(
                shown.parse::<Reference>().unwrap(),
                reference,
                "round trip of {text}"
            );
        }
    }

    #[test]
    fn asks_by_digest_when_there_is_one() {
        let reference: Reference = format!("a/b:1@{DIGEST}").parse().unwrap();
        assert_eq!(reference.target(), DIGEST);
        assert_eq!("a/b:1".parse::<Reference>().unwrap().target(), "1");
    }

    #[test]
    fn refuses_what_is_no_reference() {
        let long_tag = format!("a:{}", "x".repeat(129));
        let long_name = format!("r.example/{}", "x".repeat(250));
        let huge = "a".repeat(2000);
        for text in [
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            "A",
            "Debian",
            "a:",
            "a:-1",
            "a:.1",
            "a:b c",
            "a b",
            "a@",
            "a@sha256:00",
            "a@sha512:00",
            "https://r.example/a",
            "r.example:0/a",
            "r.example:99999/a",
            "r.example:x/a",
            "r..example/a",
            "-r.example/a",
            "[::1/a",
            "[x]/a",
            "[::1]x/a",
            "user:password@r.example/a",
            "a___b",
            "a..b",
            "a._b",
            "_a",
            "a_",
            "../a",
            "a/../b",
            "a?b",
            "a%2fb",
            &long_tag,
            &long_name,
            &huge,
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text:?} was accepted");
        }
    }
}
