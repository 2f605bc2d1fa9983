//! `kmeshctl explain`: what the kernel would do with a connection now.

use std::io::{self, Write};

use kmesh_bpf::explain::{
    self, EndpointSaid, Explanation, InboundSaid, MetadataSaid, OutcomeSaid, Protocol, Socket,
    Source, Verdict,
};
use kmesh_bpf::layout::{POLICY_NONE, POLICY_WAIT};
use kmesh_bpf::want::Family;
use kmesh_bpf::{lock, pins};

use super::End;
use crate::args::{Explain, ExplainFormat, SocketFamily, SocketProtocol};
use crate::context::Context;
use crate::output::{Style, Tone, table, write_json, write_table};

/// Asks and writes.
pub fn run(ctx: &Context, args: &Explain, out: &mut dyn Write) -> anyhow::Result<End> {
    let mut kernel = ctx.kernel()?;
    ctx.require_installed()?;
    let cgroup = ctx.cgroup()?;
    pins::open_existing(&mut kernel, &ctx.root)?;
    let (from, to) = (args.from.as_str(), args.to);
    let mut said = explain::explain(&kernel, &ctx.root, &cgroup, from, to, socket(args))?;
    said.consistent &= said.generation & 1 == 0 || lock::holder(&ctx.root)?.is_none();
    ctx.mutter(&format!("read at generation {} of {}", said.generation, ctx.root.path().display()));
    if !said.consistent {
        ctx.say("the tables changed while they were read: ask again");
    }
    match args.output {
        ExplainFormat::Table => write(ctx.style, ctx.verbose, &said, out)?,
        ExplainFormat::Json => write_json(out, &said)?,
    }
    let refused = matches!(said.verdict, Verdict::Refused | Verdict::Varies);
    Ok(End::good_if(said.consistent && !refused))
}

/// The socket that the arguments describe.
fn socket(args: &Explain) -> Socket {
    let family = match args.family {
        Some(SocketFamily::V4) => Family::V4,
        Some(SocketFamily::V6) => Family::V6,
        None => Family::of(args.to.ip()),
    };
    let protocol = match args.protocol {
        SocketProtocol::Tcp => Protocol::Tcp,
        SocketProtocol::Udp => Protocol::Udp,
    };
    Socket { family, protocol, v6_only: args.v6only, bound: args.bind }
}

/// How many endpoints are listed, unless asked to say more.
const LISTED: usize = 20;

fn write(style: Style, all: bool, said: &Explanation, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "from  {}", who(&said.from))?;
    let family = said.socket.family;
    let protocol = match said.socket.protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
    };
    writeln!(out, "to    {}, by an {family} {protocol} socket\n", said.to)?;
    let mut steps = table(&["STEP", "FOUND"]);
    for step in &said.trail.steps {
        steps.add_row([step.step, &step.finding]);
    }
    write_table(out, &steps)?;
    waypoint(style, said, out)?;
    let endpoints = &said.trail.endpoints;
    if !endpoints.is_empty() {
        let listed = if all { endpoints.len() } else { LISTED.min(endpoints.len()) };
        writeln!(out)?;
        write_endpoints(&endpoints[..listed], out)?;
        if listed < endpoints.len() {
            writeln!(out, "… and {} more (-v lists them)", endpoints.len() - listed)?;
        }
    }
    let listed = if all { said.inbound.len() } else { LISTED.min(said.inbound.len()) };
    said.inbound[..listed].iter().try_for_each(|inbound| write_inbound(style, inbound, out))?;
    if listed < said.inbound.len() {
        writeln!(out, "… and {} more (-v lists them)", said.inbound.len() - listed)?;
    }
    writeln!(out)?;
    said.trail.outcomes.iter().try_for_each(|outcome| conclude(style, outcome, out))
}

/// What a pod says to the connection, and why.
fn write_inbound(style: Style, said: &InboundSaid, out: &mut dyn Write) -> io::Result<()> {
    let InboundSaid { pod, target, source, workload, identity, set, policies, admission, .. } =
        said;
    let source = source.map_or_else(|| "an unknown address".to_owned(), |ip| ip.to_string());
    let workload = workload.as_deref().unwrap_or("no known workload");
    let identity = identity.as_deref().unwrap_or("no identity");
    writeln!(out, "\ninbound   {pod} at {target}, from {source}: {workload}, {identity}")?;
    let named = match policies.as_slice() {
        [] => String::new(),
        names => format!(": {}", names.join(", ")),
    };
    match *set {
        POLICY_NONE => {}
        POLICY_WAIT => writeln!(out, "          policy set: none yet, the pod waits")?,
        set => writeln!(out, "          policy set {set}{named}")?,
    }
    let tone = if admission.refusal().is_some() { Tone::Bad } else { Tone::Good };
    let verb = style.paint(tone, admission.verb());
    let counter =
        said.counter.map_or("not counted".to_owned(), |name| format!("counted as {name}"));
    writeln!(out, "          {verb}: {}; {counter}", said.why)?;
    let Some(dry_run) = &said.dry_run else { return Ok(()) };
    let verb = if dry_run.lets_in { "let it in" } else { "keep it out" };
    writeln!(out, "          with dry-run policies it would {verb}: {}", dry_run.why)
}

fn who(from: &Source) -> String {
    let Source { given, cookie, uid, netns } = from;
    let uid = uid.as_ref().filter(|uid| *uid != given).map(|uid| format!(", {uid}"));
    let cookie = match cookie {
        Some(cookie) => format!(" (netns cookie {cookie}"),
        None => " (no managed pod of this node".to_owned(),
    };
    let netns = netns.as_ref().map(|netns| format!(", {}", netns.display()));
    format!("{given}{}{cookie}{})", uid.unwrap_or_default(), netns.unwrap_or_default())
}

/// What the waypoint reads first, and what keeps it from that.
fn waypoint(style: Style, said: &Explanation, out: &mut dyn Write) -> io::Result<()> {
    let metadata = said.trail.waypoint.as_ref().and_then(|waypoint| waypoint.metadata.as_ref());
    let Some(MetadataSaid { format, destination, bytes }) = metadata else {
        return Ok(());
    };
    let bytes = bytes.as_ref().map(|bytes| format!(": {bytes}")).unwrap_or_default();
    writeln!(out, "\nmetadata  {destination} as {format}{bytes}")?;
    for hook in said.hooks.iter().filter(|hook| !hook.effective) {
        let warning = style.paint(Tone::Bad, "not in force");
        writeln!(out, "{}  {warning}: the waypoint would get no metadata", hook.hook)?;
    }
    Ok(())
}

fn write_endpoints(endpoints: &[EndpointSaid], out: &mut dyn Write) -> io::Result<()> {
    let mut rows = table(&["ENDPOINT", "ADDRESS", "CHANCE", "OUTCOME"]);
    for endpoint in endpoints {
        let target = endpoint.target.map(|target| target.to_string());
        rows.add_row([
            endpoint.workload.as_deref().unwrap_or("-"),
            target.as_deref().unwrap_or("-"),
            &percent(endpoint.chance),
            endpoint.outcome.counter().unwrap_or("-"),
        ]);
    }
    write_table(out, &rows)
}

fn percent(chance: f64) -> String {
    format!("{:.1} %", chance * 100.0)
}

fn conclude(style: Style, said: &OutcomeSaid, out: &mut dyn Write) -> io::Result<()> {
    let (tone, word) = match said.verdict {
        Verdict::Refused | Verdict::Varies => (Tone::Bad, "refused"),
        Verdict::Steered => (Tone::Good, "steered"),
        Verdict::Passes => (Tone::Good, "passes"),
    };
    let chance =
        if said.chance < 1.0 { format!(" ({})", percent(said.chance)) } else { String::new() };
    let counter =
        said.counter.map_or("not counted".to_owned(), |name| format!("counted as {name}"));
    writeln!(out, "{}{chance}: {}; {counter}", style.paint(tone, word), said.why)
}
