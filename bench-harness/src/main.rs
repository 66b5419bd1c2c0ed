//! Real pulls side by side.

fn main() {}
