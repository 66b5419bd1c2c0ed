//! What a command says on stdout.

use std::io::{self, ErrorKind, Write as _};

/// Writes `text` to stdout. A reader that went away, as `head` does, has read enough: that is no error.
///
/// # Errors
/// When stdout fails otherwise, such as a full disk behind it.
pub(super) fn say(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
