//! `kmeshctl verify`: the findings, one line each.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use kmesh_bpf::check::{Finding, Severity};
use kmesh_bpf::control;
use kmesh_bpf::kernel::linux::Linux;
use kmesh_bpf::snapshot::Snapshot;
use kmesh_bpf::tables::Have;
use kmesh_bpf::verify::{self, Disk, Report};
use serde::Serialize;

use super::{End, read_snapshot};
use crate::args::{FindingsFormat, Verify};
use crate::context::Context;
use crate::daemon;
use crate::output::{Style, Tone, write_json};

/// The schema of `-o json`.
const SCHEMA: u32 = 1;
/// For so long the daemon is asked to write nothing, where it wrote at every look.
const HOLD: Duration = Duration::from_secs(2);

/// What `-o json` says.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'a> {
    schema_version: u32,
    /// Nothing is wrong; there may be warnings.
    good: bool,
    findings: &'a [Finding],
}

/// Looks, and says what it found.
pub fn run(ctx: &Context, args: &Verify, out: &mut dyn Write) -> anyhow::Result<End> {
    let mut kernel = ctx.kernel()?;
    let against = args.against.as_deref().map(|what| wanted(ctx, what)).transpose()?;
    ctx.is_installed()?;
    let (report, _) = look(ctx, &mut kernel, against.as_ref())?;
    let good = report.is_good();
    match args.output {
        FindingsFormat::Table => write_lines(ctx.style, &report, out)?,
        FindingsFormat::Json => {
            let findings = &report.findings;
            write_json(out, &Shown { schema_version: SCHEMA, good, findings })?;
        }
    }
    Ok(End::good_if(good))
}

/// What the tables are compared with: a file, standard input, or what the daemon wants.
fn wanted(ctx: &Context, what: &Path) -> anyhow::Result<Snapshot> {
    if what != Path::new("daemon") {
        return read_snapshot(what);
    }
    let asked = daemon::ask(ctx, "GET", control::SNAPSHOT);
    let answer = asked.context("ask the daemon what it wants the tables to say")?;
    Ok(Snapshot::read(answer, "the daemon's answer")?)
}

/// Looks at everything on this node; a writer that is at work at every look is asked to hold.
pub fn look(
    ctx: &Context,
    kernel: &mut Linux,
    against: Option<&Snapshot>,
) -> anyhow::Result<(Report, Option<Have>)> {
    let cgroup = ctx.cgroup()?;
    let disk = Disk { state_dir: &ctx.state_dir, run_dir: &ctx.run_dir };
    let first = verify::verify_node(kernel, &ctx.root, &cgroup, disk, against)?;
    if !first.0.moving {
        return Ok(first);
    }
    if let Err(why) = daemon::hold(ctx, HOLD) {
        ctx.say(&format!("the tables move, and nobody holds them still: {why}"));
    }
    let second = verify::verify_node(kernel, &ctx.root, &cgroup, disk, against);
    // Nobody is kept waiting for the rest of the time.
    let _ = daemon::hold(ctx, Duration::ZERO);
    Ok(second?)
}

/// One line for each finding; one good word where there is none.
pub fn write_lines(style: Style, report: &Report, out: &mut dyn Write) -> std::io::Result<()> {
    for finding in &report.findings {
        writeln!(out, "{}", line(style, finding))?;
    }
    if report.findings.is_empty() {
        writeln!(out, "{}", style.paint(Tone::Good, "good: everything is as it should be"))?;
    }
    Ok(())
}

/// A finding in one line, with its remedy.
pub fn line(style: Style, finding: &Finding) -> String {
    let severity = match finding.severity {
        Severity::Error => style.paint(Tone::Bad, "error"),
        Severity::Warning => style.paint(Tone::Warn, "warning"),
    };
    let Finding { layer, object, problem, fix, .. } = finding;
    format!("{severity}: {layer}: {object}: {problem} [{fix}]")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::When;

    fn report(severities: &[Severity]) -> Report {
        let finding = |severity: &Severity| Finding {
            severity: *severity,
            layer: "links",
            object: "connect4".to_owned(),
            problem: "the link is missing".to_owned(),
            fix: "start kmeshd".to_owned(),
        };
        Report { findings: severities.iter().map(finding).collect(), ..Report::default() }
    }

    #[test]
    fn each_finding_is_one_line_with_its_remedy() {
        let mut out = Vec::new();
        let report = report(&[Severity::Error, Severity::Warning]);
        write_lines(Style::new(When::Never), &report, &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "error: links: connect4: the link is missing [start kmeshd]\n\
             warning: links: connect4: the link is missing [start kmeshd]\n"
        );
    }

    #[test]
    fn warnings_alone_are_good() {
        assert!(report(&[]).is_good());
        assert!(report(&[Severity::Warning]).is_good());
        assert!(!report(&[Severity::Warning, Severity::Error]).is_good());
    }
}
