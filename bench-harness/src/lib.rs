//! Real pulls side by side.
