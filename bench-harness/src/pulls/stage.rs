//! The image, its registry and the workspace that all pulls of a comparison share.

use std::path::{Path, PathBuf};

use super::PullError;
use crate::layout::{LayerContents, Layout};
use crate::limits::{Limits, LimitsError};
use crate::measure::{FileSystem, drop_page_cache};
use crate::processes::{
    DockerRegistry, FakeRegistry, FakeRegistryOptions, ProcessError, Programs, Workspace,
};
use crate::report::ImageSize;
use crate::simulation::Model;

/// Which registry serves the image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RegistryKind {
    /// The project's own, with profiles.
    #[default]
    Fake,
    /// Debian's docker-registry.
    Docker,
}

/// What a stage is made of.
#[derive(Debug, Clone)]
pub struct StageOptions {
    /// A preset with optional size, a craft file, or an OCI layout folder.
    pub image: String,
    /// Which registry serves it.
    pub registry: RegistryKind,
    /// The fake registry's profile.
    pub profile: Option<String>,
    /// Where to work; a tmpfs of its own when not given.
    pub work: Option<PathBuf>,
    /// Where the project's programs are.
    pub programs: Programs,
    /// The containerd to start, with `ctr` and its shim beside it; the installed one when not given.
    pub containerd: Option<PathBuf>,
}

/// A served image and an empty workspace to pull it into.
#[derive(Debug)]
pub struct Stage {
    // Declared first: the registry must be gone before its folder is.
    registry: Registry,
    pub(super) programs: Programs,
    pub(super) containerd: Option<PathBuf>,
    pub(super) layout: Layout,
    pub(super) contents: Vec<LayerContents>,
    image: ImageSize,
    reference: String,
    profile: Option<String>,
    pub(super) workspace: Workspace,
}

#[derive(Debug)]
enum Registry {
    Fake(FakeRegistry),
    Docker(DockerRegistry),
}

impl Stage {
    /// Crafts the image if it is not a layout already, and serves it on loopback.
    ///
    /// # Errors
    /// When the image cannot be crafted or read, or the registry does not start.
    pub fn prepare(options: &StageOptions) -> Result<Self, PullError> {
        let workspace = Workspace::new(options.work.as_deref())?;
        let given = Path::new(&options.image);
        let folder = if given.join("index.json").is_file() {
            given.to_path_buf()
        } else {
            let folder = workspace.folder("layout")?;
            FakeRegistry::craft(&options.programs, &options.image, &folder)?;
            folder
        };
        let layout = Layout::open(&folder)?;
        let contents = layout.contents()?;
        let (registry, reference) = serve(options, &workspace, &folder)?;
        let image = ImageSize {
            name: image_name(&options.image),
            layers: layout.layers.len(),
            compressed_bytes: layout.compressed_bytes(),
            uncompressed_bytes: contents.iter().map(|layer| layer.uncompressed_bytes).sum(),
            files: contents.iter().map(|layer| layer.entries).sum(),
        };
        Ok(Self {
            registry,
            programs: options.programs.clone(),
            containerd: options.containerd.clone(),
            layout,
            contents,
            image,
            reference,
            profile: options.profile.clone(),
            workspace,
        })
    }

    /// The image's size.
    pub const fn image(&self) -> &ImageSize {
        &self.image
    }

    /// The image as its layout describes it.
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The reference to pull.
    pub fn reference(&self) -> &str {
        &self.reference
    }

    /// The registry's `host:port`.
    pub fn host(&self) -> &str {
        match &self.registry {
            Registry::Fake(registry) => registry.host(),
            Registry::Docker(registry) => registry.host(),
        }
    }

    /// The registry's name in reports, with its profile.
    pub fn registry_name(&self) -> String {
        match (&self.registry, &self.profile) {
            (Registry::Docker(_), _) => "docker-registry".into(),
            (Registry::Fake(_), None) => "fake-registry".into(),
            (Registry::Fake(_), Some(profile)) => format!("fake-registry, profile {profile}"),
        }
    }

    /// What every pull of this image is simulated with, on a host of the rates in `limits`.
    ///
    /// Debian's docker-registry has no profile: all it costs is in the fetch rate.
    ///
    /// # Errors
    /// When the simulator cannot read the registry's profile.
    pub fn model(&self, limits: &Limits) -> Result<Model, PullError> {
        let profile = match (&self.registry, &self.profile) {
            (Registry::Fake(_), Some(profile)) => parapull_sim::preset::registry(profile)?,
            (Registry::Fake(_), None) | (Registry::Docker(_), _) => {
                parapull_sim::preset::registry("unlimited")?
            }
        };
        Ok(Model::new(&self.layout, &self.contents, limits, profile))
    }

    /// Measures what this machine can do at best with this image.
    ///
    /// # Errors
    /// When the layers cannot be read or the workspace cannot be written.
    pub fn limits(&self) -> Result<Limits, LimitsError> {
        Limits::measure(&self.layout, &self.image, &self.blob_urls(), self.work())
    }

    /// The folder everything is written to.
    pub fn work(&self) -> &Path {
        self.workspace.path()
    }

    /// The addresses of the layers' blobs, bottom first.
    pub fn blob_urls(&self) -> Vec<String> {
        let blobs = |layer: &crate::layout::LayoutLayer| {
            format!(
                "http://{}/v2/{REPOSITORY}/blobs/{}",
                self.host(),
                layer.digest
            )
        };
        self.layout.layers.iter().map(blobs).collect()
    }

    /// Makes the next pull a cold one, as far as this machine lets us.
    pub(super) fn cool_down(&self) {
        let on_tmpfs = FileSystem::of(self.work()).is_ok_and(|found| found.name == "tmpfs");
        if on_tmpfs {
            return;
        }
        if let Err(error) = drop_page_cache() {
            tracing::warn!(%error, "this run may be warm");
        }
    }
}

/// A folder's last component, or the spec as it is.
fn image_name(image: &str) -> String {
    let folder = Path::new(image).file_name().filter(|_| image.contains('/'));
    folder.map_or_else(
        || image.to_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}

fn serve(
    options: &StageOptions,
    workspace: &Workspace,
    layout: &Path,
) -> Result<(Registry, String), ProcessError> {
    let folder = workspace.folder("registry")?;
    match options.registry {
        RegistryKind::Docker => {
            let registry = DockerRegistry::start(&folder)?;
            let reference = registry.load(layout, &format!("{REPOSITORY}:{TAG}"))?;
            Ok((Registry::Docker(registry), reference))
        }
        RegistryKind::Fake => {
            let served = FakeRegistryOptions {
                images: vec![(format!("{REPOSITORY}:{TAG}"), layout.display().to_string())],
                profile: options.profile.clone(),
                faults: None,
            };
            let registry = FakeRegistry::start(&options.programs, &folder, &served)?;
            let reference = format!("{}/{REPOSITORY}:{TAG}", registry.host());
            Ok((Registry::Fake(registry), reference))
        }
    }
}

const REPOSITORY: &str = "bench/image";
const TAG: &str = "latest";
