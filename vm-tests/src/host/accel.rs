//! Whether KVM works here: found out by a short boot, remembered until the host boots again.
//!
//! `/dev/kvm` may exist and yet a guest hang in its firmware (seen in cloud machines that are guests themselves), so
//! only a guest that reached its first program proves anything.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use super::qemu::{Accel, Console, Qemu};
use super::workspace::Workspace;
use crate::report;

/// How long the probe may take. With working KVM it takes about a second.
const PROBE_LIMIT: Duration = Duration::from_secs(6);

/// What init says in the probe.
const REACHED: &str = "vm-tests: probe reached";

/// The best acceleration that works on this host.
pub(super) fn choose(workspace: &Workspace, kernel: &Path, initramfs: &Path) -> Result<Accel> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").context("read the host's boot id")?;
    let cache = workspace.path("accel");
    for accel in [Accel::Kvm, Accel::Tcg] {
        if fs::read_to_string(&cache).is_ok_and(|known| known == remembered(&boot, accel)) {
            return Ok(accel);
        }
    }
    let accel = match File::options().read(true).write(true).open("/dev/kvm") {
        Ok(_) if probe(workspace, kernel, initramfs)? => Accel::Kvm,
        Ok(_) => {
            report::note("warning: /dev/kvm exists but a guest does not boot with it; emulating, several times slower");
            Accel::Tcg
        }
        Err(error) => {
            report::note(&format!("warning: open /dev/kvm: {error}; emulating, several times slower"));
            Accel::Tcg
        }
    };
    fs::write(&cache, remembered(&boot, accel)).with_context(|| format!("write {}", cache.display()))?;
    Ok(accel)
}

/// The cache's content.
fn remembered(boot: &str, accel: Accel) -> String {
    format!("{} {}\n", boot.trim(), accel.word())
}

/// Boots until init powers the machine off.
fn probe(workspace: &Workspace, kernel: &Path, initramfs: &Path) -> Result<bool> {
    report::note("trying KVM with a short boot (once per boot of this host)");
    let console = workspace.path("probe.log");
    let mut qemu = Qemu::new(Accel::Kvm, kernel, initramfs)?;
    qemu.kernel_argument("vm_tests.probe");
    qemu.console(&Console::File(console.clone()));
    let (mut child, mut port) = qemu.start()?;
    port.set_read_timeout(Some(PROBE_LIMIT)).context("limit the probe")?;
    // Nobody speaks on the port in a probe: the read ends with QEMU or with the limit.
    let ended = matches!(port.read(&mut [0]), Ok(0));
    drop(child.kill());
    child.wait().context("wait for QEMU")?;
    let said = fs::read(&console).unwrap_or_default();
    Ok(ended && String::from_utf8_lossy(&said).contains(REACHED))
}
