//! The `unpriv` binary.
fn main() {}
