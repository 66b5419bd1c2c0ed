//! The same client against a registry that others wrote: Debian's `docker-registry`, filled by `skopeo`.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use parapull_snapshotter::digest::Digest;
use parapull_snapshotter::image::{Descriptor, Reference};
use parapull_snapshotter::registry::{
    Class, Credentials, NoRetry, Opened, Options, Read, Registry, Secret,
};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pulls_ranges_from_a_real_registry_with_a_password() {
    let folder = tempfile::tempdir().unwrap();
    let Some(server) = Server::start(folder.path()) else {
        let skipped = "SKIPPED pulls_ranges_from_a_real_registry_with_a_password: docker-registry or skopeo is not installed";
        assert!(
            std::env::var("PARAPULL_REQUIRE_ALL").as_deref() != Ok("1"),
            "{skipped}"
        );
        eprintln!("{skipped}");
        return;
    };
    let layer: Vec<u8> = (0..3_000_000_u32)
        .map(|index| u8::try_from(index * 31 % 251).unwrap())
        .collect();
    server.push(folder.path(), &layer);
    let reference: Reference = format!("{}/team/app:1", server.address).parse().unwrap();
    let client = Registry::new(Options {
        credentials: Credentials::User {
            name: "user".to_owned(),
            password: Secret::new("pass"),
        },
        ..Options::default()
    })
    .unwrap();

    let image = client
        .resolve(&reference, &"linux/amd64".parse().unwrap(), &NoRetry)
        .await
        .unwrap();
    let blob = &image.layers[0].descriptor;
    assert_eq!(
        (blob.digest, blob.size),
        (Digest::of(&layer), layer.len() as u64)
    );
    let mut ranges = Vec::new();
    for start in (0..layer.len() as u64).step_by(RANGE_BYTES) {
        let (client, reference, blob) = (client.clone(), reference.clone(), blob.clone());
        ranges.push(tokio::spawn(async move {
            fetch(
                &client,
                &reference,
                &blob,
                Read::Ranged(start..start + RANGE_BYTES as u64),
            )
            .await
        }));
    }
    let mut joined = Vec::new();
    for range in ranges {
        joined.extend(range.await.unwrap());
    }
    assert!(joined == layer, "the ranges do not make up the layer");
    assert!(fetch(&client, &reference, blob, Read::Whole).await == layer);

    let pinned = format!("{}/team/app@{}", server.address, image.manifest_digest)
        .parse()
        .unwrap();
    client
        .resolve(&pinned, &"linux/amd64".parse().unwrap(), &NoRetry)
        .await
        .unwrap();
    let missing = Descriptor {
        digest: Digest::of(b"missing"),
        ..blob.clone()
    };
    let error = client
        .open(&reference, 0, &missing, Read::Ranged(0..10))
        .await
        .unwrap_err();
    assert_eq!(error.class(), Class::NotFound);
    let error = client
        .with_credentials(Credentials::Anonymous)
        .open(&reference, 0, blob, Read::Whole)
        .await
        .unwrap_err();
    assert_eq!(error.class(), Class::Auth);
}

async fn fetch(
    client: &Registry,
    reference: &Reference,
    blob: &Descriptor,
    wanted: Read,
) -> Vec<u8> {
    let ranged = matches!(wanted, Read::Ranged(_));
    let mut body = match client.open(reference, 0, blob, wanted).await.unwrap() {
        Opened::Ranged(body) if ranged => body,
        Opened::Whole(body) if !ranged => body,
        other => panic!("{other:?}"),
    };
    let mut bytes = Vec::new();
    while let Some(piece) = body.next().await.unwrap() {
        bytes.extend_from_slice(&piece);
    }
    bytes
}

/// A registry on a free port that knows one user.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(folder: &Path) -> Option<Self> {
        Command::new("skopeo")
            .arg("--version")
            .stdout(Stdio::null())
            .status()
            .ok()?;
        let passwords = folder.join("passwords");
        std::fs::write(&passwords, format!("user:{PASS_HASH}\n")).unwrap();
        let config = json!({
            "version": "0.1",
            "log": {"accesslog": {"disabled": true}},
            "storage": {"filesystem": {"rootdirectory": folder.join("storage")}},
            "http": {"addr": "127.0.0.1:0"},
            "auth": {"htpasswd": {"realm": "test", "path": passwords}},
        });
        let path = folder.join("config.yml");
        std::fs::write(&path, config.to_string()).unwrap();
        let mut child = Command::new("docker-registry")
            .arg("serve")
            .arg(path)
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .ok()?;
        let mut lines = BufReader::new(child.stderr.take()?).lines();
        let address = lines.by_ref().map_while(Result::ok).find_map(|line| {
            let (_, after) = line.split_once("listening on ")?;
            Some(after.split(['"', ' ', ',']).next()?.to_owned())
        });
        // The pipe is drained so that the registry never waits for a reader of its log.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Some(Self {
            child,
            address: address?,
        })
    }

    fn push(&self, folder: &Path, layer: &[u8]) {
        let layout = folder.join("layout");
        let blobs = layout.join("blobs/sha256");
        std::fs::create_dir_all(&blobs).unwrap();
        let store = |kind: &str, bytes: &[u8]| -> Value {
            std::fs::write(blobs.join(Digest::of(bytes).hex()), bytes).unwrap();
            json!({"mediaType": kind, "digest": Digest::of(bytes), "size": bytes.len()})
        };
        let config = json!({"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": [Digest::of(b"tar")]}});
        let manifest = json!({
            "schemaVersion": 2,
            "config": store("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes()),
            "layers": [store("application/vnd.oci.image.layer.v1.tar+gzip", layer)],
        });
        let entry = store(
            "application/vnd.oci.image.manifest.v1+json",
            manifest.to_string().as_bytes(),
        );
        std::fs::write(
            layout.join("index.json"),
            json!({"schemaVersion": 2, "manifests": [entry]}).to_string(),
        )
        .unwrap();
        std::fs::write(
            layout.join("oci-layout"),
            r#"{"imageLayoutVersion":"1.0.0"}"#,
        )
        .unwrap();
        let output = Command::new("skopeo")
            .args([
                "--insecure-policy",
                "copy",
                "--preserve-digests",
                "--dest-tls-verify=false",
                "--dest-creds=user:pass",
            ])
            .arg(format!("oci:{}", layout.display()))
            .arg(format!("docker://{}/team/app:1", self.address))
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Thirty ranges at once.
const RANGE_BYTES: usize = 100_000;
/// bcrypt of `pass`.
const PASS_HASH: &str = "$2b$05$Sc3xHIlY2dp9g4wytjN7bOUpcfx6Dnuku9bPsHjPocjGFLTmJVVBW";
