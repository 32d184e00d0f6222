//! What every answer carries for browsers, and how it is packed.

use axum::http::header::{
    CONTENT_SECURITY_POLICY, REFERRER_POLICY, STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::Response;
use tower::util::MapResponseLayer;
use tower_http::compression::predicate::{NotForContentType, Predicate, SizeAbove};
use tower_http::compression::{CompressionLayer, CompressionLevel};

/// What is no page needs nothing and is shown nowhere. (The simulator's page says of itself how it looks.)
const NOTHING: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'",
);
/// A year, as the preload list asks for at least.
const ONLY_TLS: HeaderValue = HeaderValue::from_static("max-age=31536000; includeSubDomains");
/// Below it a packet is a packet.
const WORTH_PACKING: u64 = 1_024;

/// With the headers that keep browsers from guessing, framing and telling. The playground's own policy stays.
pub(crate) fn hardened<B>(tls: bool) -> MapResponseLayer<impl Fn(Response<B>) -> Response<B> + Clone> {
    MapResponseLayer::new(move |mut response: Response<B>| {
        harden(response.headers_mut(), tls);
        response
    })
}

fn harden(headers: &mut HeaderMap, tls: bool) {
    let mut say = |name: HeaderName, value: HeaderValue| {
        headers.entry(name).or_insert(value);
    };
    say(CONTENT_SECURITY_POLICY, NOTHING);
    say(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    say(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    say(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    if tls {
        say(STRICT_TRANSPORT_SECURITY, ONLY_TLS);
    }
}

/// With gzip and brotli for who takes them. Streams are left alone: a packer holds back what is to be told at once.
///
/// BREACH needs a page that makes a browser ask, with the victim's credentials, for an answer that holds both a secret and words of
/// the attacker, again and again. Credentials are sent in a header that no foreign page can set, or in a `SameSite` cookie; and what
/// is posted is `application/json`, which a foreign page may not send without a preflight.
pub(crate) fn compressed() -> CompressionLayer<impl Predicate> {
    let worth_it = SizeAbove::new(WORTH_PACKING)
        .and(NotForContentType::SSE)
        .and(NotForContentType::IMAGES)
        // Packed by themselves.
        .and(NotForContentType::const_new("font/"));
    CompressionLayer::new()
        .quality(CompressionLevel::Fastest)
        .compress_when(worth_it)
}
