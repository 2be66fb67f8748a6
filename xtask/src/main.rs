//! What cargo alone cannot do: build the kernel side, generate tables, measure.
fn main() {}
