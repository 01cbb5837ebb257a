//! What a container may take of the machine.

use oci_spec::{
    OciSpecError,
    runtime::{
        LinuxCpuBuilder, LinuxDeviceCgroup, LinuxDeviceCgroupBuilder, LinuxDeviceType, LinuxMemoryBuilder,
        LinuxResources, LinuxResourcesBuilder,
    },
};
use serde::{Deserialize, Serialize};

use super::cgroup;
use crate::units::Bytes;

/// The period in which processor time is counted, in microseconds (Documentation/scheduler/sched-bwc.rst).
const PERIOD: u64 = 100_000;

/// A cgroup, and its limits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// The name of the cgroup: the container's ID.
    pub cgroup: String,
    /// The most memory.
    pub memory: Option<Bytes>,
    /// Processors, in thousandths.
    pub milli_cpus: Option<u64>,
}

impl Limits {
    pub(super) fn resources(&self) -> Result<LinuxResources, OciSpecError> {
        let mut resources = LinuxResourcesBuilder::default().devices(devices()?);
        if let Some(Bytes(memory)) = self.memory {
            let memory = i64::try_from(memory).unwrap_or(i64::MAX);
            let limits = LinuxMemoryBuilder::default().limit(memory);
            // Memory and swap together: Docker's default, where the kernel counts swap.
            let limits = if cgroup::counts_swap() { limits.swap(memory.saturating_mul(2)) } else { limits };
            resources = resources.memory(limits.build()?);
        }
        if let Some(cpus) = self.milli_cpus {
            let quota = i64::try_from(cpus.saturating_mul(PERIOD) / 1000).unwrap_or(i64::MAX);
            resources = resources.cpu(LinuxCpuBuilder::default().period(PERIOD).quota(quota).build()?);
        }
        resources.build()
    }
}

/// No device, but for those that every container has, which the runtimes allow by themselves. Any may be made with
/// mknod(2), as Docker has it; opening it is what the cgroup refuses.
fn devices() -> Result<Vec<LinuxDeviceCgroup>, OciSpecError> {
    let rule = |allow, kind, access: &str| {
        LinuxDeviceCgroupBuilder::default().allow(allow).typ(kind).access(access.to_owned()).build()
    };
    Ok(vec![
        LinuxDeviceCgroupBuilder::default().allow(false).access("rwm".to_owned()).build()?,
        rule(true, LinuxDeviceType::C, "m")?,
        rule(true, LinuxDeviceType::B, "m")?,
    ])
}
