//! The figures: collected as rows, shown as a table, written as `target/bench.json`.
//!
//! It refuses to judge what it cannot: a row without a target is a figure, not a verdict.

use std::path::Path;

use anyhow::Context as _;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

/// How a figure is held against its target.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    /// Value (or ratio, where the row has one) at most this.
    AtMost(f64),
    /// Value (or ratio, where the row has one) at least this.
    AtLeast(f64),
}

/// One figure.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What was measured.
    pub name: String,
    /// The unit of `value` and `against`.
    pub unit: &'static str,
    /// The figure.
    pub value: f64,
    /// What it is held against, taken in the same run.
    pub against: Option<f64>,
    /// `value / against`.
    pub ratio: Option<f64>,
    /// The target in words.
    pub target: Option<String>,
    /// Whether it is met.
    pub met: Option<bool>,
}

/// All figures of a run.
#[derive(Debug, Default)]
pub struct Report {
    rows: Vec<Row>,
}

impl Report {
    /// Adds a figure and says it on stderr, so that a long run shows where it is.
    pub fn add(
        &mut self,
        name: impl Into<String>,
        unit: &'static str,
        value: f64,
        against: Option<f64>,
        target: Option<Target>,
    ) {
        let name = name.into();
        let ratio = against.filter(|a| *a != 0.0).map(|a| value / a);
        let judged = ratio.unwrap_or(value);
        let met = target.map(|t| match t {
            Target::AtMost(limit) => judged <= limit,
            Target::AtLeast(limit) => judged >= limit,
        });
        let times = if ratio.is_some() { " ×" } else { "" };
        let target = target.map(|t| match t {
            Target::AtMost(limit) => format!("≤ {limit}{times}"),
            Target::AtLeast(limit) => format!("≥ {limit}{times}"),
        });
        eprintln!("  {name}: {value:.3} {unit}");
        self.rows.push(Row { name, unit, value, against, ratio, target, met });
    }

    /// How many targets were missed.
    #[must_use]
    pub fn missed(&self) -> usize {
        self.rows.iter().filter(|row| row.met == Some(false)).count()
    }

    /// The table for people.
    #[must_use]
    pub fn table(&self) -> Table {
        let mut table = Table::new();
        table
            .load_style(presets::UTF8_NO_BORDERS)
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_header(["figure", "value", "unit", "against", "ratio", "target", "met"]);
        for row in &self.rows {
            let number = |n: Option<f64>| n.map_or(String::new(), |n| format!("{n:.3}"));
            table.add_row([
                row.name.clone(),
                format!("{:.3}", row.value),
                row.unit.to_owned(),
                number(row.against),
                number(row.ratio),
                row.target.clone().unwrap_or_default(),
                row.met.map_or("", |met| if met { "yes" } else { "NO" }).to_owned(),
            ]);
        }
        table
    }

    /// Writes the list of rows as JSON.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(&self.rows).context("write the figures as JSON")?;
        std::fs::write(path, text + "\n").with_context(|| format!("write {}", path.display()))
    }
}

/// The middle of a set of measurements.
#[must_use]
pub fn median(mut values: Vec<f64>) -> f64 {
    assert!(!values.is_empty(), "a median needs a measurement");
    values.sort_by(f64::total_cmp);
    let mid = values.len() / 2;
    if values.len() % 2 == 1 { values[mid] } else { f64::midpoint(values[mid - 1], values[mid]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_of_odd_and_even() {
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(vec![4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < f64::EPSILON);
    }

    #[test]
    fn a_ratio_is_judged_where_there_is_one() {
        let mut report = Report::default();
        report.add("a", "ns", 300.0, Some(100.0), Some(Target::AtMost(4.0)));
        report.add("b", "ns", 300.0, Some(100.0), Some(Target::AtMost(2.0)));
        report.add("c", "ns", 1200.0, None, Some(Target::AtMost(1100.0)));
        assert_eq!(
            report.rows.iter().map(|r| r.met).collect::<Vec<_>>(),
            [Some(true), Some(false), Some(false)]
        );
        assert_eq!(report.missed(), 2);
    }
}
