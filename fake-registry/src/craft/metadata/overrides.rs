//! The second odd layer: removes, hides and replaces what the first one has.

use std::io::{self, Write};

use super::entry::{Odd, OddTar};

pub(super) fn append<W: Write>(tar: &mut OddTar<'_, W>) -> io::Result<()> {
    // `odd/` and `odd/over/` have no entries here: their attributes come from below.
    tar.add(Odd::marker("odd/over/.wh.file"))?;
    tar.add(Odd::marker("odd/over/.wh.directory"))?;
    tar.add(Odd::marker("odd/over/.wh.again"))?;
    tar.add(Odd::file("odd/over/again", b"removed and made again"))?;
    tar.add(Odd {
        mode: 0o600,
        ..Odd::file("odd/over/changed", b"upper")
    })?;
    opaque_directories(tar)?;
    other_types(tar)?;
    tar.add(Odd::file("odd/parent/new", b"its parent has no entry here"))?;
    tar.add(Odd::hard_link("odd/parent/new-again", "odd/parent/new"))
}

fn opaque_directories<W: Write>(tar: &mut OddTar<'_, W>) -> io::Result<()> {
    tar.add(Odd::directory("odd/over/opaque-first/", 0o711))?;
    tar.add(Odd::marker("odd/over/opaque-first/.wh..wh..opq"))?;
    tar.add(Odd::file("odd/over/opaque-first/new", b"upper"))?;
    tar.add(Odd::directory("odd/over/opaque-last/", 0o711))?;
    tar.add(Odd::file("odd/over/opaque-last/new", b"upper"))?;
    tar.add(Odd::directory("odd/over/opaque-last/deeper/", 0o700))?;
    tar.add(Odd::marker("odd/over/opaque-last/.wh..wh..opq"))?;
    tar.add(Odd::marker("odd/over/opaque-implied/.wh..wh..opq"))?;
    tar.add(Odd::file("odd/over/opaque-implied/new", b"upper"))
}

fn other_types<W: Write>(tar: &mut OddTar<'_, W>) -> io::Result<()> {
    tar.add(Odd::directory("odd/over/to-directory/", 0o755))?;
    tar.add(Odd::file("odd/over/to-directory/new", b"upper"))?;
    tar.add(Odd::directory("odd/over/link-to-directory/", 0o755))?;
    tar.add(Odd::file("odd/over/link-to-directory/new", b"upper"))?;
    tar.add(Odd::file("odd/over/to-file", b"upper"))?;
    tar.add(Odd::symlink("odd/over/to-symlink", "opaque-first"))
}
