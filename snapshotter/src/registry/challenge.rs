//! `WWW-Authenticate`: what a registry demands of those it does not know (RFC 9110, section 11.6.1).

use http::HeaderMap;
use http::header::WWW_AUTHENTICATE;

/// A demand that can be met.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Challenge {
    /// User name and password with every request.
    Basic,
    /// A token from a token service.
    Bearer {
        realm: String,
        service: Option<String>,
        scope: Option<String>,
    },
}

impl Challenge {
    /// The demand to meet: the first `Bearer` with a realm, else `Basic`; nothing if all are of other kinds.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut challenges = Vec::new();
        for value in headers.get_all(WWW_AUTHENTICATE) {
            // Header values may hold any byte; a challenge that matters is ASCII.
            if let Ok(text) = value.to_str() {
                parse(text, &mut challenges);
            }
        }
        let bearer = challenges
            .iter()
            .find(|challenge| matches!(challenge, Self::Bearer { .. }));
        bearer.or(challenges.first()).cloned()
    }
}

/// Parses `scheme name=value, name="value", scheme …`, keeping what is understood.
fn parse(text: &str, challenges: &mut Vec<Challenge>) {
    let mut rest = text;
    let mut scheme: Option<String> = None;
    let mut parameters: Vec<(String, String)> = Vec::new();
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (word, after) = token(rest);
        if word.is_empty() {
            break;
        }
        let value = after.trim_start_matches([' ', '\t']).strip_prefix('=');
        match value {
            // `token68` credentials end in '=' and have no value; no challenge we meet has them.
            Some(value) if scheme.is_some() => {
                let (value, after) = parameter_value(value.trim_start_matches([' ', '\t']));
                parameters.push((word.to_ascii_lowercase(), value));
                rest = after;
            }
            Some(_) => break,
            None => {
                finish(scheme.as_deref(), &mut parameters, challenges);
                scheme = Some(word.to_ascii_lowercase());
                rest = after;
            }
        }
    }
    finish(scheme.as_deref(), &mut parameters, challenges);
}

fn finish(
    scheme: Option<&str>,
    parameters: &mut Vec<(String, String)>,
    challenges: &mut Vec<Challenge>,
) {
    let mut take = |name: &str| {
        let position = parameters.iter().position(|(known, _)| known == name)?;
        Some(parameters.swap_remove(position).1).filter(|value| !value.is_empty())
    };
    match scheme {
        Some("basic") => challenges.push(Challenge::Basic),
        Some("bearer") => {
            if let Some(realm) = take("realm") {
                challenges.push(Challenge::Bearer {
                    realm,
                    service: take("service"),
                    scope: take("scope"),
                });
            }
        }
        Some(_) | None => {}
    }
    parameters.clear();
}

fn token(text: &str) -> (&str, &str) {
    let is_token = |character: char| {
        character.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~/:".contains(character)
    };
    text.split_at(
        text.find(|character| !is_token(character))
            .unwrap_or(text.len()),
    )
}

/// A quoted string with its escapes undone, or what stands up to the next comma or blank.
fn parameter_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        let (value, rest) = text.split_at(end);
        return (value.to_owned(), rest);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((index, character)) = characters.next() {
        match character {
            '"' => return (value, &quoted[index + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn picks_the_demand_that_can_be_met() {
        let bearer = |realm: &str, service: Option<&str>, scope: Option<&str>| {
            Some(Challenge::Bearer {
                realm: realm.to_owned(),
                service: service.map(str::to_owned),
                scope: scope.map(str::to_owned),
            })
        };
        let full = bearer(
            "https://auth.example/token",
            Some("r.example"),
            Some("repository:a/b:pull,push"),
        );
        let table: Vec<(&[&str], Option<Challenge>)> = vec![
            (
                &[
                    r#"Bearer realm="https://auth.example/token",service="r.example",scope="repository:a/b:pull,push""#,
                ],
                full.clone(),
            ),
            (
                &[
                    r#"bearer  Realm = "https://auth.example/token" , service=r.example, scope="repository:a/b:pull,push", error="invalid_token""#,
                ],
                full.clone(),
            ),
            (
                &[
                    r#"Basic realm="x", Bearer realm="https://auth.example/token",service="r.example",scope="repository:a/b:pull,push""#,
                ],
                full.clone(),
            ),
            (
                &[r#"Basic realm="x""#, r#"Bearer realm="https://a/""#],
                bearer("https://a/", None, None),
            ),
            (
                &[r#"Bearer realm="https://a/", Basic realm="x""#],
                bearer("https://a/", None, None),
            ),
            (
                &[r#"Bearer realm="a\"b\\c",service="""#],
                bearer("a\"b\\c", None, None),
            ),
            (&["Basic"], Some(Challenge::Basic)),
            (
                &[r#"BASIC realm="Registry, with a comma""#],
                Some(Challenge::Basic),
            ),
            (&["Negotiate", "Basic realm=x"], Some(Challenge::Basic)),
            (&["Negotiate abc==, Digest realm=\"x\", nonce=\"y\""], None),
            (&["Bearer service=\"x\""], None),
            (
                &["Bearer realm=\"unterminated"],
                bearer("unterminated", None, None),
            ),
            (&[""], None),
            (&[], None),
        ];
        for (values, expected) in table {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(WWW_AUTHENTICATE, HeaderValue::from_str(value).unwrap());
            }
            assert_eq!(Challenge::of(&headers), expected, "{values:?}");
        }
    }

    proptest! {
        #[test]
        fn random_headers_never_panic(text in "(Bearer|Basic|x|=|,| |\"|\\\\|realm|é){0,40}") {
            let mut challenges = Vec::new();
            parse(&text, &mut challenges);
        }
    }
}
