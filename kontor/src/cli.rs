//! What can be typed.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Args, Parser, Subcommand};
use kontor_api::sessions::{CookieTerms, SessionTerms};
use kontor_fulfilment::notifications::{
    MailBy, NotificationId, NotificationsConfig, Secret, SmsBy, outbox_in,
};
use kontor_fulfilment::payments::WebhookSecret;
use kontor_fulfilment::payments::stripe::SecretKey;

use crate::commands;
use crate::commands::run::AccountTerms;
use crate::runtime::Runtime;
use crate::terminal;

mod edge;
mod payments;
mod place;

pub use edge::EdgeOptions;
pub use payments::PaymentOptions;
pub use place::Place;

/// Does what was typed: the program's name, then its arguments.
pub fn main(typed: impl Iterator<Item = OsString>) -> ExitCode {
    let cli = Cli::parse_from(typed);
    terminal::log_to_stderr(cli.log());
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return terminal::failed(&error.into()),
    };
    match runtime.block_on(cli.carry_out()) {
        Ok(code) => code,
        Err(error) => terminal::failed(&error),
    }
}

/// An event-sourced commerce backend: commands, log, views, one GraphQL endpoint.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 110)]
pub struct Cli {
    /// What to log, as in `RUST_LOG`: by default `info,sqlx=warn` for `run` and `gateway`, warnings for everything else.
    #[arg(long, env = "KONTOR_LOG", global = true)]
    log: Option<String>,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    payments: PaymentOptions,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the shop: the API and the workers, or one of them.
    Run(Box<RunOptions>),
    /// Rebuilds views from the log while the shop goes on.
    Replay {
        /// A view by name, or `all`.
        #[arg(long = "view", default_value = "all")]
        views: Vec<String>,
    },
    /// Builds every view afresh and compares it with the live one, row by row. Fails if a row differs.
    Verify,
    /// Prints the log, one JSON object a line.
    Events {
        /// Begin behind this position.
        #[arg(long, default_value_t = 0)]
        after: u64,
        /// Keep waiting for more.
        #[arg(long)]
        follow: bool,
        /// Print payloads too. They hold personal data.
        #[arg(long)]
        payload: bool,
    },
    /// Says how far the log and everyone behind it have come.
    Status,
    /// Lists aggregates that wait in dead letters.
    DeadLetters,
    /// Applies what waits of an aggregate, in order, after the cause has been mended.
    Resume {
        /// The consumer that could not apply it.
        consumer: String,
        /// The aggregate's type.
        aggregate_type: String,
        /// The aggregate's id.
        aggregate_id: String,
    },
    /// Shows and mends what could not be sent to customers.
    #[command(subcommand)]
    Notifications(Notifications),
    /// Grants a role to a registered user: how a shop gets its first administrator.
    GrantRole {
        /// The user's e-mail address.
        email: String,
        /// `customer`, `staff` or `admin`.
        role: String,
    },
    /// Encrypts people's keys with the present key-encryption key, where they still are with an older one. The shop may be
    /// open, if its processes have both.
    RotateKeys,
    /// Adds a key that access tokens are signed with from a minute from now on. Nobody is logged out: the old one is dropped when the
    /// last of its tokens has expired.
    RotateSigningKey,
    /// Takes in another shop's books.
    #[command(subcommand)]
    Import(Import),
    /// Runs the payment simulator by itself: a bank on a port of its own that speaks as Stripe does. No money moves.
    Gateway(GatewayOptions),
    /// Prints the GraphQL schema.
    Schema,
    /// Asks a running server whether it is ready. Fails if it is not.
    Health {
        /// Where it listens.
        #[arg(long, env = "KONTOR_LISTEN", default_value = "127.0.0.1:4000")]
        listen: SocketAddr,
    },
}

/// How to run the shop.
#[derive(Debug, Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of its own on the command line"
)]
pub struct RunOptions {
    /// Where to listen.
    #[arg(long, env = "KONTOR_LISTEN", default_value = "127.0.0.1:4000")]
    pub listen: SocketAddr,
    /// Only answer requests; another process works.
    #[arg(long, conflicts_with = "worker")]
    pub api: bool,
    /// Only work; another process answers requests.
    #[arg(long)]
    pub worker: bool,
    /// Sample products and accounts, with well-known passwords, also in a database that was given. A private one gets
    /// them anyway.
    #[arg(long)]
    pub sample_data: bool,
    /// Folder of the built playground.
    #[arg(long, env = "KONTOR_PLAYGROUND", default_value = "playground/dist")]
    pub playground: PathBuf,
    /// Take orders without a payment method too, as on account: they are confirmed once their stock is reserved.
    #[arg(long, env = "KONTOR_UNPAID_ORDERS", value_parser = clap::builder::FalseyValueParser::new())]
    pub unpaid_orders: bool,
    /// How many days log-ins, refusals and the like are kept for the audit. Events are kept for ever.
    #[arg(long, env = "KONTOR_AUDIT_DAYS", default_value_t = 90, value_parser = clap::value_parser!(u64).range(1..=3650))]
    audit_days: u64,
    #[command(flatten)]
    accounts: AccountOptions,
    #[command(flatten)]
    notifications: NotificationsOptions,
    /// How the endpoint is protected.
    #[command(flatten)]
    pub edge: EdgeOptions,
}

/// How people stay logged in.
#[derive(Debug, Args)]
#[command(next_help_heading = "Accounts")]
struct AccountOptions {
    /// How many days a session lives without being used.
    #[arg(long, env = "KONTOR_SESSION_IDLE_DAYS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3650))]
    session_idle_days: u64,
    /// How many days a session lives in all.
    #[arg(long, env = "KONTOR_SESSION_DAYS", default_value_t = 90, value_parser = clap::value_parser!(u64).range(1..=3650))]
    session_days: u64,
    /// Sets the session's cookie without `Secure`, for browsers that take no such cookie over plain HTTP. Only where Kontor listens on
    /// this machine alone.
    #[arg(long)]
    insecure_cookies: bool,
}

/// How to run the payment simulator.
#[derive(Debug, Args)]
pub struct GatewayOptions {
    /// Where to listen.
    #[arg(long, env = "KONTOR_GATEWAY_LISTEN", default_value = "127.0.0.1:4010")]
    pub listen: SocketAddr,
    /// The key it wants to be asked with; any `sk_test_…` if none is given.
    #[arg(long, env = "KONTOR_GATEWAY_KEY", hide_env_values = true, value_parser = payments::stripe_key)]
    pub key: Option<SecretKey>,
    /// Where to tell of every payment that changes: `http://127.0.0.1:4000/webhooks/payments` for a shop on this machine.
    #[arg(long, env = "KONTOR_GATEWAY_WEBHOOK_URL", value_parser = payments::http_url, requires = "webhook_secret")]
    pub webhook_url: Option<String>,
    /// What to sign that with.
    #[arg(long, env = "KONTOR_GATEWAY_WEBHOOK_SECRET", hide_env_values = true, value_parser = payments::webhook_secret)]
    pub webhook_secret: Option<WebhookSecret>,
    /// How many milliseconds it takes over every call.
    #[arg(long, env = "KONTOR_GATEWAY_LATENCY", value_name = "MS", default_value_t = 0)]
    pub latency: u32,
}

/// How customers are told what happens to them.
#[derive(Debug, Args)]
#[command(next_help_heading = "Notifications")]
struct NotificationsOptions {
    /// Mail server: `smtp://user:password@host:port?tls=required`, or `smtps://…`. Without one, mails are written into the
    /// outbox.
    #[arg(
        long = "smtp-url",
        env = "KONTOR_SMTP_URL",
        hide_env_values = true,
        requires = "mail_from"
    )]
    smtp_url: Option<Secret>,
    /// Whom mails come from: `Name <address>`. The shop calls itself by the name.
    #[arg(long, env = "KONTOR_MAIL_FROM")]
    mail_from: Option<String>,
    /// The shop's page where a forgotten password is set, with `{token}` in its address; without one the mail has the bare token.
    #[arg(long, env = "KONTOR_RESET_URL")]
    reset_url: Option<String>,
    /// The shop's page where an e-mail address is verified, likewise.
    #[arg(long, env = "KONTOR_VERIFY_URL")]
    verify_url: Option<String>,
    /// SMS provider: `https://account:token@host`, with Twilio's interface. Without one, SMS are written into the outbox.
    #[arg(long, env = "KONTOR_SMS_URL", hide_env_values = true, requires = "sms_from")]
    sms_url: Option<Secret>,
    /// Number or name that SMS come from.
    #[arg(long, env = "KONTOR_SMS_FROM")]
    sms_from: Option<String>,
    /// Folder of the outbox; `outbox` in the folder of the data if none is given.
    #[arg(long, env = "KONTOR_OUTBOX")]
    outbox: Option<PathBuf>,
    /// How often a message is tried before it is given up.
    #[arg(long, env = "KONTOR_NOTIFICATION_ATTEMPTS", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    notification_attempts: u32,
    /// How many seconds a provider may take over one message.
    #[arg(long, env = "KONTOR_NOTIFICATION_TIME_LIMIT", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    notification_time_limit: u64,
    /// How many mails, and how many SMS, are sent in a second at most.
    #[arg(long, env = "KONTOR_NOTIFICATION_RATE", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    notification_rate: u32,
}

impl RunOptions {
    /// For how long deeds are kept.
    #[must_use]
    pub fn audit_kept(&self) -> Duration {
        days(self.audit_days)
    }

    /// How accounts are to be kept.
    ///
    /// # Errors
    /// When cookies would go over the network as anybody can read them.
    pub fn accounts(&self) -> Result<AccountTerms> {
        let typed = &self.accounts;
        if typed.insecure_cookies && !self.listen.ip().is_loopback() {
            bail!(
                "--insecure-cookies is for 127.0.0.1 only; {} can be reached from elsewhere",
                self.listen
            );
        }
        Ok(AccountTerms {
            sessions: SessionTerms {
                idle: days(typed.session_idle_days),
                longest: days(typed.session_days),
                ..SessionTerms::default()
            },
            cookie: CookieTerms {
                secure: !typed.insecure_cookies,
            },
            ..AccountTerms::default()
        })
    }

    /// How notifications are to be sent by a shop whose data is there.
    #[must_use]
    pub fn notifications(&self, place: &Place) -> NotificationsConfig {
        let typed = &self.notifications;
        let outbox = typed.outbox.clone().unwrap_or_else(|| outbox_in(&place.data));
        let usual = NotificationsConfig::to_outbox(outbox);
        NotificationsConfig {
            mail: typed.smtp_url.clone().map_or(MailBy::Outbox, MailBy::Smtp),
            mail_from: typed.mail_from.clone().unwrap_or(usual.mail_from),
            reset_url: typed.reset_url.clone(),
            verify_url: typed.verify_url.clone(),
            sms: match (&typed.sms_url, &typed.sms_from) {
                (Some(url), Some(from)) => SmsBy::Http {
                    url: url.clone(),
                    from: from.clone(),
                },
                _ => SmsBy::Outbox,
            },
            attempts: typed.notification_attempts,
            time_limit: Duration::from_secs(typed.notification_time_limit),
            rate: typed.notification_rate,
            ..usual
        }
    }
}

const fn days(count: u64) -> Duration {
    Duration::from_secs(count * 24 * 60 * 60)
}

#[derive(Debug, Subcommand)]
enum Notifications {
    /// Lists what was given up, and why.
    List,
    /// Has what was given up sent again.
    Retry {
        /// One of them, as `list` names it: `42/email`.
        #[arg(required_unless_present = "all")]
        id: Option<NotificationId>,
        /// All of them.
        #[arg(long, conflicts_with = "id")]
        all: bool,
    },
}

#[derive(Debug, Subcommand)]
enum Import {
    /// The UCI "Online Retail" data set, as CSV: a real shop's year. Can be stopped and run again.
    OnlineRetail {
        /// The unpacked file.
        file: PathBuf,
    },
}

impl Cli {
    /// What to log.
    #[must_use]
    pub fn log(&self) -> &str {
        let default = if matches!(self.command, Command::Run(_) | Command::Gateway(_)) {
            "info,sqlx=warn"
        } else {
            "warn"
        };
        self.log.as_deref().unwrap_or(default)
    }

    /// Does what was typed.
    ///
    /// # Errors
    /// A sentence for the person who typed it.
    pub async fn carry_out(self) -> Result<ExitCode> {
        match self.command {
            Command::Run(options) => {
                return commands::run::run(&self.place, &self.payments, *options).await;
            }
            Command::Gateway(options) => return commands::gateway::gateway(&self.place, options).await,
            Command::Schema => {
                terminal::say(kontor_api::graphql::sdl().trim_end());
                return Ok(ExitCode::SUCCESS);
            }
            Command::Health { listen } => return commands::health::health(listen).await,
            _ => {}
        }
        let payments = self.payments.config(None)?;
        let servers = self.place.servers().await?;
        let result = match self.place.open(&servers, &payments, None).await {
            Ok(runtime) => {
                let result = operate(&runtime, self.command).await;
                runtime.close().await;
                result
            }
            Err(error) => Err(error),
        };
        servers.stop().await?;
        result
    }
}

async fn operate(runtime: &Runtime, command: Command) -> Result<ExitCode> {
    match command {
        Command::Replay { views } => commands::replay::replay(runtime, &views).await,
        Command::Verify => commands::verify::verify(runtime).await,
        Command::Events {
            after,
            follow,
            payload,
        } => commands::events::events(runtime, after, follow, payload).await,
        Command::Status => commands::status::status(runtime).await,
        Command::DeadLetters => commands::dead_letters::list(runtime).await,
        Command::Resume {
            consumer,
            aggregate_type,
            aggregate_id,
        } => commands::dead_letters::resume(runtime, &consumer, aggregate_type, aggregate_id).await,
        Command::Import(Import::OnlineRetail { file }) => {
            commands::import::online_retail(runtime, &file).await
        }
        Command::Notifications(Notifications::List) => commands::notifications::list(runtime).await,
        // Without an id it is `--all`.
        Command::Notifications(Notifications::Retry { id, .. }) => {
            commands::notifications::retry(runtime, id).await
        }
        Command::GrantRole { email, role } => commands::grant_role::grant_role(runtime, &email, &role).await,
        Command::RotateKeys => commands::rotate_keys::rotate_keys(runtime).await,
        Command::RotateSigningKey => commands::rotate_signing_key::rotate_signing_key(runtime).await,
        // Answered by `carry_out`.
        Command::Run(_) | Command::Gateway(_) | Command::Schema | Command::Health { .. } => {
            Ok(ExitCode::SUCCESS)
        }
    }
}
