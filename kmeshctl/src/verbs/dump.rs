//! `kmeshctl dump`: what is in the kernel, by name.
//!
//! `dump all` as JSON or YAML is a snapshot that `restore` takes; two dumps of the same state are
//! the same bytes. Everything is written entry by entry. It writes nothing to the kernel and takes
//! no lock; it refuses to filter a snapshot, which would then remove what it does not name.

mod raw;
mod shown;

use std::io::Write;
use std::time::Duration;

use anyhow::bail;
use kmesh_bpf::kernel::linux::Linux;
use kmesh_bpf::kernel::{KernelError, Objects as _};
use kmesh_bpf::last_sync::LastSync;
use kmesh_bpf::layout::{Hook, Map};
use kmesh_bpf::snapshot::{About, Listing, pod_entries};
use kmesh_bpf::tables::{Consistency, Have};
use kmesh_bpf::{attach, lock, pins};

use super::End;
use crate::args::{Dump, What};
use crate::context::Context;
use crate::daemon;
use crate::select::{Filter, Select};
use crate::view::{self, ProgramView};
use shown::{Hooks, Shown, Tables};

/// For how long the daemon is asked to write nothing.
const HOLD: Duration = Duration::from_secs(2);

/// Reads what is asked for and writes it.
pub fn run(ctx: &Context, args: &Dump, out: &mut dyn Write) -> anyhow::Result<End> {
    check_names(args)?;
    let filter = filter(args);
    check_use(args, &filter)?;
    let mut kernel = ctx.kernel()?;
    ctx.require_installed()?;
    if args.raw {
        return raw::run(ctx, &kernel, args, out);
    }
    let hooks = match args.what {
        What::Maps | What::Pods => Hooks::default(),
        What::Programs | What::Links | What::All => hooks(ctx, &mut kernel, args)?,
    };
    if matches!(args.what, What::Programs | What::Links) {
        Shown { hooks, ..Shown::default() }.write(ctx, args.output, out)?;
        return Ok(End::Good);
    }
    pins::open_existing(&mut kernel, &ctx.root)?;
    let have = read(ctx, &kernel)?;
    let end = consistency(ctx, &have)?;
    let pods = pod_entries(&kernel, &ctx.root, &have)?;
    let mut about = About::of(&have, Some(node_name()));
    if !matches!(end, End::Good) {
        // Beside a writer in the middle of a transaction an unchanged generation proves nothing.
        about.consistent = Some(false);
    }
    let listing = Listing::new(&have);
    if let (What::All, Some(format)) = (args.what, args.output.of_snapshot()) {
        listing.write(about, Some(&pods), format, out)?;
        return Ok(end);
    }
    let select = filter.is_set().then(|| Select::new(&filter, &have, &listing, &pods));
    let sets = view::sets(&have, &pods);
    let select = select.as_ref();
    let tables = Tables { about, listing: &listing, select, sets: &sets, pods: &pods };
    let tables = Some(tables);
    let mut shown = Shown { tables, hooks, ..Shown::default() };
    fill(ctx, &kernel, args, &have, &mut shown)?;
    if filter.is_set() && shown.is_empty() {
        ctx.say("nothing here is what the filters name");
    }
    shown.write(ctx, args.output, out)?;
    Ok(end)
}

/// Refuses a name that is no map or hook.
fn check_names(args: &Dump) -> anyhow::Result<()> {
    let (what, known): (_, Vec<&str>) = match args.what {
        What::Pods => return Ok(()),
        What::All if args.names.is_empty() => return Ok(()),
        What::All => {
            bail!(
                "dump all shows everything: name maps with `dump maps`, hooks with `dump programs`"
            )
        }
        What::Programs | What::Links => {
            ("hook", Hook::EVERY.iter().map(|hook| hook.name()).collect())
        }
        What::Maps => ("map", Map::ALL.iter().map(|map| map.name()).collect()),
    };
    match args.names.iter().find(|name| !known.contains(&name.as_str())) {
        Some(name) => bail!("\"{name}\" is no {what} of Kmesh; there are: {}", known.join(", ")),
        None => Ok(()),
    }
}

fn filter(args: &Dump) -> Filter {
    let names = if args.what == What::Pods { args.names.as_slice() } else { &[] };
    Filter {
        service: args.service.clone(),
        workload: args.workload.clone(),
        pods: args.pod.iter().chain(names).cloned().collect(),
        policy: args.policy.clone(),
        address: args.address.map(|address| address.to_canonical()),
    }
}

/// Refuses options that mean nothing together.
fn check_use(args: &Dump, filter: &Filter) -> anyhow::Result<()> {
    let hooks = matches!(args.what, What::Programs | What::Links);
    if filter.is_set() && hooks {
        bail!(
            "--service, --workload, --pod, --policy and --address choose among what the maps hold; \
             name hooks instead"
        );
    }
    if filter.is_set() && args.what == What::All && args.output.of_snapshot().is_some() {
        bail!(
            "a snapshot is whole: restoring a part of it would remove the rest; \
             filter with `dump maps`, or choose at restore with --only"
        );
    }
    if args.raw && (args.what != What::Maps || filter.is_set()) {
        bail!("--raw shows the bytes of maps: `dump maps [MAP…] --raw`, without filters");
    }
    Ok(())
}

/// Reads the tables; where a writer is always at work, the daemon is asked to rest.
fn read(ctx: &Context, kernel: &Linux) -> anyhow::Result<Have> {
    let mut held = false;
    let have = Have::read_held(kernel, &mut || {
        held = hold(ctx);
        held
    });
    if held {
        // It goes on by itself where this does not arrive.
        let _ = daemon::hold(ctx, Duration::ZERO);
    }
    Ok(have?)
}

/// Asks the daemon to hold its writes, if anyone can be writing.
fn hold(ctx: &Context) -> bool {
    if matches!(lock::holder(&ctx.root), Ok(None)) {
        return false;
    }
    ctx.mutter("a writer is at work: asking the daemon to hold its writes");
    match daemon::hold(ctx, HOLD) {
        Ok(()) => true,
        Err(why) => {
            ctx.say(&format!("the writer was not held: {:#}", anyhow::Error::new(why)));
            false
        }
    }
}

/// What a reader must know of a reading that is not settled.
fn consistency(ctx: &Context, have: &Have) -> anyhow::Result<End> {
    if have.consistency() == Consistency::Settled {
        return Ok(End::Good);
    }
    match lock::holder(&ctx.root)? {
        None if have.consistency() == Consistency::LeftOpen => {
            ctx.say(
                "a writer died at work: this is what it left, safe but maybe unfinished; \
                 start kmeshd, or kmeshctl restore FILE",
            );
            return Ok(End::Good);
        }
        Some(holder) => ctx.say(&format!(
            "{} (pid {}) wrote the tables at every look: this is not consistent; run it again",
            holder.command, holder.pid
        )),
        None => ctx.say("the tables changed at every look: this is not consistent; run it again"),
    }
    Ok(End::Differs)
}

/// This node, as snapshots name it: `KMESH_NODE`, or the host's name.
pub fn node_name() -> String {
    std::env::var("KMESH_NODE")
        .unwrap_or_else(|_| rustix::system::uname().nodename().to_string_lossy().into_owned())
}

/// Puts what stands beside the entries where it is shown.
fn fill(
    ctx: &Context,
    kernel: &Linux,
    args: &Dump,
    have: &Have,
    shown: &mut Shown<'_>,
) -> anyhow::Result<()> {
    let named = |maps: &[Map]| {
        args.names.is_empty() || maps.iter().any(|map| args.names.iter().any(|n| n == map.name()))
    };
    shown.layout = Some(have.meta().layout);
    shown.last_sync = LastSync::read(&ctx.run_dir);
    if args.what == What::Pods {
        shown.shows_pods = true;
        return Ok(());
    }
    shown.shows_services = named(&[Map::Frontend, Map::Service, Map::Endpoint]);
    shown.shows_workloads = named(&[Map::Backend, Map::Names]);
    shown.shows_policies = named(&[Map::Policy]);
    shown.shows_sets = named(&[Map::AuthSet, Map::AuthWord, Map::AuthBits]);
    shown.shows_pods = named(&[Map::Manager]);
    // Limits, counters and settings: not where one thing is looked for.
    if !filter(args).is_set() {
        let mut maps = view::maps(kernel, &ctx.root, have)?;
        maps.retain(|map| args.names.is_empty() || args.names.iter().any(|name| name == map.name));
        shown.maps = Some(maps);
        if named(&[Map::Stats]) {
            shown.counters = Some(view::counters(kernel)?);
        }
        shown.settings = named(&[Map::Settings]).then(|| have.settings());
    }
    Ok(())
}

fn hooks(ctx: &Context, kernel: &mut Linux, args: &Dump) -> anyhow::Result<Hooks> {
    if kernel.pinned(&ctx.root.map(Map::Meta))?.is_some() {
        pins::open_existing(kernel, &ctx.root)?;
    }
    let mut states = attach::inspect(kernel, &ctx.root, &ctx.cgroup()?)?;
    let named = |hook: Hook| args.names.is_empty() || args.names.iter().any(|n| n == hook.name());
    states.retain(|state| named(state.hook));
    let there = kernel.pinned(&ctx.root.map(Map::Manager))?.is_some() && named(Hook::SkLookup);
    let pods = if there { view::pod_hooks(kernel, &ctx.root)? } else { Vec::new() };
    let programs = || -> Result<Vec<_>, KernelError> {
        let node = states.iter().map(|state| ProgramView::new(kernel, state));
        let pods = pods.iter().map(|(record, hook)| Ok(view::pod_program(kernel, record, hook)));
        node.chain(pods).collect()
    };
    let links = || {
        let pods = pods.iter().filter_map(|(record, hook)| view::pod_link(record, hook));
        view::links(&states).into_iter().chain(pods).collect()
    };
    Ok(Hooks {
        programs: (args.what != What::Links).then(programs).transpose()?,
        links: (args.what != What::Programs).then(links),
    })
}
