//! An OCI registry with ranges, throttles and faults, and a deterministic image crafter.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use fake_registry::{FakeRegistry, cache_dir_default, craft};
//! use parapull_scenario::{ImageSpec, RegistryProfile};
//!
//! let image = craft(&ImageSpec::preset("tiny")?, &cache_dir_default())?;
//! let registry = FakeRegistry::builder()
//!     .image("demo/tiny:latest", image.layout)
//!     .profile(RegistryProfile::named("s3-like")?)
//!     .build()?
//!     .start()
//!     .await?;
//! println!("pull {}/demo/tiny:latest", registry.authority());
//! registry.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! It serves the pull side of the OCI distribution API over plain HTTP/1.1 and keeps a [`Journal`] of every request. It
//! stores nothing that is pushed.

#![forbid(unsafe_code)]

mod app;
mod auth;
mod blob;
mod connection;
mod craft;
mod fault;
mod journal;
mod layout;
mod range;
mod server;
mod throttle;

pub use craft::{
    CraftError, CraftedImage, CraftedLayer, Crafter, HELLO_OUTPUT, cache_dir_default, craft,
    hello_elf,
};
pub use journal::{Journal, JournalEntry, Origin, RequestKind};
pub use layout::{Contents, Document, LayoutError, OciLayout};
pub use range::RangeRequest;
pub use server::{FakeRegistry, FakeRegistryBuilder, RegistryError, Running};
pub use throttle::TokenBucket;
