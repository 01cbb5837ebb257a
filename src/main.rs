//! Lamina.
fn main() {}
