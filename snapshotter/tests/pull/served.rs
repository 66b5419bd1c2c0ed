//! A registry that serves one image in this process.

use fake_registry::{FakeRegistry, Journal, Running};
use parapull_scenario::registry::{Fault, FaultKind, FaultTarget, FaultTimes};
use parapull_scenario::{Faults, RegistryProfile};
use tokio::runtime::{Builder, Runtime};

use super::images::TestImage;

pub struct Served {
    pub image: TestImage,
    pub journal: Journal,
    pub reference: String,
    /// `host:port`.
    pub host: String,
    running: Option<Running>,
    runtime: Runtime,
}

impl Served {
    /// In perfect health.
    pub fn healthy(image: TestImage) -> Self {
        Self::new(image, RegistryProfile::default(), Vec::new())
    }

    /// With these faults.
    pub fn faulty(image: TestImage, faults: Vec<Fault>) -> Self {
        Self::new(image, RegistryProfile::default(), faults)
    }

    pub fn new(image: TestImage, profile: RegistryProfile, faults: Vec<Fault>) -> Self {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let running = runtime.block_on(async {
            FakeRegistry::builder()
                .image("team/app:1", image.layout.clone())
                .profile(profile)
                .faults(Faults { faults })
                .build()
                .unwrap()
                .start()
                .await
                .unwrap()
        });
        let host = running.authority();
        Self {
            image,
            journal: running.journal.clone(),
            reference: format!("{host}/team/app:1"),
            host,
            running: Some(running),
            runtime,
        }
    }

    /// How often a layer's blob was asked for.
    pub fn requests(&self, digest: &str) -> usize {
        self.journal.blob_requests(digest).len()
    }

    /// How often any layer's blob was asked for.
    pub fn layer_requests(&self) -> usize {
        let mut digests: Vec<_> = self
            .image
            .layers
            .iter()
            .map(|layer| &layer.digest)
            .collect();
        digests.sort();
        digests.dedup();
        digests
            .into_iter()
            .map(|digest| self.requests(digest))
            .sum()
    }

    /// Body bytes of layers that left the registry.
    pub fn layer_bytes_sent(&self) -> u64 {
        let mut digests: Vec<_> = self
            .image
            .layers
            .iter()
            .map(|layer| &layer.digest)
            .collect();
        digests.sort();
        digests.dedup();
        let requests = digests
            .into_iter()
            .flat_map(|digest| self.journal.blob_requests(digest));
        requests.map(|entry| entry.body_bytes).sum()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            self.runtime.block_on(running.stop());
        }
    }
}

/// A fault without an offset.
pub fn fault(target: FaultTarget, times: FaultTimes, kind: FaultKind) -> Fault {
    Fault {
        target,
        offset: None,
        times,
        kind,
    }
}

pub fn status(code: u16) -> FaultKind {
    FaultKind::Status {
        code,
        retry_after_seconds: None,
    }
}
