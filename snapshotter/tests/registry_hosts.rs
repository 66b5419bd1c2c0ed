//! Mirrors: which hosts a `certs.d` folder names, in which order, and what they are asked and shown.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod registry_support;

use std::path::Path;

use parapull_snapshotter::digest::Digest;
use parapull_snapshotter::image::{Platform, Reference};
use parapull_snapshotter::registry::{
    Class, Credentials, NoRetry, Options, PlainHttp, Read, Registry, Secret,
};
use registry_support::{
    Network, Reply, Seen, app, blob_reply, descriptor, pattern, read, reply, secure,
};
use serde_json::json;

#[test]
fn sources_follow_the_file() {
    let two = r#"
        [host."https://z.example"]
        [host."http://a.example:5000"]
        capabilities = ["pull"]
        [host."push.example"]
        capabilities = ["push"]
        [host."localhost"]
        skip_verify = false
    "#;
    let table: Vec<(&str, &str, &str, &[&str])> = vec![
        (
            "r.example",
            two,
            "r.example/a",
            &["z.example", "a.example:5000", "localhost", "r.example"],
        ),
        ("r.example", two, "other.example/a", &["other.example"]),
        ("r.example", "", "r.example/a", &["r.example"]),
        (
            "r.example",
            "server = \"https://s.example/v2\"",
            "r.example/a",
            &["s.example"],
        ),
        (
            "docker.io",
            "[host.\"m.example\"]",
            "debian",
            &["m.example", "registry-1.docker.io"],
        ),
        (
            "r.example:5000",
            "[host.\"m.example\"]",
            "r.example:5000/a",
            &["m.example", "r.example:5000"],
        ),
        (
            "r.example_5000_",
            "[host.\"m.example\"]",
            "r.example:5000/a",
            &["m.example", "r.example:5000"],
        ),
        (
            "_default",
            "[host.\"m.example\"]",
            "any.example/a",
            &["m.example", "any.example"],
        ),
    ];
    for (name, text, reference, expected) in table {
        let folder = certs_d(name, text);
        let client = Registry::new(Options {
            hosts_dir: Some(folder.path().to_owned()),
            ..Options::default()
        })
        .unwrap();
        let reference: Reference = reference.parse().unwrap();
        assert_eq!(
            client.sources(&reference).unwrap(),
            expected,
            "{reference} by {name}: {text}"
        );
    }
}

#[test]
fn what_cannot_be_done_is_refused() {
    let table = [
        (
            "[host.\"m.example\"]\nskip_verify = true",
            "\"skip_verify\" is not supported",
        ),
        (
            "[host.\"m.example\"]\nclient = \"/x.pem\"",
            "\"client\" is not supported",
        ),
        (
            "[host.\"m.example\".header]\nx = \"y\"",
            "\"header\" is not supported",
        ),
        ("skip_verify = true", "\"skip_verify\" is not supported"),
        ("[host.\"ftp://m.example\"]", "is not the address of a host"),
        (
            "server = \"https://u:p@s.example\"",
            "is not the address of a host",
        ),
        ("[host.\"m.example\"]\nca = \"missing.pem\"", "missing.pem"),
        ("[host", "is malformed"),
    ];
    for (text, message) in table {
        let folder = certs_d("r.example", text);
        let client = Registry::new(Options {
            hosts_dir: Some(folder.path().to_owned()),
            ..Options::default()
        })
        .unwrap();
        let error = client.sources(&app()).unwrap_err();
        assert_eq!((error.class(), error.kind()), (Class::Fatal, "config"));
        assert!(error.to_string().contains(message), "{text}: {error}");
    }
}

#[tokio::test]
async fn mirrors_are_asked_for_what_they_stand_in_for() {
    let network = Network::default();
    let blob = pattern(10);
    for host in ["m.example", "o.example", "r.example"] {
        network.host(host, 80, |seen| blob_reply(seen, &pattern(10)));
    }
    let folder = certs_d(
        "r.example",
        "[host.\"http://m.example/cache\"]\n[host.\"http://o.example/other/\"]\noverride_path = true\n",
    );
    let client = mirrored(&network, folder.path());
    for source in 0..3 {
        let opened = client
            .open(&app(), source, &descriptor(&blob), Read::Ranged(2..4))
            .await
            .unwrap();
        assert_eq!(read(opened).await.unwrap(), (true, blob[2..4].to_vec()));
    }
    let digest = Digest::of(&blob);
    let targets: Vec<_> = network
        .requests()
        .into_iter()
        .map(|seen| format!("{}{}", seen.host, seen.target))
        .collect();
    let expected = [
        format!("m.example/cache/v2/team/app/blobs/{digest}?ns=r.example"),
        format!("o.example/other/team/app/blobs/{digest}?ns=r.example"),
        format!("r.example/v2/team/app/blobs/{digest}"),
    ];
    assert_eq!(targets, expected);
    assert_eq!(
        client
            .open(&app(), 3, &descriptor(&blob), Read::Whole)
            .await
            .unwrap_err()
            .class(),
        Class::Fatal
    );
}

#[tokio::test]
async fn tags_are_resolved_by_those_whose_word_counts() {
    let network = Network::default();
    // The first mirror would serve, but tags are not its business; the second does not have it.
    network.host("pull.example", 80, |seen| image(seen, "arm64"));
    network.host("empty.example", 80, |_| Reply::Send(reply(404, &[], b"")));
    network.host("r.example", 80, |seen| image(seen, "amd64"));
    let folder = certs_d(
        "r.example",
        "[host.\"http://pull.example\"]\ncapabilities = [\"pull\"]\n[host.\"http://empty.example\"]\n",
    );
    let client = mirrored(&network, folder.path());
    let platform: Platform = "linux/amd64".parse().unwrap();

    let resolved = client.resolve(&app(), &platform, &NoRetry).await.unwrap();

    let asked: Vec<_> = network
        .requests()
        .into_iter()
        .filter(|seen| seen.target.contains("/manifests/"))
        .map(|seen| seen.host)
        .collect();
    assert_eq!(asked, ["empty.example", "r.example"]);

    // By digest, whoever has it may serve it, and what has another digest is passed over.
    let pinned = format!("r.example/team/app@{}", resolved.manifest_digest)
        .parse()
        .unwrap();
    let again = client.resolve(&pinned, &platform, &NoRetry).await.unwrap();
    assert_eq!(again.manifest_digest, resolved.manifest_digest);
}

#[tokio::test]
async fn mirrors_are_not_shown_a_password() {
    let network = Network::default();
    for host in ["m.example", "r.example"] {
        network.host(host, 80, |seen| match seen.headers.get("authorization") {
            Some(_) => blob_reply(seen, &pattern(10)),
            None => Reply::Send(reply(401, &[("WWW-Authenticate", "Basic")], b"")),
        });
    }
    let folder = certs_d(
        "r.example",
        "[host.\"http://m.example\"]\n[host.\"http://r.example\"]\n",
    );
    let client = mirrored(&network, folder.path()).with_credentials(Credentials::User {
        name: "user".to_owned(),
        password: Secret::new("pass"),
    });
    let blob = descriptor(&pattern(10));
    let error = client
        .open(&app(), 0, &blob, Read::Whole)
        .await
        .unwrap_err();
    assert_eq!((error.class(), error.host()), (Class::Auth, "m.example"));
    client.open(&app(), 1, &blob, Read::Whole).await.unwrap();
    let shown = network
        .requests()
        .iter()
        .any(|seen| seen.host == "m.example" && seen.headers.contains_key("authorization"));
    assert!(!shown);
}

#[tokio::test]
async fn a_mirror_has_its_own_certificates() {
    let (network, options, certificates) =
        secure(&["m.example"], |seen| blob_reply(seen, &pattern(10)));
    let folder = certs_d(
        "r.example",
        "[host.\"https://m.example\"]\nca = [\"own.pem\"]\n",
    );
    std::fs::copy(
        certificates.path().join("ca.pem"),
        folder.path().join("r.example/own.pem"),
    )
    .unwrap();
    let client = Registry::new(Options {
        ca: None,
        hosts_dir: Some(folder.path().to_owned()),
        ..options
    })
    .unwrap();
    let opened = client
        .open(&app(), 0, &descriptor(&pattern(10)), Read::Whole)
        .await
        .unwrap();
    assert_eq!(read(opened).await.unwrap().1, pattern(10));
    assert_eq!(network.dials("m.example", 443), 1);
}

fn certs_d(name: &str, text: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join(name)).unwrap();
    std::fs::write(folder.path().join(name).join("hosts.toml"), text).unwrap();
    folder
}

fn mirrored(network: &Network, folder: &Path) -> Registry {
    Registry::new(Options {
        plain_http: PlainHttp::Always,
        hosts_dir: Some(folder.to_owned()),
        ..network.options()
    })
    .unwrap()
}

/// An image without layers, which only its architecture tells from others.
fn image(seen: &Seen, architecture: &str) -> Reply {
    let config = json!({"os": "linux", "architecture": architecture, "rootfs": {"type": "layers", "diff_ids": []}}).to_string();
    let manifest = json!({
        "schemaVersion": 2,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": Digest::of(config.as_bytes()), "size": config.len()},
        "layers": [],
    });
    let document = if seen.target.contains("/blobs/") {
        config
    } else {
        manifest.to_string()
    };
    Reply::Send(reply(200, &[], document.as_bytes()))
}
