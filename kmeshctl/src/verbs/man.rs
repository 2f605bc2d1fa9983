//! `kmeshctl man`: the manual, from the same table as help and completions: pages for man(1), and
//! the reference docs/cli.md.
//!
//! It refuses to say anything that `--help` does not say.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use anyhow::Context as _;
use clap::{Command, CommandFactory as _};

use super::End;
use crate::args::{Cli, Man, ManFormat};

/// Writes the page of the command or of a verb, all pages, or the reference.
pub fn run(args: &Man, out: &mut dyn Write) -> anyhow::Result<End> {
    let mut command = Cli::command().color(clap::ColorChoice::Never);
    command.build();
    if let Some(dir) = &args.dir {
        write_all(&command, dir)?;
    } else if args.output == ManFormat::Markdown {
        markdown(command, out)?;
    } else {
        out.write_all(&page(wanted(&command, args.of.as_deref())?)?)?;
    }
    Ok(End::Good)
}

/// The command, or the verb that was named.
fn wanted(command: &Command, of: Option<&str>) -> anyhow::Result<Command> {
    let Some(name) = of else { return Ok(command.clone()) };
    let all = || verbs(command).map(Command::get_name).collect::<Vec<_>>().join(", ");
    let found = verbs(command).find(|verb| verb.get_name() == name).cloned();
    found.with_context(|| format!("\"{name}\" is no verb of kmeshctl; there are: {}", all()))
}

fn verbs(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|verb| verb.get_name() != "help" && !verb.is_hide_set())
}

fn write_all(command: &Command, dir: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
    for one in std::iter::once(command).chain(verbs(command)) {
        let path = dir.join(format!("{}.1", full_name(one)));
        fs::write(&path, page(one.clone())?)
            .with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

/// `kmeshctl-dump`, as man(1) knows it.
fn full_name(command: &Command) -> String {
    command.get_display_name().unwrap_or(command.get_name()).to_owned()
}

/// One page: what the help says, its last part as it stands there.
fn page(command: Command) -> io::Result<Vec<u8>> {
    let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let more: Vec<_> = verbs(&command).map(|verb| format!("{}(1)", full_name(verb))).collect();
    let name = full_name(&command);
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    // Options that every verb knows stand on each page: clap has passed them on.
    let man = clap_mangen::Man::new(command.after_help("")).title(&name);
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    writeln!(page, ".SH NAME\n{} \\- {}", escape(&name), escape(&about))?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    writeln!(page, ".SH NOTES")?;
    literal(&mut page, &after)?;
    if !more.is_empty() {
        writeln!(page, ".SH \"SEE ALSO\"\n{}", escape(&more.join(", ")))?;
    }
    Ok(page)
}

fn literal(page: &mut Vec<u8>, text: &str) -> io::Result<()> {
    writeln!(page, ".PP\n.nf")?;
    for line in text.lines() {
        writeln!(page, "{}", escape(line))?;
    }
    writeln!(page, ".fi")
}

/// Text that roff does not take for its own.
fn escape(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('-', "\\-");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}

/// The help of the command and of each verb, one after another.
fn markdown(mut command: Command, out: &mut dyn Write) -> io::Result<()> {
    let verbs: Vec<_> = verbs(&command).cloned().collect();
    writeln!(out, "# kmeshctl\n")?;
    writeln!(
        out,
        "<!-- Written by `kmeshctl man -o markdown`; `just cli-reference` writes it anew. -->\n"
    )?;
    help(&mut command, out)?;
    for mut verb in verbs {
        writeln!(out, "\n## kmeshctl {}\n", verb.get_name())?;
        help(&mut verb, out)?;
    }
    Ok(())
}

fn help(command: &mut Command, out: &mut dyn Write) -> io::Result<()> {
    // A fixed width: the reference does not depend on somebody's terminal.
    let mut sized = command.clone().term_width(100);
    writeln!(out, "```text")?;
    for line in sized.render_long_help().to_string().trim_end().lines() {
        writeln!(out, "{}", line.trim_end())?;
    }
    writeln!(out, "```")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(args: &Man) -> String {
        let mut text = Vec::new();
        run(args, &mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    fn man(of: Option<&str>, output: ManFormat) -> Man {
        Man { of: of.map(str::to_owned), dir: None, output }
    }

    #[test]
    fn a_page_has_the_options_and_the_examples() {
        let page = said(&man(Some("restore"), ManFormat::Roff));
        assert!(page.contains(".TH kmeshctl-restore 1"), "{page}");
        assert!(page.contains("kmeshctl restore node.json \\-\\-dry\\-run"), "{page}");
        assert!(page.contains("\\-\\-bpf\\-root"), "{page}");
        assert!(page.contains("Examples:"));
    }

    #[test]
    fn the_first_page_leads_to_every_other() {
        let page = said(&man(None, ManFormat::Roff));
        for verb in verbs(&Cli::command()) {
            assert!(page.contains(&format!("kmeshctl\\-{}(1)", verb.get_name())), "{page}");
        }
        assert_eq!(page.matches("Exit status: 0 good").count(), 1);
    }

    #[test]
    fn every_page_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let args = Man { of: None, dir: Some(dir.path().to_owned()), output: ManFormat::Roff };
        run(&args, &mut Vec::new()).unwrap();
        let pages = fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(pages, verbs(&Cli::command()).count() + 1);
    }

    #[test]
    fn the_committed_reference_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/cli.md");
        let committed = fs::read_to_string(path).unwrap_or_default();
        let now = said(&man(None, ManFormat::Markdown));
        assert!(committed == now, "docs/cli.md is not current: run `just cli-reference`");
    }
}
