//! Judges a change before it is planned, the tables as they are, and the tables against a
//! snapshot. It repairs nothing: every finding says what does.

mod compare;
mod content;
pub(crate) mod fields;
mod policies;
mod tables;
mod validate;

use serde::Serialize;

pub use compare::compare;
pub use policies::POLICIES;
pub use tables::check;
pub use validate::{validate, validate_snapshot};

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Governance is wrong or incomplete.
    Error,
    /// It works, and needs attention.
    Warning,
}

/// Something that is not as it should be: one line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// Where it was seen: "references", "counts", "capacity", "generation", "difference",
    /// "policies"; other
    /// modules add their own.
    pub layer: &'static str,
    /// The object, by name and key.
    pub object: String,
    /// What is wrong with it.
    pub problem: String,
    /// What mends it: a command or an option.
    pub fix: String,
}

/// One thing wrong with a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The service or workload.
    pub object: String,
    /// What is wrong, and what to do.
    pub problem: String,
}

/// A change that must not be planned: all that is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", list(problems))]
pub struct Invalid {
    /// Never empty.
    pub problems: Vec<Problem>,
}

fn list(problems: &[Problem]) -> String {
    const SHOWN: usize = 20;
    let shown = problems.iter().take(SHOWN);
    let mut lines: Vec<_> =
        shown.map(|problem| format!("{}: {}", problem.object, problem.problem)).collect();
    if problems.len() > SHOWN {
        lines.push(format!("and {} more", problems.len() - SHOWN));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests;
