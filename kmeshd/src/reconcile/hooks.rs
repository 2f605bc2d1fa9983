//! Looks after the authorization hooks of all pods of this node, from time to time: one that
//! somebody took away is attached anew, one that cannot be is told, in the log once, and by
//! readiness, status and metrics until it is there. So is, once, another's program beside one of them.

use std::collections::{BTreeMap, HashSet};
use std::time::Instant;

use kmesh_bpf::kernel::Kernel;
use kmesh_bpf::netns;
use kmesh_bpf::pins::Root;
use kmesh_bpf::pods::{self, HooksAdopted, PodsError, Record};
use tracing::{error, info, warn};

use super::INSPECT;
use crate::readiness::{Readiness, Token};

/// What is known of the pods' hooks.
#[derive(Debug, Default)]
pub(super) struct Hooks {
    /// Pods that are managed and whose connections are not authorized, and why.
    unhooked: BTreeMap<String, String>,
    /// Holds readiness back while there are such.
    token: Option<Token>,
    /// Programs of others that were told of: netns cookie and program.
    strangers: HashSet<(u64, u32)>,
    at: Option<Instant>,
}

impl Hooks {
    /// Pods without hook, and why.
    pub(super) fn unhooked(&self) -> &BTreeMap<String, String> {
        &self.unhooked
    }

    /// An enrolment failed to attach a pod's hook: it is looked after at once.
    pub(super) fn note(&mut self, failed: Option<(u64, &String, &PodsError)>) {
        if let Some((cookie, uid, why)) = failed {
            let name = if uid.is_empty() { cookie.to_string() } else { uid.clone() };
            self.unhooked.insert(name, crate::chain(why));
            self.at = None;
        }
    }

    /// Mends what is amiss, where it is time; whether pods were found whose namespace is gone.
    pub(super) fn watch(&mut self, k: &mut dyn Kernel, root: &Root, readiness: &Readiness) -> bool {
        let now = Instant::now();
        if self.at.is_some_and(|at| now < at) {
            return false;
        }
        self.at = Some(now + INSPECT);
        let done = match adopt(k, root) {
            Ok(done) => done,
            Err(why) => {
                error!("{}; trying again in {} s", crate::chain(&why), INSPECT.as_secs());
                return false;
            }
        };
        let failed = done.failed.iter();
        let unhooked = failed.map(|(record, why)| (name(record), crate::chain(why))).collect();
        for (pod, why) in &unhooked {
            if self.unhooked.get(pod) != Some(why) {
                error!("{why}; the connections of pod {pod} are NOT authorized; trying again");
            }
        }
        self.unhooked = unhooked;
        self.hold(readiness);
        self.meet(k, root);
        !done.gone.is_empty()
    }

    fn hold(&mut self, readiness: &Readiness) {
        let Some((pod, why)) = self.unhooked.first_key_value() else {
            self.token = None;
            return;
        };
        let said = format!("{} pods without authorization; pod {pod}: {why}", self.unhooked.len());
        match &self.token {
            Some(token) => token.because(said),
            None => self.token = Some(readiness.hold("pods", said)),
        }
    }

    /// Tells of programs of others, once of each.
    fn meet(&mut self, k: &dyn Kernel, root: &Root) {
        let strangers = match pods::strangers(k, root) {
            Ok(strangers) => strangers,
            Err(why) => return error!("{}", crate::chain(&why)),
        };
        let there: HashSet<_> = strangers.iter().map(|one| (one.cookie, one.program)).collect();
        for one in strangers {
            if !self.strangers.contains(&(one.cookie, one.program)) {
                warn!(
                    pod = one.uid,
                    cookie = one.cookie,
                    program = one.program,
                    name = one.name,
                    "a foreign program stands beside the pod's authorization: one that chooses a \
                     socket itself (bpf_sk_assign) overrides a denial"
                );
            }
        }
        self.strangers = there;
    }
}

/// Brings every pod's hook to this build, and says what was done.
pub(super) fn adopt(k: &mut dyn Kernel, root: &Root) -> Result<HooksAdopted, PodsError> {
    let done = pods::adopt(k, root, &netns::find)?;
    for (records, what) in [(&done.attached, "attached"), (&done.replaced, "replaced")] {
        if let Some(first) = records.first() {
            let count = records.len();
            info!(count, first = name(first), "hooks of pods {what}");
        }
    }
    Ok(done)
}

fn name(record: &Record) -> String {
    record.uid.clone().unwrap_or_else(|| record.cookie.to_string())
}
