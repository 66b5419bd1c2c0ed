//! Reads the paths and queries of the distribution API.

use crate::journal::{Origin, RequestKind};

/// What a path of that origin asks for.
pub(super) fn kind_of(origin: Origin, path: &str) -> RequestKind {
    if origin == Origin::Storage {
        return match path.strip_prefix("/storage/") {
            Some(digest) => RequestKind::Blob {
                digest: digest.to_owned(),
            },
            None => RequestKind::Other,
        };
    }
    match path {
        "/v2" | "/v2/" => return RequestKind::Ping,
        "/token" => return RequestKind::Token,
        _ => {}
    }
    match split_object(path) {
        Some((name, "manifests", reference)) => RequestKind::Manifest {
            name: name.to_owned(),
            reference: reference.to_owned(),
        },
        Some((_, "blobs", digest)) => RequestKind::Blob {
            digest: digest.to_owned(),
        },
        _ => RequestKind::Other,
    }
}

/// The repository a path names.
pub(super) fn repository_of(path: &str) -> Option<String> {
    split_object(path).map(|(name, _, _)| name.to_owned())
}

/// `/v2/<name>/<collection>/<reference>`; the name may have slashes.
fn split_object(path: &str) -> Option<(&str, &str, &str)> {
    let rest = path.strip_prefix("/v2/")?;
    let (rest, reference) = rest.rsplit_once('/')?;
    let (name, collection) = rest.rsplit_once('/')?;
    Some((name, collection, reference))
}

/// The text behind `%` escapes; scopes arrive with `:` and `/` escaped.
pub(super) fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = (first == b'%')
            .then(|| tail.get(..2))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(escaped.unwrap_or(if first == b'+' { b' ' } else { first }));
        rest = if escaped.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_their_objects() {
        for (path, expected) in [
            ("/v2/", RequestKind::Ping),
            ("/token", RequestKind::Token),
            (
                "/v2/a/b/c/manifests/latest",
                RequestKind::Manifest {
                    name: "a/b/c".to_owned(),
                    reference: "latest".to_owned(),
                },
            ),
            (
                "/v2/blobs/blobs/sha256:0",
                RequestKind::Blob {
                    digest: "sha256:0".to_owned(),
                },
            ),
            ("/v2/a/tags/list", RequestKind::Other),
            ("/storage/sha256:0", RequestKind::Other),
        ] {
            assert_eq!(kind_of(Origin::Registry, path), expected, "{path}");
        }
        assert_eq!(repository_of("/v2/a/b/blobs/x").as_deref(), Some("a/b"));
    }

    #[test]
    fn scopes_are_decoded() {
        assert_eq!(
            percent_decoded("repository%3Aa%2Fb%3Apull"),
            "repository:a/b:pull"
        );
        assert_eq!(percent_decoded("a+b%zz%4"), "a b%zz%4");
    }
}
