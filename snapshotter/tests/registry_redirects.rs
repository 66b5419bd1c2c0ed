//! Redirects: where they may lead, what is shown there, and how long they are remembered.

mod registry_support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parapull_snapshotter::registry::{
    Cause, Class, Credentials, FetchError, Read, Registry, Secret,
};
use registry_support::{
    Network, Reply, app, blob_reply, descriptor, pattern, read, redirect, reply, secure,
};

#[tokio::test]
async fn credentials_stay_with_the_registry() {
    let network = Network::default();
    network.host("r.example", 80, |seen| {
        match seen.headers.get("authorization") {
            Some(_) => redirect("http://store.example/blob?sig=secret"),
            None => Reply::Send(reply(401, &[("WWW-Authenticate", "Basic")], b"")),
        }
    });
    // Another port is another origin, and there is no way back to trust.
    network.host("store.example", 80, |_| {
        redirect("http://r.example:81/blob")
    });
    network.host("r.example", 81, |_| redirect("http://r.example/v3/blob"));
    let client = user(&network);

    fetch(&client).await.unwrap_err();

    let shown: Vec<_> = network
        .requests()
        .iter()
        .map(|seen| {
            (
                seen.target.clone(),
                seen.headers.contains_key("authorization"),
            )
        })
        .collect();
    let blob = format!("/v2/team/app/blobs/{}", descriptor(&pattern(100)).digest);
    let expected = [
        (blob.as_str(), false),
        (&blob, true),
        ("/blob?sig=secret", false),
        ("/blob", false),
        ("/v3/blob", false),
    ];
    assert_eq!(
        shown,
        expected.map(|(target, shown)| (target.to_owned(), shown))
    );
}

#[tokio::test]
async fn credentials_follow_within_the_origin() {
    let network = Network::default();
    network.host("r.example", 80, |seen| {
        match (seen.headers.get("authorization"), seen.target.as_str()) {
            (None, _) => Reply::Send(reply(401, &[("WWW-Authenticate", "Basic")], b"")),
            (Some(_), "/elsewhere") => blob_reply(seen, &pattern(100)),
            (Some(_), _) => redirect("/elsewhere"),
        }
    });
    fetch(&user(&network)).await.unwrap();
}

#[tokio::test]
async fn the_credentials_of_a_registry_do_not_answer_a_redirect_target() {
    for status in [401, 403] {
        let network = Network::default();
        network.host("r.example", 80, |_| {
            redirect("http://store.example/blob?sig=secret")
        });
        network.host("store.example", 80, move |_| {
            Reply::Send(reply(status, &[("WWW-Authenticate", "Basic")], b"secret"))
        });
        let error = fetch(&user(&network)).await.unwrap_err();
        assert!(
            matches!(error.cause(), Cause::RedirectDenied { .. }),
            "{error}"
        );
        assert_eq!(
            (error.class(), error.host()),
            (Class::Retry, "store.example")
        );
        assert!(!error.to_string().contains("secret"), "{error}");
        assert_eq!(network.requests_to("store.example"), 1);
        assert!(
            network
                .requests()
                .iter()
                .all(|seen| !seen.headers.contains_key("authorization"))
        );
    }
}

#[tokio::test]
async fn redirects_that_are_not_followed() {
    let table: [(&[(&str, &str)], &str); 6] = [
        (
            &[("Location", "http://user:password@store.example/")],
            "redirects to an unusable address",
        ),
        (
            &[("Location", "ftp://store.example/")],
            "redirects to an unusable address",
        ),
        (
            &[("Location", "http://store.example/a b")],
            "redirects to an unusable address",
        ),
        (
            &[("Location", "http://store.example/\u{e9}")],
            "redirects to an unusable address",
        ),
        (&[], "redirects without saying where"),
        (&[("Location", "/again")], "redirects more than 5 times"),
    ];
    for (headers, message) in table {
        let network = Network::default();
        let bytes = reply(302, headers, b"");
        network.host("r.example", 80, move |_| Reply::Send(bytes.clone()));
        let error = fetch(&network.client()).await.unwrap_err();
        assert_eq!(error.class(), Class::Fatal);
        assert!(error.to_string().contains(message), "{error}");
        assert!(network.requests().len() <= 6);
        assert!(!error.to_string().contains("password"), "{error}");
    }
}

#[tokio::test]
async fn five_hops_are_followed() {
    let network = Network::default();
    network.host("r.example", 80, |seen| match seen.target.as_str() {
        "/5" => blob_reply(seen, &pattern(100)),
        "/1" => redirect("/2"),
        "/2" => redirect("3"),
        "/3" => redirect("//r.example/4"),
        "/4" => redirect("http://r.example/5"),
        _ => redirect("/1"),
    });
    fetch(&network.client()).await.unwrap();
}

#[tokio::test]
async fn tls_is_never_left() {
    let (network, options, _folder) = secure(&["r.example", "store.example"], |seen| {
        match seen.host.as_str() {
            "r.example" => redirect("https://store.example/blob"),
            _ => redirect("http://plain.example/blob?sig=secret"),
        }
    });
    network.host("plain.example", 80, |seen| blob_reply(seen, &pattern(100)));
    let error = fetch(&Registry::new(options).unwrap()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "store.example: the server redirects from https to http://plain.example, which is refused"
    );
    assert_eq!(error.class(), Class::Fatal);
    assert_eq!(network.dials("plain.example", 80), 0);
}

#[tokio::test]
async fn tls_may_be_entered() {
    let (network, options, _folder) =
        secure(&["store.example"], |seen| blob_reply(seen, &pattern(100)));
    network.host("r.example", 80, |_| redirect("https://store.example/blob"));
    let options = parapull_snapshotter::registry::Options {
        plain_http: parapull_snapshotter::registry::PlainHttp::Always,
        ..options
    };
    fetch(&Registry::new(options).unwrap()).await.unwrap();
}

#[tokio::test]
async fn further_ranges_go_straight_to_the_target() {
    let network = redirected();
    let client = network.client();
    let blob = pattern(100);
    for start in 0..5 {
        let opened = client
            .open(
                &app(),
                0,
                &descriptor(&blob),
                Read::Ranged(start..start + 10),
            )
            .await
            .unwrap();
        let range = usize::try_from(start).unwrap()..usize::try_from(start).unwrap() + 10;
        assert_eq!(read(opened).await.unwrap(), (true, blob[range].to_vec()));
    }
    assert_eq!(network.requests_to("r.example"), 1);
    assert_eq!(network.requests_to("store.example"), 5);

    let other = "r.example/team/other:1".parse().unwrap();
    client
        .open(&other, 0, &descriptor(&blob), Read::Whole)
        .await
        .unwrap();
    client
        .with_credentials(Credentials::Anonymous)
        .open(&app(), 0, &descriptor(&blob), Read::Whole)
        .await
        .unwrap();
    assert_eq!(
        network.requests_to("r.example"),
        3,
        "neither another repository nor another identity profits"
    );
}

#[tokio::test]
async fn an_expired_target_is_asked_for_again_once() {
    for status in [400, 401, 403, 404, 410] {
        let network = redirected();
        let client = network.client();
        fetch(&client).await.unwrap();
        expire(&network, status);
        fetch(&client).await.unwrap();
        assert_eq!(
            (
                network.requests_to("r.example"),
                network.requests_to("store.example")
            ),
            (2, 3),
            "{status}"
        );
    }
}

#[tokio::test]
async fn a_target_that_stays_expired_is_an_error() {
    let network = redirected();
    let client = network.client();
    fetch(&client).await.unwrap();
    network.host("store.example", 80, |_| Reply::Send(reply(403, &[], b"")));
    let error = fetch(&client).await.unwrap_err();
    assert_eq!(error.class(), Class::Retry);
    assert_eq!(
        (
            network.requests_to("r.example"),
            network.requests_to("store.example")
        ),
        (2, 3)
    );
}

#[tokio::test]
async fn a_target_that_fails_is_forgotten() {
    let failures: [(fn() -> Reply, usize); 4] = [
        (|| Reply::Send(reply(500, &[], b"")), 2),
        (|| Reply::Close, 2),
        (|| Reply::Send(reply(200, &[], b"short")), 2),
        (|| Reply::Send(reply(429, &[], b"")), 1),
    ];
    for (failure, asked) in failures {
        let network = redirected();
        let client = network.client();
        fetch(&client).await.unwrap();
        network.host("store.example", 80, move |_| failure());
        fetch(&client).await.unwrap_err();
        assert_eq!(
            network.requests_to("r.example"),
            1,
            "whether to repeat is not for the client to say"
        );
        network.host("store.example", 80, |seen| blob_reply(seen, &pattern(100)));
        fetch(&client).await.unwrap();
        assert_eq!(network.requests_to("r.example"), asked);
    }
}

fn redirected() -> Network {
    let network = Network::default();
    let count = AtomicUsize::new(0);
    network.host("r.example", 80, move |_| {
        redirect(&format!(
            "http://store.example/blob?sig={}",
            count.fetch_add(1, Ordering::SeqCst)
        ))
    });
    network.host("store.example", 80, |seen| blob_reply(seen, &pattern(100)));
    network
}

/// Lets the first signed address expire.
fn expire(network: &Network, status: u16) {
    let served = Arc::new(pattern(100));
    network.host("store.example", 80, move |seen| {
        match seen.target.as_str() {
            "/blob?sig=0" => Reply::Send(reply(status, &[], b"Expired")),
            _ => blob_reply(seen, &served),
        }
    });
}

fn user(network: &Network) -> Registry {
    let credentials = Credentials::User {
        name: "user".to_owned(),
        password: Secret::new("pass"),
    };
    network.client().with_credentials(credentials)
}

async fn fetch(client: &Registry) -> Result<(), FetchError> {
    let blob = pattern(100);
    let opened = client
        .open(&app(), 0, &descriptor(&blob), Read::Whole)
        .await?;
    assert_eq!(read(opened).await?.1, blob);
    Ok(())
}
