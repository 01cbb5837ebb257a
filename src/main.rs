//! `lamina`.

fn main() {}
