//! `kmeshctl man`: one manual page with every verb.

use std::io::{self, Write};

use clap::{Command, CommandFactory as _};
use clap_mangen::Man;

use super::End;
use crate::args::Cli;

/// Writes the page: the command, then each verb with its options and examples.
pub fn run(out: &mut dyn Write) -> anyhow::Result<End> {
    let mut page = Vec::new();
    let mut command = Cli::command();
    command.build();
    render(command, &mut page)?;
    out.write_all(&page)?;
    Ok(End::Good)
}

fn render(command: Command, page: &mut Vec<u8>) -> io::Result<()> {
    let verbs: Vec<_> =
        command.get_subcommands().filter(|verb| verb.get_name() != "help").cloned().collect();
    let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let man = Man::new(command.after_help(""));
    man.render_title(page)?;
    man.render_name_section(page)?;
    man.render_synopsis_section(page)?;
    man.render_description_section(page)?;
    man.render_options_section(page)?;
    for verb in verbs {
        writeln!(page, ".SH \"KMESHCTL {}\"", verb.get_name().to_uppercase())?;
        writeln!(page, "{}", verb.get_about().map(ToString::to_string).unwrap_or_default())?;
        let options: Vec<_> = verb.get_arguments().filter(|arg| !arg.is_global_set()).collect();
        for arg in options {
            writeln!(page, ".TP\n\\fB{}\\fR", escape(&arg.to_string()))?;
            writeln!(
                page,
                "{}",
                escape(&arg.get_help().map(ToString::to_string).unwrap_or_default())
            )?;
        }
        literal(page, &verb.get_after_help().map(ToString::to_string).unwrap_or_default())?;
    }
    writeln!(page, ".SH \"EXIT STATUS\"")?;
    literal(page, &after)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_every_verb_and_its_examples() {
        let mut page = Vec::new();
        run(&mut page).unwrap();
        let page = String::from_utf8(page).unwrap();
        for verb in ["DUMP", "RESTORE", "VERIFY", "PURGE", "COMPLETIONS"] {
            assert!(page.contains(&format!(".SH \"KMESHCTL {verb}\"")), "{verb}");
        }
        assert!(page.contains("kmeshctl restore node.json \\-\\-dry\\-run"));
        assert_eq!(page.matches("Exit status: 0 good").count(), 1);
    }
}
