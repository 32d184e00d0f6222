//! What the bench prints: ratios of two things measured in turn in one run, with the absolute figures beside.

use std::fmt::Write as _;

/// Where a figure should lie.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target {
    /// At least this.
    AtLeast(f64),
    /// At most this.
    AtMost(f64),
    /// Anywhere; it is told, not judged.
    Reported,
}

/// One measured thing.
#[derive(Debug, Clone)]
pub(crate) struct Measure {
    /// What was measured.
    pub(crate) what: &'static str,
    /// The figure.
    pub(crate) figure: f64,
    /// Its unit; empty for a ratio.
    pub(crate) unit: &'static str,
    /// Where it should lie.
    pub(crate) target: Target,
    /// The absolute figures it comes from.
    pub(crate) detail: String,
}

/// The middle one, or the lower of the two in the middle.
#[must_use]
pub(crate) fn median(figures: &[f64]) -> f64 {
    percentile(figures, 50)
}

/// The figure that so many per cent do not exceed (nearest rank). Not a number if there is none.
#[must_use]
pub(crate) fn percentile(figures: &[f64], per_cent: usize) -> f64 {
    let mut figures = figures.to_vec();
    figures.sort_by(f64::total_cmp);
    let rank = (figures.len() * per_cent).div_ceil(100).max(1);
    figures.get(rank - 1).copied().unwrap_or(f64::NAN)
}

/// Bytes in megabytes of a million.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "a figure for people to read")]
pub(crate) fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

impl Measure {
    /// Whether the figure lies where it should; `None` if it is only told.
    #[must_use]
    pub(crate) fn met(&self) -> Option<bool> {
        match self.target {
            Target::AtLeast(bound) => Some(self.figure >= bound),
            Target::AtMost(bound) => Some(self.figure <= bound),
            Target::Reported => None,
        }
    }

    fn verdict(&self) -> &'static str {
        match self.met() {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "",
        }
    }

    /// The line of the table.
    #[must_use]
    pub(crate) fn line(&self) -> String {
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
