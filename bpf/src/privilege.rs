//! What the kernel allows this process: the capabilities that every question about BPF objects
//! takes.
//!
//! It refuses a process that lacks them before anything is asked, so that the words name what is
//! missing and not the call that failed.

use rustix::thread::{CapabilitySet, capabilities};

/// What `/proc/self/ns/user` says in the initial user namespace (`PROC_USER_INIT_INO`).
const INITIAL_USER_NAMESPACE: &str = "user:[4026531837]";

/// Each capability, and what it is needed for.
const NEEDED: [(CapabilitySet, &str); 3] = [
    (CapabilitySet::BPF, "CAP_BPF"),
    (CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN"),
    (CapabilitySet::SYS_ADMIN, "CAP_SYS_ADMIN"),
];

/// Why this process may not ask.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// Capabilities are missing.
    #[error(
        "this must run as root: it lacks {missing}, without which the kernel says nothing about \
         BPF objects; try sudo, or give the container these capabilities"
    )]
    Missing {
        /// Their names.
        missing: String,
    },
    /// Capabilities of another user namespace count for nothing.
    #[error(
        "this must run as the host's root: the root of this user namespace may ask the kernel \
         nothing about BPF objects; run it outside of it (sudo on the host; a container without \
         user namespace)"
    )]
    UserNamespace,
    /// The kernel did not say.
    #[error("ask which capabilities this process has")]
    Ask(#[source] std::io::Error),
}

/// Refuses a process that may not ask about BPF objects.
pub fn require() -> Result<(), PrivilegeError> {
    let have = capabilities(None).map_err(|error| PrivilegeError::Ask(error.into()))?.effective;
    judge(have)?;
    let namespace = std::fs::read_link("/proc/self/ns/user").map_err(PrivilegeError::Ask)?;
    if namespace.as_os_str() == INITIAL_USER_NAMESPACE {
        Ok(())
    } else {
        Err(PrivilegeError::UserNamespace)
    }
}

fn judge(have: CapabilitySet) -> Result<(), PrivilegeError> {
    let missing: Vec<_> =
        NEEDED.iter().filter(|(bit, _)| !have.contains(*bit)).map(|(_, name)| *name).collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(PrivilegeError::Missing { missing: missing.join(", ") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let all = CapabilitySet::BPF | CapabilitySet::NET_ADMIN | CapabilitySet::SYS_ADMIN;
        assert!(judge(all).is_ok());
        let said = judge(CapabilitySet::BPF).unwrap_err().to_string();
        assert!(said.contains("lacks CAP_NET_ADMIN, CAP_SYS_ADMIN,"), "{said}");
    }
}
