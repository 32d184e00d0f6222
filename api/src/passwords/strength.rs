//! Whether a password can be guessed: zxcvbn, which knows what people think of.

use zxcvbn::{Score, zxcvbn};

/// The least score that is taken: safely unguessable for whoever has stolen the hash (10^8 guesses and more).
const LEAST: Score = Score::Three;

/// Why a password is too easily guessed, in words for whoever chose it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weakness {
    /// From 0, the easiest, to 2.
    pub score: u8,
    /// What is wrong with it.
    pub warning: Option<String>,
    /// What would be better.
    pub suggestions: Vec<String>,
}

/// Judges a password of somebody of whom this is known: whoever guesses knows it too. Takes some milliseconds of a core; the password
/// and what is known are bounded by whoever asks.
pub(super) fn judge(password: &str, known: &[String]) -> Result<(), Weakness> {
    // A name by its words too, and without the spaces between them; an address by what is before the @, and by the parts of that.
    let together: Vec<String> = known.iter().map(|it| it.replace(' ', "")).collect();
    let parts: Vec<&str> = known
        .iter()
        .chain(&together)
        .flat_map(|it| {
            std::iter::once(it.as_str())
                .chain(it.split('@'))
                .chain(it.split(|c: char| !c.is_alphanumeric()))
        })
        .filter(|part| part.chars().count() > 1)
        .collect();
    let entropy = zxcvbn(password, &parts);
    if entropy.score() >= LEAST {
        return Ok(());
    }
    let feedback = entropy.feedback();
    Err(Weakness {
        score: u8::from(entropy.score()),
        warning: feedback
            .and_then(zxcvbn::feedback::Feedback::warning)
            .map(|it| it.to_string()),
        suggestions: feedback
            .map(|it| it.suggestions().iter().map(ToString::to_string).collect())
            .unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_think_of_is_weak_and_what_they_are_called_too() {
        let known = ["Ada Lovelace".to_owned(), "ada.byron@example.com".to_owned()];
        for weak in [
            "password1",
            "Tr0ub4dour",
            "12345678",
            "lovelacebyron",
            "adalovelace1",
            "ada.byron",
            "qwertyuiop",
        ] {
            let weakness = judge(weak, &known).unwrap_err();
            assert!(weakness.score < 3, "{weak}");
            assert!(!weakness.suggestions.is_empty(), "{weak}");
        }
        assert_eq!(judge("gravel orchid tundra 42", &known), Ok(()));
    }

    #[test]
    fn a_long_one_is_judged_in_no_time() {
        let started = std::time::Instant::now();
        let _ = judge(&"aA1".repeat(42), &["x".repeat(254), "y z".repeat(60)]);
        assert!(
            started.elapsed() < std::time::Duration::from_secs(5),
            "{:?}",
            started.elapsed()
        );
    }
}
