//! Images from and to registries (OCI distribution-spec, which is also Docker's): what `pull` and `push` do.
//!
//! One request at a time is made in [`requests`], on crate `reqwest`; [`login`] adds what opens the registry. Around them
//! stand threads that wait for the network, try again and hear a signal ([`session`]), layers on their way through a file
//! that survives the process ([`download`]), and who may log in where ([`credentials`]).
//!
//! Invariant: nothing that a registry says is believed before its digest is checked; an image is published whole or not
//! at all; what was downloaded when something failed is there for the next try. Memory does not grow with a layer.

mod credentials;
mod download;
mod failure;
mod kept;
mod login;
mod manifest;
mod platform;
mod pull;
mod push;
mod requests;
mod session;
mod transfer;

use std::time::Duration;

pub use self::{
    platform::Platform,
    pull::{PullEvents, Pulled, pull},
    push::{PushEvents, Pushed, push},
};

/// How to talk to a registry.
#[derive(Clone, Copy, Debug)]
pub struct Connection {
    /// HTTP, with nothing encrypted.
    pub plain_http: bool,
    /// Whether the registry's certificate must be one that this machine trusts.
    pub tls_verify: bool,
    /// How long it may say nothing.
    pub patience: Duration,
}

impl Default for Connection {
    fn default() -> Self {
        Self { plain_http: false, tls_verify: true, patience: Duration::from_secs(60) }
    }
}

/// How many layers are transferred at once; as many as Docker's.
const AT_ONCE: usize = 3;
