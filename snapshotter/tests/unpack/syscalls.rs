//! What a lane asks of the kernel, watched from outside: every path is a name below the layer's own descriptors.
//!
//! The test runs itself under `strace` and judges each system call between two marks by rule; files outside that hostile
//! archives aim at are compared before and after.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use parapull_snapshotter::unpack::{Bounds, Encoding, Position};

use super::archive::{Member, archive, dir, file, hardlink, symlink};
use super::breakouts;
use super::lane::{bottom, forced_writers, is_root, place, run, spec};
use super::sequences::{Taste, sequence};
use super::tree::Tree;
use super::whiteouts::whiteout;

#[test]
fn no_system_call_of_a_lane_leaves_the_layer() {
    const NAME: &str = "no_system_call_of_a_lane_leaves_the_layer";
    if !is_root(NAME) {
        return;
    }
    if let Some(place) = std::env::var_os(OBSERVED) {
        unpack_everything(Path::new(&place));
        return;
    }
    let place = place();
    let outside = place.path().join("outside");
    std::fs::create_dir_all(outside.join("d")).unwrap();
    std::fs::write(outside.join("f"), "untouched").unwrap();
    std::fs::write(outside.join("d/f"), "untouched").unwrap();
    let before = Tree::read(&outside);
    let log = place.path().join("log");
    let traced = Command::new("strace")
        .args(["-f", "-y", "-s", "5000", "-e", "trace=%file,%desc", "-o"])
        .arg(&log)
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            &format!("unpack::syscalls::{NAME}"),
            "--nocapture",
        ])
        .env(OBSERVED, place.path())
        .output();
    let Ok(traced) = traced else {
        eprintln!("SKIPPED {NAME}: needs strace");
        assert!(std::env::var_os("PARAPULL_REQUIRE_ALL").is_none_or(|value| value != "1"));
        return;
    };
    assert!(traced.status.success(), "{traced:?}");
    assert_eq!(Tree::read(&outside), before, "something outside changed");
    let log = std::fs::read(&log).unwrap();
    let judged = judge(&String::from_utf8_lossy(&log), place.path());
    assert!(judged > 10_000, "only {judged} calls were watched");
}

/// Names through which hostile entries lead, and the entries that are tried there.
fn hostile(outside: &Path) -> Vec<Vec<Member>> {
    let absolute = outside.display().to_string();
    let dots = format!("{}{absolute}", "../".repeat(20));
    let targets = [
        absolute.clone(),
        dots,
        "/proc/self/root".to_owned(),
        "/proc/self/cwd".to_owned(),
        "/proc/self/fd/3".to_owned(),
        "../fs".to_owned(),
        "..".to_owned(),
    ];
    let attacks = |link: &str| {
        vec![
            file(format!("{link}/f"), "owned").mode(0o777).owner(5, 5),
            file(link, "owned"),
            dir(format!("{link}/d/")).mode(0o777).mtime(1),
            dir(format!("{link}/")).mode(0o777).mtime(1),
            hardlink("stolen", format!("{link}/f")).mode(0o777),
            hardlink("stolen", link).mode(0o4777).xattr("user.x", "y"),
            hardlink(format!("{link}/h"), "own"),
            whiteout(&format!("{link}/.wh.f")),
            whiteout(&format!("{link}/.wh..wh..opq")),
            symlink(format!("{link}/f"), "elsewhere"),
            Member::new(b'3', format!("{link}/f")).device(1, 3),
            Member::new(b'6', format!("{link}/d")),
        ]
    };
    let mut archives = Vec::new();
    for target in &targets {
        for attack in attacks("out") {
            archives.push(vec![file("own", "x"), symlink("out", target), attack]);
        }
        // A directory that was real when its time was noted, and a chain of links.
        archives.push(vec![
            dir("d").mtime(1),
            file("d/f", "x"),
            symlink("d", target),
        ]);
        archives.push(vec![
            symlink("a", "b/d"),
            symlink("b", target),
            file("a/f", "owned"),
            dir("a/new/deep").mtime(1),
        ]);
    }
    archives
}

fn unpack_everything(place: &Path) {
    let outside = place.join("outside");
    let mut archives: Vec<Vec<u8>> = breakouts::archives()
        .into_iter()
        .map(|(_, members)| archive(members))
        .collect();
    archives.extend(hostile(&outside).into_iter().map(archive));
    for seed in 0..20 {
        archives.extend(
            sequence(seed, Taste::Wild)
                .iter()
                .map(super::sequences::Plan::tar),
        );
    }
    let lower = bottom(&archive([
        symlink("out", outside.display().to_string()),
        dir("a").mode(0o2770).xattr("user.x", "y"),
        symlink("b", "/a"),
        dir("c/a/b"),
    ]))
    .unwrap();
    for (index, tar) in archives.iter().enumerate() {
        let positions = [
            Position::Bottom,
            Position::Upper,
            Position::Over(vec![lower.root()]),
        ];
        for (kind, position) in positions.into_iter().enumerate() {
            let dir = place.join(format!("{index}-{kind}"));
            let spec = spec(tar, tar, Encoding::Plain);
            mark(BEGINS, &dir);
            mark(LOWER, &lower.root());
            let unpacked = run(&tar[..], &spec, &dir, position, &Bounds::default(), 1);
            if kind == 1
                && let Ok(unpacked) = &unpacked
            {
                let _ = unpacked.staged.fix_implied(&[lower.root()]);
            }
            mark(ENDS, &dir);
            let _ = std::fs::remove_dir_all(&dir);
        }
    }
}

/// A call that fails and that nothing else makes.
fn mark(word: &str, path: &Path) {
    let _ = std::fs::metadata(format!("/{word}{}", path.display()));
}

/// Judges every call between marks, and says how many there were.
fn judge(log: &str, place: &Path) -> usize {
    let mut watched = None;
    let mut judged = 0;
    let mut begun = HashMap::new();
    for line in log.lines() {
        let (process, call) = line.split_once(' ').unwrap();
        let Some(call) = whole(&mut begun, process, call.trim_start()) else {
            continue;
        };
        let call = call.as_str();
        let marked = |word: &str| {
            let from = call.split_once(&format!("\"/{word}"))?.1;
            Some(PathBuf::from(from.split('"').next()?))
        };
        if let Some(staging) = marked(BEGINS) {
            watched = Some(Watch {
                process: process.to_owned(),
                staging,
                lower: PathBuf::new(),
            });
        } else if let Some(lower) = marked(LOWER) {
            watched.as_mut().unwrap().lower = lower;
        } else if marked(ENDS).is_some() {
            watched = None;
        } else if let Some(watch) = watched.as_ref().filter(|watch| watch.watches(process)) {
            if let Err(why) = watch.judge(call) {
                panic!("{why}: {call}\n(layer in {:?} of {place:?})", watch.staging);
            }
            judged += 1;
        }
    }
    judged
}

/// A call in one piece, or `None` if its end comes later because another thread is told of first.
fn whole<'a>(
    begun: &mut HashMap<&'a str, &'a str>,
    process: &'a str,
    call: &'a str,
) -> Option<String> {
    if let Some(begin) = call.strip_suffix("<unfinished ...>") {
        begun.insert(process, begin);
        return None;
    }
    let Some((_, end)) = call
        .strip_prefix("<... ")
        .and_then(|rest| rest.split_once(" resumed>"))
    else {
        return Some(call.to_owned());
    };
    Some([begun.remove(process).unwrap_or_default(), end].concat())
}

struct Watch {
    process: String,
    staging: PathBuf,
    lower: PathBuf,
}

impl Watch {
    /// The calling thread, and the writers it may have; nobody else does anything meanwhile.
    fn watches(&self, process: &str) -> bool {
        self.process == process || forced_writers() != Some(0)
    }

    fn judge(&self, call: &str) -> Result<(), &'static str> {
        let Some((name, arguments)) = call.split_once('(') else {
            // The end of a call that was judged at its beginning, or a signal.
            return Ok(());
        };
        let texts = texts(arguments);
        match name {
            // Without a path; anonymous memory and what is written to the terminal are no files.
            "mmap" | "munmap" | "poll" | "ppoll" | "write" | "writev" => return Ok(()),
            "lsetxattr" => {
                // No attribute can be set by descriptor and name: the link is the descriptor's own.
                let path = texts
                    .first()
                    .and_then(|path| path.strip_prefix("/proc/self/fd/"));
                let leaf = path.and_then(|path| path.split_once('/'));
                let is_leaf = leaf.is_some_and(|(fd, leaf)| {
                    fd.bytes().all(|byte| byte.is_ascii_digit()) && is_name(leaf)
                });
                return is_leaf
                    .then_some(())
                    .ok_or("an attribute of more than a name");
            }
            _ => {}
        }
        if arguments.starts_with("AT_FDCWD") {
            return self.by_working_directory(name, &texts);
        }
        let is_descriptor = |rest: &str| rest.starts_with(|first: char| first.is_ascii_digit());
        if !is_descriptor(arguments) && name != "symlinkat" {
            return Err("a path without a descriptor");
        }
        if !descriptors(arguments).all(|path| self.is_inside(path)) {
            return Err("a descriptor outside the layer");
        }
        by_descriptor(name, arguments, &texts)
    }

    /// Only the staging directory itself and the roots of lower layers are named from outside.
    fn by_working_directory(&self, name: &str, texts: &[String]) -> Result<(), &'static str> {
        let root = self.staging.join("fs");
        let path = texts.first().map(PathBuf::from).unwrap_or_default();
        let is_known = path == self.staging || path == root || path == self.lower;
        let is_used = matches!(name, "mkdirat" | "openat" | "unlinkat");
        (is_known && is_used)
            .then_some(())
            .ok_or("a path from the working directory")
    }

    fn is_inside(&self, path: &str) -> bool {
        let path = Path::new(
            path.trim_end_matches(" (deleted)")
                .trim_end_matches("(deleted)"),
        );
        path.starts_with(&self.staging) || path.starts_with(&self.lower)
    }
}

/// What each call may say beside a descriptor inside the layer.
fn by_descriptor(name: &str, arguments: &str, texts: &[String]) -> Result<(), &'static str> {
    match name {
        "openat2" => {
            let beneath = [
                "RESOLVE_BENEATH",
                "RESOLVE_NO_SYMLINKS",
                "RESOLVE_NO_MAGICLINKS",
            ];
            let in_root = ["RESOLVE_IN_ROOT", "RESOLVE_NO_MAGICLINKS"];
            let has = |flags: &[&str]| flags.iter().all(|flag| arguments.contains(flag));
            (has(&beneath) || has(&in_root))
                .then_some(())
                .ok_or("an openat2 without bounds")
        }
        "openat" | "newfstatat" | "statx" | "fchownat" | "utimensat" | "faccessat" => {
            let path = texts.first().map_or("", String::as_str);
            let is_itself = matches!(path, "" | ".");
            let follows_not = arguments.contains("NOFOLLOW");
            (is_itself || is_name(path) && follows_not)
                .then_some(())
                .ok_or("a name that is followed")
        }
        // The first text of a symlink is its target, which is kept and not resolved.
        "symlinkat" => texts
            .get(1)
            .is_some_and(|leaf| is_name(leaf))
            .then_some(())
            .ok_or("more than a name"),
        "linkat" => {
            let are_names = texts.len() == 2 && texts.iter().all(|leaf| is_name(leaf));
            let follows = arguments.contains("AT_SYMLINK_FOLLOW");
            (are_names && !follows)
                .then_some(())
                .ok_or("a link by more than names")
        }
        // What it reads is the second text.
        "readlinkat" => {
            let is_itself = texts.first().is_some_and(String::is_empty);
            is_itself.then_some(()).ok_or("a link read by a name")
        }
        "mkdirat" | "mknodat" | "unlinkat" | "renameat2" | "fchmodat" => {
            let are_names = texts.iter().all(|leaf| leaf.is_empty() || is_name(leaf));
            are_names.then_some(()).ok_or("more than a name")
        }
        "fcntl" | "close" | "getdents64" | "fchmod" | "fchown" | "fstat" | "pwrite64" | "read"
        | "ftruncate" | "fsetxattr" | "fgetxattr" | "flistxattr" | "ioctl" | "lseek"
        | "fallocate" => Ok(()),
        _ => Err("a call that no rule knows"),
    }
}

/// A single name that is not a way up.
fn is_name(leaf: &str) -> bool {
    !leaf.is_empty() && leaf != ".." && !leaf.contains('/')
}

/// The quoted texts of a call's arguments.
fn texts(arguments: &str) -> Vec<String> {
    let mut texts = Vec::new();
    let mut text: Option<String> = None;
    let mut is_escaped = false;
    for character in arguments.chars() {
        match (&mut text, character) {
            (Some(open), _) if is_escaped => {
                open.push(character);
                is_escaped = false;
            }
            (Some(_), '\\') => is_escaped = true,
            (Some(open), '"') => {
                texts.push(std::mem::take(open));
                text = None;
            }
            (Some(open), _) => open.push(character),
            (None, '"') => text = Some(String::new()),
            (None, _) => {}
        }
    }
    texts
}

/// The paths of the descriptors in a call's arguments, outside its texts.
fn descriptors(arguments: &str) -> impl Iterator<Item = &str> {
    arguments.split(", ").filter_map(|argument| {
        let (number, rest) = argument.split_once('<')?;
        let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| rest.split('>').next().unwrap_or(rest))
    })
}

const OBSERVED: &str = "PARAPULL_OBSERVED";
const BEGINS: &str = "a-lane-begins";
const LOWER: &str = "over-a-layer";
const ENDS: &str = "a-lane-ends";
