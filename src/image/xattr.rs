//! Which extended attributes belong to a layer.

/// Whether an attribute is part of a layer; the rest belongs to the host's security module or to a driver.
pub(super) fn is_content(name: &[u8]) -> bool {
    [&b"user."[..], b"trusted.", b"security.capability", b"system.posix_acl_"].iter().any(|p| name.starts_with(p))
        && !is_overlays(name)
}

/// Whether an attribute is overlayfs' own.
pub(super) fn is_overlays(name: &[u8]) -> bool {
    name.starts_with(b"trusted.overlay.")
}
