//! Packages of Debian's archive, unpacked into a cache and never installed.
//!
//! apt downloads and verifies them with sources, lists and archives of its own inside the cache: the machine's stay as
//! they are, and so do its programs. What the packages depend on is not obtained.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{ProcessError, find_program, run};

/// One tree of `packages` from Debian's `suite` (a name such as `trixie` or `testing`), downloaded at the first call.
///
/// It is kept in [`cache_dir`] until that folder is removed, also when the suite has a newer one by then: what was proven
/// today is what runs tomorrow. Processes that ask at once wait for one download.
///
/// # Errors
/// [`ProcessError::Obtain`] where this is no Debian, the archive does not answer, or the suite has no such package.
pub fn unpacked(suite: &str, packages: &[&str]) -> Result<PathBuf, ProcessError> {
    let cache = cache_dir();
    let target = cache.join(suite).join(packages.join("+"));
    if target.is_dir() {
        return Ok(target);
    }
    obtain(&cache, suite, packages, &target).map_err(|cause| ProcessError::Obtain {
        packages: packages.join(", "),
        suite: suite.into(),
        cause: Box::new(cause),
    })?;
    Ok(target)
}

/// Where unpacked packages are kept: beside the crafted images, in `parapull/debian` of the user's cache.
pub fn cache_dir() -> PathBuf {
    fake_registry::cache_dir_default().with_file_name("debian")
}

fn obtain(cache: &Path, suite: &str, packages: &[&str], target: &Path) -> Result<(), ProcessError> {
    let parent = cache.join(suite);
    fs::create_dir_all(&parent).map_err(ProcessError::file("make", &parent))?;
    let lock = cache.join("lock");
    let held = File::create(&lock).map_err(ProcessError::file("open", &lock))?;
    held.lock().map_err(ProcessError::file("lock", &lock))?;
    if target.is_dir() {
        return Ok(());
    }
    let staging = tempfile::Builder::new()
        .prefix(".new-")
        .tempdir_in(cache)
        .map_err(ProcessError::file("make a directory in", cache))?;
    let apt = Apt::new(&cache.join("apt"), suite)?;
    let tree = staging.path().join("tree");
    for archive in apt.download(packages, staging.path())? {
        run(Command::new("dpkg").arg("-x").arg(&archive).arg(&tree))?;
    }
    // Whole or not at all: other processes look without the lock.
    fs::rename(&tree, target).map_err(ProcessError::file("rename to", target))
}

/// apt on one suite, with state of its own.
struct Apt<'a> {
    folder: PathBuf,
    suite: &'a str,
}

impl<'a> Apt<'a> {
    fn new(base: &Path, suite: &'a str) -> Result<Self, ProcessError> {
        let folder = base.join(suite);
        for name in ["lists/partial", "cache/archives/partial"] {
            let path = folder.join(name);
            fs::create_dir_all(&path).map_err(ProcessError::file("make", &path))?;
        }
        let apt = Self { folder, suite };
        let line = source_line(&mirror()?, suite);
        for (name, text) in [(SOURCES, line), (CONFIGURATION, apt.configuration())] {
            let path = apt.folder.join(name);
            fs::write(&path, text).map_err(ProcessError::file("write", &path))?;
        }
        run(apt.command().args(["-qq", "update"]))?;
        Ok(apt)
    }

    /// Downloads the newest versions the suite has and returns their paths.
    fn download(&self, packages: &[&str], to: &Path) -> Result<Vec<PathBuf>, ProcessError> {
        let wanted = packages.iter().map(|name| format!("{name}/{}", self.suite));
        let mut command = self.command();
        command.args(["-qq", "download"]).args(wanted);
        run(command.current_dir(to))?;
        let entries = fs::read_dir(to).map_err(ProcessError::file("list", to))?;
        let paths = entries.flatten().map(|entry| entry.path());
        let archives: Vec<PathBuf> = paths
            .filter(|path| path.extension().is_some_and(|end| end == "deb"))
            .collect();
        if archives.len() == packages.len() {
            return Ok(archives);
        }
        Err(ProcessError::Answer {
            what: format!("apt-get download of {}", packages.join(", ")),
            text: format!("it left {} packages", archives.len()),
        })
    }

    /// Read after the machine's own configuration, whose proxies stay in force.
    fn command(&self) -> Command {
        let mut command = Command::new("apt-get");
        command
            .arg("-c")
            .arg(self.folder.join(CONFIGURATION))
            .env("LC_ALL", "C");
        command
    }

    fn configuration(&self) -> String {
        let folder = self.folder.display();
        let own = [
            ("Dir::Etc::sourcelist", format!("{folder}/{SOURCES}")),
            ("Dir::State::lists", format!("{folder}/lists")),
            ("Dir::Cache", format!("{folder}/cache")),
        ];
        let mut text: String = own
            .iter()
            .map(|(name, value)| format!("{name} \"{value}\";\n"))
            .collect();
        text.push_str(FIXED);
        text
    }
}

fn source_line(mirror: &str, suite: &str) -> String {
    format!("deb [signed-by={KEYRING} target=Packages] {mirror} {suite} main\n")
}

/// The archive that this machine's own apt takes its release from.
fn mirror() -> Result<String, ProcessError> {
    find_program("apt-get", "this is no Debian")?;
    let release = Path::new("/etc/os-release");
    let text = fs::read_to_string(release).map_err(ProcessError::file("read", release))?;
    let none = || ProcessError::Answer {
        what: "apt's sources: none of them is Debian's main archive".into(),
        text: text.lines().take(4).collect::<Vec<_>>().join("; "),
    };
    let codename = codename(&text).ok_or_else(none)?;
    // Without `--no-release-info` a machine that never ran `apt-get update` would name nothing.
    let targets = run(Command::new("apt-get").args([
        "indextargets",
        "--no-release-info",
        "--format",
        "$(RELEASE) $(COMPONENT) $(REPO_URI)",
        "Created-By: Packages",
    ]))?;
    archive_of(&targets.text(), codename).ok_or_else(none)
}

/// Debian's name for this release; nothing where another distribution calls itself so.
fn codename(os_release: &str) -> Option<&str> {
    let value = |key: &str| {
        let mut lines = os_release.lines();
        lines.find_map(|line| Some(line.strip_prefix(key)?.trim_matches('"')))
    };
    value("VERSION_CODENAME=").filter(|_| value("ID=") == Some("debian"))
}

fn archive_of(targets: &str, codename: &str) -> Option<String> {
    targets.lines().find_map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            [release, "main", mirror] if *release == codename => Some((*mirror).to_owned()),
            _ => None,
        }
    })
}

const SOURCES: &str = "sources.list";
const CONFIGURATION: &str = "apt.conf";

/// apt's own user for downloads may not enter the folders of whoever runs this.
const FIXED: &str = "\
Dir::Etc::sourceparts \"/dev/null\";
Dir::Etc::preferences \"/dev/null\";
Dir::Etc::preferencesparts \"/dev/null\";
Acquire::Languages \"none\";
Acquire::Retries \"3\";
APT::Update::Error-Mode \"any\";
APT::Sandbox::User \"root\";
";

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_is_where_the_release_itself_comes_from() {
        let targets = "other main http://other.example/\n\
                       bookworm-security main http://security.example/\n\
                       bookworm contrib http://contrib.example/debian/\n\
                       bookworm main http://archive.example/debian/\n\
                       bookworm main http://second.example/debian/\n";
        let found = archive_of(targets, "bookworm");
        assert_eq!(found.as_deref(), Some("http://archive.example/debian/"));
        assert_eq!(archive_of(targets, "trixie"), None);
        assert_eq!(
            source_line("http://archive.example/debian/", "testing"),
            "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg target=Packages] \
             http://archive.example/debian/ testing main\n"
        );
    }

    #[test]
    fn only_debian_has_debian_s_archive() {
        let debian = "NAME=\"Debian GNU/Linux\"\nVERSION_CODENAME=bookworm\nID=debian\n";
        assert_eq!(codename(debian), Some("bookworm"));
        assert_eq!(codename("VERSION_CODENAME=noble\nID=ubuntu\n"), None);
        assert_eq!(codename("ID=debian\n"), None);
    }
}
