//! Where a request comes from: the peer, or whom a proxy that we know says it came from.

use std::net::IpAddr;
use std::str::FromStr;

use axum::http::HeaderMap;
use ipnet::IpNet;

/// Hops that are looked at. A longer list is somebody's invention.
const MOST_HOPS: usize = 32;

/// The header in which our proxies say where a request comes from. Only one is read: a proxy that writes one of them passes
/// the other on as the client invented it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ForwardedBy {
    /// `X-Forwarded-For`.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// The networks of proxies whose word is taken.
#[derive(Debug, Clone, Default)]
pub struct Proxies {
    /// Empty: nobody's word is taken.
    pub networks: Vec<IpNet>,
    /// Where they write it.
    pub header: ForwardedBy,
}

impl Proxies {
    fn trusts(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(&address))
    }

    /// Who asks. Read from the right: each proxy appends whom it heard from, so the first address that is not a proxy's is the
    /// last one that somebody trustworthy has seen. What stands before it may be anything.
    #[must_use]
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        if !self.trusts(client) {
            return client;
        }
        let name = match self.header {
            ForwardedBy::XForwardedFor => "x-forwarded-for",
            ForwardedBy::Forwarded => "forwarded",
        };
        let values: Vec<&str> = headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .collect();
        let hops = values.iter().rev().flat_map(|value| value.rsplit(','));
        for hop in hops.take(MOST_HOPS) {
            let said = match self.header {
                ForwardedBy::XForwardedFor => node(hop.trim()),
                ForwardedBy::Forwarded => forwarded_for(hop),
            };
            // A proxy that does not know, or hides it: the proxy is all we know.
            let Some(address) = said else { break };
            client = address.to_canonical();
            if !self.trusts(client) {
                break;
            }
        }
        client
    }
}

/// `for=` in one element of `Forwarded`.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    element.split(';').find_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        name.trim()
            .eq_ignore_ascii_case("for")
            .then(|| node(value.trim().trim_matches('"')))?
    })
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`.
fn node(text: &str) -> Option<IpAddr> {
    if let Ok(address) = IpAddr::from_str(text) {
        return Some(address);
    }
    let host = match text.strip_prefix('[') {
        Some(rest) => rest.split(']').next()?,
        None => text.rsplit_once(':')?.0,
    };
    host.parse().ok()
}

/// The part of an address that one client cannot leave: of IPv6 a /64, of which every household has one.
#[must_use]
pub fn household(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(header: ForwardedBy, peer: &str, name: &'static str, values: &[&str]) -> String {
        let proxies = Proxies {
            networks: vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()],
            header,
        };
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name, value.parse().unwrap());
        }
        proxies.client(peer.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn a_strangers_word_is_not_taken() {
        let by = ForwardedBy::XForwardedFor;
        assert_eq!(
            client(by, "192.0.2.9", "x-forwarded-for", &["203.0.113.1"]),
            "192.0.2.9"
        );
        let nobody = Proxies::default();
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", "203.0.113.1".parse().unwrap());
        assert_eq!(
            nobody.client("10.0.0.1".parse().unwrap(), &headers).to_string(),
            "10.0.0.1"
        );
    }

    #[test]
    fn a_proxys_word_is_read_from_the_right() {
        let by = ForwardedBy::XForwardedFor;
        for (values, expected) in [
            (&["203.0.113.1"][..], "203.0.113.1"),
            // The first one is what the client wrote itself.
            (&["1.1.1.1, 203.0.113.1"], "203.0.113.1"),
            (&["1.1.1.1, 203.0.113.1, 10.0.0.7"], "203.0.113.1"),
            (&["1.1.1.1", "203.0.113.1, 10.0.0.7"], "203.0.113.1"),
            (&["203.0.113.1:4711"], "203.0.113.1"),
            (&["[2001:db8::1]:4711"], "2001:db8::1"),
            (&["::ffff:203.0.113.1"], "203.0.113.1"),
            (&["203.0.113.1, unknown"], "10.0.0.1"),
            (&["10.0.0.2"], "10.0.0.2"),
            (&[], "10.0.0.1"),
        ] {
            assert_eq!(
                client(by, "10.0.0.1", "x-forwarded-for", values),
                expected,
                "{values:?}"
            );
            assert_eq!(
                client(by, "::ffff:10.0.0.1", "x-forwarded-for", values),
                expected,
                "{values:?}"
            );
        }
    }

    #[test]
    fn only_the_configured_header_is_read() {
        let standard = ForwardedBy::Forwarded;
        for (value, expected) in [
            ("for=203.0.113.1;proto=https", "203.0.113.1"),
            ("for=1.1.1.1, For=\"[2001:db8::1]:80\"", "2001:db8::1"),
            ("for=_hidden", "10.0.0.1"),
            ("proto=https", "10.0.0.1"),
        ] {
            assert_eq!(
                client(standard, "10.0.0.1", "forwarded", &[value]),
                expected,
                "{value}"
            );
        }
        assert_eq!(
            client(standard, "10.0.0.1", "x-forwarded-for", &["203.0.113.1"]),
            "10.0.0.1"
        );
    }

    #[test]
    fn a_household_is_one() {
        let household = |text: &str| household(text.parse().unwrap()).to_string();
        assert_eq!(household("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(household("203.0.113.1"), "203.0.113.1");
        assert_eq!(household("::ffff:203.0.113.1"), "203.0.113.1");
    }
}
