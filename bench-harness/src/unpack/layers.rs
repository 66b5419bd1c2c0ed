//! Test layers as blobs: compressed, with their digests, and as an OCI image of one layer that peers can read.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use parapull_snapshotter::digest::Digest;
use parapull_snapshotter::unpack::{Encoding, LayerSpec};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::content::Held;
use super::{LayerKind, Sizes, UnpackBenchError};
use crate::processes::{ProcessError, find_program, run};

/// Who compressed a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compressor {
    /// Go's `compress/gzip`, by which most images are made.
    Go,
    /// `gzip -6`.
    Gzip,
}

/// A layer, ready to be unpacked.
#[derive(Debug, Clone)]
pub struct TestLayer {
    /// Its kind and compressor, such as `mixed.go`.
    pub name: String,
    /// What it holds.
    pub kind: LayerKind,
    /// The compressed file.
    pub blob: PathBuf,
    /// Its digests.
    pub spec: LayerSpec,
    /// Bytes of the archive.
    pub uncompressed_bytes: u64,
    /// Entries of the archive.
    pub entries: u64,
    /// Regular files among them.
    pub files: u64,
    /// The folder of the OCI image.
    pub layout: PathBuf,
    /// The image as one file, for `ctr images import`.
    pub image: PathBuf,
    /// Digest of its manifest.
    pub manifest: Digest,
}

impl Compressor {
    /// Its name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Go => "go",
            Self::Gzip => "gzip",
        }
    }

    /// The program that compresses its input, built in `folder` if need be.
    ///
    /// # Errors
    /// When it, or what builds it, is not installed.
    pub fn program(self, folder: &Path) -> Result<Command, UnpackBenchError> {
        if self == Self::Gzip {
            let mut gzip = Command::new(find_program("gzip", "install the package gzip")?);
            gzip.args(["-6", "-c", "-n"]);
            return Ok(gzip);
        }
        let program = folder.join("compress");
        if !program.exists() {
            let source = folder.join("compress.go");
            let failed = UnpackBenchError::file("write", &source);
            fs::write(&source, include_str!("compress.go")).map_err(failed)?;
            let go = find_program("go", "install the package golang-go")?;
            let mut build = Command::new(go);
            build.args(["build", "-o"]).arg(&program).arg(&source);
            run(build.env("GO111MODULE", "off"))?;
        }
        Ok(Command::new(program))
    }
}

impl TestLayer {
    /// Makes the layer `kind` in `folder`, compressed by each of `compressors`.
    ///
    /// # Errors
    /// [`UnpackBenchError`].
    pub fn make(
        kind: LayerKind,
        sizes: Sizes,
        compressors: &[Compressor],
        folder: &Path,
    ) -> Result<Vec<Self>, UnpackBenchError> {
        let tar = folder.join(format!("{}.tar", kind.name()));
        let held = kind.write(sizes, &tar)?;
        let made = compressors
            .iter()
            .map(|compressor| Self::compressed(kind, &tar, held, *compressor, folder))
            .collect();
        let _ = fs::remove_file(&tar);
        made
    }

    fn compressed(
        kind: LayerKind,
        tar: &Path,
        held: Held,
        compressor: Compressor,
        folder: &Path,
    ) -> Result<Self, UnpackBenchError> {
        let name = format!("{}.{}", kind.name(), compressor.name());
        let blob = folder.join(format!("{name}.gz"));
        compress(compressor.program(folder)?, tar, &blob)?;
        let size = |path: &Path| {
            let metadata = fs::metadata(path).map_err(UnpackBenchError::file("read", path));
            metadata.map(|metadata| metadata.size())
        };
        let spec = LayerSpec {
            encoding: Encoding::Sniffed,
            digest: digest_of(&blob)?,
            size: size(&blob)?,
            diff_id: digest_of(tar)?,
        };
        let layout = folder.join(&name);
        let manifest = write_layout(&spec, &blob, &layout)
            .map_err(UnpackBenchError::file("write", &layout))?;
        let image = folder.join(format!("{name}.oci.tar"));
        let mut pack = Command::new("tar");
        run(pack.arg("-C").arg(&layout).arg("-cf").arg(&image).arg("."))?;
        Ok(Self {
            name,
            kind,
            spec,
            uncompressed_bytes: size(tar)?,
            entries: held.entries,
            files: held.files,
            blob,
            layout,
            image,
            manifest,
        })
    }
}

/// Runs `program` from one file to another.
fn compress(mut program: Command, from: &Path, to: &Path) -> Result<(), UnpackBenchError> {
    let input = File::open(from).map_err(UnpackBenchError::file("open", from))?;
    let output = File::create(to).map_err(UnpackBenchError::file("make", to))?;
    let name = program.get_program().to_string_lossy().into_owned();
    let status = program
        .stdin(input)
        .stdout(output)
        .stderr(Stdio::null())
        .status()
        .map_err(|source| ProcessError::Start {
            name: name.clone(),
            program: name.clone(),
            source,
        })?;
    if status.success() {
        return Ok(());
    }
    Err(UnpackBenchError::Wrong {
        who: name,
        why: status.to_string(),
    })
}

fn digest_of(path: &Path) -> Result<Digest, UnpackBenchError> {
    let hash = || -> io::Result<Digest> {
        let (mut file, mut hasher) = (File::open(path)?, Sha256::new());
        let mut buffer = vec![0; 1 << 20];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(Digest::from_bytes(hasher.finalize().into())),
                bytes => hasher.update(&buffer[..bytes]),
            }
        }
    };
    hash().map_err(UnpackBenchError::file("read", path))
}

/// An OCI image layout of this one layer; the digest of its manifest.
fn write_layout(spec: &LayerSpec, blob: &Path, layout: &Path) -> io::Result<Digest> {
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs)?;
    let path = |digest: &Digest| blobs.join(digest.to_string().trim_start_matches("sha256:"));
    fs::hard_link(blob, path(&spec.digest))?;
    let keep = |media_type: &str, value: &serde_json::Value| -> io::Result<serde_json::Value> {
        let bytes = value.to_string().into_bytes();
        let digest = Digest::of(&bytes);
        fs::write(path(&digest), &bytes)?;
        Ok(json!({"mediaType": media_type, "digest": digest.to_string(), "size": bytes.len()}))
    };
    let config = json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [spec.diff_id.to_string()]},
    });
    let config = keep("application/vnd.oci.image.config.v1+json", &config)?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config,
        "layers": [{
            "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
            "digest": spec.digest.to_string(),
            "size": spec.size,
        }],
    });
    let digest = Digest::of(manifest.to_string().as_bytes());
    let mut descriptor = keep(MANIFEST, &manifest)?;
    descriptor["annotations"] = json!({
        "org.opencontainers.image.ref.name": "layer",
        "io.containerd.image.name": "bench.invalid/layer:latest",
    });
    let index = json!({"schemaVersion": 2, "manifests": [descriptor]});
    fs::write(layout.join("index.json"), index.to_string())?;
    fs::write(
        layout.join("oci-layout"),
        r#"{"imageLayoutVersion":"1.0.0"}"#,
    )?;
    Ok(digest)
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
