//! The ways in which clients make containerd pull, and what each tells a snapshotter.

use std::fmt;
use std::str::FromStr;

use crate::processes::ContainerdVersion;

/// A client of containerd and who fetches for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Way {
    /// CRI's `PullImage`, as kubelet calls it, with CRI fetching itself.
    #[default]
    Cri,
    /// CRI's `PullImage` with the transfer service fetching, containerd's default from 2.1.
    CriTransfer,
    /// `ctr images pull`: before 2.0 the client fetches, from there on the transfer service.
    Ctr,
    /// `ctr images pull --local` of 2.x: the client fetches as it did before.
    CtrLocal,
    /// `parapull-snapshotter pull REF --containerd SOCK`, which tells the snapshotter the image as CRI does.
    Client,
}

/// Who fetched an image's layers, as containerd's content store shows it afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fetcher {
    /// The snapshotter: containerd has none of the layers' blobs.
    Snapshotter,
    /// containerd, all of them: the snapshotter served plain overlays.
    Containerd,
    /// Each some.
    Both,
}

impl Way {
    /// Every way, in the order of reports.
    pub const ALL: [Self; 5] = [
        Self::Cri,
        Self::CriTransfer,
        Self::Ctr,
        Self::CtrLocal,
        Self::Client,
    ];

    /// Its name on the command line and in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cri => "cri",
            Self::CriTransfer => "cri-transfer",
            Self::Ctr => "ctr",
            Self::CtrLocal => "ctr-local",
            Self::Client => "client",
        }
    }

    /// What a person calls it.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Cri => "CRI PullImage, fetched by CRI",
            Self::CriTransfer => "CRI PullImage, fetched by the transfer service",
            Self::Ctr => "ctr images pull",
            Self::CtrLocal => "ctr images pull --local",
            Self::Client => "parapull-snapshotter pull --containerd",
        }
    }

    /// The ways that exist with `version`.
    pub fn of(version: ContainerdVersion) -> Vec<Self> {
        let exists = |way: &Self| match way {
            Self::Cri | Self::Ctr | Self::Client => true,
            Self::CriTransfer | Self::CtrLocal => hands_labels_to_transfers(version),
        };
        Self::ALL.into_iter().filter(exists).collect()
    }

    /// Who should fetch: the snapshotter wherever the client passes on the labels that name the image.
    pub fn fetcher(self, version: ContainerdVersion) -> Fetcher {
        let tells = match self {
            Self::Cri | Self::CriTransfer | Self::Client => true,
            Self::Ctr => hands_labels_to_transfers(version),
            Self::CtrLocal => false,
        };
        if tells {
            Fetcher::Snapshotter
        } else {
            Fetcher::Containerd
        }
    }

    /// The namespace it works in: CRI adopts what appears in its own, so others stay out of it.
    pub(super) const fn namespace(self) -> &'static str {
        match self {
            Self::Cri | Self::CriTransfer => "k8s.io",
            Self::Ctr | Self::CtrLocal | Self::Client => "default",
        }
    }
}

/// From 2.1 the transfer service asks a proxy plugin's `exports` whether it wants the labels.
const fn hands_labels_to_transfers(version: ContainerdVersion) -> bool {
    version.major > 2 || (version.major == 2 && version.minor >= 1)
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Way {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|way| way.name() == text);
        found.ok_or_else(|| {
            format!(
                "{text:?} is no way of pulling: write {}",
                Self::ALL.map(Self::name).join(", ")
            )
        })
    }
}

impl fmt::Display for Fetcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Snapshotter => "parapull",
            Self::Containerd => "containerd",
            Self::Both => "both",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_has_its_ways_and_its_fetcher() {
        let table = |version: &str| -> String {
            let version = version.parse().unwrap();
            let ways = Way::of(version).into_iter();
            let shown: Vec<String> = ways
                .map(|way| format!("{way}={}", way.fetcher(version)))
                .collect();
            shown.join(" ")
        };
        let old = "cri=parapull ctr=containerd client=parapull";
        let new =
            "cri=parapull cri-transfer=parapull ctr=parapull ctr-local=containerd client=parapull";
        for (version, expected) in [("1.6.20", old), ("1.7.24", old), ("2.0.11", old)] {
            assert_eq!(table(version), expected, "{version}");
        }
        for version in ["2.1.9", "2.4.2", "3.0.0"] {
            assert_eq!(table(version), new, "{version}");
        }
    }

    #[test]
    fn names_read_back() {
        for way in Way::ALL {
            assert_eq!(way.name().parse(), Ok(way));
        }
        assert!("crictl".parse::<Way>().is_err());
    }
}
