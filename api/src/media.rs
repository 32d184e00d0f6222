//! Media types of the GraphQL-over-HTTP specification, and which of them a request accepts (RFC 9110, section 12.5.1).

use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue};

/// How a single response is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Media {
    /// `application/graphql-response+json`: the status code says whether anything was executed.
    GraphqlResponse,
    /// `application/json`: 200 for whatever could be understood.
    Json,
}

impl Media {
    /// As a `Content-Type`.
    #[must_use]
    pub const fn header(self) -> HeaderValue {
        match self {
            Self::GraphqlResponse => {
                HeaderValue::from_static("application/graphql-response+json; charset=utf-8")
            }
            Self::Json => HeaderValue::from_static("application/json; charset=utf-8"),
        }
    }
}

/// What the client takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// For a single response; the richer type when both are as welcome.
    pub single: Option<Media>,
    /// Whether `text/event-stream` will do.
    pub stream: bool,
}

impl Accepted {
    /// Reads `Accept`. A client that sends none takes anything.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let mut anything = true;
        let (mut response, mut json, mut stream) = (Range::NONE, Range::NONE, Range::NONE);
        for item in headers
            .get_all(ACCEPT)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
        {
            anything = false;
            let Some((kind, subtype, quality)) = range(item) else {
                continue;
            };
            response.consider(("application", "graphql-response+json"), kind, subtype, quality);
            json.consider(("application", "json"), kind, subtype, quality);
            stream.consider(("text", "event-stream"), kind, subtype, quality);
        }
        if anything {
            return Self {
                single: Some(Media::GraphqlResponse),
                stream: true,
            };
        }
        let single = match (response.quality, json.quality) {
            (0, 0) => None,
            (response, json) if response >= json => Some(Media::GraphqlResponse),
            _ => Some(Media::Json),
        };
        Self {
            single,
            stream: stream.quality > 0,
        }
    }
}

/// How welcome one type is. The most specific range that covers it decides.
struct Range {
    specificity: u8,
    /// In thousandths.
    quality: u16,
}

impl Range {
    const NONE: Self = Self {
        specificity: 0,
        quality: 0,
    };

    fn consider(&mut self, of: (&str, &str), kind: &str, subtype: &str, quality: u16) {
        let specificity = match (kind, subtype) {
            ("*", "*") => 1,
            (kind, "*") if kind.eq_ignore_ascii_case(of.0) => 2,
            (kind, subtype) if kind.eq_ignore_ascii_case(of.0) && subtype.eq_ignore_ascii_case(of.1) => 3,
            _ => return,
        };
        if specificity >= self.specificity {
            *self = Self { specificity, quality };
        }
    }
}

/// `type/subtype;q=0.5`. A charset other than UTF-8 is one Kontor does not write.
fn range(item: &str) -> Option<(&str, &str, u16)> {
    let mut parts = item.split(';');
    let (kind, subtype) = parts.next()?.trim().split_once('/')?;
    let mut quality = 1_000;
    for parameter in parts {
        let (name, value) = parameter.split_once('=')?;
        if name.trim().eq_ignore_ascii_case("q") {
            quality = thousandths(value.trim())?;
        } else if name.trim().eq_ignore_ascii_case("charset") && !is_utf8(value) {
            return None;
        }
    }
    Some((kind, subtype, quality))
}

/// `0`, `1`, or either with up to three decimals.
fn thousandths(value: &str) -> Option<u16> {
    let (whole, decimals) = value.split_once('.').unwrap_or((value, ""));
    if decimals.len() > 3 || !decimals.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let whole: u16 = whole.parse().ok()?;
    let decimals: u16 = format!("{decimals:0<3}").parse().ok()?;
    Some((whole.checked_mul(1_000)?.checked_add(decimals)?).min(1_000))
}

/// Whether the body is said to be JSON in UTF-8. Nothing else is read: what a page may send across origins without
/// asking first (`text/plain`, a form) must not run a mutation.
#[must_use]
pub fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()) else {
        return false;
    };
    let mut parts = value.split(';');
    parts
        .next()
        .is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
        && parts.all(|parameter| {
            parameter
                .split_once('=')
                .is_none_or(|(name, value)| !name.trim().eq_ignore_ascii_case("charset") || is_utf8(value))
        })
}

fn is_utf8(charset: &str) -> bool {
    charset.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(value: &str) -> Accepted {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, value.parse().unwrap());
        Accepted::of(&headers)
    }

    #[test]
    fn the_accept_header_is_read_as_rfc_9110_says() {
        let response = Some(Media::GraphqlResponse);
        let json = Some(Media::Json);
        for (value, single, stream) in [
            ("application/json", json, false),
            ("application/graphql-response+json", response, false),
            (
                "application/graphql-response+json, application/json;q=0.9",
                response,
                false,
            ),
            (
                "application/json, application/graphql-response+json;q=0.9",
                json,
                false,
            ),
            ("*/*", response, true),
            ("application/*", response, false),
            ("application/json, */*;q=0.8", json, true),
            ("*/*, application/graphql-response+json;q=0", json, true),
            ("Application/JSON; charset=UTF-8", json, false),
            ("application/json; charset=iso-8859-1", None, false),
            ("text/event-stream", None, true),
            ("text/html", None, false),
            ("application/json;q=0", None, false),
            ("application/json;q=nonsense", None, false),
        ] {
            assert_eq!(accepts(value), Accepted { single, stream }, "{value}");
        }
        assert_eq!(
            Accepted::of(&HeaderMap::new()),
            Accepted {
                single: response,
                stream: true
            }
        );
    }

    #[test]
    fn only_json_in_utf8_is_json() {
        for (value, good) in [
            ("application/json", true),
            ("application/json; charset=\"utf-8\"", true),
            ("application/json; charset=latin1", false),
            ("text/plain", false),
            ("application/graphql", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, value.parse().unwrap());
            assert_eq!(is_json(&headers), good, "{value}");
        }
        assert!(!is_json(&HeaderMap::new()));
    }
}
