//! The first odd layer: every type, mode, link, attribute and name that a tar can hold and containerd unpacks.

use std::io::{self, Write};

use tar::EntryType;

use super::entry::{Odd, OddTar};

/// `cap_net_raw+ep` as version 2 stores it: magic with the effective bit, permitted and inheritable of both halves.
const CAP_NET_RAW: [u8; 20] = [
    1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
];

/// Beyond the seven octal digits of an owner field, so stored in base 256.
const LARGE_OWNER: (u64, u64) = (2_000_000_000, 3_000_000_000);

pub(super) fn append<W: Write>(tar: &mut OddTar<'_, W>) -> io::Result<()> {
    tar.add(Odd::directory("odd/", 0o755))?;
    modes(tar)?;
    links(tar)?;
    specials(tar)?;
    attributes(tar)?;
    names(tar)?;
    what_later_layers_change(tar)
}

fn modes<W: Write>(tar: &mut OddTar<'_, W>) -> io::Result<()> {
    tar.add(Odd::directory("odd/modes/", 0o755))?;
    for (name, mode) in [
        ("odd/modes/setuid", 0o4755),
        ("odd/modes/setgid", 0o2755),
        ("odd/modes/sticky", 0o1644),
        ("odd/modes/none", 0),
        ("odd/modes/all", 0o7777),
    ] {
        tar.add(Odd {
            mode,
            owner: (1_000, 50),
            ..Odd::file(name, b"mode")
        })?;
    }
    for (directory, child, mode) in [
        (
            "odd/modes/sticky-directory/",
            "odd/modes/sticky-directory/child",
            0o1777,
        ),
        (
            "odd/modes/setgid-directory/",
            "odd/modes/setgid-directory/child",
            0o2775,
        ),
        (
            "odd/modes/closed-directory/",
            "odd/modes/closed-directory/child",
            0,
        ),
    ] {
        tar.add(Odd {
            owner: (0, 50),
            ..Odd::directory(directory, mode)
        })?;
        tar.add(Odd::file(child, b"child"))?;
    }
    tar.add(Odd::file("odd/empty", b""))?;
    tar.add(Odd::directory("odd/empty-directory/", 0o755))
}

fn links<W: Write>(tar: &mut OddTar<'_, W>) -> io::Result<()> {
    let far = format!("far/{}", "x/".repeat(80));
    tar.add(Odd::directory("odd/links/", 0o755))?;
    tar.add(Odd::file("odd/links/file", b"three names"))?;
    tar.add(Odd::hard_link("odd/links/hard", "odd/links/file"))?;
    tar.add(Odd::hard_link("odd/links/hard-again", "odd/links/hard"))?;
    for (name, target) in [
        ("odd/links/relative", "../modes/setuid"),
        ("odd/links/absolute", "/bin/hello"),
        ("odd/links/dangling", "nowhere/at all"),
        ("odd/links/to-directory", "../empty-directory"),
        ("odd/links/to-itself", "to-itself"),
        ("odd/links/long-target", far.as_str()),
    ] {
        tar.add(Odd {
            owner: (7, 8),
            ..Odd::symlink(name, target)
        })?;
    }
    // The link, not what it leads to, gets the second name.
    tar.add(Odd {
        owner: (7, 8),
        ..Odd::hard_link("odd/links/hard-to-symlink", "odd/links/dangling")
    })
}

fn specials<W: Write>(tar: &mut OddTar<'_, W>) -> io::Result<()> {
    tar.add(Odd::directory("odd/special/", 0o755))?;
    tar.add(Odd::special("odd/special/fifo", EntryType::Fifo, (0, 0)))?;
    tar.add(Odd::special("odd/special/null", EntryType::Char, (1, 3)))?;
    tar.add(Odd {
        mode: 0o660,
        owner: (0, 6),
        ..Odd::special("odd/special/disk", EntryType::Block, (7, 300))
    })
}

fn attributes<W: Write>(tar: &mut OddTar<'_, W>) -> io::Result<()> {
    tar.add(Odd::directory("odd/attributes/", 0o755))?;
    tar.add(Odd {
        pax: &[
            ("SCHILY.xattr.user.text", b"value"),
            ("SCHILY.xattr.user.binary", b"\0=\n\xff"),
            ("SCHILY.xattr.user.dots.in.key", b""),
        ],
        ..Odd::file("odd/attributes/user", b"xattrs")
    })?;
    // Owner and mode come first, since a change of owner drops capabilities.
    tar.add(Odd {
        mode: 0o755,
        owner: (1_000, 1_000),
        pax: &[("SCHILY.xattr.security.capability", &CAP_NET_RAW)],
        ..Odd::file("odd/attributes/capable", b"ping")
    })?;
    tar.add(Odd {
        pax: &[
            ("SCHILY.xattr.user.of.directory", b"yes"),
            ("mtime", b"1600000000.000000001"),
        ],
        ..Odd::directory("odd/attributes/directory/", 0o750)
    })?;
    tar.add(Odd {
        pax: &[("mtime", b"1600000000.123456789")],
        ..Odd::file("odd/attributes/nanoseconds", b"time")
    })?;
    tar.add(Odd {
        pax: &[("mtime", b"1500000000.5")],
        ..Odd::symlink("odd/attributes/symlink-nanoseconds", "nanoseconds")
    })?;
    tar.add(Odd {
        mtime_seconds: 0,
        ..Odd::file("odd/attributes/epoch", b"time")
    })?;
    tar.add(Odd {
        mtime_seconds: 4_294_967_296,
        ..Odd::file("odd/attributes/after-2106", b"time")
    })?;
    tar.add(Odd {
        owner: LARGE_OWNER,
        ..Odd::file("odd/attributes/large-owner", b"owner")
    })?;
    tar.add(Odd {
        pax: &[("uid", b"2000000001"), ("gid", b"3000000001")],
        ..Odd::file("odd/attributes/large-owner-pax", b"owner")
    })
}

fn names<W: Write>(tar: &mut OddTar<'_, W>) -> io::Result<()> {
    let long = format!("odd/names/{}", "long-".repeat(30));
    let component = "p".repeat(200);
    let deep = format!("odd/names/{component}/{component}");
    let deep_path = format!("{deep}/file");
    tar.add(Odd::directory("odd/names/", 0o755))?;
    tar.add(Odd::file(&long, b"beyond 100 bytes"))?;
    for directory in [format!("odd/names/{component}/"), format!("{deep}/")] {
        tar.add(Odd {
            pax: &[("path", directory.as_bytes())],
            ..Odd::directory("odd/shortened", 0o755)
        })?;
    }
    tar.add(Odd {
        pax: &[("path", deep_path.as_bytes())],
        ..Odd::file("odd/shortened", b"beyond 255 bytes")
    })?;
    for name in [
        "odd/names/na\u{ef}ve-\u{540d}\u{524d}",
        "odd/names/with space",
        "odd/names/with\nnewline",
        "odd/names/back\\slash",
        "odd/names/-dash",
        "odd/names/..dots",
        "odd/names/dot.",
        "odd/names/*?[]",
        "odd/names/.wh",
    ] {
        tar.add(Odd::file(name, b"name"))?;
    }
    tar.add(Odd {
        name: b"odd/names/not-utf8-\xff\xfe\xe9",
        ..Odd::file("", b"name")
    })?;
    // No entries for the directories on the way.
    tar.add(Odd::file("odd/implied/by/a/file", b"implied"))
}

/// Targets of [`super::overrides`], whose attributes must show through or disappear.
fn what_later_layers_change<W: Write>(tar: &mut OddTar<'_, W>) -> io::Result<()> {
    tar.add(Odd {
        owner: (5, 6),
        pax: &[
            ("SCHILY.xattr.user.parent", b"kept"),
            ("mtime", b"1600000000.25"),
        ],
        ..Odd::directory("odd/parent/", 0o1700)
    })?;
    tar.add(Odd::file("odd/parent/old", b"old"))?;
    tar.add(Odd::directory("odd/over/", 0o755))?;
    for file in ["file", "again", "changed", "to-directory"] {
        tar.add(Odd::file(&format!("odd/over/{file}"), b"lower"))?;
    }
    tar.add(Odd::symlink("odd/over/link-to-directory", "../parent"))?;
    for directory in [
        "directory",
        "to-file",
        "to-symlink",
        "opaque-first",
        "opaque-last",
        "opaque-implied",
    ] {
        let mode = if directory == "opaque-implied" {
            0o700
        } else {
            0o755
        };
        tar.add(Odd {
            owner: (5, 5),
            ..Odd::directory(&format!("odd/over/{directory}/"), mode)
        })?;
        tar.add(Odd::file(&format!("odd/over/{directory}/old"), b"lower"))?;
        tar.add(Odd::directory(
            &format!("odd/over/{directory}/deeper/"),
            0o755,
        ))?;
        tar.add(Odd::file(
            &format!("odd/over/{directory}/deeper/old"),
            b"lower",
        ))?;
    }
    Ok(())
}
