//! Boots a virtual machine.
fn main() {}
