//! Who takes the payments, on which terms. For every command, as orders go on wherever the log is followed or mended.

use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use kontor_domain::CaptureAt;
use kontor_fulfilment::payments::stripe::{STRIPE, SecretKey};
use kontor_fulfilment::payments::{
    GatewayBy, PaymentTerms, PaymentsConfig, Resilience, SimulatorSettings, StripeSettings, WebhookSecret,
};

/// Who takes the payments, on which terms.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Payments")]
pub struct PaymentOptions {
    /// Key of Stripe's interface. Without one a simulator takes the payments, and no money moves.
    #[arg(long, env = "KONTOR_STRIPE_KEY", hide_env_values = true, value_parser = stripe_key, global = true)]
    stripe_key: Option<SecretKey>,
    /// Where Stripe is, or something that speaks like it; Stripe itself if no address is given.
    #[arg(long, env = "KONTOR_STRIPE_URL", global = true)]
    stripe_url: Option<String>,
    /// Where customers come back to from their bank's page.
    #[arg(long, env = "KONTOR_STRIPE_RETURN_URL", global = true)]
    stripe_return_url: Option<String>,
    /// What the gateway signs its webhooks with, by commas: several while they are being changed. Without one, none is believed.
    #[arg(long, env = "KONTOR_WEBHOOK_SECRETS", hide_env_values = true, value_delimiter = ',', value_parser = webhook_secret, global = true)]
    webhook_secrets: Vec<WebhookSecret>,
    /// When money that is held is taken.
    #[arg(long, env = "KONTOR_CAPTURE_AT", default_value = "shipment", global = true)]
    capture_at: CaptureMoment,
    /// How many seconds reserved pieces are kept for an order that is not paid.
    #[arg(long, env = "KONTOR_PAY_WITHIN", default_value = "900", value_parser = seconds, global = true)]
    pay_within: Duration,
    /// How many seconds the gateway may take over one try.
    #[arg(long, env = "KONTOR_PAYMENT_TIME_LIMIT", default_value = "10", value_parser = seconds, global = true)]
    payment_time_limit: Duration,
    /// How many calls to the gateway are under way at the same time at most.
    #[arg(long, env = "KONTOR_PAYMENT_PLACES", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..), global = true)]
    payment_places: u16,
    /// After how many failures in a row nobody calls the gateway for a while.
    #[arg(long, env = "KONTOR_PAYMENT_FAILURES_TO_OPEN", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..), global = true)]
    payment_failures_to_open: u16,
    /// For how many seconds.
    #[arg(long, env = "KONTOR_PAYMENT_OPEN_FOR", default_value = "5", value_parser = seconds, global = true)]
    payment_open_for: Duration,
    /// How many milliseconds the simulator takes over every call.
    #[arg(
        long,
        env = "KONTOR_SIMULATOR_LATENCY",
        value_name = "MS",
        default_value_t = 0,
        global = true
    )]
    simulator_latency: u32,
    /// Where customers reach the shop, for the page on which the simulator asks them whether it is them; by default where the
    /// shop listens.
    #[arg(long, env = "KONTOR_PUBLIC_URL", value_parser = http_url, global = true)]
    public_url: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum CaptureMoment {
    /// When the order is shipped.
    Shipment,
    /// When the order is confirmed.
    Confirmation,
}

impl PaymentOptions {
    /// Whether nobody really pays.
    #[must_use]
    pub fn is_simulated(&self) -> bool {
        self.stripe_key.is_none()
    }

    /// How payments are to be made; `shop_url` is where the shop listens, if it does.
    ///
    /// # Errors
    /// When the options contradict each other.
    pub fn config(&self, shop_url: Option<&str>) -> Result<PaymentsConfig> {
        let usual = PaymentsConfig::default();
        Ok(PaymentsConfig {
            gateway: self.gateway(shop_url)?,
            resilience: Resilience {
                time_limit: self.payment_time_limit,
                places: self.payment_places.into(),
                failures_to_open: self.payment_failures_to_open.into(),
                open_for: self.payment_open_for,
                ..usual.resilience
            },
            terms: PaymentTerms {
                capture: match self.capture_at {
                    CaptureMoment::Shipment => CaptureAt::Shipment,
                    CaptureMoment::Confirmation => CaptureAt::Confirmation,
                },
                pay_within: self.pay_within,
            },
            webhook_secrets: self.webhook_secrets.clone(),
        })
    }

    fn gateway(&self, shop_url: Option<&str>) -> Result<GatewayBy> {
        let Some(key) = &self.stripe_key else {
            ensure!(
                self.stripe_url.is_none() && self.stripe_return_url.is_none(),
                "there is an address for Stripe and no key: give KONTOR_STRIPE_KEY, or take KONTOR_STRIPE_URL and KONTOR_STRIPE_RETURN_URL away for the simulator"
            );
            let shop = self.public_url.as_deref().or(shop_url);
            let usual = SimulatorSettings::default();
            return Ok(GatewayBy::Simulator(SimulatorSettings {
                latency: Duration::from_millis(self.simulator_latency.into()),
                public_url: shop.map_or(usual.public_url, |shop| {
                    format!("{}{}", shop.trim_end_matches('/'), kontor_api::server::SIMULATOR)
                }),
                ..SimulatorSettings::default()
            }));
        };
        Ok(GatewayBy::Stripe(StripeSettings {
            base_url: self.stripe_url.clone().unwrap_or_else(|| STRIPE.to_owned()),
            return_url: self.stripe_return_url.clone(),
            ..StripeSettings::new(key.clone())
        }))
    }

    /// Who takes the payments, for people.
    #[must_use]
    pub fn by_whom(&self) -> String {
        match (&self.stripe_key, &self.stripe_url) {
            (None, _) => "simulated: no money moves".to_owned(),
            (Some(_), None) => format!("by Stripe, {STRIPE}"),
            (Some(_), Some(url)) => format!("by {url}, in Stripe's way"),
        }
    }

    /// Whether a gateway outside takes the payments whose webhooks nobody would believe.
    #[must_use]
    pub fn is_deaf(&self) -> bool {
        self.stripe_key.is_some() && self.webhook_secrets.is_empty()
    }
}

pub(super) fn stripe_key(text: &str) -> Result<SecretKey, &'static str> {
    if text.is_empty() {
        return Err("a key is not empty; without the variable a simulator takes the payments");
    }
    Ok(SecretKey::new(text))
}

/// Anybody can sign with an empty secret.
pub(super) fn webhook_secret(text: &str) -> Result<WebhookSecret, &'static str> {
    let secret = WebhookSecret::new(text.trim());
    if secret.is_empty() {
        return Err("a secret is not empty: anybody could sign with it");
    }
    Ok(secret)
}

fn seconds(text: &str) -> Result<Duration, &'static str> {
    text.parse()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .filter(|time| !time.is_zero() && *time <= LONGEST)
        .ok_or("a number of seconds, more than 0 and at most a year")
}

const LONGEST: Duration = Duration::from_secs(365 * 24 * 3_600);

pub(super) fn http_url(text: &str) -> Result<String, &'static str> {
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    match rest {
        Some(rest) if !rest.is_empty() => Ok(text.to_owned()),
        _ => Err("an address begins with http:// or https://"),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Typed {
        #[command(flatten)]
        payments: PaymentOptions,
    }

    fn typed(arguments: &[&str]) -> PaymentOptions {
        Typed::parse_from([&["kontor"], arguments].concat()).payments
    }

    fn refused(arguments: &[&str]) -> String {
        match Typed::try_parse_from([&["kontor"], arguments].concat()) {
            Ok(_) => panic!("{arguments:?} was taken"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn without_a_key_nobody_is_paid() {
        let config = typed(&["--simulator-latency", "10", "--capture-at", "confirmation"])
            .config(Some("http://127.0.0.1:4000"))
            .unwrap();
        let GatewayBy::Simulator(settings) = config.gateway else {
            panic!("a simulator");
        };
        assert_eq!(settings.latency, Duration::from_millis(10));
        assert_eq!(settings.public_url, "http://127.0.0.1:4000/simulator");
        assert_eq!(config.terms.capture, CaptureAt::Confirmation);
        assert_eq!(config.terms.pay_within, Duration::from_secs(900));
    }

    #[test]
    fn with_a_key_stripe_is() {
        let options = typed(&[
            "--stripe-key",
            "sk_test_1",
            "--webhook-secrets",
            "whsec_1, whsec_2",
            "--payment-time-limit",
            "0.25",
        ]);
        let config = options.config(None).unwrap();
        assert_eq!(
            config.webhook_secrets,
            ["whsec_1", "whsec_2"].map(WebhookSecret::new)
        );
        assert_eq!(config.resilience.time_limit, Duration::from_millis(250));
        let GatewayBy::Stripe(settings) = config.gateway else {
            panic!("Stripe");
        };
        assert_eq!(settings.base_url, STRIPE);
        assert!(!options.is_deaf());
        assert!(typed(&["--stripe-key", "sk_test_1"]).is_deaf());
        assert!(!format!("{options:?}").contains("sk_test_1"));
        assert!(!format!("{options:?}").contains("whsec_1"));
    }

    #[test]
    fn the_shop_may_be_reached_elsewhere() {
        let config = typed(&["--public-url", "https://shop.example/"])
            .config(Some("http://127.0.0.1:4000"))
            .unwrap();
        let GatewayBy::Simulator(settings) = config.gateway else {
            panic!("a simulator");
        };
        assert_eq!(settings.public_url, "https://shop.example/simulator");
    }

    #[test]
    fn what_cannot_be_is_refused_with_a_sentence() {
        for (arguments, why) in [
            (["--stripe-key", ""], "a key is not empty"),
            (["--webhook-secrets", "whsec_1,"], "anybody could sign"),
            (["--pay-within", "0"], "more than 0"),
            (["--pay-within", "soon"], "more than 0"),
            (["--payment-time-limit", "inf"], "more than 0"),
            (["--capture-at", "noon"], "shipment"),
            (["--payment-places", "0"], "1.."),
            (["--public-url", "shop.example"], "http://"),
        ] {
            let said = refused(&arguments);
            assert!(said.contains(why), "{arguments:?}: {said}");
        }
        let error = typed(&["--stripe-url", "http://127.0.0.1"])
            .config(None)
            .unwrap_err();
        assert!(error.to_string().contains("no key"), "{error}");
    }
}
