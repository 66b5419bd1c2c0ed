//! The two README commands.

fn main() {}
