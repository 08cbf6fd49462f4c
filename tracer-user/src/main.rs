//! The `rampage` binary.
fn main() {}
