//! `kmeshctl restore`: makes the tables say what a snapshot says, then verifies.
//!
//! The snapshot is checked wholly before the first write. It refuses to write beside a live
//! writer. Interrupted anywhere: run it again and it converges.

use std::io::Write;

use kmesh_bpf::kernel::linux::Linux;
use kmesh_bpf::restore::{self, Changes, LeftOut, Place, Preview, Restored, Wanted};
use kmesh_bpf::rollback as back;

use super::rollback::{self, Guarded};
use super::verify::write_lines;
use super::{End, dump, read_snapshot};
use crate::args::{FindingsFormat, Restore};
use crate::context::Context;
use crate::output::{Progress, write_json};

/// Checks, shows or restores, verifies.
pub fn run(ctx: &Context, args: &Restore, out: &mut dyn Write) -> anyhow::Result<End> {
    let mut kernel = ctx.kernel()?;
    let Some(file) = &args.file else {
        if args.confirm {
            return rollback::confirm(ctx, out);
        }
        return rollback::go_back(ctx, &mut kernel, out);
    };
    let node = dump::node_name();
    let here = (!args.any_node).then_some(node.as_str());
    let wanted = Wanted::new(read_snapshot(file)?, args.only.clone(), here)?;
    ctx.is_installed()?;
    let cgroup = ctx.cgroup()?;
    let place = Place { root: &ctx.root, cgroup: &cgroup };
    if args.dry_run {
        let preview = restore::preview(&mut kernel, place, wanted)?;
        match args.output {
            FindingsFormat::Json => write_json(out, &preview)?,
            FindingsFormat::Table => say_preview(ctx, &preview, out)?,
        }
        return Ok(End::Good);
    }
    say_left_out(ctx, wanted.left_out());
    let restored = write(ctx, &mut kernel, place, wanted, args, out)?;
    ctx.mutter(&format!("maps: {:?}", restored.maps));
    ctx.mutter(&format!("hooks: {:?}", restored.hooks));
    write_lines(ctx.style, &restored.report, out)?;
    Ok(End::good_if(restored.report.is_good()))
}

/// Restores under the lock, with a way back if one was asked for.
fn write(
    ctx: &Context,
    kernel: &mut Linux,
    place: Place<'_>,
    wanted: Wanted,
    args: &Restore,
    out: &mut dyn Write,
) -> anyhow::Result<Restored> {
    let lock = ctx.lock()?;
    if let Some(pending) = back::none_pending(&ctx.state_dir)? {
        let file = pending.file;
        ctx.say(&format!("the node was started again since {file} was restored: forgot its state"));
    }
    let file = args.file.as_deref().map_or_else(String::new, |file| file.display().to_string());
    let way_back = args.rollback_after.map(|after| (file, after));
    let guarded =
        way_back.map(|what| Guarded::begin(ctx, kernel, &lock, &wanted, what)).transpose()?;
    let mut progress = Progress::new("restore");
    let done = restore::run(kernel, place, wanted, &mut |done, all| progress.tell(done, all));
    drop(progress);
    let restored = match (done, guarded) {
        (Ok(restored), guarded) => {
            if let Some(guarded) = guarded {
                guarded.settle(ctx, out)?;
            }
            restored
        }
        (Err(error), Some(guarded)) => {
            guarded.failed(ctx, kernel, place)?;
            return Err(error.into());
        }
        (Err(error), None) => return Err(error.into()),
    };
    drop(lock);
    writeln!(
        out,
        "restored: {} services, {} workloads, {}, {} pods; {} elements written",
        restored.services,
        restored.workloads,
        restored.policies.map_or("policies kept".to_owned(), |count| format!("{count} policies")),
        restored.pods,
        restored.applied.elements
    )?;
    Ok(restored)
}

fn say_left_out(ctx: &Context, left_out: &[LeftOut]) {
    for LeftOut { uid, cookie, why } in left_out {
        let uid = uid.as_deref().unwrap_or("unknown");
        ctx.say(&format!("pod {uid} (netns cookie {cookie}) left out: {why}"));
    }
}

/// So many objects of a kind are shown, unless asked to say more.
const SHOWN: usize = 50;

fn say_preview(ctx: &Context, preview: &Preview, out: &mut dyn Write) -> std::io::Result<()> {
    say_left_out(ctx, &preview.left_out);
    let shown = if ctx.verbose { usize::MAX } else { SHOWN };
    for (kind, changes) in [
        ("", &preview.services),
        ("workload ", &preview.workloads),
        ("policy ", &preview.policies),
        ("pod ", &preview.pods),
    ] {
        say_some(out, "add", kind, &changes.added, shown)?;
        let changed: Vec<_> =
            changes.changed.iter().map(|one| format!("{}: {}", one.object, one.what)).collect();
        say_some(out, "change", kind, &changed, shown)?;
        say_some(out, "remove", kind, &changes.removed, shown)?;
    }
    if !preview.settings.is_empty() {
        writeln!(out, "change settings: {}", preview.settings.join("; "))?;
    }
    say_counts(preview, out)
}

fn say_some(
    out: &mut dyn Write,
    verb: &str,
    kind: &str,
    objects: &[String],
    shown: usize,
) -> std::io::Result<()> {
    for object in objects.iter().take(shown) {
        writeln!(out, "{verb} {kind}{object}")?;
    }
    if objects.len() > shown {
        writeln!(out, "{verb} {} more (all of them: -v)", objects.len() - shown)?;
    }
    Ok(())
}

fn say_counts(preview: &Preview, out: &mut dyn Write) -> std::io::Result<()> {
    if preview.is_empty() {
        return writeln!(out, "nothing would change");
    }
    let counts = |name: &str, changes: &Changes| {
        let Changes { added, changed, removed } = changes;
        format!("{name} +{} ~{} -{}", added.len(), changed.len(), removed.len())
    };
    writeln!(
        out,
        "would restore: {}, {}, endpoints +{} -{}, {}, {}; {} elements would be written",
        counts("services", &preview.services),
        counts("workloads", &preview.workloads),
        preview.endpoints_added,
        preview.endpoints_removed,
        if preview.keeps_policies {
            "policies kept".to_owned()
        } else {
            counts("policies", &preview.policies)
        },
        counts("pods", &preview.pods),
        preview.elements
    )
}
