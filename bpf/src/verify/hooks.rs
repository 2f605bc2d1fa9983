//! The hooks: link pinned and alive, on the right cgroup, with our program, effective there, and
//! nobody before it. The first fault of a hook is its only finding.

use std::collections::BTreeSet;
use std::path::Path;

use crate::attach::{self, HookState};
use crate::check::{Finding, Severity};
use crate::kernel::{Id, Kernel, KernelError, Pinned};
use crate::layout::{Hook, Map};
use crate::ours;
use crate::pins::Root;

use super::VerifyError;

/// What a hook is judged by.
struct Judge<'a> {
    k: &'a dyn Kernel,
    root: &'a Root,
    cgroup: &'a Path,
    cgroup_id: u64,
    sound: &'a BTreeSet<Map>,
}

/// Looks at every hook that is wanted. `peername` is the setting, where it could be read.
pub(super) fn look(
    k: &dyn Kernel,
    root: &Root,
    cgroup: &Path,
    sound: &BTreeSet<Map>,
    peername: Option<bool>,
) -> Result<Vec<Finding>, VerifyError> {
    let kernel = |source| VerifyError::Kernel { root: root.path().to_owned(), source };
    let cgroup_id = k.cgroup_id(cgroup).map_err(kernel)?;
    let judge = Judge { k, root, cgroup, cgroup_id, sound };
    let mut findings = Vec::new();
    for state in attach::inspect(k, root, cgroup).map_err(VerifyError::Hooks)? {
        if is_wanted(&state, peername) {
            findings.extend(judge.hook(&state).map_err(kernel)?);
        }
    }
    Ok(merge(findings))
}

/// What is wrong with several hooks in the same way is one fault: a cgroup that is gone, say.
fn merge(findings: Vec<Finding>) -> Vec<Finding> {
    let mut merged: Vec<Finding> = Vec::new();
    for finding in findings {
        let same = merged.iter_mut().find(|other| {
            (other.layer, &other.problem, &other.fix)
                == (finding.layer, &finding.problem, &finding.fix)
        });
        match same {
            Some(other) => other.object = format!("{}, {}", other.object, finding.object),
            None => merged.push(finding),
        }
    }
    merged
}

/// The getpeername hooks are wanted by a setting; where it cannot be read, what is there is.
fn is_wanted(state: &HookState, peername: Option<bool>) -> bool {
    match state.hook {
        Hook::GetPeerName4 | Hook::GetPeerName6 => {
            peername.unwrap_or(state.link.is_some() || state.prog.is_some())
        }
        Hook::SkMsg | Hook::SockOps | Hook::Connect4 | Hook::Connect6 => true,
        // in pods, not here
        Hook::SkLookup | Hook::Xdp => false,
    }
}

impl Judge<'_> {
    /// The first fault of a hook; where there is none, who runs before it.
    fn hook(&self, state: &HookState) -> Result<Option<Finding>, KernelError> {
        let attachment =
            if state.hook.on_cgroup() { self.link(state)? } else { self.sockhash(state) };
        if attachment.is_some() {
            return Ok(attachment);
        }
        for look in [Self::program, Self::pin, Self::maps, Self::build] {
            if let Some(finding) = look(self, state)? {
                return Ok(Some(finding));
            }
        }
        self.before(state)
    }

    /// The link: there, ours, its cgroup alive and the right one.
    fn link(&self, state: &HookState) -> Result<Option<Finding>, KernelError> {
        let path = self.root.link(state.hook);
        let of = |problem: String| error("links", state.hook.name().to_owned(), problem, START);
        let Some(link) = &state.link else {
            return Ok(Some(if self.k.pinned(&path)?.is_some() {
                let fix = format!("rm {}, then start kmeshd", path.display());
                error("pins", path.display().to_string(), FOREIGN.to_owned(), &fix)
            } else {
                of("the link is missing: its program is not attached".to_owned())
            }));
        };
        if ours::link_named(state.hook.name(), link).is_none() {
            let fix = format!("rm {}, then start kmeshd", path.display());
            return Ok(Some(error("pins", path.display().to_string(), FOREIGN.to_owned(), &fix)));
        }
        if link.cgroup_id == 0 {
            return Ok(Some(of(
                "the link is detached: its cgroup is gone, or somebody detached it".to_owned(),
            )));
        }
        if link.cgroup_id != self.cgroup_id {
            let cgroup = self.cgroup.display();
            let id = link.cgroup_id;
            return Ok(Some(of(format!(
                "it is attached to another cgroup (id {id}), not {cgroup}"
            ))));
        }
        Ok(None)
    }

    /// The attachment to the sockhash, where that map's pin is sound.
    fn sockhash(&self, state: &HookState) -> Option<Finding> {
        let missing = state.standing.is_none() || !state.attached;
        (missing && self.sound.contains(&Map::Socket)).then(|| {
            let problem = "it is not attached to map_of_kmesh_socket: waypoint connections would \
                           carry no metadata";
            error("links", state.hook.name().to_owned(), problem.to_owned(), START)
        })
    }

    /// The program that stands there is ours, and runs at the cgroup.
    fn program(&self, state: &HookState) -> Result<Option<Finding>, KernelError> {
        let hook = state.hook.name().to_owned();
        let Some(standing) = state.standing else {
            return Ok(None);
        };
        let name = match self.k.by_id(Id::Prog(standing))? {
            Some(Pinned::Prog(prog)) if ours::prog_named(&prog) == Some(state.hook) => None,
            Some(Pinned::Prog(prog)) => Some(prog.name),
            _ => Some(String::new()),
        };
        if let Some(name) = name {
            let problem =
                format!("its program was replaced by another: \"{name}\" (id {standing})");
            return Ok(Some(error("programs", hook, problem, START)));
        }
        if !state.effective && state.hook.on_cgroup() {
            let problem = format!("it is attached, but does not run at {}", self.cgroup.display());
            return Ok(Some(error("programs", hook, problem, START)));
        }
        Ok(None)
    }

    /// The program's pin holds the program that stands there.
    fn pin(&self, state: &HookState) -> Result<Option<Finding>, KernelError> {
        let path = self.root.prog(state.hook);
        let object = path.display().to_string();
        Ok(match (&state.prog, state.standing) {
            (Some(prog), Some(standing)) if prog.id == standing => None,
            // What stands there is not known: another finding says why.
            (Some(_), None) => None,
            (Some(prog), Some(standing)) => {
                let id = prog.id;
                let problem = format!("program {standing} stands at the hook, not the pinned {id}");
                Some(error("programs", state.hook.name().to_owned(), problem, START))
            }
            (None, _) if self.k.pinned(&path)?.is_none() => {
                let problem = "the program's pin is missing; the program still runs";
                Some(error("pins", object, problem.to_owned(), START))
            }
            _ => {
                let fix = format!("rm {}, then start kmeshd", path.display());
                Some(error("pins", object, FOREIGN.to_owned(), &fix))
            }
        })
    }

    /// The program uses the pinned maps.
    #[expect(clippy::unnecessary_wraps, reason = "one of a row of looks")]
    fn maps(&self, state: &HookState) -> Result<Option<Finding>, KernelError> {
        let all_sound = self.sound.len() == Map::ALL.len();
        Ok((all_sound && !state.strange_maps.is_empty()).then(|| {
            let ids: Vec<_> = state.strange_maps.iter().map(ToString::to_string).collect();
            let problem =
                format!("it uses maps that are not the pinned ones: id {}", ids.join(", "));
            error("programs", state.hook.name().to_owned(), problem, START)
        }))
    }

    /// The program is of this build, as far as `kmesh_meta` tells.
    #[expect(clippy::unnecessary_wraps, reason = "one of a row of looks")]
    fn build(&self, state: &HookState) -> Result<Option<Finding>, KernelError> {
        let (record, Some(standing)) = (state.record, state.standing) else {
            return Ok(None);
        };
        if !self.sound.contains(&Map::Meta) {
            return Ok(None);
        }
        let problem = if record.build != state.build {
            let (theirs, ours) = (record.build, state.build);
            format!("it is of another build ({theirs:016x}) than this program's own ({ours:016x})")
        } else if record.prog_id != standing {
            format!("kmesh_meta knows program {}, not {standing} that stands here", record.prog_id)
        } else {
            return Ok(None);
        };
        Ok(Some(Finding {
            severity: Severity::Warning,
            layer: "programs",
            object: state.hook.name().to_owned(),
            problem,
            fix: "start this build's kmeshd: it replaces the program at once".to_owned(),
        }))
    }

    /// A foreign program that runs before ours may rewrite the address that ours looks up.
    fn before(&self, state: &HookState) -> Result<Option<Finding>, KernelError> {
        if !matches!(state.hook, Hook::Connect4 | Hook::Connect6) {
            return Ok(None);
        }
        let others: Vec<_> =
            state.order.iter().copied().take_while(|id| Some(*id) != state.standing).collect();
        let Some(id) = others.first() else {
            return Ok(None);
        };
        let name = match self.k.by_id(Id::Prog(*id))? {
            Some(Pinned::Prog(prog)) => prog.name,
            _ => String::new(),
        };
        Ok(Some(Finding {
            severity: Severity::Warning,
            layer: "programs",
            object: state.hook.name().to_owned(),
            problem: format!(
                "a foreign program \"{name}\" (id {id}) runs before it at {}: an address that it \
                 rewrites is not steered",
                self.cgroup.display()
            ),
            fix: format!("bpftool cgroup show {} effective; detach it", self.cgroup.display()),
        }))
    }
}

const START: &str = "start kmeshd: it attaches what is missing";
const FOREIGN: &str = "something foreign is pinned in its place";

fn error(layer: &'static str, object: String, problem: String, fix: &str) -> Finding {
    Finding { severity: Severity::Error, layer, object, problem, fix: fix.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_fault_of_several_hooks_is_one_finding() {
        let gone =
            |hook: &str| error("links", hook.to_owned(), "its cgroup is gone".to_owned(), START);
        let other = error("links", "connect6".to_owned(), "the link is missing".to_owned(), START);
        let merged = merge(vec![gone("sockops"), gone("connect4"), other.clone()]);
        assert_eq!(merged, [gone("sockops, connect4"), other]);
    }
}
