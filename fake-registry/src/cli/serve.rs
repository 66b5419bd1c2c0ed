//! `serve`: crafts what is missing, then answers until told to stop.

use std::path::Path;

use anyhow::{Context, anyhow};
use fake_registry::{Crafter, FakeRegistry, OciLayout, cache_dir_default};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::filter::LevelFilter;

use super::craft::with_progress;
use super::say;
use super::spec::{Spec, read_faults, read_profile, read_spec};
use super::{Failure, ServeArguments};

pub(super) fn run(arguments: ServeArguments) -> Result<(), Failure> {
    let level = if arguments.verbose {
        LevelFilter::INFO
    } else {
        LevelFilter::WARN
    };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_target(false)
        .init();
    if arguments.images.is_empty() {
        return Err(Failure::Misuse(anyhow!(
            "nothing to serve: add --image NAME[:TAG]=SPEC, such as --image demo/tiny=tiny"
        )));
    }
    let mut builder = FakeRegistry::builder().profile(read_profile(&arguments.profile)?);
    if let Some(path) = &arguments.faults {
        builder = builder.faults(read_faults(path)?);
    }
    let cache_dir = arguments.cache_dir.unwrap_or_else(cache_dir_default);
    let mut references = Vec::new();
    for (reference, spec) in arguments.images {
        builder = builder.image(&reference, layout_of(&spec, &cache_dir)?);
        references.push(reference);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("failed to start the runtime")?;
    runtime.block_on(async {
        let mut interrupted =
            signal(SignalKind::interrupt()).context("failed to listen for SIGINT")?;
        let mut terminated =
            signal(SignalKind::terminate()).context("failed to listen for SIGTERM")?;
        let listener = TcpListener::bind(arguments.listen)
            .await
            .with_context(|| format!("failed to listen on {}", arguments.listen))?;
        let registry = builder.build().context("failed to build the registry")?;
        let running = registry
            .serve(listener)
            .await
            .context("failed to start the registry")?;
        if let Some(path) = &arguments.port_file {
            write_port(path, running.address.port())?;
        }
        for reference in &references {
            say(format_args!("serving {}/{reference}", running.authority()));
        }
        tokio::select! {
            _ = interrupted.recv() => {}
            _ = terminated.recv() => {}
        }
        running.stop().await;
        Ok(())
    })
}

fn layout_of(text: &str, cache_dir: &Path) -> Result<OciLayout, Failure> {
    match read_spec(text)? {
        Spec::Layout(layout) => Ok(layout),
        Spec::Image(spec) => {
            let crafter = Crafter::new(cache_dir);
            let image = with_progress(&spec, &crafter, || crafter.craft(&spec));
            Ok(image
                .with_context(|| format!("failed to craft {text}"))?
                .layout)
        }
    }
}

/// Writes beside and renames, so that a reader never sees half a number.
fn write_port(path: &Path, port: u16) -> anyhow::Result<()> {
    let partial = path.with_extension("partial");
    let context = || format!("failed to write {}", path.display());
    std::fs::write(&partial, format!("{port}\n")).with_context(context)?;
    std::fs::rename(&partial, path).with_context(context)
}
