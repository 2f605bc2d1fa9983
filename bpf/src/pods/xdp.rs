//! A pod's XDP program, the second way to end live connections (`--revoke=xdp`): a copy of it at
//! each interface of the pod's namespace but loopback, in links that are pinned as
//! `pods/<cookie>/xdp-<index>`, while connections of the pod are to end.
//!
//! ```text
//!  load aside → say it in `xdp_build` → a link at each interface, or put it into the one there is
//! ```
//! It refuses to take an interface at which somebody else's program stands.

use std::path::{Path, PathBuf};

use crate::kernel::{Id, Kernel, KernelError, LinkInfo, Pinned};
use crate::layout::Hook;
use crate::ours;
use crate::pins::{self, Root};

use super::hook::{Ground, build_text, said_in};
use super::{PodsError, Record, make_dir, word_of};

/// The symbolic link that says of which build the program is.
const BUILD: &str = "xdp_build";

/// The links of a pod's XDP program, by pin.
pub fn links(
    k: &dyn Kernel,
    root: &Root,
    cookie: u64,
) -> Result<Vec<(PathBuf, LinkInfo)>, KernelError> {
    let dir = root.pod(cookie);
    let mut links = Vec::new();
    for (name, _) in k.list(&dir)?.unwrap_or_default() {
        let path = dir.join(&name);
        if name.split_once('-').is_some_and(|(hook, _)| hook == Hook::Xdp.name())
            && let Some(Pinned::Link(link)) = k.pinned(&path)?
            && link.kind == ours::LINK_XDP
        {
            links.push((path, link));
        }
    }
    Ok(links)
}

/// Brings this build's program to every interface of the pod. What is there already stays.
pub fn attach(k: &mut dyn Kernel, root: &Root, pod: &Record) -> Result<(), PodsError> {
    let failed = |source| {
        let uid = pod.uid.as_deref().unwrap_or("?");
        let op = format!(
            "attach the program that ends live connections of pod {uid} (netns cookie {}); \
             kmeshd --revoke=destroy ends them without it",
            pod.cookie
        );
        PodsError::Kernel { op, source }
    };
    make_dir(k, &root.pods()).map_err(failed)?;
    let _lock = k.lock_dir(&root.pods()).map_err(failed)?;
    // Un-enrolled meanwhile: nothing of it may be left.
    if word_of(k, pod.cookie).map_err(failed)?.is_none() {
        return Ok(());
    }
    make_dir(k, &root.pod(pod.cookie)).map_err(failed)?;
    let netns = pod.netns.clone().unwrap_or_default();
    bring(k, root, pod.cookie, &netns).map_err(failed)
}

fn bring(k: &mut dyn Kernel, root: &Root, cookie: u64, netns: &Path) -> Result<(), KernelError> {
    let interfaces = k.interfaces(netns, cookie)?;
    let current = current(&*k, root, cookie)?;
    if interfaces.iter().all(|index| current.contains(&root.pod_xdp(cookie, *index))) {
        return Ok(());
    }
    let aside = root.pod_xdp_new(cookie);
    k.unpin(&aside)?;
    let limits = pins::kept_limits(k, root);
    let loaded = k.load_pod(Hook::Xdp, cookie, &root.maps(), &limits, &aside)?;
    let text = build_text(k.build(Hook::Xdp), loaded.id);
    let mut done = k.symlink(&root.pod(cookie).join(BUILD), &text);
    for index in interfaces {
        // One interface that cannot be taken leaves the others not out.
        let stands = put(k, root, cookie, (netns, index));
        done = done.and(stands);
    }
    k.unpin(&aside)?;
    done
}

/// The pins whose link holds this build's program, on the pinned maps.
fn current(k: &dyn Kernel, root: &Root, cookie: u64) -> Result<Vec<PathBuf>, KernelError> {
    let entries = k.list(&root.pod(cookie))?.unwrap_or_default();
    let Some((build, prog)) = said_in(&entries, BUILD) else {
        return Ok(Vec::new());
    };
    let ground = Ground::of(k, root)?;
    match k.by_id(Id::Prog(prog))? {
        Some(Pinned::Prog(info)) if build == k.build(Hook::Xdp) && ground.is_on_maps(&info) => {}
        _ => return Ok(Vec::new()),
    }
    let mut links = links(k, root, cookie)?;
    links.retain(|(_, link)| link.cgroup_id != 0 && link.prog_id == prog);
    Ok(links.into_iter().map(|(path, _)| path).collect())
}

/// Makes the program that waits aside stand at an interface.
fn put(k: &mut dyn Kernel, root: &Root, cookie: u64, at: (&Path, u32)) -> Result<(), KernelError> {
    let (pin, aside) = (root.pod_xdp(cookie, at.1), root.pod_xdp_new(cookie));
    match k.pinned(&pin)? {
        Some(Pinned::Link(link)) if link.kind == ours::LINK_XDP && link.cgroup_id != 0 => {
            return k.link_update(Hook::Xdp, &pin, &aside);
        }
        // It leads nowhere any more.
        Some(Pinned::Link(link)) if link.kind == ours::LINK_XDP => k.unpin(&pin)?,
        _ => {}
    }
    k.link_xdp(&aside, cookie, at, &pin).map(drop)
}

/// Takes the program away from the pod's interfaces, at once; whether it was there.
pub fn detach(k: &mut dyn Kernel, root: &Root, cookie: u64) -> Result<bool, PodsError> {
    let failed = |source| {
        let op = format!("detach the XDP program of the pod with netns cookie {cookie}");
        PodsError::Kernel { op, source }
    };
    if !is_there(&*k, root, cookie).map_err(failed)? {
        return Ok(false);
    }
    let _lock = k.lock_dir(&root.pods()).map_err(failed)?;
    take_away(k, root, cookie).map_err(failed)?;
    Ok(true)
}

/// What of it is in the pod's directory beside the links: the program that waits, and what says of
/// which build it is.
fn beside(k: &dyn Kernel, root: &Root, cookie: u64) -> Result<Vec<PathBuf>, KernelError> {
    let entries = k.list(&root.pod(cookie))?.unwrap_or_default();
    let mut own = vec![root.pod_xdp_new(cookie), root.pod(cookie).join(BUILD)];
    own.retain(|path| entries.iter().any(|(name, _)| path.ends_with(name)));
    Ok(own)
}

/// Whether anything of it is in the pod's directory.
fn is_there(k: &dyn Kernel, root: &Root, cookie: u64) -> Result<bool, KernelError> {
    Ok(!beside(k, root, cookie)?.is_empty() || !links(k, root, cookie)?.is_empty())
}

/// The same, by whoever holds the lock: unpinned only, a link would stay a moment longer.
pub(super) fn take_away(k: &mut dyn Kernel, root: &Root, cookie: u64) -> Result<(), KernelError> {
    for (path, link) in links(k, root, cookie)? {
        if link.cgroup_id != 0 {
            k.link_detach(link.id)?;
        }
        k.unpin(&path)?;
    }
    for path in beside(k, root, cookie)? {
        k.unpin(&path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Objects as _;
    use crate::layout::Limits;
    use crate::memory::MemoryKernel;
    use crate::pods::{Pod, Standing, enrol, one, unenrol};

    const COOKIE: u64 = 77;

    fn enrolled() -> (MemoryKernel, Root) {
        let (mut k, root) = (MemoryKernel::default(), Root::new("/bpf/kmesh"));
        k.make_dir(root.path()).unwrap();
        pins::adopt_maps(&mut k, &root, &Limits::default()).unwrap();
        k.add_namespace("/ns", COOKIE);
        let (uid, netns) = ("pod".to_owned(), "/ns".into());
        let pod = Pod { cookie: COOKIE, uid, netns, bypass: false };
        let standing = Standing { backend: None, policy_set: 3 };
        enrol(&mut k, &root, &pod, standing).unwrap().hook.unwrap();
        (k, root)
    }

    fn bring_it(k: &mut MemoryKernel, root: &Root) -> Vec<LinkInfo> {
        let pod = one(k, root, COOKIE).unwrap();
        attach(k, root, &pod).unwrap();
        let all = links(k, root, COOKIE).unwrap();
        assert!(k.pinned(&root.pod_xdp_new(COOKIE)).unwrap().is_none());
        all.into_iter().map(|(_, link)| link).collect()
    }

    #[test]
    fn what_is_of_this_build_stays_and_another_is_replaced() {
        let (mut k, root) = enrolled();
        let first = bring_it(&mut k, &root);
        assert_eq!((first.len(), first[0].cgroup_id), (1, 2));
        assert_eq!(bring_it(&mut k, &root), first);
        k.set_build(Hook::Xdp, 0x99);
        let second = bring_it(&mut k, &root);
        assert_eq!(second[0].id, first[0].id);
        assert_ne!(second[0].prog_id, first[0].prog_id);
        k.link_detach(second[0].id).unwrap();
        let third = bring_it(&mut k, &root);
        assert_ne!(third[0].id, second[0].id);
    }

    #[test]
    fn it_goes_without_a_trace() {
        let (mut k, root) = enrolled();
        let before = k.list(&root.pod(COOKIE)).unwrap();
        let [link] = bring_it(&mut k, &root).try_into().unwrap();
        assert!(detach(&mut k, &root, COOKIE).unwrap());
        assert_eq!(k.list(&root.pod(COOKIE)).unwrap(), before);
        assert!(k.by_id(Id::Link(link.id)).unwrap().is_none());
        assert!(!detach(&mut k, &root, COOKIE).unwrap());
        bring_it(&mut k, &root);
        assert_eq!(unenrol(&mut k, &root, "pod").unwrap(), [COOKIE]);
        assert_eq!(k.list(&root.pods()).unwrap(), Some(Vec::new()));
        let gone = Record { cookie: COOKIE, word: None, uid: None, netns: Some("/ns".into()) };
        attach(&mut k, &root, &gone).unwrap();
        assert_eq!(k.list(&root.pods()).unwrap(), Some(Vec::new()), "un-enrolled: not brought");
    }
}
