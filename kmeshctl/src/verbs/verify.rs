//! `kmeshctl verify`: the findings, one line each.

use std::io::Write;
use std::time::Duration;

use kmesh_bpf::check::{Finding, Severity};
use kmesh_bpf::verify::{self, Report};

use super::{End, read_snapshot};
use crate::args::{FindingsFormat, Verify};
use crate::context::Context;
use crate::daemon;
use crate::output::{Style, Tone, write_json};

/// For so long the daemon is asked to write nothing, where it wrote at every look.
const HOLD: Duration = Duration::from_secs(2);

/// Looks, and says what it found.
pub fn run(ctx: &Context, args: &Verify, out: &mut dyn Write) -> anyhow::Result<End> {
    let mut kernel = ctx.kernel()?;
    let against = args.against.as_deref().map(read_snapshot).transpose()?;
    ctx.is_installed()?;
    let cgroup = ctx.cgroup()?;
    let mut report = verify::verify(&mut kernel, &ctx.root, &cgroup, against.as_ref())?;
    if report.moving {
        match daemon::hold(ctx, HOLD) {
            Ok(()) => {
                report = verify::verify(&mut kernel, &ctx.root, &cgroup, against.as_ref())?;
            }
            Err(why) => ctx.say(&format!("the tables move, and the daemon does not hold: {why}")),
        }
    }
    match args.output {
        FindingsFormat::Table => write_lines(ctx.style, &report, out)?,
        FindingsFormat::Json => write_json(out, &report)?,
    }
    Ok(End::good_if(report.is_good()))
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

fn line(style: Style, finding: &Finding) -> String {
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
