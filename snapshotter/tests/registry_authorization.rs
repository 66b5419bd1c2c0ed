//! Demands for credentials: what is asked of whom, how often, and what is never shown to anybody.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod registry_support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parapull_snapshotter::registry::{
    Class, Credentials, FetchError, Options, PlainHttp, Read, Registry, Secret,
};
use registry_support::{Network, Reply, Seen, app, blob_reply, descriptor, pattern, read, reply};

const CHALLENGE: &str = r#"Bearer realm="http://auth.example/token",service="r.example",scope="repository:team/app:pull""#;

#[tokio::test]
async fn fetches_an_anonymous_token_and_keeps_it() {
    let network = guarded(|_| token("t1", 300));
    let client = network.client();

    for _ in 0..3 {
        fetch(&client).await.unwrap();
    }

    let asked: Vec<_> = network
        .requests()
        .into_iter()
        .filter(|seen| seen.host == "auth.example")
        .collect();
    assert_eq!(asked.len(), 1);
    assert_eq!(
        asked[0].target,
        "/token?service=r.example&scope=repository%3Ateam%2Fapp%3Apull"
    );
    assert!(!asked[0].headers.contains_key("authorization"));
    assert_eq!(
        network.requests_to("r.example"),
        4,
        "only the first request was sent without the token"
    );
}

#[tokio::test]
async fn many_demands_fetch_one_token() {
    let network = guarded(|_| token("t1", 300));
    let client = network.client();
    let all: Vec<_> = (0..20)
        .map(|_| {
            tokio::spawn({
                let client = client.clone();
                async move { fetch(&client).await }
            })
        })
        .collect();
    for one in all {
        one.await.unwrap().unwrap();
    }
    assert_eq!(network.requests_to("auth.example"), 1);
}

#[tokio::test]
async fn a_token_refused_in_mid_pull_is_renewed_once_for_all() {
    let issued = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&issued);
    let network = guarded(move |_| {
        token(
            &format!("t{}", counter.fetch_add(1, Ordering::SeqCst) + 1),
            300,
        )
    });
    let client = network.client();
    fetch(&client).await.unwrap();

    accept_only(&network, "Bearer t2");
    let all: Vec<_> = (0..20)
        .map(|_| {
            tokio::spawn({
                let client = client.clone();
                async move { fetch(&client).await }
            })
        })
        .collect();
    for one in all {
        one.await.unwrap().unwrap();
    }

    assert_eq!(issued.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_token_that_does_not_help_is_an_error_after_one_renewal() {
    let network = guarded(|_| token("useless", 300));
    accept_only(&network, "Bearer another");
    let client = network.client();
    let error = fetch(&client).await.unwrap_err();
    assert_eq!(
        (error.class(), error.kind(), error.host()),
        (Class::Auth, "auth", "r.example")
    );
    assert_eq!(
        (
            network.requests_to("r.example"),
            network.requests_to("auth.example")
        ),
        (2, 1)
    );
    fetch(&client).await.unwrap_err();
    assert_eq!(
        (
            network.requests_to("r.example"),
            network.requests_to("auth.example")
        ),
        (4, 2)
    );
}

#[tokio::test]
async fn a_password_that_has_expired_is_looked_up_again() {
    // Some registries call an expired password a 403; who is known by a helper has a new one then.
    let network = Network::default();
    let accepted = |password: &'static str| {
        move |seen: &Seen| match seen.headers.get("authorization").map(String::as_str) {
            None => Reply::Send(reply(401, &[("WWW-Authenticate", "Basic")], b"")),
            Some(value) if value == password => blob_reply(seen, &pattern(10)),
            Some(_) => Reply::Send(reply(
                403,
                &[],
                br#"{"errors":[{"code":"DENIED","message":"expired"}]}"#,
            )),
        }
    };
    network.host("r.example", 80, accepted("Basic YTox"));
    let (client, folder) = with_config(
        &network,
        r#"{"auths": {"r.example": {"username": "a", "password": "1"}}}"#,
    );
    fetch(&client).await.unwrap();

    network.host("r.example", 80, accepted("Basic YToy"));
    let error = fetch(&client).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "r.example: the server answers 403: DENIED: expired"
    );
    std::fs::write(
        folder.path().join("config.json"),
        r#"{"auths": {"r.example": {"username": "a", "password": "2"}}}"#,
    )
    .unwrap();
    let before = network.requests().len();
    fetch(&client).await.unwrap();
    assert_eq!(network.requests().len() - before, 2);
}

#[tokio::test]
async fn says_when_a_login_is_missing() {
    let network = guarded(|_| token("anonymous", 300));
    let error = fetch(&network.client()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "r.example: the server answers 401: (there are no credentials for this registry)"
    );
    let error = fetch(&user(&network)).await.unwrap_err();
    assert_eq!(error.to_string(), "r.example: the server answers 401");
}

#[tokio::test(start_paused = true)]
async fn a_token_is_renewed_before_it_expires() {
    let network = guarded(|_| token("t1", 100));
    let client = network.client();
    fetch(&client).await.unwrap();
    tokio::time::advance(Duration::from_secs(85)).await;
    fetch(&client).await.unwrap();
    assert_eq!(network.requests_to("auth.example"), 1);
    tokio::time::advance(Duration::from_secs(6)).await;
    fetch(&client).await.unwrap();
    assert_eq!(network.requests_to("auth.example"), 2);
    let refused = network
        .requests()
        .iter()
        .filter(|seen| seen.host == "r.example" && !seen.headers.contains_key("authorization"))
        .count();
    assert_eq!(refused, 1, "the renewal needs no refusal");
}

#[tokio::test]
async fn answers_of_token_services() {
    let table: Vec<(&str, Vec<u8>, Option<Class>)> = vec![
        ("token", reply(200, &[], br#"{"token":"t1"}"#), None),
        (
            "access token",
            reply(
                200,
                &[],
                br#"{"access_token":"t1","expires_in":10,"issued_at":"x"}"#,
            ),
            None,
        ),
        (
            "empty token beside",
            reply(200, &[], br#"{"token":"","access_token":"t1"}"#),
            None,
        ),
        (
            "absurd lifetime",
            reply(
                200,
                &[],
                br#"{"token":"t1","expires_in":18446744073709551615}"#,
            ),
            None,
        ),
        ("no token", reply(200, &[], b"{}"), Some(Class::Fatal)),
        ("no JSON", reply(200, &[], b"<html>"), Some(Class::Fatal)),
        (
            "token with a line end",
            reply(200, &[], br#"{"token":"t1\r\nX: y"}"#),
            Some(Class::Fatal),
        ),
        (
            "large",
            reply(200, &[], &vec![b' '; (1 << 20) + 1]),
            Some(Class::Fatal),
        ),
        ("401", reply(401, &[], b""), Some(Class::Auth)),
        ("403", reply(403, &[], b""), Some(Class::Auth)),
        ("429", reply(429, &[], b""), Some(Class::RateLimited)),
        ("503", reply(503, &[], b""), Some(Class::Retry)),
        (
            "redirect",
            reply(302, &[("Location", "http://evil.example/")], b""),
            Some(Class::Fatal),
        ),
        ("closed", Vec::new(), Some(Class::Retry)),
    ];
    for (what, bytes, expected) in table {
        let network = guarded(move |_| Reply::SendAndClose(bytes.clone()));
        let outcome = fetch(&network.client()).await;
        assert_eq!(
            outcome.map_err(|error| error.class()).err(),
            expected,
            "{what}"
        );
    }
}

#[tokio::test]
async fn those_who_wait_share_a_failure() {
    let network = guarded(|_| Reply::Send(reply(503, &[("Retry-After", "3")], b"")));
    let client = network.client();
    let all: Vec<_> = (0..20)
        .map(|_| {
            tokio::spawn({
                let client = client.clone();
                async move { fetch(&client).await }
            })
        })
        .collect();
    for one in all {
        let error = one.await.unwrap().unwrap_err();
        assert_eq!(error.retry_after(), Some(Duration::from_secs(3)));
        assert_eq!(error.host(), "auth.example");
    }
    assert!(
        network.requests_to("auth.example") < 20,
        "each waiter asked again"
    );

    let before = network.requests_to("auth.example");
    fetch(&client).await.unwrap_err();
    assert_eq!(
        network.requests_to("auth.example"),
        before + 1,
        "a later request asks anew"
    );
}

#[tokio::test]
async fn a_password_goes_to_the_token_service_and_the_token_to_the_registry() {
    let network = guarded(
        |seen| match seen.headers.get("authorization").map(String::as_str) {
            Some("Basic dXNlcjpwYXNz") => token("t1", 300),
            _ => Reply::Send(reply(401, &[], b"")),
        },
    );
    let client = user(&network);
    fetch(&client).await.unwrap();
    for seen in network
        .requests()
        .iter()
        .filter(|seen| seen.host == "r.example")
    {
        assert!(
            seen.headers
                .get("authorization")
                .is_none_or(|value| value == "Bearer t1"),
            "{seen:?}"
        );
    }
}

#[tokio::test]
async fn basic_is_sent_when_demanded_and_not_before() {
    let network = Network::default();
    network.host("r.example", 80, |seen| {
        match seen.headers.get("authorization").map(String::as_str) {
            Some("Basic dXNlcjpwYXNz") => blob_reply(seen, &pattern(10)),
            _ => Reply::Send(reply(
                401,
                &[("WWW-Authenticate", "Basic realm=\"x\"")],
                b"",
            )),
        }
    });
    let client = user(&network);
    fetch(&client).await.unwrap();
    fetch(&client).await.unwrap();
    let sent: Vec<_> = network
        .requests()
        .iter()
        .map(|seen| seen.headers.contains_key("authorization"))
        .collect();
    assert_eq!(sent, [false, true, true]);

    let error = fetch(&network.client()).await.unwrap_err();
    assert_eq!(error.class(), Class::Auth);
    assert!(
        error.to_string().contains("user name and a password"),
        "{error}"
    );
}

#[tokio::test]
async fn a_token_service_without_tls_is_refused_to_a_registry_with_tls() {
    let (network, options, _folder) = registry_support::secure(&["r.example"], |_| {
        Reply::Send(reply(401, &[("WWW-Authenticate", CHALLENGE)], b""))
    });
    network.host("auth.example", 80, |_| token("t1", 300));
    let client = Registry::new(options).unwrap();
    let error = fetch(&client).await.unwrap_err();
    assert_eq!(error.class(), Class::Auth);
    assert!(error.to_string().contains("without TLS"), "{error}");
    assert_eq!(network.dials("auth.example", 80), 0);
}

#[tokio::test]
async fn identities_share_connections_but_no_tokens() {
    let network = guarded(|seen| {
        token(
            if seen.headers.contains_key("authorization") {
                "t1"
            } else {
                "anonymous"
            },
            300,
        )
    });
    let client = user(&network);
    fetch(&client).await.unwrap();

    let error = fetch(&client.with_credentials(Credentials::Anonymous))
        .await
        .unwrap_err();

    assert_eq!(error.class(), Class::Auth);
    assert_eq!(network.dials("r.example", 80), 1);
}

#[tokio::test]
async fn an_identity_token_is_traded_in() {
    let network = guarded(|_| token("t1", 300));
    let (client, _folder) = with_config(
        &network,
        r#"{"auths": {"r.example": {"identitytoken": "refresh & me"}}}"#,
    );
    fetch(&client).await.unwrap();
    let asked = network
        .requests()
        .into_iter()
        .find(|seen| seen.host == "auth.example")
        .unwrap();
    assert_eq!(
        (asked.method.as_str(), asked.target.as_str()),
        ("POST", "/token")
    );
    assert_eq!(
        asked.body,
        "service=r.example&grant_type=refresh_token&client_id=parapull&scope=repository%3Ateam%2Fapp%3Apull&refresh_token=refresh%20%26%20me"
    );
}

#[test]
fn secrets_are_not_shown() {
    let credentials = Credentials::User {
        name: "user".to_owned(),
        password: Secret::new("hunter2"),
    };
    let options = Options {
        credentials,
        ..Options::default()
    };
    let shown = format!("{options:?} {:?}", Registry::new(options.clone()).unwrap());
    assert!(!shown.contains("hunter2"), "{shown}");
    assert_eq!(options.plain_http, PlainHttp::Loopback);
}

/// A registry that wants `Bearer t1`, and its token service.
fn guarded(service: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Network {
    let network = Network::default();
    accept_only(&network, "Bearer t1");
    network.host("auth.example", 80, service);
    network
}

fn accept_only(network: &Network, authorization: &'static str) {
    network.host("r.example", 80, move |seen| {
        match seen.headers.get("authorization") {
            Some(value) if value == authorization => blob_reply(seen, &pattern(10)),
            _ => Reply::Send(reply(
                401,
                &[("WWW-Authenticate", CHALLENGE)],
                b"who are you?",
            )),
        }
    });
}

fn token(token: &str, seconds: u64) -> Reply {
    Reply::Send(reply(
        200,
        &[],
        format!(r#"{{"token":"{token}","expires_in":{seconds}}}"#).as_bytes(),
    ))
}

fn user(network: &Network) -> Registry {
    let credentials = Credentials::User {
        name: "user".to_owned(),
        password: Secret::new("pass"),
    };
    network.client().with_credentials(credentials)
}

fn with_config(network: &Network, config: &str) -> (Registry, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    std::fs::write(&path, config).unwrap();
    (
        network
            .client()
            .with_credentials(Credentials::DockerConfig(path)),
        folder,
    )
}

async fn fetch(client: &Registry) -> Result<(), FetchError> {
    let blob = pattern(10);
    let opened = client
        .open(&app(), 0, &descriptor(&blob), Read::Whole)
        .await?;
    assert_eq!(read(opened).await?.1, blob);
    Ok(())
}
