//! The reconciliation as people read it.

use std::fmt::{self, Display, Formatter};

use super::money::{Thousandths, grouped};
use super::reconcile::{Books, Class, Reconciliation, Sum};

impl Display for Class {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Item => f.pad("taken as order items"),
            Self::Refund => f.pad("turned into refunds"),
            Self::Correction => f.pad("turned into stock corrections"),
            Self::Refused(why) => f.pad(&format!("refused: {why}")),
        }
    }
}

impl Display for Reconciliation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<66}{:>10}{:>18}",
            "What became of the lines", "lines", "GBP"
        )?;
        for (class, Sum { lines, amount }) in &self.classes {
            writeln!(f, "  {class:<64}{:>10}{amount:>18}", grouped((*lines).into()))?;
        }
        let all = self.together();
        writeln!(
            f,
            "  {:<64}{:>10}{:>18}",
            "together",
            grouped(all.lines.into()),
            all.amount
        )?;
        writeln!(f)?;
        let head = ["the file", "the log", "the views"];
        writeln!(
            f,
            "{:<40}{:>18}{:>18}{:>18}",
            "What was taken, according to", head[0], head[1], head[2]
        )?;
        self.count(f, "orders", |books| books.orders)?;
        self.count(f, "items", |books| books.items)?;
        self.count(f, "pieces sold", |books| books.pieces)?;
        self.money(f, "sold, GBP", |books| books.sold)?;
        self.count(f, "pieces returned", |books| books.returned)?;
        self.money(f, "refunded, GBP", |books| books.refunded)?;
        self.row(f, "stock corrections", |books| {
            books.corrections.map(|it| grouped(it.0.into()))
        })?;
        self.row(f, "  pieces", |books| books.corrections.map(|it| signed(it.1)))?;
        let hours = &self.hours;
        let title = format!("{} hours with sales: placed, GBP", grouped(hours.hours.into()));
        Self::line(
            f,
            &title,
            &[None, Some(pounds(hours.placed[0])), Some(pounds(hours.placed[1]))],
        )?;
        Self::line(
            f,
            "  refunded, GBP",
            &[
                None,
                Some(pounds(hours.refunded[0])),
                Some(pounds(hours.refunded[1])),
            ],
        )?;
        writeln!(f)?;
        self.notes(f)?;
        let differences = self.differences();
        if differences.is_empty() {
            return write!(f, "EQUAL: file, log and views agree, to the penny.");
        }
        write!(f, "NOT EQUAL:")?;
        differences.iter().try_for_each(|it| write!(f, "\n  {it}"))
    }
}

impl Reconciliation {
    fn notes(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.of_other_files > 0 {
            let others = grouped(self.of_other_files.into());
            writeln!(
                f,
                "{others} orders, returns and corrections in the log come from imports of other files."
            )?;
        }
        let (different, hours) = (self.different_orders, self.hours.different);
        if different + hours + self.doubled > 0 {
            let doubled = self.doubled;
            writeln!(
                f,
                "{different} orders and {hours} hours differ; {doubled} commands are there twice."
            )?;
        }
        #[expect(clippy::cast_precision_loss, reason = "a rate for people to read")]
        let rate = self.together().lines as f64 / self.elapsed.as_secs_f64().max(0.001);
        let repeated = match self.repeated {
            0 => String::new(),
            some => format!("; {} commands had been sent before", grouped(some as u128)),
        };
        writeln!(
            f,
            "{:.1} s, {rate:.0} lines/s{repeated}.",
            self.elapsed.as_secs_f64()
        )
    }

    fn count(&self, f: &mut Formatter<'_>, title: &str, figure: impl Fn(&Books) -> u64) -> fmt::Result {
        self.row(f, title, |books| Some(grouped(figure(books).into())))
    }

    fn money(&self, f: &mut Formatter<'_>, title: &str, figure: impl Fn(&Books) -> i64) -> fmt::Result {
        self.row(f, title, |books| Some(pounds(figure(books))))
    }

    fn row(
        &self,
        f: &mut Formatter<'_>,
        title: &str,
        figure: impl Fn(&Books) -> Option<String>,
    ) -> fmt::Result {
        Self::line(
            f,
            title,
            &[figure(&self.file), figure(&self.log), figure(&self.views)],
        )
    }

    fn line(f: &mut Formatter<'_>, title: &str, figures: &[Option<String>]) -> fmt::Result {
        write!(f, "  {title:<38}")?;
        for figure in figures {
            write!(f, "{:>18}", figure.as_deref().unwrap_or("-"))?;
        }
        writeln!(f)
    }
}

fn pounds(pence: i64) -> String {
    Thousandths::from_pence(pence).to_string()
}

fn signed(number: i64) -> String {
    let sign = if number < 0 { "-" } else { "" };
    format!("{sign}{}", grouped(number.unsigned_abs().into()))
}
