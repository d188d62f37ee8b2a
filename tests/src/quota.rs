//! The share of a processor that Lambda gives to each memory size, by a control group of this machine's (Linux, cgroup v1 or
//! v2, root).

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

use crate::lab::Function;

/// The memory size at which Lambda gives one whole vCPU (Lambda developer guide, "Configure function memory").
const ONE_VCPU_MB: u32 = 1769;

/// A share of a processor.
#[derive(Debug)]
pub struct Quota {
    folder: PathBuf,
}

impl Quota {
    /// A control group with the share that Lambda gives to a memory size.
    ///
    /// # Errors
    /// When this machine does not let it.
    pub fn of(memory_mb: u32) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let root = Path::new("/sys/fs/cgroup");
        let v1 = root.join("cpu").is_dir();
        let name = format!("firebreak-{}-{memory_mb}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = if v1 { root.join("cpu") } else { root.to_path_buf() }.join(name);
        fs::create_dir_all(&folder).context("cannot make a control group: are you root?")?;
        let quota = Self { folder };
        // A period of 20 ms, as short as it may be for the smallest share to be a millisecond.
        let period: u32 = 20_000;
        let share = period * memory_mb / ONE_VCPU_MB;
        if v1 {
            fs::write(quota.folder.join("cpu.cfs_period_us"), period.to_string())?;
            fs::write(quota.folder.join("cpu.cfs_quota_us"), share.to_string())?;
        } else {
            fs::write(quota.folder.join("cpu.max"), format!("{share} {period}"))?;
        }
        Ok(quota)
    }

    /// Gives a function that runs no more than this share from now on.
    ///
    /// # Errors
    /// When it cannot be moved into the group.
    pub fn take(&self, function: &Function) -> Result<()> {
        fs::write(self.folder.join("cgroup.procs"), function.pid().to_string()).context("cannot set the share")
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        // The function has ended; an empty group is removed as a folder.
        let _ = fs::remove_dir(&self.folder);
    }
}
