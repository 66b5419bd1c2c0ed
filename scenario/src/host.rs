//! A node as a value: cores, decoder, disk, link. What a pull costs where it runs.
//!
//! Holds measured rates and named presets. It measures nothing and knows no scheduling: two strategies on one host differ
//! in limits only.

use serde::{Deserialize, Serialize};

/// How fast a node is.
///
/// Rates are decimal bytes per second of one core, or of the whole disk or link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Host {
    /// What reports call it.
    pub name: String,
    /// Cores that inflating, hashing and writing share; at least 1.
    pub cores: u32,
    /// Uncompressed bytes of gzip that one core inflates. Default 740 MB/s (zlib-rs, 1.35 s per GB).
    pub inflate_bytes_per_second: u64,
    /// How fast a core inflates a piece of gzip without what stands before it, in percent of inflating in order. Default 60
    /// (measured 56 to 64). What a lane on four threads and more gains hangs on it.
    pub inflate_pieces_percent: u32,
    /// Uncompressed bytes of zstd that one core decodes. Default 1,333 MB/s (0.75 s per GB).
    pub zstd_bytes_per_second: u64,
    /// Bytes one core hashes; both digests pay it. Default 1.75 GB/s (SHA-NI); 550 MB/s without.
    pub sha256_bytes_per_second: u64,
    /// Uncompressed bytes one core copies into the page cache. Default 5 GB/s (0.2 s per GB).
    pub copy_bytes_per_second: u64,
    /// Core time to create one file with its attributes. Default 38 µs (a slow ext4); 10 µs on tmpfs.
    pub file_create_ns: u64,
    /// What the disk writes in the long run. Default 10 GB/s, which is as good as no limit.
    pub disk_bytes_per_second: u64,
    /// Bytes the page cache takes before writers are slowed down to the disk.
    pub disk_dirty_credit_bytes: u64,
    /// What the network card takes in, of all connections together.
    pub link_bytes_per_second: u64,
    /// Round trip to the registry, added to the registry's own time to the first byte.
    pub round_trip_us: u32,
    /// Time to put one staged layer in its place.
    pub link_layer_us: u32,
}

/// A gzip decoder whose cost is known; what a host is given to stand for a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decoder {
    /// Go's `compress/gzip`, containerd's fallback: 6.1 s per GB.
    Go,
    /// `unpigz` through pipes: 3.5 s per GB.
    Unpigz,
    /// `igzip` through a pipe: 1.6 s per GB.
    Igzip,
    /// zlib-rs in the process, ours: 1.35 s per GB.
    ZlibRs,
}

/// A text that names no host.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{name:?} is no host: known are {}", HOSTS.join(", "))]
pub struct HostError {
    name: String,
}

/// The named hosts, in the order of listings.
pub const HOSTS: &[&str] = &[
    "laptop",
    "tmpfs",
    "gp3-125",
    "gp3-1000",
    "nvme",
    "unlimited",
];

impl Decoder {
    /// Uncompressed bytes per second of one core.
    #[must_use]
    pub const fn inflate_bytes_per_second(self) -> u64 {
        match self {
            Self::Go => 164_000_000,
            Self::Unpigz => 286_000_000,
            Self::Igzip => 625_000_000,
            Self::ZlibRs => 740_000_000,
        }
    }
}

impl Default for Host {
    /// Two cores with a disk and a link that are no limit.
    fn default() -> Self {
        Self {
            name: "default".to_owned(),
            cores: 2,
            inflate_bytes_per_second: Decoder::ZlibRs.inflate_bytes_per_second(),
            inflate_pieces_percent: 60,
            zstd_bytes_per_second: 1_333_000_000,
            sha256_bytes_per_second: 1_750_000_000,
            copy_bytes_per_second: 5_000_000_000,
            file_create_ns: 38_000,
            disk_bytes_per_second: 10_000_000_000,
            disk_dirty_credit_bytes: 1 << 40,
            link_bytes_per_second: 10_000_000_000,
            round_trip_us: 200,
            link_layer_us: 3_000,
        }
    }
}

impl Host {
    /// A host by name.
    ///
    /// `gp3-1000`, `gp3-125` and `nvme` are hosts A, B and C of the payoff table that published pulls were checked
    /// against; `laptop` and `tmpfs` are a two-core virtual machine with its page cache and with a RAM disk; `unlimited`
    /// costs nothing but the link's round trip, to see what scheduling alone does.
    ///
    /// # Errors
    /// Lists the known names.
    pub fn named(name: &str) -> Result<Self, HostError> {
        let host = Self {
            name: name.to_owned(),
            ..Self::default()
        };
        Ok(match name {
            "laptop" => Self {
                disk_bytes_per_second: 400_000_000,
                disk_dirty_credit_bytes: 1_500_000_000,
                ..host
            },
            "tmpfs" => Self {
                file_create_ns: 10_000,
                ..host
            },
            "gp3-125" => Self {
                cores: 8,
                disk_bytes_per_second: 131_000_000,
                disk_dirty_credit_bytes: 4_500_000_000,
                link_bytes_per_second: 1_250_000_000,
                ..host
            },
            "gp3-1000" => Self {
                cores: 16,
                disk_bytes_per_second: 1_000_000_000,
                disk_dirty_credit_bytes: 8_000_000_000,
                link_bytes_per_second: 1_562_500_000,
                ..host
            },
            "nvme" => Self {
                cores: 32,
                file_create_ns: 25_000,
                disk_bytes_per_second: 2_000_000_000,
                disk_dirty_credit_bytes: 16_000_000_000,
                link_bytes_per_second: 3_125_000_000,
                ..host
            },
            "unlimited" => Self {
                cores: 1_000,
                inflate_bytes_per_second: UNLIMITED,
                zstd_bytes_per_second: UNLIMITED,
                sha256_bytes_per_second: UNLIMITED,
                copy_bytes_per_second: UNLIMITED,
                file_create_ns: 0,
                disk_bytes_per_second: UNLIMITED,
                link_bytes_per_second: UNLIMITED,
                link_layer_us: 0,
                ..host
            },
            _ => {
                return Err(HostError {
                    name: name.chars().take(60).collect(),
                });
            }
        })
    }

    /// The same host with another gzip decoder.
    #[must_use]
    pub fn with_decoder(self, decoder: Decoder) -> Self {
        Self {
            inflate_bytes_per_second: decoder.inflate_bytes_per_second(),
            ..self
        }
    }

    /// The first field that is 0 where a rate or count must be at least 1.
    #[must_use]
    pub fn zero_field(&self) -> Option<&'static str> {
        [
            ("cores", u64::from(self.cores)),
            ("inflate_bytes_per_second", self.inflate_bytes_per_second),
            (
                "inflate_pieces_percent",
                u64::from(self.inflate_pieces_percent),
            ),
            ("zstd_bytes_per_second", self.zstd_bytes_per_second),
            ("sha256_bytes_per_second", self.sha256_bytes_per_second),
            ("copy_bytes_per_second", self.copy_bytes_per_second),
            ("disk_bytes_per_second", self.disk_bytes_per_second),
            ("link_bytes_per_second", self.link_bytes_per_second),
        ]
        .into_iter()
        .find_map(|(name, value)| (value == 0).then_some(name))
    }
}

/// A petabyte per second: no pull notices it, and a pull's bytes times a second's nanoseconds still fit 128 bits.
const UNLIMITED: u64 = 1_000_000_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_a_host_that_can_work() {
        for name in HOSTS {
            let host = Host::named(name).unwrap();
            assert_eq!(host.name, *name);
            assert_eq!(host.zero_field(), None);
        }
        assert!(Host::named("cray").is_err());
    }

    #[test]
    fn absent_fields_have_defaults_and_unknown_ones_are_refused() {
        let host: Host = serde_json::from_str(r#"{"cores": 4}"#).unwrap();
        assert_eq!(host.cores, 4);
        assert_eq!(
            host.inflate_bytes_per_second,
            Host::default().inflate_bytes_per_second
        );
        assert!(serde_json::from_str::<Host>(r#"{"core": 4}"#).is_err());
    }
}
