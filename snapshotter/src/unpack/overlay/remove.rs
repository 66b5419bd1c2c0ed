//! Removing a tree without following anything in it.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, Dir, FileType, RenameFlags, Stat};
use rustix::io::Errno;

use super::super::path::join;
use super::resolve::open_beneath;
use super::tree::stat_leaf;

/// Removes `leaf` of `parent`, with everything below it if it is a directory. Absence is fine.
///
/// `each` is told the path of everything before it goes, `path` being that of `leaf` itself.
/// However deep the tree, at most [`DEPTH_MAX`] descriptors are open: what is deeper is moved up first.
pub(super) fn remove(
    parent: BorrowedFd<'_>,
    leaf: &[u8],
    path: &[u8],
    each: &mut dyn FnMut(&[u8], &Stat),
) -> rustix::io::Result<()> {
    let Some(stat) = stat_leaf(parent, leaf)? else {
        return Ok(());
    };
    each(path, &stat);
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return rustix::fs::unlinkat(parent, leaf, AtFlags::empty());
    }
    let top = open_beneath(parent, leaf)?;
    let mut removal = Removal {
        top: top.as_fd(),
        moved: VecDeque::new(),
        moves: 0,
        each,
    };
    removal.empty(top.as_fd(), path, 0)?;
    while let Some((name, path)) = removal.moved.pop_front() {
        let directory = open_beneath(top.as_fd(), &name)?;
        removal.empty(directory.as_fd(), &path, 1)?;
        rustix::fs::unlinkat(&top, &*name, AtFlags::REMOVEDIR)?;
    }
    rustix::fs::unlinkat(parent, leaf, AtFlags::REMOVEDIR)
}

struct Removal<'a> {
    top: BorrowedFd<'a>,
    /// Directories that were too deep: their names in `top` and the paths they came from.
    moved: VecDeque<(Vec<u8>, Vec<u8>)>,
    moves: u64,
    each: &'a mut dyn FnMut(&[u8], &Stat),
}

impl Removal<'_> {
    fn empty(
        &mut self,
        directory: BorrowedFd<'_>,
        path: &[u8],
        depth: usize,
    ) -> rustix::io::Result<()> {
        for name in names(directory)? {
            let Some(stat) = stat_leaf(directory, &name)? else {
                continue;
            };
            let path = join(path, &name);
            (self.each)(&path, &stat);
            if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                rustix::fs::unlinkat(directory, &*name, AtFlags::empty())?;
            } else if depth + 1 >= DEPTH_MAX {
                self.move_up(directory, &name, path)?;
            } else {
                let child = open_beneath(directory, &name)?;
                self.empty(child.as_fd(), &path, depth + 1)?;
                rustix::fs::unlinkat(directory, &*name, AtFlags::REMOVEDIR)?;
            }
        }
        Ok(())
    }

    fn move_up(
        &mut self,
        directory: BorrowedFd<'_>,
        name: &[u8],
        path: Vec<u8>,
    ) -> rustix::io::Result<()> {
        loop {
            self.moves += 1;
            let free = format!(".removed-{}", self.moves).into_bytes();
            match rustix::fs::renameat_with(
                directory,
                name,
                self.top,
                &*free,
                RenameFlags::NOREPLACE,
            ) {
                Ok(()) => {
                    self.moved.push_back((free, path));
                    return Ok(());
                }
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
}

fn names(directory: BorrowedFd<'_>) -> rustix::io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            names.push(name.to_vec());
        }
    }
    Ok(names)
}

/// Levels that are descended with an open descriptor each.
const DEPTH_MAX: usize = 64;
