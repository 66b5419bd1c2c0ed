//! From a reference to an image: what is asked for, what is verified, and when a request is repeated.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod registry_support;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use parapull_snapshotter::digest::Digest;
use parapull_snapshotter::image::{Image, Platform, Reference};
use parapull_snapshotter::registry::{
    Class, Credentials, Dial, Dialling, FetchError, NoRetry, Options, PlainHttp, Read, Registry,
    RegistryError, RetryAdvice, Secret, TcpDial,
};
use registry_support::{
    Network, Reply, Seen, app, blob_reply, descriptor, pattern, read, reply, secure,
};
use serde_json::{Value, json};

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

#[tokio::test]
async fn resolves_through_an_index() {
    let content = Content::image("amd64");
    let arm = Content::image("arm64");
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [arm.entry(), content.entry()]});
    let (network, index_digest) = content.published_under(&index.to_string());

    let image = resolve(&network, &app(), &NoRetry).await.unwrap();

    assert_eq!(image.reference, app());
    assert_eq!(image.manifest_bytes, content.manifest);
    assert_eq!(
        image.manifest_digest,
        Digest::of(content.manifest.as_bytes())
    );
    assert_ne!(image.manifest_digest, index_digest);
    assert_eq!(image.config_digest, Digest::of(content.config.as_bytes()));
    assert_eq!(image.layers[0].diff_id, Digest::of(b"amd64 tar"));
    let requests = network.requests();
    assert_eq!(requests[0].target, "/v2/team/app/manifests/1");
    assert!(
        requests[0].headers["accept"].contains(OCI_INDEX),
        "{:?}",
        requests[0].headers
    );
    assert_eq!(
        requests[1].target,
        format!("/v2/team/app/manifests/{}", image.manifest_digest)
    );
    assert_eq!(
        requests[2].target,
        format!("/v2/team/app/blobs/{}", image.config_digest)
    );
    assert_eq!(network.dials("r.example", 80), 1);
}

#[tokio::test]
async fn resolves_a_pinned_reference_by_its_digest() {
    let content = Content::image("amd64");
    let (network, digest) = content.published_under(&content.manifest);
    let reference: Reference = format!("r.example/team/app:moved@{digest}")
        .parse()
        .unwrap();
    let image = resolve(&network, &reference, &NoRetry).await.unwrap();
    assert_eq!(image.manifest_digest, digest);
    assert_eq!(
        network.requests()[0].target,
        format!("/v2/team/app/manifests/{digest}")
    );
}

#[tokio::test]
async fn documents_that_are_not_what_their_digest_names_are_refused() {
    let content = Content::image("amd64");
    let other = Content::image("arm64");
    let pinned: Reference = format!(
        "r.example/team/app@{}",
        Digest::of(content.manifest.as_bytes())
    )
    .parse()
    .unwrap();
    let wrong_header = Digest::of(b"something else").to_string();
    let table = [
        (
            "pinned manifest",
            pinned.clone(),
            HashMap::from([(pinned.target(), reply(200, &[], other.manifest.as_bytes()))]),
        ),
        (
            "manifest against its header",
            app(),
            HashMap::from([(
                "1".to_owned(),
                reply(
                    200,
                    &[("Docker-Content-Digest", &wrong_header)],
                    content.manifest.as_bytes(),
                ),
            )]),
        ),
        (
            "configuration",
            app(),
            HashMap::from([
                ("1".to_owned(), reply(200, &[], content.manifest.as_bytes())),
                (
                    Digest::of(content.config.as_bytes()).to_string(),
                    reply(200, &[], other.config.as_bytes()),
                ),
            ]),
        ),
    ];
    for (what, reference, answers) in table {
        let network = Network::default();
        network.host("r.example", 80, move |seen| {
            let name = seen.target.rsplit('/').next().unwrap_or_default();
            Reply::Send(
                answers
                    .get(name)
                    .cloned()
                    .unwrap_or_else(|| reply(404, &[], b"")),
            )
        });
        let error = resolve(&network, &reference, &NoRetry).await.unwrap_err();
        assert_eq!(error.kind(), "corrupt", "{what}: {error}");
    }
}

#[tokio::test]
async fn images_that_cannot_be_pulled_are_told_apart() {
    let amd64 = Content::image("amd64");
    let arm64 = Content::image("arm64");
    let schema1 = json!({"schemaVersion": 1, "fsLayers": []}).to_string();
    let foreign = json!({"schemaVersion": 2, "manifests": [arm64.entry()]}).to_string();
    let large = " ".repeat((4 << 20) + 1);
    let mut large_config: Value = serde_json::from_str(&amd64.manifest).unwrap();
    large_config["config"]["size"] = json!((8 << 20) + 1);
    let table = [
        (
            schema1,
            "bad_image",
            "r.example: manifest is of Docker schema 1",
        ),
        (
            foreign,
            "bad_image",
            "r.example: no image for platform linux/amd64; the index offers linux/arm64",
        ),
        (
            arm64.manifest.clone(),
            "not_found",
            "r.example: the server answers 404",
        ),
        (
            large,
            "registry",
            "r.example: the manifest has more than 4194304 bytes",
        ),
        (
            large_config.to_string(),
            "bad_image",
            "at most 8388608 are accepted",
        ),
        (
            "{".to_owned(),
            "bad_image",
            "r.example: manifest is malformed",
        ),
    ];
    for (document, kind, message) in table {
        let (network, _) = amd64.published_under(&document);
        let error = resolve(&network, &app(), &NoRetry).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.host()),
            (kind, Some("r.example")),
            "{error}"
        );
        assert!(error.to_string().contains(message), "{error}");
    }
}

#[tokio::test]
async fn an_index_that_contains_itself_has_an_end() {
    let network = Network::default();
    let network_of_indexes = Mutex::new((0_u64, HashMap::<String, String>::new()));
    network.host("r.example", 80, move |seen| {
        let mut state = network_of_indexes.lock().unwrap();
        let name = seen.target.rsplit('/').next().unwrap_or_default().to_owned();
        // Each index names a next one that is made up on the way; ten are prepared from the innermost out.
        if state.1.is_empty() {
            let mut inner = json!({"schemaVersion": 2, "manifests": []}).to_string();
            for _ in 0..10 {
                let entry = json!({"mediaType": OCI_INDEX, "digest": Digest::of(inner.as_bytes()), "size": inner.len()});
                state.1.insert(Digest::of(inner.as_bytes()).to_string(), inner);
                inner = json!({"schemaVersion": 2, "manifests": [entry]}).to_string();
            }
            state.1.insert("1".to_owned(), inner);
        }
        state.0 += 1;
        Reply::Send(reply(200, &[], state.1[&name].as_bytes()))
    });
    let error = resolve(&network, &app(), &NoRetry).await.unwrap_err();
    assert!(error.to_string().contains("nested"), "{error}");
    assert!(network.requests().len() <= 5);
}

#[tokio::test(start_paused = true)]
async fn repeats_as_advised_and_no_more() {
    let content = Content::image("amd64");
    let (network, _) = content.published_under(&content.manifest);
    let honest = content.answers(&content.manifest);
    let failures = AtomicUsize::new(0);
    network.host("r.example", 80, move |seen| {
        match failures.fetch_add(1, Ordering::SeqCst) {
            0 | 2 => Reply::Send(reply(503, &[("Retry-After", "4")], b"")),
            _ => honest(seen),
        }
    });
    let advice = Advice::default();
    let started = tokio::time::Instant::now();

    resolve(&network, &app(), &advice).await.unwrap();

    assert_eq!(
        *advice.asked.lock().unwrap(),
        [(1, Class::Retry, Some(4)), (1, Class::Retry, Some(4))],
        "each request counts for itself"
    );
    assert_eq!(started.elapsed().as_secs(), 8);

    network.host("r.example", 80, |_| Reply::Send(reply(500, &[], b"")));
    let advice = Advice::default();
    let error = resolve(&network, &app(), &advice).await.unwrap_err();
    assert_eq!(error.kind(), "registry");
    assert_eq!(
        advice
            .asked
            .lock()
            .unwrap()
            .iter()
            .map(|(attempt, ..)| *attempt)
            .collect::<Vec<_>>(),
        [1, 2, 3]
    );
}

#[tokio::test(start_paused = true)]
async fn a_manifest_that_stops_arriving_is_given_up() {
    let network = Network::default();
    let sent = Arc::new(AtomicUsize::new(0));
    network.host("r.example", 80, move |_| {
        let bytes = reply(200, &[("Content-Length", "100")], b"{");
        Reply::Pour(bytes, Arc::clone(&sent))
    });
    let error = resolve(&network, &app(), &NoRetry).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string().as_str()),
        ("network", "r.example: no more bytes for 30s")
    );
}

#[tokio::test(start_paused = true)]
async fn a_dial_that_hangs_is_given_up() {
    #[derive(Debug)]
    struct Never;
    impl Dial for Never {
        fn connect<'a>(&'a self, _host: &'a str, _port: u16) -> Dialling<'a> {
            Box::pin(std::future::pending())
        }
    }
    let client = Registry::new(Options {
        dial: Arc::new(Never),
        ..Options::default()
    })
    .unwrap();
    let error = client
        .resolve(&app(), &Platform::host(), &NoRetry)
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string().as_str()),
        ("network", "r.example: no connection within 10s")
    );
}

#[tokio::test]
async fn schemes_follow_the_option_and_the_host() {
    let table = [
        (PlainHttp::Never, "localhost/a", 443),
        (PlainHttp::Loopback, "localhost/a", 80),
        (PlainHttp::Loopback, "127.0.0.1/a", 80),
        (PlainHttp::Loopback, "[::1]/a", 80),
        (PlainHttp::Loopback, "r.example/a", 443),
        (PlainHttp::Loopback, "localhost.example/a", 443),
        (PlainHttp::Always, "r.example/a", 80),
        (PlainHttp::Never, "debian", 443),
    ];
    for (plain_http, reference, port) in table {
        let network = Network::default();
        let reference: Reference = reference.parse().unwrap();
        let host = reference.traffic_host().trim_matches(['[', ']']).to_owned();
        network.host(&host, port, |_| Reply::Close);
        let client = Registry::new(Options {
            plain_http,
            ..network.options()
        })
        .unwrap();
        client
            .resolve(&reference, &Platform::host(), &NoRetry)
            .await
            .unwrap_err();
        assert_eq!(network.dials(&host, port), 1, "{plain_http:?} {reference}");
    }
}

#[tokio::test]
async fn certificates_are_checked() {
    let blob = pattern(100);
    let (network, options, _folder) =
        secure(&["r.example"], |seen| blob_reply(seen, &pattern(100)));
    let client = Registry::new(options.clone()).unwrap();
    let opened = client
        .open(&app(), 0, &descriptor(&blob), Read::Whole)
        .await
        .unwrap();
    assert_eq!(read(opened).await.unwrap().1, blob);

    let distrustful = Registry::new(Options {
        ca: None,
        ..options.clone()
    })
    .unwrap();
    let error = distrustful
        .open(&app(), 0, &descriptor(&blob), Read::Whole)
        .await
        .unwrap_err();
    assert_eq!((error.class(), error.kind()), (Class::Fatal, "network"));
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("invalid peer certificate"), "{source}");

    network.host("plain.example", 443, |_| {
        Reply::SendAndClose(reply(400, &[], b""))
    });
    let plain = "plain.example/a".parse().unwrap();
    let error = client
        .open(&plain, 0, &descriptor(&blob), Read::Whole)
        .await
        .unwrap_err();
    assert_eq!(
        error.class(),
        Class::Fatal,
        "waiting does not teach a server TLS"
    );
}

#[test]
fn certificate_files_must_hold_certificates() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "nothing").unwrap();
    for ca in [empty, folder.path().join("missing.pem")] {
        let error = Registry::new(Options {
            ca: Some(ca.clone()),
            ..Options::default()
        })
        .unwrap_err();
        assert_eq!(error.kind(), "config");
        assert!(error.to_string().contains(ca.to_str().unwrap()), "{error}");
    }
}

#[tokio::test]
async fn works_over_tcp() {
    let content = Content::image("amd64");
    let (network, _) = content.published_under(&content.manifest);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    let bridge = tokio::spawn(async move {
        // The scripted host answers behind a real socket.
        while let Ok((mut outer, _)) = listener.accept().await {
            let mut inner = network.connect("r.example", 80).await.unwrap();
            tokio::spawn(
                async move { tokio::io::copy_bidirectional(&mut outer, &mut inner).await },
            );
        }
    });
    let client = Registry::new(Options {
        dial: Arc::new(TcpDial),
        ..Options::default()
    })
    .unwrap();
    let reference = format!("{address}/team/app:1").parse().unwrap();
    let image = client
        .resolve(&reference, &"linux/amd64".parse().unwrap(), &NoRetry)
        .await
        .unwrap();
    assert_eq!(image.manifest_bytes, content.manifest);
    assert_eq!(client.sources(&reference).unwrap(), [address.to_string()]);
    bridge.abort();
}

#[tokio::test]
async fn futures_may_move_between_threads() {
    fn is_send<T: Send>(_: &T) {}
    let client = Network::default().client();
    let (reference, platform, blob) = (app(), Platform::host(), descriptor(b""));
    is_send(&client.resolve(&reference, &platform, &NoRetry));
    is_send(&client.open(&reference, 0, &blob, Read::Whole));
}

/// Retries thrice, after what the server asks for or at once.
#[derive(Default)]
struct Advice {
    asked: Mutex<Vec<(u32, Class, Option<u64>)>>,
}

impl RetryAdvice for Advice {
    fn after(&self, attempt: u32, error: &FetchError) -> Option<Duration> {
        let retry_after = error.retry_after();
        self.asked.lock().unwrap().push((
            attempt,
            error.class(),
            retry_after.map(|wait| wait.as_secs()),
        ));
        (attempt < 3).then(|| retry_after.unwrap_or_default())
    }
}

/// An image of one layer.
#[derive(Clone)]
struct Content {
    architecture: String,
    config: String,
    manifest: String,
}

impl Content {
    fn image(architecture: &str) -> Self {
        let diff_id = Digest::of(format!("{architecture} tar").as_bytes());
        let config =
            json!({"os": "linux", "architecture": architecture, "rootfs": {"type": "layers", "diff_ids": [diff_id]}}).to_string();
        let manifest = json!({
            "schemaVersion": 2,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": Digest::of(config.as_bytes()), "size": config.len()},
            "layers": [{"mediaType": LAYER, "digest": Digest::of(b"layer"), "size": 5}],
        });
        Self {
            architecture: architecture.to_owned(),
            config,
            manifest: format!("{manifest:#}\n"),
        }
    }

    fn entry(&self) -> Value {
        json!({
            "mediaType": OCI_MANIFEST,
            "digest": Digest::of(self.manifest.as_bytes()),
            "size": self.manifest.len(),
            "platform": {"os": "linux", "architecture": self.architecture},
        })
    }

    /// A registry that serves this image, and `document` under the tag.
    fn published_under(&self, document: &str) -> (Network, Digest) {
        let network = Network::default();
        network.host("r.example", 80, self.answers(document));
        (network, Digest::of(document.as_bytes()))
    }

    fn answers(&self, document: &str) -> impl Fn(&Seen) -> Reply + Send + Sync + 'static {
        let by_name: HashMap<String, String> = [&self.manifest, &self.config]
            .into_iter()
            .map(|text| (Digest::of(text.as_bytes()).to_string(), text.clone()))
            .chain([("1".to_owned(), document.to_owned())])
            .collect();
        move |seen| {
            let name = seen.target.rsplit('/').next().unwrap_or_default();
            Reply::Send(match by_name.get(name) {
                Some(text) => reply(200, &[], text.as_bytes()),
                None => reply(404, &[], b"{}"),
            })
        }
    }
}

async fn resolve(
    network: &Network,
    reference: &Reference,
    retry: &dyn RetryAdvice,
) -> Result<Image, RegistryError> {
    let credentials = Credentials::User {
        name: "user".to_owned(),
        password: Secret::new("pass"),
    };
    let client = network.client().with_credentials(credentials);
    client
        .resolve(reference, &"linux/amd64".parse().unwrap(), retry)
        .await
}
