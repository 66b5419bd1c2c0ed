//! Sockets of the simulated network, for a registry and for its client.

use std::net::SocketAddr;

use parapull_snapshotter::registry::{Dial, Dialling, Stream};
use turmoil::net::{TcpListener, TcpStream};

#[derive(Debug)]
pub struct SimulatedDial;

impl Dial for SimulatedDial {
    fn connect<'a>(&'a self, host: &'a str, port: u16) -> Dialling<'a> {
        Box::pin(async move {
            let stream: Box<dyn Stream> = Box::new(TcpStream::connect((host, port)).await?);
            Ok(stream)
        })
    }
}

pub struct Listening(pub TcpListener);

impl axum::serve::Listener for Listening {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        match self.0.accept().await {
            Ok(accepted) => accepted,
            Err(_) => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.0.local_addr()
    }
}
