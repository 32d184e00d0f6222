//! Counts tokens and open brackets without building anything, in one pass over the bytes.

use super::{Limits, Refusal, within};

const BLOCK_QUOTE: &[u8] = br#"""""#;

/// Reads strings and comments exactly as far as the parser does, so that no bracket hides in one.
pub(super) fn check(text: &str, limits: &Limits) -> Result<(), Refusal> {
    let bytes = text.as_bytes();
    let (mut at, mut tokens, mut open) = (0, 0_u64, 0_u64);
    while let Some(&byte) = bytes.get(at) {
        let length = match byte {
            b' ' | b'\t' | b'\n' | b'\r' | b',' => {
                at += 1;
                continue;
            }
            b'#' => {
                at += line(&bytes[at..]);
                continue;
            }
            b'{' | b'[' | b'(' => {
                open += 1;
                within("brackets inside one another", open, limits.nesting)?;
                1
            }
            b'}' | b']' | b')' => {
                open = open.saturating_sub(1);
                1
            }
            b'"' if bytes[at..].starts_with(BLOCK_QUOTE) => block_string(&bytes[at..])?,
            b'"' => string(&bytes[at..]),
            b'.' if bytes[at..].starts_with(b"...") => 3,
            _ => word(&bytes[at..]).max(1),
        };
        tokens += 1;
        within("tokens", tokens, limits.tokens)?;
        at += length;
    }
    Ok(())
}

fn line(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .position(|byte| matches!(byte, b'\n' | b'\r'))
        .unwrap_or(bytes.len())
}

fn word(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .position(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_')
        .unwrap_or(bytes.len())
}

/// Up to its quote. One that is not closed ends with its line; the parser stops there.
fn string(bytes: &[u8]) -> usize {
    let mut at = 1;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\n' | b'\r' => return at,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn block_string(bytes: &[u8]) -> Result<usize, Refusal> {
    let mut at = BLOCK_QUOTE.len();
    while at < bytes.len() {
        let rest = &bytes[at..];
        if rest.starts_with(BLOCK_QUOTE) {
            return Ok(at + BLOCK_QUOTE.len());
        }
        at += if rest[0] == b'\\' && rest[1..].starts_with(BLOCK_QUOTE) {
            1 + BLOCK_QUOTE.len()
        } else {
            1
        };
    }
    Err(Refusal::OpenBlockString)
}
