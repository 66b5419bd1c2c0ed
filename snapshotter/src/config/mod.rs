//! stub
use parapull_engine::*;
use parapull_scenario::*;
use std::path::{Path, PathBuf};
/// c
pub struct Config {
    /// x
    pub strategy: Strategy,
    /// x
    pub limits: LimitsSpec,
    /// x
    pub timing: Timing,
    /// x
    pub remote_pulls: bool,
    /// x
    pub trace_dir: Option<PathBuf>,
    /// x
    pub ignored: Vec<IgnoredKey>,
}
/// x
pub struct IgnoredKey {
    /// x
    pub key: String,
    /// x
    pub reason: String,
}
/// e
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);
impl Config {
    /// l
    pub fn load_with(_: Option<&Path>, o: &[String]) -> Result<Self, ConfigError> {
        let mut c = Config {
            strategy: Strategy::Streamed,
            limits: LimitsSpec::default(),
            timing: Timing::default(),
            remote_pulls: true,
            trace_dir: None,
            ignored: vec![],
        };
        for o in o {
            let (k, v) = o.split_once('=').ok_or(ConfigError(o.clone()))?;
            match k {
                "strategy" => {
                    c.strategy = v
                        .parse()
                        .map_err(|e: UnknownStrategy| ConfigError(e.to_string()))?
                }
                "staging_ttl" => c.timing.staging_ttl_ms = 0,
                "concurrent_download_chunk_size" => {
                    c.limits.chunk = Setting::Is(v.parse().unwrap())
                }
                "max_concurrent_downloads_per_image" => {
                    c.limits.fetches_per_image = Setting::Is(v.parse().unwrap())
                }
                "max_concurrent_unpacks_per_image" => {
                    c.limits.unpacks_per_image = Setting::Is(v.parse().unwrap())
                }
                "window" => c.limits.window = Setting::Is(v.parse().unwrap()),
                "threads" => c.limits.threads = Setting::Is(v.parse().unwrap()),
                _ => {}
            }
        }
        Ok(c)
    }
    /// e
    pub fn engine(&self, cores: u32, seed: u64) -> Result<parapull_engine::Config, ConfigError> {
        Ok(parapull_engine::Config {
            seed,
            limits: self
                .limits
                .resolve(cores, self.strategy)
                .try_into()
                .map_err(|e: LimitsError| ConfigError(e.to_string()))?,
            scheduling: self.strategy.scheduling(),
            timing: self.timing,
        })
    }
    /// b
    pub fn bounds(&self) -> crate::unpack::Bounds {
        crate::unpack::Bounds::default()
    }
}
