//! The part of Kubernetes' image service the bench uses: pull, look up, remove; as kubelet would call it.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hyper_util::rt::TokioIo;
use parapull_snapshotter::grpc::proto::runtime::v1::image_service_client::ImageServiceClient;
use parapull_snapshotter::grpc::proto::runtime::v1::{
    Image, ImageFsInfoRequest, ImageSpec, ImageStatusRequest, PullImageRequest, RemoveImageRequest,
};
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Response, Status};
use tower::service_fn;

/// Why a CRI call failed; reads after "failed to …".
#[derive(Debug, thiserror::Error)]
pub enum CriError {
    /// The socket does not accept.
    #[error("connect to CRI at {path}: {source}", path = socket.display())]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// The cause.
        source: tonic::transport::Error,
    },
    /// The client's runtime could not be made.
    #[error("start a CRI client: {0}")]
    Runtime(#[from] std::io::Error),
    /// The service answered an error.
    #[error("{call} {image}: {}: {}", status.code(), status.message())]
    Call {
        /// The call, such as `PullImage`.
        call: &'static str,
        /// The image it was about.
        image: String,
        /// The answer.
        status: Box<Status>,
    },
}

/// What a pull by CRI gave.
#[derive(Debug, Clone)]
pub struct CriPull {
    /// The image's id: the digest of its config.
    pub image_id: String,
    /// Wall time of the `PullImage` call.
    pub elapsed: Duration,
}

/// A blocking CRI image client with a small runtime of its own.
#[derive(Debug)]
pub struct CriClient {
    runtime: Runtime,
    client: ImageServiceClient<Channel>,
}

impl CriClient {
    /// Connects to the Unix socket `socket`.
    ///
    /// # Errors
    /// [`CriError::Connect`] when nobody accepts there.
    pub fn connect(socket: &Path) -> Result<Self, CriError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let path = socket.to_path_buf();
        let connector = service_fn(move |_: Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        // The authority is never resolved: every connection is the socket's.
        let connected = runtime
            .block_on(Endpoint::from_static("http://localhost").connect_with_connector(connector));
        let channel = connected.map_err(|source| CriError::Connect {
            socket: socket.into(),
            source,
        })?;
        Ok(Self {
            runtime,
            client: ImageServiceClient::new(channel),
        })
    }

    /// Whether the image service answers at all (`ImageFsInfo`).
    pub fn is_ready(&mut self) -> bool {
        let mut client = self.client.clone();
        self.runtime
            .block_on(async move { client.image_fs_info(ImageFsInfoRequest {}).await })
            .is_ok()
    }

    /// Pulls `image` and waits for the end, however long it takes.
    ///
    /// # Errors
    /// [`CriError::Call`] with containerd's own message.
    pub fn pull_image(&mut self, image: &str) -> Result<CriPull, CriError> {
        let mut client = self.client.clone();
        let request = PullImageRequest {
            image: Some(specification(image)),
            ..PullImageRequest::default()
        };
        let start = Instant::now();
        let answer = self.call("PullImage", image, async move {
            client.pull_image(request).await
        })?;
        Ok(CriPull {
            image_id: answer.image_ref,
            elapsed: start.elapsed(),
        })
    }

    /// Looks `image` up; `None` when it is not there.
    ///
    /// # Errors
    /// [`CriError::Call`].
    pub fn image_status(&mut self, image: &str) -> Result<Option<Image>, CriError> {
        let mut client = self.client.clone();
        let request = ImageStatusRequest {
            image: Some(specification(image)),
            verbose: false,
        };
        let answer = self.call("ImageStatus", image, async move {
            client.image_status(request).await
        })?;
        Ok(answer.image)
    }

    /// Removes `image`; one that is not there is no error.
    ///
    /// # Errors
    /// [`CriError::Call`].
    pub fn remove_image(&mut self, image: &str) -> Result<(), CriError> {
        let mut client = self.client.clone();
        let request = RemoveImageRequest {
            image: Some(specification(image)),
        };
        self.call("RemoveImage", image, async move {
            client.remove_image(request).await
        })
        .map(drop)
    }

    fn call<T>(
        &self,
        call: &'static str,
        image: &str,
        future: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, CriError> {
        self.runtime
            .block_on(future)
            .map(Response::into_inner)
            .map_err(|status| CriError::Call {
                call,
                image: image.into(),
                status: Box::new(status),
            })
    }
}

fn specification(image: &str) -> ImageSpec {
    ImageSpec {
        image: image.into(),
        ..ImageSpec::default()
    }
}
