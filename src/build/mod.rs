//! Building images from Dockerfiles: what the file says, which files of the context it names, and which it leaves out.
//!
//! Everything here is text in and values out; nothing touches the system. The authority for every rule is the Dockerfile
//! reference, and where that is silent BuildKit's front end (moby/buildkit, frontend/dockerfile).

pub mod dockerfile;
pub mod ignore;
pub mod pattern;
