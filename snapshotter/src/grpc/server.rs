//! The socket on which containerd calls: making it, taking it over from systemd, and serving until told to stop.

use std::fs::{self, DirBuilder, Permissions};
use std::future::Future;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::path::{Path, PathBuf};

use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use tokio::net::{UnixListener, UnixStream};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;

use super::routes::Routes;

/// A listening socket, mode 0600; its file goes with it.
#[derive(Debug)]
pub struct BoundSocket {
    listener: StdListener,
    /// None for a socket that systemd owns.
    file: Option<SocketFile>,
}

/// The file of a socket that was made here; removed when dropped if it is still the same.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    inode: u64,
}

/// Why the socket could not be made or served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Another process answers on this socket.
    #[error("{} is in use by another process; stop it or choose another address", .0.display())]
    InUse(PathBuf),
    /// A file operation on the socket failed.
    #[error("failed to {action} socket {}: {source}", path.display())]
    Socket {
        /// What was tried, as a verb.
        action: &'static str,
        /// The socket's path.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// Taking over the socket that systemd passed failed.
    #[error("failed to take over the socket passed by systemd: {0}")]
    Activation(io::Error),
    /// The server ended with an error.
    #[error("failed to serve: {0}")]
    Transport(#[from] tonic::transport::Error),
}

impl BoundSocket {
    /// Listens at `path`: makes its directory if needed, and replaces a socket file on which nobody listens.
    ///
    /// The socket appears under its name only when it is protected and listening.
    ///
    /// # Errors
    /// [`ServeError::InUse`] if somebody listens there, else what failed.
    pub fn bind(path: &Path) -> Result<Self, ServeError> {
        let failed = |action| {
            move |source| ServeError::Socket {
                action,
                path: path.to_path_buf(),
                source,
            }
        };
        if let Some(parent) = path.parent() {
            let mut builder = DirBuilder::new();
            builder
                .recursive(true)
                .mode(0o711)
                .create(parent)
                .map_err(failed("make the directory of"))?;
        }
        match StdStream::connect(path) {
            Ok(_) => return Err(ServeError::InUse(path.to_path_buf())),
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::NotFound | ErrorKind::ConnectionRefused
                ) => {}
            Err(error) => return Err(failed("look for a server at")(error)),
        }
        if fs::symlink_metadata(path).is_ok_and(|metadata| !metadata.file_type().is_socket()) {
            return Err(failed("replace")(io::Error::other("it is not a socket")));
        }
        let new = path.with_added_extension("new");
        remove_if_there(&new).map_err(failed("replace"))?;
        let listener = StdListener::bind(&new).map_err(failed("bind"))?;
        fs::set_permissions(&new, Permissions::from_mode(0o600)).map_err(failed("protect"))?;
        listener.set_nonblocking(true).map_err(failed("prepare"))?;
        fs::rename(&new, path).map_err(failed("publish"))?;
        let inode = fs::metadata(path).map_err(failed("stat"))?.ino();
        Ok(Self {
            listener,
            file: Some(SocketFile {
                path: path.to_path_buf(),
                inode,
            }),
        })
    }

    /// Begins to accept connections, on the current runtime.
    ///
    /// # Errors
    /// [`ServeError::Socket`] if the runtime cannot take it.
    pub fn listen(self) -> Result<Listening, ServeError> {
        let Self { listener, file } = self;
        let listener = UnixListener::from_std(listener).map_err(|source| ServeError::Socket {
            action: "listen on",
            path: file
                .as_ref()
                .map(|file| file.path.clone())
                .unwrap_or_default(),
            source,
        })?;
        Ok(Listening {
            listener,
            _file: file,
        })
    }

    /// The first socket that systemd passed (`LISTEN_FDS`), or none if there is none.
    ///
    /// # Errors
    /// [`ServeError::Activation`] if one was announced but cannot be used.
    pub fn from_systemd() -> Result<Option<Self>, ServeError> {
        let Some(descriptor) = sd_notify::listen_fds()
            .map_err(ServeError::Activation)?
            .next()
        else {
            return Ok(None);
        };
        // A bare number is no owned descriptor; asking the kernel for a duplicate of it makes one without unsafe code.
        let owned = pidfd_open(getpid(), PidfdFlags::empty())
            .and_then(|own| pidfd_getfd(own, descriptor, PidfdGetfdFlags::empty()))
            .map_err(|error| ServeError::Activation(error.into()))?;
        let listener = StdListener::from(owned);
        listener.local_addr().map_err(ServeError::Activation)?;
        listener
            .set_nonblocking(true)
            .map_err(ServeError::Activation)?;
        Ok(Some(Self {
            listener,
            file: None,
        }))
    }
}

/// A socket that accepts connections; its file goes with it.
#[derive(Debug)]
pub struct Listening {
    listener: UnixListener,
    _file: Option<SocketFile>,
}

impl Listening {
    /// Waits for the next connection.
    ///
    /// # Errors
    /// What the kernel says.
    pub async fn accept(&self) -> io::Result<UnixStream> {
        Ok(self.listener.accept().await?.0)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let path = &self.path;
        if fs::metadata(path).is_ok_and(|metadata| metadata.ino() == self.inode)
            && let Err(error) = fs::remove_file(path)
        {
            tracing::warn!(path = %path.display(), %error, "failed to remove the socket");
        }
    }
}

/// Serves `routes` on `socket` until `shutdown` ends, then accepts nothing more and lets running calls finish.
///
/// How long calls may still run is the caller's to bound: whoever answers them ends them, or the returned future is dropped.
///
/// # Errors
/// If the socket cannot be used or the server fails.
pub async fn serve(
    socket: BoundSocket,
    routes: Routes,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let Listening { listener, _file } = socket.listen()?;
    Server::builder()
        // All of containerd's calls share one connection, and waiting Prepares must not keep a Stat out.
        .max_concurrent_streams(STREAMS_MAX)
        // Callers that give up reset their streams; a burst of them is no attack on a local socket.
        .http2_max_pending_accept_reset_streams(Some(RESETS_MAX))
        .http2_max_local_error_reset_streams(Some(RESETS_MAX))
        .serve_with_incoming_shutdown(routes, UnixListenerStream::new(listener), shutdown)
        .await?;
    Ok(())
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Far above what one node has in flight; hyper's default of 200 is not.
const STREAMS_MAX: u32 = 16_384;
const RESETS_MAX: usize = 4_096;
