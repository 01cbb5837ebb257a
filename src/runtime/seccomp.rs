//! Which system calls a container may make: Docker's default profile for Docker's default capabilities.
//!
//! Invariant: what is not allowed by name fails with `EPERM`. `seccomp.txt` has the names (moby, profiles/seccomp; those
//! of io_uring left out, as Docker does since 25); here are the rules that depend on arguments or on the machine.

use oci_spec::{
    OciSpecError,
    runtime::{
        Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArgBuilder, LinuxSeccompBuilder, LinuxSeccompOperator,
        LinuxSyscall, LinuxSyscallBuilder,
    },
};

const ALLOWED: &str = include_str!("seccomp.txt");

/// Those of one kind of machine.
#[cfg(any(target_arch = "x86_64", target_arch = "x86"))]
const OF_MACHINE: &[&str] = &["arch_prctl", "modify_ldt"];
#[cfg(any(target_arch = "aarch64", target_arch = "arm"))]
const OF_MACHINE: &[&str] =
    &["arm_fadvise64_64", "arm_sync_file_range", "breakpoint", "cacheflush", "set_tls", "sync_file_range2"];
#[cfg(target_arch = "riscv64")]
const OF_MACHINE: &[&str] = &["riscv_flush_icache"];
#[cfg(not(any(
    target_arch = "x86_64",
    target_arch = "x86",
    target_arch = "aarch64",
    target_arch = "arm",
    target_arch = "riscv64"
)))]
const OF_MACHINE: &[&str] = &[];

/// The machine, and what it also runs: a call by another table of numbers must not slip through.
fn architectures() -> Vec<Arch> {
    if cfg!(target_arch = "x86_64") {
        vec![Arch::ScmpArchX86_64, Arch::ScmpArchX86, Arch::ScmpArchX32]
    } else if cfg!(target_arch = "aarch64") {
        vec![Arch::ScmpArchAarch64, Arch::ScmpArchArm]
    } else {
        vec![Arch::ScmpArchNative]
    }
}

/// `PER_LINUX` and `PER_LINUX32`, each also with `UNAME26`, and the question which one it is (linux/personality.h).
const PERSONALITIES: [u64; 5] = [0, 8, 0x20000, 0x20008, 0xffff_ffff];

/// `AF_VSOCK` (linux/socket.h): sockets to the hypervisor, which no namespace divides.
const AF_VSOCK: u64 = 40;

/// The flags of clone(2) that make namespaces.
const NAMESPACES: libc::c_int = libc::CLONE_NEWNS
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWCGROUP;

/// The profile.
pub(super) fn profile() -> Result<LinuxSeccomp, OciSpecError> {
    let mut rules = vec![allow(ALLOWED.split_whitespace().chain(OF_MACHINE.iter().copied()))?];
    rules.push(allow_if("socket", LinuxSeccompOperator::ScmpCmpNe, AF_VSOCK, None)?);
    for personality in PERSONALITIES {
        rules.push(allow_if("personality", LinuxSeccompOperator::ScmpCmpEq, personality, None)?);
    }
    let namespaces = u64::try_from(NAMESPACES).unwrap_or(u64::MAX);
    rules.push(allow_if("clone", LinuxSeccompOperator::ScmpCmpMaskedEq, namespaces, Some(0))?);
    // Its flags lie in memory, where a filter cannot look; with this answer the C library takes clone.
    rules.push(
        LinuxSyscallBuilder::default()
            .names(vec!["clone3".to_owned()])
            .action(LinuxSeccompAction::ScmpActErrno)
            .errno_ret(libc::ENOSYS.unsigned_abs())
            .build()?,
    );
    LinuxSeccompBuilder::default()
        .default_action(LinuxSeccompAction::ScmpActErrno)
        .default_errno_ret(libc::EPERM.unsigned_abs())
        .architectures(architectures())
        .syscalls(rules)
        .build()
}

fn allow<'n>(names: impl Iterator<Item = &'n str>) -> Result<LinuxSyscall, OciSpecError> {
    LinuxSyscallBuilder::default()
        .names(names.map(str::to_owned).collect::<Vec<_>>())
        .action(LinuxSeccompAction::ScmpActAllow)
        .build()
}

/// Allowed if the first argument compares so.
fn allow_if(
    name: &str,
    op: LinuxSeccompOperator,
    value: u64,
    second: Option<u64>,
) -> Result<LinuxSyscall, OciSpecError> {
    let arg = LinuxSeccompArgBuilder::default().index(0_usize).value(value).op(op);
    let arg = match second {
        Some(second) => arg.value_two(second).build()?,
        None => arg.build()?,
    };
    LinuxSyscallBuilder::default()
        .names(vec![name.to_owned()])
        .action(LinuxSeccompAction::ScmpActAllow)
        .args(vec![arg])
        .build()
}

#[cfg(test)]
mod tests {
    use super::{ALLOWED, profile};

    #[test]
    fn what_leads_out_of_a_container_is_not_allowed() {
        let allowed: Vec<&str> = ALLOWED.split_whitespace().collect();
        for refused in
            ["mount", "setns", "unshare", "bpf", "keyctl", "add_key", "reboot", "init_module", "clone3", "kexec_load"]
        {
            assert!(!allowed.contains(&refused), "{refused}");
        }
        for needed in ["execve", "openat2", "futex", "wait4", "chroot", "futex_wait", "mseal", "setxattrat"] {
            assert!(allowed.contains(&needed), "{needed}");
        }
        let mut once = allowed.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), allowed.len(), "a name stands twice");
        let profile = serde_json::to_value(profile().unwrap()).unwrap();
        assert_eq!((&profile["defaultAction"], &profile["defaultErrnoRet"]), (&"SCMP_ACT_ERRNO".into(), &1.into()));
        let clone = profile["syscalls"].as_array().unwrap().iter().find(|rule| rule["names"][0] == "clone").unwrap();
        assert_eq!(clone["args"][0]["value"], 0x7e02_0000);
    }
}
