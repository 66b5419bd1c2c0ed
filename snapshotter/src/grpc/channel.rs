//! The connection to a containerd: a unix socket, connected when first used and again after containerd was restarted.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

/// A channel to the containerd at `socket`; nothing is connected before the first call.
pub(super) fn lazy_channel(socket: &Path) -> Channel {
    // The address is only a placeholder for the authority header, the connector goes to the socket.
    let endpoint = Endpoint::from_static("http://localhost").connect_timeout(CONNECT_TIMEOUT);
    let socket = socket.to_path_buf();
    endpoint.connect_with_connector_lazy(service_fn(move |_: Uri| connect(socket.clone())))
}

async fn connect(socket: PathBuf) -> std::io::Result<TokioIo<UnixStream>> {
    UnixStream::connect(socket).await.map(TokioIo::new)
}

/// Which namespace a call is about.
pub(super) const NAMESPACE_HEADER: &str = "containerd-namespace";
/// A local socket answers in microseconds or is overloaded.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
