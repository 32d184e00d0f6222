//! How the endpoint is protected, and what it must not be like on the open internet.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use kontor_api::Limits;
use kontor_api::address::{ForwardedBy, Proxies};
use kontor_api::edge::Protection;
use kontor_api::persisted::TrustedDocuments;
use kontor_api::rates::{Rate, RateLimits};
use kontor_api::transport::Timing;

use super::{PaymentOptions, Place};

/// The password of Postgres and Redis in docker-compose.yml, and what else nobody has to guess.
const KNOWN_PASSWORDS: [&str; 6] = ["kontor-dev", "kontor", "postgres", "redis", "password", "secret"];

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

/// Where proxies write whom they heard from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Header {
    XForwardedFor,
    Forwarded,
}

/// How the endpoint is protected.
#[derive(Debug, Args)]
#[command(next_help_heading = "Protection")]
pub struct EdgeOptions {
    /// Refuse to start with anything that is for development only.
    #[arg(long, env = "KONTOR_PRODUCTION", value_parser = clap::builder::FalseyValueParser::new())]
    pub production: bool,
    /// A proxy in front of Kontor speaks TLS with browsers, and only TLS.
    #[arg(long, env = "KONTOR_BEHIND_TLS_PROXY", value_parser = clap::builder::FalseyValueParser::new())]
    pub behind_tls_proxy: bool,
    /// Networks of proxies whose word on where a request comes from is taken, such as `10.0.0.0/8,fd00::/8`.
    #[arg(long, env = "KONTOR_TRUSTED_PROXIES", value_delimiter = ',')]
    trusted_proxies: Vec<ipnet::IpNet>,
    /// The header those proxies write it in.
    #[arg(
        long,
        env = "KONTOR_FORWARDED_HEADER",
        value_enum,
        default_value = "x-forwarded-for"
    )]
    forwarded_header: Header,
    /// Origins whose pages may ask, such as `https://shop.example`; `*` for any.
    #[arg(long, env = "KONTOR_CORS_ORIGINS", value_delimiter = ',')]
    cors_origins: Vec<String>,
    /// Whether requests are counted.
    #[arg(long, env = "KONTOR_RATE_LIMIT", value_enum, default_value = "on")]
    rate_limit: Switch,
    /// Requests of one address: so many a second, and so many at once.
    #[arg(long, env = "KONTOR_RATE_LIMIT_ADDRESS", default_value = "300/3000")]
    rate_limit_address: Rate,
    /// Requests of one user.
    #[arg(long, env = "KONTOR_RATE_LIMIT_USER", default_value = "100/1000")]
    rate_limit_user: Rate,
    /// What the requests of one user may cost, or those of an address that nobody is logged in at.
    #[arg(long, env = "KONTOR_RATE_LIMIT_COST", default_value = "50000/500000")]
    rate_limit_cost: Rate,
    /// Fields that one operation may be answered with, pages multiplied in.
    #[arg(long, env = "KONTOR_MAX_COMPLEXITY", default_value_t = 13_000)]
    max_complexity: u64,
    /// Requests under way at once; more are answered with 503.
    #[arg(long, env = "KONTOR_MAX_REQUESTS", default_value_t = 1_024)]
    max_requests: usize,
    /// Sockets open at once.
    #[arg(long, env = "KONTOR_MAX_SOCKETS", default_value_t = 20_000)]
    max_sockets: usize,
    /// Sockets open at once from one address.
    #[arg(long, env = "KONTOR_MAX_SOCKETS_PER_ADDRESS", default_value_t = 1_000)]
    max_sockets_per_address: usize,
    /// Seconds that one request may take.
    #[arg(long, env = "KONTOR_REQUEST_TIME_LIMIT", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    request_time_limit: u64,
    /// Whether clients may ask what the schema looks like, and are told what they may have meant.
    #[arg(long, env = "KONTOR_INTROSPECTION", value_enum, default_value = "on")]
    introspection: Switch,
    /// JSON file of documents by their SHA-256; nothing else is executed.
    #[arg(long, env = "KONTOR_TRUSTED_DOCUMENTS")]
    trusted_documents: Option<PathBuf>,
}

impl EdgeOptions {
    /// What it comes to.
    ///
    /// # Errors
    /// When the list of documents cannot be used.
    pub fn protection(&self) -> Result<Protection> {
        let documents = match &self.trusted_documents {
            None => None,
            Some(file) => Some(Arc::new(TrustedDocuments::read(file).with_context(|| {
                format!("the trusted documents in {} are no good", file.display())
            })?)),
        };
        Ok(Protection {
            proxies: Proxies {
                networks: self.trusted_proxies.clone(),
                header: match self.forwarded_header {
                    Header::XForwardedFor => ForwardedBy::XForwardedFor,
                    Header::Forwarded => ForwardedBy::Forwarded,
                },
            },
            rates: (self.rate_limit == Switch::On).then_some(RateLimits {
                address: self.rate_limit_address,
                user: self.rate_limit_user,
                cost: self.rate_limit_cost,
            }),
            requests: self.max_requests,
            sockets: self.max_sockets,
            sockets_of_address: self.max_sockets_per_address,
            introspection: self.introspection == Switch::On,
            documents,
            tls: self.behind_tls_proxy,
        })
    }

    /// Bounds on one request.
    #[must_use]
    pub fn limits(&self) -> Limits {
        Limits {
            complexity: self.max_complexity,
            ..Limits::default()
        }
    }

    /// How long things may take.
    #[must_use]
    pub fn timing(&self) -> Timing {
        Timing {
            request: Duration::from_secs(self.request_time_limit),
            ..Timing::default()
        }
    }

    /// Origins whose pages may ask.
    ///
    /// # Errors
    /// When one is not written as browsers write it.
    pub fn origins(&self) -> Result<Vec<axum::http::HeaderValue>> {
        let origins = self.cors_origins.iter().map(|origin| origin.trim());
        origins
            .map(|origin| {
                let bare = origin.split_once("://").is_some_and(|(_, host)| !host.is_empty() && !host.contains('/'));
                anyhow::ensure!(
                    bare || origin == "*",
                    "KONTOR_CORS_ORIGINS: {origin:?} is not an origin; write it as https://shop.example, without a path"
                );
                Ok(origin.parse()?)
            })
            .collect()
    }

    /// What speaks against standing on the open internet like this, a sentence each.
    #[must_use]
    pub fn objections(&self, place: &Place, payments: &PaymentOptions, samples: bool) -> Vec<String> {
        let mut objections = Vec::new();
        let mut object = |sentence: &str| objections.push(sentence.to_owned());
        if samples {
            object(
                "the sample accounts have well-known passwords: give a database by DATABASE_URL, and no --sample-data",
            );
        }
        if payments.is_simulated() {
            object(
                "a simulator takes the payments, and no money moves: give Stripe's key by KONTOR_STRIPE_KEY",
            );
        }
        if !self.behind_tls_proxy {
            object(
                "nothing says that browsers come by TLS: put a proxy in front that speaks it, and say --behind-tls-proxy",
            );
        }
        if self.behind_tls_proxy && self.trusted_proxies.is_empty() && self.rate_limit == Switch::On {
            object(
                "behind a proxy everybody has the proxy's address, and is limited as one: name its network by KONTOR_TRUSTED_PROXIES",
            );
        }
        if self.cors_origins.iter().any(|origin| origin.trim() == "*") {
            object("pages of any origin may ask: name the shop's own by KONTOR_CORS_ORIGINS instead of *");
        }
        if !place.keys.is_given() {
            object(
                "the key that people's data is encrypted with would lie beside it: give one by KONTOR_KEK_FILE, KONTOR_KEK_COMMAND or KONTOR_KEK",
            );
        }
        for (name, url) in [
            ("DATABASE_URL", &place.database_url),
            ("REDIS_URL", &place.redis_url),
        ] {
            if url.as_deref().is_some_and(has_known_password) {
                object(&format!(
                    "the password in {name} is one for development: choose another"
                ));
            }
        }
        objections
    }
}

/// Whether the password in `scheme://user:password@host` is one that everybody tries first.
fn has_known_password(url: &str) -> bool {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest);
    let credentials = authority.rsplit_once('@').map(|(credentials, _)| credentials);
    credentials
        .and_then(|credentials| credentials.split_once(':'))
        .is_some_and(|(_, password)| KNOWN_PASSWORDS.contains(&password))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::keys::KekOptions;

    #[derive(Debug, Parser)]
    struct Typed {
        #[command(flatten)]
        edge: EdgeOptions,
        #[command(flatten)]
        payments: PaymentOptions,
    }

    fn objections(arguments: &[&str], place: &Place, samples: bool) -> Vec<String> {
        let typed = Typed::parse_from(std::iter::once(&"run").chain(arguments));
        typed.edge.objections(place, &typed.payments, samples)
    }

    fn typed(arguments: &[&str]) -> EdgeOptions {
        Typed::parse_from(std::iter::once(&"run").chain(arguments)).edge
    }

    fn place(database: &str, redis: &str) -> Place {
        Place {
            data: PathBuf::from(".kontor"),
            database_url: Some(database.to_owned()),
            redis_url: Some(redis.to_owned()),
            keys: KekOptions {
                kek_file: Some(PathBuf::from("/run/secrets/kek")),
                ..KekOptions::default()
            },
            erasure_journal: None,
        }
    }

    const DATABASE: &str = "postgres://kontor:uKq9-long@db/kontor";
    const REDIS: &str = "redis://default:7fWx-long@redis:6379/0";
    const GOOD: [&str; 3] = [
        "--stripe-key=sk_live_x",
        "--behind-tls-proxy",
        "--trusted-proxies=10.0.0.0/8",
    ];

    #[test]
    fn each_thing_for_development_has_its_sentence() {
        let good = place(DATABASE, REDIS);
        let mut keyless = good.clone();
        keyless.keys = KekOptions::default();
        assert_eq!(objections(&GOOD, &good, false), Vec::<String>::new());
        for (arguments, place, samples, about) in [
            (&GOOD[..], &good, true, "--sample-data"),
            (&GOOD, &keyless, false, "KONTOR_KEK_FILE"),
            (&GOOD[..1], &good, false, "--behind-tls-proxy"),
            (&GOOD[1..], &good, false, "KONTOR_STRIPE_KEY"),
            (&GOOD[..2], &good, false, "KONTOR_TRUSTED_PROXIES"),
            (
                &[GOOD[0], GOOD[1], GOOD[2], "--cors-origins=https://a.example,*"],
                &good,
                false,
                "KONTOR_CORS_ORIGINS",
            ),
            (
                &GOOD,
                &place("postgres://kontor:kontor-dev@db/kontor", REDIS),
                false,
                "DATABASE_URL",
            ),
            (
                &GOOD,
                &place(DATABASE, "redis://default:kontor-dev@redis"),
                false,
                "REDIS_URL",
            ),
        ] {
            let objections = objections(arguments, place, samples);
            assert_eq!(objections.len(), 1, "{objections:?}");
            assert!(objections[0].contains(about), "{objections:?}");
        }
    }

    #[test]
    fn what_is_typed_is_what_is_meant() {
        let protection = typed(&["--rate-limit=off", "--introspection=off"])
            .protection()
            .unwrap();
        assert!(protection.rates.is_none() && !protection.introspection);
        let usual = typed(&[]).protection().unwrap();
        assert_eq!(usual.rates, Some(RateLimits::default()));
        assert_eq!(usual.requests, Protection::default().requests);
        assert_eq!(typed(&[]).limits(), Limits::default());
        assert_eq!(typed(&[]).timing(), Timing::default());
        let origins = typed(&["--cors-origins=https://a.example, https://b.example:8443"])
            .origins()
            .unwrap();
        assert_eq!(origins, ["https://a.example", "https://b.example:8443"]);
        for wrong in ["a.example", "https://a.example/", "https://"] {
            assert!(typed(&["--cors-origins", wrong]).origins().is_err(), "{wrong}");
        }
    }
}
