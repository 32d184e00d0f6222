//! What Prometheus reads.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum_prometheus::PrometheusMetricLayer;
use axum_prometheus::metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use metrics::{describe_counter, describe_gauge, describe_histogram, gauge};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::App;

/// How often recorded samples are folded into their histograms when nobody scrapes.
const UPKEEP: Duration = Duration::from_secs(5);
/// Seconds. From a request out of memory to one that hangs.
const REQUEST_SECONDS: [f64; 12] = [
    0.000_1, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0,
];
/// Seconds. A commit with fsync is about a millisecond.
const APPEND_SECONDS: [f64; 10] = [0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2.0];
/// Seconds. From a gateway in the same house to one that is left hanging.
const PAYMENT_SECONDS: [f64; 10] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
/// Commands that were written together.
const GROUP_SIZE: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

/// The recorder of this process.
#[derive(Clone)]
pub struct Handle(PrometheusHandle);

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

/// Installs the recorder; further calls give the same one.
#[must_use]
pub fn install() -> Handle {
    static INSTALLED: OnceLock<Handle> = OnceLock::new();
    INSTALLED.get_or_init(build).clone()
}

fn build() -> Handle {
    let buckets: [(&str, &[f64]); 4] = [
        (
            axum_prometheus::AXUM_HTTP_REQUESTS_DURATION_SECONDS,
            &REQUEST_SECONDS,
        ),
        ("kontor_append_seconds", &APPEND_SECONDS),
        ("kontor_append_group_size", &GROUP_SIZE),
        ("kontor_payment_call_seconds", &PAYMENT_SECONDS),
    ];
    let mut builder = PrometheusBuilder::new();
    for (name, values) in buckets {
        let matcher = Matcher::Full(name.to_owned());
        builder = match builder.set_buckets_for_metric(matcher, values) {
            Ok(builder) => builder,
            // Only for an empty list.
            Err(error) => {
                warn!(%error, metric = name, "no buckets");
                PrometheusBuilder::new()
            }
        };
    }
    let recorder = builder.build_recorder();
    let handle = recorder.handle();
    if metrics::set_global_recorder(recorder).is_err() {
        warn!("another metrics recorder is installed; /metrics will be empty");
    }
    describe();
    Handle(handle)
}

fn describe() {
    describe_counter!(
        "kontor_graphql_operations_total",
        "GraphQL operations, by kind and how they went"
    );
    describe_counter!(
        "kontor_requests_rate_limited_total",
        "Requests that were refused because somebody asks too often"
    );
    describe_counter!(
        "kontor_requests_shed_total",
        "Requests that were turned away because too many were under way"
    );
    describe_counter!(
        "kontor_commands_total",
        "Commands, by aggregate and how they went"
    );
    describe_counter!("kontor_events_consumed_total", "Events applied, by consumer");
    describe_histogram!("kontor_append_seconds", "Time to write one group of commands");
    describe_histogram!("kontor_append_group_size", "Commands written in one group");
    describe_gauge!("kontor_log_position", "The newest position of the log");
    describe_gauge!(
        "kontor_projection_lag_events",
        "Events a consumer has yet to apply"
    );
    describe_gauge!("kontor_dead_letter_aggregates", "Aggregates parked by a consumer");
    describe_counter!(
        "kontor_notifications_total",
        "Tries to tell a customer something, by channel and how they went"
    );
    describe_gauge!(
        "kontor_notifications",
        "Notifications not done with: waiting, or given up (dead)"
    );
    for (gauge, whom) in [
        ("kontor_mail_breaker", "mail server"),
        ("kontor_sms_breaker", "SMS provider"),
    ] {
        describe_gauge!(
            gauge,
            format!("Circuit breaker before the {whom}: 0 closed, 1 half-open, 2 open")
        );
    }
    describe_payments();
    describe_gauge!("kontor_subscribers", "Subscriptions going on");
    describe_gauge!(
        "kontor_common_executions",
        "Subscriptions executed once for all who ask the same"
    );
    describe_gauge!("kontor_sockets", "WebSockets open");
}

fn describe_payments() {
    describe_counter!(
        "kontor_payment_calls_total",
        "Calls to the payment gateway with all their retries, by what was asked and how they went"
    );
    describe_histogram!(
        "kontor_payment_call_seconds",
        "Time the payment gateway took over one try"
    );
    describe_gauge!(
        "kontor_payment_breaker",
        "Circuit breaker before the payment gateway: 0 closed, 1 half-open, 2 open"
    );
    describe_counter!(
        "kontor_payment_webhooks_total",
        "Webhooks of the payment gateway: taken, repeated, ignored, unavailable, or why they were not believed"
    );
    describe_gauge!(
        "kontor_payment_webhooks_waiting",
        "Webhooks of the payment gateway that were taken and are not dealt with"
    );
    describe_gauge!(
        "kontor_pending_orders",
        "Orders for which the payment gateway or the customer has to be asked, by step"
    );
}

impl Handle {
    /// Folds samples into histograms until `stop`; without it they would pile up while nobody scrapes.
    pub async fn keep_up(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(UPKEEP) => self.0.run_upkeep(),
            }
        }
    }

    /// Everything recorded so far, as Prometheus reads it.
    #[must_use]
    pub fn render(&self) -> String {
        self.0.render()
    }
}

/// Counts and times requests by route and status.
pub(crate) fn layer() -> PrometheusMetricLayer<'static> {
    PrometheusMetricLayer::new()
}

/// `/metrics`: what is recorded, and what is only known by looking.
pub(crate) async fn page(app: &App, handle: &Handle) -> String {
    look(app).await;
    handle.render()
}

#[expect(
    clippy::cast_precision_loss,
    reason = "Prometheus knows no integers; 2^53 events are far away"
)]
async fn look(app: &App) {
    let head = *app.store.head().borrow();
    gauge!("kontor_log_position").set(head as f64);
    match kontor_eventstore::checkpoints(app.store.pool()).await {
        Ok(checkpoints) => {
            for checkpoint in checkpoints {
                let lag = head.saturating_sub(checkpoint.position);
                gauge!("kontor_projection_lag_events", "consumer" => checkpoint.consumer.clone())
                    .set(lag as f64);
                gauge!("kontor_dead_letter_aggregates", "consumer" => checkpoint.consumer)
                    .set(checkpoint.parked as f64);
            }
        }
        Err(error) => warn!(%error, "the checkpoints cannot be read; /metrics shows older ones"),
    }
    match kontor_fulfilment::notifications::counts(app.store.pool()).await {
        Ok(counts) => {
            gauge!("kontor_notifications", "state" => "waiting").set(counts.waiting as f64);
            gauge!("kontor_notifications", "state" => "dead").set(counts.dead as f64);
        }
        Err(error) => warn!(%error, "notifications cannot be counted; /metrics shows older figures"),
    }
    look_at_payments(app).await;
    for mirror in crate::health::MIRRORS {
        let reached = *app.progress.watch(mirror).borrow();
        // 0 is also what a process knows that has not heard of it yet.
        if reached > 0 {
            gauge!("kontor_projection_lag_events", "consumer" => mirror)
                .set(head.saturating_sub(reached) as f64);
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "as above")]
async fn look_at_payments(app: &App) {
    let pool = app.store.pool();
    match kontor_fulfilment::orders_waiting(pool).await {
        Ok(steps) => {
            for (step, orders) in steps {
                gauge!("kontor_pending_orders", "step" => step.as_str()).set(orders as f64);
            }
        }
        Err(error) => warn!(%error, "pending orders cannot be counted; /metrics shows older figures"),
    }
    match kontor_fulfilment::webhook_inbox::waiting(pool).await {
        Ok(events) => gauge!("kontor_payment_webhooks_waiting").set(events as f64),
        Err(error) => warn!(%error, "payment webhooks cannot be counted; /metrics shows older figures"),
    }
}

/// One subscription, counted for as long as this lives.
#[derive(Debug)]
pub(crate) struct Subscriber(());

impl Subscriber {
    pub(crate) fn new() -> Self {
        gauge!("kontor_subscribers").increment(1.0);
        Self(())
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        gauge!("kontor_subscribers").decrement(1.0);
    }
}

/// One execution of a subscription for all who ask the same, counted for as long as this lives.
#[derive(Debug)]
pub(crate) struct CommonExecution(());

impl CommonExecution {
    pub(crate) fn new() -> Self {
        gauge!("kontor_common_executions").increment(1.0);
        Self(())
    }
}

impl Drop for CommonExecution {
    fn drop(&mut self) {
        gauge!("kontor_common_executions").decrement(1.0);
    }
}

/// One WebSocket, counted for as long as this lives.
#[derive(Debug)]
pub(crate) struct OpenSocket(());

impl OpenSocket {
    pub(crate) fn new() -> Self {
        gauge!("kontor_sockets").increment(1.0);
        Self(())
    }
}

impl Drop for OpenSocket {
    fn drop(&mut self) {
        gauge!("kontor_sockets").decrement(1.0);
    }
}

/// State of the route.
#[derive(Clone)]
pub(crate) struct Metrics {
    pub(crate) app: Arc<App>,
    pub(crate) handle: Handle,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_recorded_is_rendered_whoever_installed_the_recorder() {
        let (one, other) = (install(), install());
        let _counted = Subscriber::new();
        metrics::histogram!("kontor_append_seconds").record(0.003);
        one.0.run_upkeep();
        let page = other.render();
        assert!(page.contains("kontor_subscribers 1"), "{page}");
        assert!(
            page.contains(r#"kontor_append_seconds_bucket{le="0.005"} 1"#),
            "{page}"
        );
    }
}
