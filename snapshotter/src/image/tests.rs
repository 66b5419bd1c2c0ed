use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

#[test]
fn assembles_an_image_and_keeps_its_manifest_verbatim() {
    let config = config_json(&[b"one", b"two"]);
    let mut manifest = manifest_json(&config, &[(b"1", 10), (b"2", 20)]).to_string();
    manifest.push('\n');

    let image = assemble(&manifest, &config).unwrap();

    assert_eq!(image.manifest_bytes, manifest.as_bytes());
    assert_eq!(image.manifest_digest, Digest::of(manifest.as_bytes()));
    assert_eq!(image.config_digest, Digest::of(config.as_bytes()));
    assert_eq!(image.layers.len(), 2);
    assert_eq!(image.layers[1].descriptor.digest, Digest::of(b"2"));
    assert_eq!(image.layers[1].descriptor.size, 20);
    assert_eq!(image.layers[1].diff_id, Digest::of(b"two"));
    assert_eq!(image.layers[1].format, LayerFormat::TarGzip);
    assert_eq!(image.compressed_bytes(), 30);
}

#[test]
fn counts_a_repeated_blob_once() {
    let config = config_json(&[b"one", b"one"]);
    let manifest = manifest_json(&config, &[(b"1", 10), (b"1", 10)]);
    let image = assemble(&manifest.to_string(), &config).unwrap();
    assert_eq!(image.layers.len(), 2);
    assert_eq!(image.compressed_bytes(), 10);
}

#[test]
fn an_image_may_have_no_layers() {
    let config = config_json(&[]);
    let manifest = manifest_json(&config, &[]);
    assert!(
        assemble(&manifest.to_string(), &config)
            .unwrap()
            .layers
            .is_empty()
    );
}

#[test]
fn refuses_pairs_that_contradict_each_other() {
    let two = config_json(&[b"one", b"two"]);
    let same = config_json(&[b"one", b"one"]);
    let arm = json!({"os": "linux", "architecture": "arm64", "rootfs": {"type": "layers", "diff_ids": []}}).to_string();
    let artefact = json!({"helm": true}).to_string();
    let odd_type = json!({"rootfs": {"type": "trees", "diff_ids": []}}).to_string();
    let mut encrypted = manifest_json(&config_json(&[b"one"]), &[(b"1", 1)]);
    encrypted["layers"][0]["mediaType"] = json!(format!("{GZIP}+encrypted"));
    let table: Vec<(&str, Value, &str)> = vec![
        (
            "fewer layers than diff ids",
            manifest_json(&two, &[(b"1", 1)]),
            &two,
        ),
        (
            "one blob with two sizes",
            manifest_json(&same, &[(b"1", 1), (b"1", 2)]),
            &same,
        ),
        (
            "one blob with two diff ids",
            manifest_json(&two, &[(b"1", 1), (b"1", 1)]),
            &two,
        ),
        (
            "size above any blob's",
            manifest_json(&two, &[(b"1", 1), (b"2", u64::MAX)]),
            &two,
        ),
        (
            "another configuration",
            manifest_json(&two, &[(b"1", 1), (b"2", 1)]),
            &same,
        ),
        ("another architecture", manifest_json(&arm, &[]), &arm),
        ("no image at all", manifest_json(&artefact, &[]), &artefact),
        ("odd rootfs", manifest_json(&odd_type, &[]), &odd_type),
        (
            "encrypted layer",
            encrypted,
            &config_json(&[b"one"]).leak()[..],
        ),
    ];
    for (what, manifest, config) in table {
        assert!(
            assemble(&manifest.to_string(), config).is_err(),
            "{what} was accepted"
        );
    }
}

#[test]
fn refuses_too_many_layers_and_too_many_bytes() {
    let diff_ids: Vec<&[u8]> = vec![b"one"; LAYERS_MAX + 1];
    let config = config_json(&diff_ids);
    let manifest = manifest_json(&config, &vec![(b"1".as_slice(), 1); LAYERS_MAX + 1]);
    assert!(matches!(
        assemble(&manifest.to_string(), &config),
        Err(ImageError::TooManyLayers { .. })
    ));

    let padded = format!(
        "{{}}{}",
        " ".repeat(usize::try_from(MANIFEST_BYTES_MAX).unwrap())
    );
    assert!(matches!(
        Document::parse(padded.as_bytes(), None),
        Err(ImageError::TooLarge { .. })
    ));
    let padded = format!(
        "{{}}{}",
        " ".repeat(usize::try_from(CONFIG_BYTES_MAX).unwrap())
    );
    assert!(matches!(
        Configuration::parse(padded.as_bytes()),
        Err(ImageError::TooLarge { .. })
    ));
}

#[test]
fn tells_documents_apart() {
    let config = config_json(&[]);
    let bare = manifest_json(&config, &[]);
    let typed = |kind: &str| {
        let mut document = bare.clone();
        document["mediaType"] = json!(kind);
        document
    };
    let list = json!({"schemaVersion": 2, "manifests": []});
    let mut both = bare.clone();
    both["manifests"] = json!([]);
    let mut list_called_manifest = list.clone();
    list_called_manifest["mediaType"] = json!(DOCKER_MANIFEST);
    let schema1 = json!({"schemaVersion": 1, "name": "a", "fsLayers": [{"blobSum": "x"}]});
    let table: Vec<(&str, Value, Option<&str>, &str)> = vec![
        ("OCI manifest", typed(OCI_MANIFEST), None, "manifest"),
        ("Docker manifest", typed(DOCKER_MANIFEST), None, "manifest"),
        ("untyped manifest", bare.clone(), None, "manifest"),
        (
            "untyped manifest with header",
            bare.clone(),
            Some(DOCKER_MANIFEST),
            "manifest",
        ),
        (
            "untyped manifest with a useless header",
            bare.clone(),
            Some("text/plain"),
            "manifest",
        ),
        (
            "header with parameters",
            bare.clone(),
            Some("Application/vnd.oci.image.manifest.v1+JSON; charset=utf-8"),
            "manifest",
        ),
        ("untyped index", list.clone(), None, "index"),
        (
            "typed index",
            json!({"mediaType": OCI_INDEX, "manifests": []}),
            None,
            "index",
        ),
        (
            "manifest list",
            json!({"mediaType": DOCKER_LIST, "manifests": []}),
            None,
            "index",
        ),
        ("header contradicts", bare.clone(), Some(OCI_INDEX), "error"),
        ("both at once", both, None, "error"),
        ("index called manifest", list_called_manifest, None, "error"),
        ("unknown type", typed("application/json"), None, "error"),
        ("schema 1", schema1.clone(), None, "schema1"),
        (
            "schema 1 by type",
            typed("application/vnd.docker.distribution.manifest.v1+prettyjws"),
            None,
            "schema1",
        ),
        ("nothing", json!({}), None, "error"),
        ("no object", json!([1]), None, "error"),
        (
            "negative size",
            json!({"config": {"digest": Digest::of(b""), "size": -1}, "layers": []}),
            None,
            "error",
        ),
    ];
    for (what, document, content_type, expected) in table {
        let parsed = Document::parse(document.to_string().as_bytes(), content_type);
        let actual = match &parsed {
            Ok(Document::Manifest(_)) => "manifest",
            Ok(Document::Index(_)) => "index",
            Err(ImageError::Schema1) => "schema1",
            Err(_) => "error",
        };
        assert_eq!(actual, expected, "{what}: {parsed:?}");
    }
}

#[test]
fn chooses_the_platform_containerd_would_choose() {
    let all = [
        "windows/amd64",
        "linux/386",
        "linux/arm/v6",
        "linux/arm/v7",
        "linux/arm64/v8",
        "linux/amd64",
        "linux/amd64/v2",
        "unknown/unknown",
    ];
    let table: Vec<(&[&str], &str, Option<usize>)> = vec![
        (&all, "linux/amd64", Some(5)),
        (&all, "linux/x86_64", Some(5)),
        (&all, "linux/amd64/v3", Some(6)),
        (&all, "linux/arm64", Some(4)),
        (&all, "linux/aarch64/v8", Some(4)),
        (&all, "linux/arm", Some(3)),
        (&all, "linux/arm/v6", Some(2)),
        (&all, "linux/arm/v5", None),
        (&all, "windows/amd64", Some(0)),
        (&all, "linux/s390x", None),
        (&["linux/arm/v7"], "linux/arm64", Some(0)),
        (&["linux/386", ""], "linux/amd64", Some(0)),
        (&["linux/arm64", ""], "linux/amd64", Some(1)),
        (&["linux/amd64", "linux/amd64"], "linux/amd64", Some(0)),
        (&[], "linux/amd64", None),
    ];
    for (offered, wanted, expected) in table {
        let manifests: Vec<_> = offered
            .iter()
            .enumerate()
            .map(|(index, text)| index_entry(index, text))
            .collect();
        let document =
            json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}).to_string();
        let Document::Index(index) = Document::parse(document.as_bytes(), None).unwrap() else {
            panic!("not an index");
        };
        let chosen = index
            .choose(&wanted.parse().unwrap())
            .ok()
            .map(|descriptor| usize::try_from(descriptor.size).unwrap());
        assert_eq!(chosen, expected, "{wanted} of {offered:?}");
    }
}

#[test]
fn names_what_an_index_offers() {
    let document =
        json!({"manifests": [index_entry(0, "linux/arm64"), index_entry(1, "linux/s390x")]})
            .to_string();
    let Document::Index(index) = Document::parse(document.as_bytes(), None).unwrap() else {
        panic!("not an index");
    };
    let error = index.choose(&"linux/ppc64le".parse().unwrap()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no image for platform linux/ppc64le; the index offers linux/arm64, linux/s390x"
    );
}

#[test]
fn platforms_are_parsed_and_shown() {
    for (text, shown) in [
        ("linux/amd64", "linux/amd64"),
        ("Linux/X86_64", "linux/amd64"),
        ("linux/arm/6", "linux/arm/v6"),
        ("linux/arm64/v8", "linux/arm64"),
    ] {
        assert_eq!(text.parse::<Platform>().unwrap().to_string(), shown);
    }
    for text in [
        "",
        "linux",
        "linux/",
        "/amd64",
        "linux/amd64/v1/x",
        "linux/am d64",
    ] {
        assert!(text.parse::<Platform>().is_err(), "{text:?}");
    }
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _ = Document::parse(&bytes, None);
        let _ = Configuration::parse(&bytes);
        if let Ok(text) = std::str::from_utf8(&bytes) {
            let _ = text.parse::<Reference>();
            let _ = text.parse::<Platform>();
            let _ = Document::parse(b"{\"manifests\":[]}", Some(text));
        }
    }

    #[test]
    fn damaged_manifests_never_panic(position in 0_usize..2000, byte in any::<u8>(), cut in 0_usize..2000) {
        let config = config_json(&[b"one", b"two"]);
        let mut bytes = manifest_json(&config, &[(b"1", 10), (b"2", 20)]).to_string().into_bytes();
        let position = position % bytes.len();
        bytes[position] = byte;
        let _ = Document::parse(&bytes, None);
        bytes.truncate(cut % bytes.len());
        prop_assert!(Document::parse(&bytes, None).is_err());
    }

    #[test]
    fn references_survive_being_shown(text in "([a-z0-9.:\\[\\]-]{1,12}/)?[a-z0-9._-]{1,9}(/[a-z0-9._-]{1,9})?(:[A-Za-z0-9._-]{1,9})?") {
        if let Ok(reference) = text.parse::<Reference>() {
            prop_assert_eq!(reference.to_string().parse::<Reference>().unwrap(), reference);
        }
    }
}

fn assemble(manifest: &str, config: &str) -> Result<Image, ImageError> {
    let reference = "r.example/a:1".parse().unwrap();
    let digest = Digest::of(manifest.as_bytes());
    Image::assemble(
        reference,
        digest,
        Bytes::from(manifest.to_owned()),
        config.as_bytes(),
        &"linux/amd64".parse().unwrap(),
    )
}

fn config_json(contents: &[&[u8]]) -> String {
    let diff_ids: Vec<_> = contents
        .iter()
        .map(|content| Digest::of(content).to_string())
        .collect();
    json!({"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": diff_ids}, "history": null}).to_string()
}

fn manifest_json(config: &str, layers: &[(&[u8], u64)]) -> Value {
    let layers: Vec<_> = layers
        .iter()
        .map(|(content, size)| json!({"mediaType": GZIP, "digest": Digest::of(content), "size": size, "annotations": null}))
        .collect();
    json!({
        "schemaVersion": 2,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": Digest::of(config.as_bytes()),
            "size": config.len(),
        },
        "layers": layers,
    })
}

fn index_entry(index: usize, platform: &str) -> Value {
    let mut entry = json!({"mediaType": OCI_MANIFEST, "digest": Digest::of(platform.as_bytes()), "size": index});
    let parts: Vec<_> = platform.split('/').collect();
    if let [os, architecture, variant @ ..] = parts.as_slice() {
        entry["platform"] = json!({"os": os, "architecture": architecture, "variant": variant.first().unwrap_or(&"")});
    }
    entry
}
