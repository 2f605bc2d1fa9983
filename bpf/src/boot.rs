//! The machine as it booted: kernel release, types, boot id. It refuses kernels older than 6.1.

use std::io;

/// The oldest kernel that Kmesh's programs run on.
pub const OLDEST: (u32, u32) = (6, 1);

/// Why this machine's kernel will not do.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// Too old.
    #[error(
        "Kmesh needs Linux {}.{} or newer, this is {release}; nothing was touched",
        OLDEST.0, OLDEST.1
    )]
    TooOld {
        /// The kernel's release.
        release: String,
    },
    /// Without its types.
    #[error(
        "this kernel has no BTF ({BTF}): the programs need the types of its structures; use one \
         with CONFIG_DEBUG_INFO_BTF=y"
    )]
    NoBtf,
    /// `/proc` did not answer.
    #[error("read {path}")]
    Read {
        /// The file.
        path: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// Where the kernel shows its types.
const BTF: &str = "/sys/kernel/btf/vmlinux";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The id of this boot: another after each restart of the machine.
pub fn boot_id() -> Result<String, BootError> {
    std::fs::read_to_string(BOOT_ID)
        .map(|text| text.trim().to_owned())
        .map_err(|source| BootError::Read { path: BOOT_ID, source })
}

/// The kernel's release, as `uname -r` says it.
#[must_use]
pub fn kernel_release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// Refuses a kernel older than [`OLDEST`].
pub fn require_kernel() -> Result<(), BootError> {
    let release = kernel_release();
    if version(&release) >= Some(OLDEST) { Ok(()) } else { Err(BootError::TooOld { release }) }
}

/// Refuses a kernel that programs cannot be loaded into for want of BTF. Views and purge need none.
pub fn require_btf() -> Result<(), BootError> {
    if std::path::Path::new(BTF).exists() { Ok(()) } else { Err(BootError::NoBtf) }
}

/// Major and minor number of a release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_compare_by_number_not_by_text() {
        assert!(version("5.15.0-91-generic") < Some(OLDEST));
        assert!(version("6.0.19") < Some(OLDEST));
        assert!(version("6.1.0-18-amd64") >= Some(OLDEST));
        assert!(version("6.12.9") >= Some(OLDEST));
        assert!(version("10.0-rc1") >= Some(OLDEST));
        assert!(version("garbage") < Some(OLDEST));
    }
}
