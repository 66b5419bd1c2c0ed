//! The third odd layer: paths that occur more than once, where the last entry wins.

use std::io::{self, Write};

use super::entry::{Odd, OddTar};

pub(super) fn append<W: Write>(tar: &mut OddTar<'_, W>) -> io::Result<()> {
    // The children come before their directory.
    tar.add(Odd::file("odd/repeats/child", b"before its directory"))?;
    tar.add(Odd {
        owner: (9, 9),
        pax: &[("mtime", b"1600000000.75")],
        ..Odd::directory("odd/repeats/", 0o751)
    })?;
    tar.add(Odd {
        mode: 0o4755,
        ..Odd::file("odd/repeats/file", b"the first is longer")
    })?;
    tar.add(Odd::file("odd/repeats/file", b"the second"))?;
    tar.add(Odd::directory("odd/repeats/directory/", 0o700))?;
    tar.add(Odd::file("odd/repeats/directory/kept", b"kept"))?;
    tar.add(Odd {
        owner: (1, 2),
        ..Odd::directory("odd/repeats/directory/", 0o755)
    })?;
    tar.add(Odd::symlink("odd/repeats/was-symlink", "file"))?;
    tar.add(Odd::file(
        "odd/repeats/was-symlink",
        b"a file, and its target is untouched",
    ))?;
    tar.add(Odd::file("odd/repeats/was-file", b"file"))?;
    tar.add(Odd::directory("odd/repeats/was-file/", 0o755))?;
    // The second name keeps what the first name had.
    tar.add(Odd::file("odd/repeats/linked", b"old content"))?;
    tar.add(Odd::hard_link("odd/repeats/link", "odd/repeats/linked"))?;
    tar.add(Odd::file("odd/repeats/linked", b"new content"))?;
    tar.add(Odd::file("./odd/repeats/dotted", b"first"))?;
    tar.add(Odd::file("odd/./repeats//dotted", b"second"))?;
    tar.add(Odd::file("/odd/repeats/absolute", b"below the root"))
}
