//! Several gRPC services on one socket, told apart by the service name in the path.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use tonic::body::Body;
use tonic::codegen::BoxFuture;
use tonic::codegen::http::{Request, Response};
use tonic::server::NamedService;
use tonic::{Code, Status};
use tower::Service;
use tower::ServiceExt;
use tower::util::BoxCloneSyncService;

type Boxed = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

/// The services of a socket; clones share them.
#[derive(Debug, Clone, Default)]
pub struct Routes {
    services: Arc<Vec<(&'static str, Boxed)>>,
}

impl Routes {
    /// Adds a service under its own name.
    #[must_use]
    pub fn with<S>(self, service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        let mut services = Arc::unwrap_or_clone(self.services);
        services.push((S::NAME, BoxCloneSyncService::new(service)));
        Self {
            services: Arc::new(services),
        }
    }
}

impl Service<Request<Body>> for Routes {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Response<Body>, Infallible>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Each call gets a clone of its service and waits for that.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let called = service_name(request.uri().path());
        match self.services.iter().find(|(name, _)| *name == called) {
            Some((_, service)) => Box::pin(service.clone().oneshot(request)),
            None => {
                let status = Status::new(
                    Code::Unimplemented,
                    format!("no service {called:?} on this socket"),
                );
                Box::pin(async move { Ok(status.into_http()) })
            }
        }
    }
}

/// The service in a path `/service/method`.
fn service_name(path: &str) -> &str {
    path.trim_start_matches('/')
        .split('/')
        .next()
        .unwrap_or_default()
}
