//! Names that host and guest share: devices, mount points, environment.

/// File system for pools and test files.
pub(crate) const SCRATCH: &str = "/scratch";

/// The disk below it: the first one QEMU is given.
pub(crate) const SCRATCH_DEVICE: &str = "/dev/vda";

/// Raw disks for pools on block devices, as tests get them.
pub(crate) const TEST_DISKS: &str = "/dev/vdb:/dev/vdc";

/// Directories of the guest that start empty.
pub(crate) const FRESH: &[&str] = &["/tmp", "/run", "/var/tmp"];
