//! What the bench prints: ratios of two things measured in turn in one run, with the absolute figures beside.

use std::fmt::Write as _;

/// Where a figure should lie.
#[derive(Debug, Clone, Copy)]
pub enum Target {
    /// At least this.
    AtLeast(f64),
    /// At most this.
    AtMost(f64),
    /// Anywhere; it is told, not judged.
    Reported,
}

/// One measured thing.
#[derive(Debug, Clone)]
pub struct Measure {
    /// What was measured.
    pub what: &'static str,
    /// The figure.
    pub figure: f64,
    /// Its unit; empty for a ratio.
    pub unit: &'static str,
    /// Where it should lie.
    pub target: Target,
    /// The absolute figures it comes from.
    pub detail: String,
}

impl Measure {
    fn verdict(&self) -> &'static str {
        match self.target {
            Target::AtLeast(bound) if self.figure >= bound => "met",
            Target::AtMost(bound) if self.figure <= bound => "met",
            Target::Reported => "",
            _ => "MISSED",
        }
    }

    /// The line of the table.
    #[must_use]
    pub fn line(&self) -> String {
        let mut line = format!("{:<58} {:>9.2}{:<6}", self.what, self.figure, self.unit);
        let _ = match self.target {
            Target::AtLeast(bound) => write!(line, " ≥ {bound:<8}"),
            Target::AtMost(bound) => write!(line, " ≤ {bound:<8}"),
            Target::Reported => write!(line, " {:<10}", "reported"),
        };
        let _ = write!(line, " {:<7} {}", self.verdict(), self.detail);
        line
    }
}
