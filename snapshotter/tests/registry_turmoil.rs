//! The client on a simulated network, by way of its dialling seam: silence, partitions, and hosts that come back.

#![expect(clippy::expect_used, reason = "helpers of tests fail by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parapull_snapshotter::digest::Digest;
use parapull_snapshotter::image::{Descriptor, Reference};
use parapull_snapshotter::registry::{
    Body, Class, Dial, Dialling, FetchError, Opened, Options, PlainHttp, Read, Registry, Stream,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use turmoil::net::{TcpListener, TcpStream};

const BLOB_BYTES: usize = 4 << 20;

#[test]
fn survives_silence_and_partitions() -> turmoil::Result {
    let mut network = turmoil::Builder::new()
        .simulation_duration(Duration::from_secs(600))
        .build();
    network.host("registry", serve);
    network.client("node", async {
        let client = client();
        let mut body = open(&client).await?;
        body.next().await?;

        // Within a body, how long to wait is for the reader to say; giving up must not hurt.
        turmoil::hold("node", "registry");
        let stalled = async { while body.next().await.is_ok_and(|piece| piece.is_some()) {} };
        assert!(
            tokio::time::timeout(Duration::from_secs(20), stalled)
                .await
                .is_err(),
            "bytes came from a silent network"
        );
        drop(body);

        // Before a body, the client's own limits hold.
        let started = tokio::time::Instant::now();
        let error = open(&client)
            .await
            .expect_err("an answer came from a silent network");
        assert_eq!(error.class(), Class::Retry);
        assert!(
            started.elapsed() <= Duration::from_secs(31),
            "{:?}",
            started.elapsed()
        );

        turmoil::release("node", "registry");
        turmoil::partition("node", "registry");
        let error = open(&client)
            .await
            .expect_err("an answer crossed a partition");
        assert_eq!((error.class(), error.kind()), (Class::Retry, "network"));

        turmoil::repair("node", "registry");
        let mut body = open(&client).await?;
        let mut received = 0;
        while let Some(piece) = body.next().await? {
            received += piece.len();
        }
        assert_eq!(received, BLOB_BYTES);
        Ok(())
    });
    network.run()
}

#[test]
fn a_restarted_registry_costs_no_error() -> turmoil::Result {
    let mut network = turmoil::Builder::new()
        .simulation_duration(Duration::from_secs(60))
        .build();
    network.host("registry", serve);
    let restarts = Arc::new(AtomicUsize::new(0));
    let wanted = Arc::clone(&restarts);
    network.client("node", async move {
        let client = client();
        for round in 0..3 {
            let mut body = open(&client).await?;
            while body.next().await?.is_some() {}
            wanted.store(round + 1, Ordering::SeqCst);
            // A step of the simulation, in which the registry is restarted.
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        Ok(())
    });
    let mut restarted = 0;
    while !network.step()? {
        if restarts.load(Ordering::SeqCst) > restarted {
            network.bounce("registry");
            restarted += 1;
        }
    }
    assert_eq!(restarted, 3);
    Ok(())
}

/// Serves one blob over and over, whatever is asked for.
async fn serve() -> turmoil::Result {
    let listener = TcpListener::bind("0.0.0.0:80").await?;
    loop {
        let (mut stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            let mut request = Vec::new();
            while let Ok(1..) = stream.read_buf(&mut request).await {
                if request.ends_with(b"\r\n\r\n") {
                    request.clear();
                    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {BLOB_BYTES}\r\n\r\n");
                    let _ = stream.write_all(head.as_bytes()).await;
                    // In small pieces, because the simulated network's buffers count writes and not bytes.
                    for piece in vec![7; BLOB_BYTES].chunks(4096) {
                        if stream.write_all(piece).await.is_err() {
                            return;
                        }
                    }
                }
            }
        });
    }
}

async fn open(client: &Registry) -> Result<Body, FetchError> {
    let blob = Descriptor {
        media_type: String::new(),
        digest: Digest::of(b"any"),
        size: BLOB_BYTES as u64,
        annotations: Default::default(),
    };
    let reference: Reference = "registry:80/team/app:1".parse().expect("a reference");
    let (Opened::Whole(body) | Opened::Ranged(body)) =
        client.open(&reference, 0, &blob, Read::Whole).await?;
    Ok(body)
}

fn client() -> Registry {
    Registry::new(Options {
        plain_http: PlainHttp::Always,
        dial: Arc::new(SimulatedDial),
        ..Options::default()
    })
    .expect("a client")
}

#[derive(Debug)]
struct SimulatedDial;

impl Dial for SimulatedDial {
    fn connect<'a>(&'a self, host: &'a str, port: u16) -> Dialling<'a> {
        Box::pin(async move {
            let stream: Box<dyn Stream> = Box::new(TcpStream::connect((host, port)).await?);
            Ok(stream)
        })
    }
}
