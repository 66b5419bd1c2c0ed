//! A registry with a crafted image and a plain HTTP client, for the tests of this folder.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use bytes::Bytes;
use fake_registry::{CraftedImage, FakeRegistry, Running, craft};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use parapull_scenario::registry::{Fault, FaultKind, FaultTarget, FaultTimes};
use parapull_scenario::{Faults, ImageSpec, RegistryProfile};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// The repository every test pulls from.
pub(crate) const NAME: &str = "demo/tiny";

/// A small image, crafted once per test binary.
pub(crate) fn image() -> &'static CraftedImage {
    static IMAGE: OnceLock<(tempfile::TempDir, CraftedImage)> = OnceLock::new();
    let (_, image) = IMAGE.get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        let image = craft(&ImageSpec::preset("tiny").unwrap(), directory.path()).unwrap();
        (directory, image)
    });
    image
}

/// The bottom layer's digest and bytes.
pub(crate) fn bottom_layer() -> (&'static str, Vec<u8>) {
    let layer = &image().layers[0];
    let path = image().layout.blob_path(&layer.digest).unwrap();
    (&layer.digest, std::fs::read(path).unwrap())
}

/// The path of the bottom layer.
pub(crate) fn layer_path() -> String {
    format!("/v2/{NAME}/blobs/{}", bottom_layer().0)
}

pub(crate) async fn start(profile: RegistryProfile, faults: Faults) -> Running {
    FakeRegistry::builder()
        .image(NAME, image().layout.clone())
        .profile(profile)
        .faults(faults)
        .build()
        .unwrap()
        .start()
        .await
        .unwrap()
}

/// One fault of the bottom layer.
pub(crate) fn layer_fault(kind: FaultKind, times: FaultTimes) -> Faults {
    Faults {
        faults: vec![Fault {
            target: FaultTarget::Layer(0),
            offset: None,
            times,
            kind,
        }],
    }
}

/// What came back, as far as it came.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
    /// Why the body ended early.
    pub(crate) error: Option<String>,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// One connection.
pub(crate) struct Client {
    sender: SendRequest<Empty<Bytes>>,
    authority: String,
}

impl Client {
    pub(crate) async fn connect(authority: &str) -> Self {
        Self::over(TcpStream::connect(authority).await.unwrap(), authority).await
    }

    pub(crate) async fn over<T>(stream: T, authority: &str) -> Self
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self {
            sender,
            authority: authority.to_owned(),
        }
    }

    pub(crate) async fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Reply {
        let mut request = hyper::Request::builder()
            .method(method)
            .uri(path)
            .header("host", &self.authority);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.sender.ready().await.unwrap();
        let response = self
            .sender
            .send_request(request.body(Empty::new()).unwrap())
            .await
            .unwrap();
        let (parts, mut body) = response.into_parts();
        let mut reply = Reply {
            status: parts.status.as_u16(),
            headers: parts
                .headers
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
                .collect(),
            body: Vec::new(),
            error: None,
        };
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(frame) => reply.body.extend_from_slice(frame.data_ref().unwrap()),
                Err(error) => {
                    let source = std::error::Error::source(&error).map(ToString::to_string);
                    reply.error = Some(format!("{error}: {}", source.unwrap_or_default()));
                    break;
                }
            }
        }
        reply
    }

    pub(crate) async fn get(&mut self, path: &str) -> Reply {
        self.send("GET", path, &[]).await
    }

    pub(crate) async fn get_range(&mut self, path: &str, range: &str) -> Reply {
        self.send("GET", path, &[("range", range)]).await
    }
}

/// One request on a connection of its own.
pub(crate) async fn get(running: &Running, path: &str) -> Reply {
    Client::connect(&running.authority()).await.get(path).await
}

/// One range on a connection of its own.
pub(crate) async fn get_range(running: &Running, path: &str, range: &str) -> Reply {
    Client::connect(&running.authority())
        .await
        .get_range(path, range)
        .await
}
