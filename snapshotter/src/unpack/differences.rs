//! The one list of where a layer's tree differs from containerd's on purpose.
//!
//! containerd 1.6 to 2.3 agree with each other about archives. Where they accept a layer the same tree is made here, where
//! they refuse a legal one the specification's tree is made, and what is illegal is refused. The exceptions are below, and
//! nowhere else: `DIFFERENCES.md` is this list as a table, and the tests that compare random layers with containerd's own
//! applier explain every difference they meet by one of its items, or fail. Nothing is decided here.

/// One way in which a tree, or the refusal of a layer, differs from containerd's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Difference {
    /// A whiteout and its target in one layer.
    WhiteoutBesideTarget,
    /// A directory where the same layer has a whiteout.
    DirectoryOverItsWhiteout,
    /// A lower file, whiteout or circle of symlinks where a directory is implied.
    LowerFileInTheWay,
    /// The time of a directory that no entry describes.
    ImpliedDirectoryTime,
    /// The time of a whiteout.
    WhiteoutTime,
    /// The times of directories that other entries replaced.
    ReplacedDirectoryTime,
    /// A global extended header with the name of an entry.
    GlobalHeaderName,
    /// Owners and device numbers beyond what the kernel takes.
    CutNumber,
    /// `..` in the target of a symlink.
    DotsInSymlinkTarget,
    /// How many symlinks one path may follow.
    SymlinkCount,
    /// A hard link to a symlink with a slash behind its name.
    HardLinkTargetSlash,
    /// An opaque marker in the root of an upper layer.
    OpaqueRoot,
    /// aufs' own records.
    AufsRecord,
    /// Old GNU sparse files and contiguous files.
    OldFileType,
    /// Bytes behind the last gzip member.
    BytesBehindGzip,
    /// Docker's media type for zstd layers.
    DockerZstdType,
    /// Limits on what a layer may hold.
    Limits,
    /// A staging directory that ignores case.
    CaseInsensitive,
}

impl Difference {
    /// All of them, in the order of the table.
    pub const ALL: [Self; 18] = [
        Self::WhiteoutBesideTarget,
        Self::DirectoryOverItsWhiteout,
        Self::LowerFileInTheWay,
        Self::ImpliedDirectoryTime,
        Self::WhiteoutTime,
        Self::ReplacedDirectoryTime,
        Self::GlobalHeaderName,
        Self::CutNumber,
        Self::DotsInSymlinkTarget,
        Self::SymlinkCount,
        Self::HardLinkTargetSlash,
        Self::OpaqueRoot,
        Self::AufsRecord,
        Self::OldFileType,
        Self::BytesBehindGzip,
        Self::DockerZstdType,
        Self::Limits,
        Self::CaseInsensitive,
    ];

    /// What the layer has.
    pub const fn subject(self) -> &'static str {
        self.about().subject
    }

    /// What containerd does about it.
    pub const fn containerd(self) -> &'static str {
        self.about().containerd
    }

    /// What is done here.
    pub const fn ours(self) -> &'static str {
        self.about().ours
    }

    /// Part of the name of the tests that hold it in place.
    pub const fn test(self) -> &'static str {
        self.about().test
    }

    /// The list as a Markdown table.
    pub fn table() -> String {
        let mut table =
            String::from("| In a layer | containerd | parapull | Tests |\n|---|---|---|---|\n");
        for difference in Self::ALL {
            let About {
                subject,
                containerd,
                ours,
                test,
            } = difference.about();
            table.push_str(&format!(
                "| {subject} | {containerd} | {ours} | `{test}` |\n"
            ));
        }
        table
    }

    const fn about(self) -> About {
        match self {
            Self::WhiteoutBesideTarget => WHITEOUT_BESIDE_TARGET,
            Self::DirectoryOverItsWhiteout => DIRECTORY_OVER_ITS_WHITEOUT,
            Self::LowerFileInTheWay => LOWER_FILE_IN_THE_WAY,
            Self::ImpliedDirectoryTime => IMPLIED_DIRECTORY_TIME,
            Self::WhiteoutTime => WHITEOUT_TIME,
            Self::ReplacedDirectoryTime => REPLACED_DIRECTORY_TIME,
            Self::GlobalHeaderName => GLOBAL_HEADER_NAME,
            Self::CutNumber => CUT_NUMBER,
            Self::DotsInSymlinkTarget => DOTS_IN_SYMLINK_TARGET,
            Self::SymlinkCount => SYMLINK_COUNT,
            Self::HardLinkTargetSlash => HARD_LINK_TARGET_SLASH,
            Self::OpaqueRoot => OPAQUE_ROOT,
            Self::AufsRecord => AUFS_RECORD,
            Self::OldFileType => OLD_FILE_TYPE,
            Self::BytesBehindGzip => BYTES_BEHIND_GZIP,
            Self::DockerZstdType => DOCKER_ZSTD_TYPE,
            Self::Limits => LIMITS,
            Self::CaseInsensitive => CASE_INSENSITIVE,
        }
    }
}

/// A row of the table.
#[derive(Clone, Copy)]
struct About {
    subject: &'static str,
    containerd: &'static str,
    ours: &'static str,
    test: &'static str,
}

const WHITEOUT_BESIDE_TARGET: About = About {
    subject: "`f` and then `.wh.f`, `d/` and then `.wh.d`, or `.wh.f` twice, in an upper layer",
    containerd: "refuses the layer (`EEXIST`)",
    ours: "the whiteout hides lower layers only: `f` stays, `d` becomes opaque",
    test: "row_02",
};
const DIRECTORY_OVER_ITS_WHITEOUT: About = About {
    subject: "`.wh.d` and then `d/` or `d/new`, in an upper layer",
    containerd: "shows what lower layers have in `d`, or refuses the layer",
    ours: "`d` is opaque; if it is only implied it is 0755 root and takes nothing from below",
    test: "row_03",
};
const LOWER_FILE_IN_THE_WAY: About = About {
    subject: "a directory implied where a lower layer has a file, a whiteout or a circle of symlinks above it",
    containerd: "refuses the layer, unless only the last name of the path is in the way",
    ours: "nothing is taken from that layer or the ones below it",
    test: "row_04",
};
const IMPLIED_DIRECTORY_TIME: About = About {
    subject: "a directory without an entry, and the root",
    containerd: "has the time of the unpacking, or the lower layer's if nothing but an opaque marker came into it",
    ours: "has the lower layer's time, else that of the layer's newest entry",
    test: "row_08",
};
const WHITEOUT_TIME: About = About {
    subject: "a whiteout",
    containerd: "has the time of the unpacking",
    ours: "has its entry's time",
    test: "row_08",
};
const REPLACED_DIRECTORY_TIME: About = About {
    subject: "`d/` or `d/e/` and then another `d`",
    containerd: "gives the time of `d/` to the file, or to what the symlink leads to; refuses the layer if it dangles, or if `d/e` \
                 is no path any more",
    ours: "times belong to the entry that is finally there",
    test: "row_09",
};
const GLOBAL_HEADER_NAME: About = About {
    subject: "a global extended header",
    containerd: "removes a file of its name and makes its parent directories; `.wh.X` is a whiteout",
    ours: "is never an entry",
    test: "row_10",
};
const CUT_NUMBER: About = About {
    subject: "an owner beyond 32 bits or of 2^32-1, a device number beyond 12 and 20 bits",
    containerd: "cuts it: another owner, another device or a whiteout appears",
    ours: "refuses the layer",
    test: "row_11",
};
const DOTS_IN_SYMLINK_TARGET: About = About {
    subject: "`..` in the target of a symlink that an entry's path leads through",
    containerd: "is taken back by the letters of the path where two symlinks or a relative target meet",
    ours: "is taken back from where the symlink leads, as the kernel does",
    test: "row_13",
};
const SYMLINK_COUNT: About = About {
    subject: "a path through more than 40 symlinks",
    containerd: "follows 255",
    ours: "refuses the layer, as the kernel would the path",
    test: "row_13",
};
const HARD_LINK_TARGET_SLASH: About = About {
    subject: "a hard link whose target is a symlink with a slash behind it",
    containerd: "follows that symlink",
    ours: "refuses the layer",
    test: "row_13",
};
const OPAQUE_ROOT: About = About {
    subject: "an opaque marker in the root of an upper layer",
    containerd: "has no effect (the kernel ignores it there)",
    ours: "hides everything below: mounts end at that layer",
    test: "row_15",
};
const AUFS_RECORD: About = About {
    subject: "`.wh..wh.plnk`, `.wh..wh.aufs` and other names that begin with `.wh..wh.`",
    containerd: "makes whiteouts of them, and visible directories of what is in them",
    ours: "are skipped, as Docker does",
    test: "row_16",
};
const OLD_FILE_TYPE: About = About {
    subject: "old GNU sparse files (type `S`) and contiguous files (type `7`)",
    containerd: "refuses the layer",
    ours: "are regular files",
    test: "row_17",
};
const BYTES_BEHIND_GZIP: About = About {
    subject: "padding or garbage behind the last gzip member",
    containerd: "depends on the program that is installed: `unpigz` and `igzip` ignore it, Go refuses the layer",
    ours: "is ignored: both digests decide",
    test: "case_25",
};
const DOCKER_ZSTD_TYPE: About = About {
    subject: "Docker's media type for zstd layers",
    containerd: "is known from 2.0 on",
    ours: "is taken with every containerd",
    test: "case_26",
};
const LIMITS: About = About {
    subject: "more entries, longer paths, more metadata or more bytes than `max_…` in the configuration allow",
    containerd: "has no limits but Go's 1 MiB for one extended header",
    ours: "refuses the layer, and names the limit",
    test: "case_28",
};
const CASE_INSENSITIVE: About = About {
    subject: "any layer, on a file system that ignores case",
    containerd: "lets names that differ in case overwrite each other",
    ours: "refuses to unpack there",
    test: "case_29",
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_the_list() {
        let document = include_str!("../../DIFFERENCES.md");
        let table: Vec<&str> = document
            .lines()
            .filter(|line| line.starts_with('|'))
            .collect();
        assert_eq!(
            table.join("\n"),
            Difference::table().trim_end(),
            "put this table into DIFFERENCES.md"
        );
    }

    #[test]
    fn every_difference_is_listed_once() {
        let mut listed = Difference::ALL.to_vec();
        listed.sort();
        listed.dedup();
        assert_eq!(listed, Difference::ALL, "in order and without repetition");
    }
}
