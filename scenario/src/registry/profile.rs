//! Speeds, limits and abilities of a registry, with the named ones.

use std::num::{NonZeroU32, NonZeroU64};

use serde::{Deserialize, Serialize};

/// What a registry does with `Range` on blobs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum RangeSupport {
    /// 206 with the asked range, as RFC 9110 has it.
    #[default]
    Honoured,
    /// The header is ignored: 200 and the whole body.
    IgnoredWith200,
    /// Honoured, but `Accept-Ranges` is never sent.
    NoAcceptRangesHeader,
    /// 206 with the asked bytes under a `Content-Range` that names other ones.
    WrongContentRange,
    /// 206 without `Content-Range`.
    NoContentRange,
    /// 416 for every range.
    Refused416,
    /// 206 with at most so many bytes from the start of the range, correctly labelled.
    ShortenedTo {
        /// The most bytes of one answer.
        bytes: NonZeroU64,
    },
}

/// Who may pull.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Auth {
    /// Anybody.
    #[default]
    None,
    /// HTTP Basic on every request.
    Basic {
        /// The user.
        username: String,
        /// The password; a made-up one, since it stands in scenario files.
        password: String,
    },
    /// The Docker token flow: 401 with a `Bearer` challenge, a token from the realm, then the request again.
    Token {
        /// Who gets a token; anybody when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        username: Option<String>,
        /// The password that goes with the user.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        password: Option<String>,
        /// For how long a token is good.
        expires_seconds: u32,
    },
}

/// Where blobs come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Redirect {
    /// From the registry itself.
    #[default]
    Never,
    /// 307 to a signed address on a second origin, as object stores behind registries do.
    SecondOrigin {
        /// For how long the signed address is good; then 403.
        expires_seconds: u32,
    },
}

/// How a registry behaves when nothing goes wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RegistryProfile {
    /// What reports call it.
    pub name: String,
    /// The most body bytes per second of one connection; unlimited when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection_bytes_per_second: Option<NonZeroU64>,
    /// The most body bytes per second of all connections together; unlimited when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_bytes_per_second: Option<NonZeroU64>,
    /// Median time from a request to the first byte of its answer.
    pub first_byte_ms: u32,
    /// The 99th percentile of that time; the median when absent or smaller.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_byte_ms_p99: Option<u32>,
    /// Requests per second beyond which the answer is 429, not counting those to the second origin; unlimited when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_second_max: Option<NonZeroU32>,
    /// What 429 for too many requests tells in `Retry-After`; no header when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u32>,
    /// Connections beyond which nothing is accepted until one closes; unlimited when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections_max: Option<NonZeroU32>,
    /// What happens to `Range`.
    pub ranges: RangeSupport,
    /// Who may pull.
    pub auth: Auth,
    /// Where blobs come from.
    pub redirect: Redirect,
}

/// A name that is no profile.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{name:?} is no registry profile: known are {}", PROFILES.join(", "))]
pub struct ProfileError {
    name: String,
}

/// The named profiles, in the order of listings.
pub const PROFILES: &[&str] = &[
    "unlimited",
    "loopback",
    "s3-like",
    "ecr-like",
    "docker-hub-like",
    "mirror",
    "slow",
    "no-ranges",
];

impl RegistryProfile {
    /// A profile by name.
    ///
    /// Numbers: S3 85-90 MB/s per request with a first byte after 16-19 ms, 99th percentile 32-43 ms; a connection to ECR
    /// 25-60 MB/s; Docker Hub about 190 MB/s for one connection.
    ///
    /// # Errors
    /// Lists the known names.
    pub fn named(name: &str) -> Result<Self, ProfileError> {
        let profile = Self {
            name: name.to_owned(),
            ..Self::default()
        };
        let redirect = Redirect::SecondOrigin {
            expires_seconds: 600,
        };
        Ok(match name {
            "unlimited" => profile,
            "loopback" => Self {
                total_bytes_per_second: NonZeroU64::new(1_250_000_000),
                first_byte_ms: 1,
                ..profile
            },
            "s3-like" => Self {
                connection_bytes_per_second: NonZeroU64::new(90_000_000),
                first_byte_ms: 20,
                first_byte_ms_p99: Some(43),
                ..profile
            },
            "ecr-like" => Self {
                connection_bytes_per_second: NonZeroU64::new(45_000_000),
                first_byte_ms: 25,
                first_byte_ms_p99: Some(80),
                redirect,
                ..profile
            },
            "docker-hub-like" => Self {
                connection_bytes_per_second: NonZeroU64::new(190_000_000),
                first_byte_ms: 30,
                first_byte_ms_p99: Some(120),
                requests_per_second_max: NonZeroU32::new(50),
                auth: Auth::Token {
                    username: None,
                    password: None,
                    expires_seconds: 300,
                },
                redirect,
                ..profile
            },
            "mirror" => Self {
                total_bytes_per_second: NonZeroU64::new(312_500_000),
                first_byte_ms: 2,
                first_byte_ms_p99: Some(10),
                ..profile
            },
            "slow" => Self {
                connection_bytes_per_second: NonZeroU64::new(5_000_000),
                total_bytes_per_second: NonZeroU64::new(20_000_000),
                first_byte_ms: 100,
                first_byte_ms_p99: Some(500),
                ..profile
            },
            "no-ranges" => Self {
                ranges: RangeSupport::IgnoredWith200,
                ..profile
            },
            _ => {
                return Err(ProfileError {
                    name: name.chars().take(60).collect(),
                });
            }
        })
    }

    /// The time to the first byte for a draw from 0 to 999, a step function through the median and the 99th percentile.
    ///
    /// Half of the draws wait the median, the next four tenths an eighth of the way to the 99th percentile, up to 0.99 half
    /// of the way, the last hundredth all of it. Integers, so that the simulator and the real registry wait the same.
    #[must_use]
    pub fn first_byte_ms_at(&self, draw_permille: u32) -> u32 {
        let tail = self
            .first_byte_ms_p99
            .map_or(0, |p99| p99.saturating_sub(self.first_byte_ms));
        self.first_byte_ms
            + match draw_permille {
                0..500 => 0,
                500..900 => tail / 8,
                900..990 => tail / 2,
                _ => tail,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_a_profile_that_survives_serde() {
        for name in PROFILES {
            let profile = RegistryProfile::named(name).unwrap();
            assert_eq!(profile.name, *name);
            let text = serde_json::to_string(&profile).unwrap();
            assert_eq!(
                serde_json::from_str::<RegistryProfile>(&text).unwrap(),
                profile,
                "{text}"
            );
        }
        assert!(RegistryProfile::named("fast").is_err());
    }

    #[test]
    fn the_first_byte_waits_from_median_to_p99() {
        let profile = RegistryProfile::named("s3-like").unwrap();
        let waits: Vec<u32> = [0, 499, 500, 900, 990, 999]
            .map(|draw| profile.first_byte_ms_at(draw))
            .into();
        assert_eq!(waits, [20, 20, 22, 31, 43, 43]);
    }

    #[test]
    fn profiles_read_as_people_write_them() {
        let profile: RegistryProfile = serde_json::from_str(
            r#"{"name": "mine", "first_byte_ms": 5, "ranges": {"shortened-to": {"bytes": 1024}},
                "auth": {"token": {"expires_seconds": 60}}, "redirect": "never"}"#,
        )
        .unwrap();
        assert_eq!(profile.first_byte_ms_at(999), 5);
        assert!(serde_json::from_str::<RegistryProfile>(r#"{"latency": 5}"#).is_err());
    }
}
