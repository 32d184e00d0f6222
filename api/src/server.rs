//! The router, and serving it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_graphql::Executor;
use axum::extract::State;
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use axum::{Json, Router};
use kontor_fulfilment::payments::WebhookVerifier;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowOrigin, CorsLayer};
use tracing::{error, warn};

use crate::auth::keys::KNOWN_BEFORE;
use crate::connections;
use crate::documents::Engine;
use crate::edge::{Edge, Protection, compressed, hardened};
use crate::gate::{ACCESS_TOKEN, Gate, Renewal};
use crate::guard::Limits;
use crate::guard::cost::Costs;
use crate::guard::inputs::Inputs;
use crate::health::{self, Health};
use crate::metrics::{self, Metrics};
use crate::persisted::Documents;
use crate::transport::{Timing, Transport};
use crate::{App, Tokens, graphql, playground, reply, webhooks};

/// How long requests, streams and sockets may take to end once the process is told to.
const GRACE: Duration = Duration::from_secs(10);
/// How long a browser may remember what another origin may do.
const CORS_MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// What a router is made with, besides the [`App`].
#[derive(Debug)]
pub struct RouterOptions {
    /// Whether to answer GraphQL, and show the playground; a worker has only health and metrics.
    pub endpoint: bool,
    /// Where the built playground is; without it `/` says how to get it.
    pub playground: Option<PathBuf>,
    /// The recorder; without it there is no `/metrics`.
    pub metrics: Option<metrics::Handle>,
    /// Ends sockets and streams, and turns `/readyz` away.
    pub stop: CancellationToken,
    /// Open sockets; give the same one to [`serve`], which waits for them.
    pub sockets: TaskTracker,
    /// Bounds on one request.
    pub limits: Limits,
    /// How long things may take.
    pub timing: Timing,
    /// Who may come in, and how often.
    pub protection: Protection,
    /// Origins whose pages may ask; none by default, any with `*`.
    pub origins: Vec<HeaderValue>,
    /// Consumers that this process runs, by name: `/readyz` wants a worker at each.
    pub workers: Vec<String>,
    /// Tells the payment gateway's webhooks from anybody's; believes nobody by default.
    pub webhooks: WebhookVerifier,
    /// The payment simulator's page for its customers, shown under [`SIMULATOR`].
    pub simulator: Option<Router>,
}

/// Where the payment simulator's page is.
pub const SIMULATOR: &str = "/simulator";

impl Default for RouterOptions {
    fn default() -> Self {
        Self {
            endpoint: true,
            playground: None,
            metrics: None,
            stop: CancellationToken::new(),
            sockets: TaskTracker::new(),
            limits: Limits::default(),
            timing: Timing::default(),
            protection: Protection::default(),
            origins: Vec::new(),
            workers: Vec::new(),
            webhooks: WebhookVerifier::new(Vec::new()),
            simulator: None,
        }
    }
}

/// Everything the process answers.
pub fn router(app: Arc<App>, options: RouterOptions) -> Router {
    let health = Health {
        app: Arc::clone(&app),
        workers: options.workers.into(),
        stop: options.stop.clone(),
    };
    let mut router = Router::new()
        .route("/readyz", get(health::ready).with_state(health))
        .route("/healthz", get(health::alive));
    let protection = options.protection;
    if options.endpoint {
        let sdl = graphql::sdl();
        let costs = (options.limits.complexity < u64::MAX).then(|| Costs::of(&sdl));
        let [schema, of_known] = graphql::schemas(&app);
        let mut engine = Engine::new(schema, options.limits).validating_once(of_known, Inputs::of(&sdl));
        if let Some(costs) = costs {
            engine = engine.costing(costs);
        }
        if let Some(documents) = &protection.documents {
            engine = engine.from_source(Documents::Trusted(Arc::clone(documents)));
        }
        if !protection.introspection {
            engine = engine.silent();
        }
        let transport = Transport {
            engine,
            edge: Edge::new(&protection, &options.origins, Some(app.redis.clone())),
            gate: Gate {
                tokens: app.tokens.clone(),
                standing: app.standing.clone(),
                clock: Arc::clone(&app.clock),
                renewal: Some(Renewal {
                    desk: app.sessions.clone(),
                    pool: app.store.pool().clone(),
                }),
            },
            ids: app.store.ids().clone(),
            timing: options.timing,
            stop: options.stop.clone(),
            sockets: options.sockets,
        };
        router = router
            .merge(endpoint(transport))
            .route("/.well-known/jwks.json", get(jwks).with_state(app.tokens.clone()))
            .merge(webhooks::routes(
                &app,
                options.webhooks,
                protection.proxies.clone(),
            ))
            .merge(playground::routes(options.playground));
        if let Some(page) = options.simulator {
            router = router.nest(SIMULATOR, page);
        }
    }
    if let Some(handle) = options.metrics {
        tokio::spawn(handle.clone().keep_up(options.stop));
        router = router
            .route("/metrics", get(scrape).with_state(Metrics { app, handle }))
            .layer(metrics::layer());
    }
    around(router, options.origins, protection.tls)
}

/// `/graphql` alone, over any schema.
pub fn endpoint<E: Executor>(transport: Transport<E>) -> Router {
    Router::new()
        .route("/graphql", any(crate::http::graphql::<E>))
        .with_state(Arc::new(transport))
}

/// What every route has round it.
fn around(router: Router, origins: Vec<HeaderValue>, tls: bool) -> Router {
    // The outermost first. As one layer: each has a box and a clone of its own for every request.
    let router = router.layer((hardened(tls), compressed(), CatchPanicLayer::custom(panicked)));
    if origins.is_empty() {
        return router;
    }
    let anybody = origins.iter().any(|origin| origin == "*");
    let allowed = if anybody {
        AllowOrigin::any()
    } else {
        AllowOrigin::list(origins)
    };
    router.layer(
        CorsLayer::new()
            .allow_origin(allowed)
            .allow_methods([Method::GET, Method::POST])
            .allow_headers([
                AUTHORIZATION,
                CONTENT_TYPE,
                HeaderName::from_static("x-request-id"),
                HeaderName::from_static("traceparent"),
            ])
            .expose_headers([
                HeaderName::from_static("x-request-id"),
                HeaderName::from_static("ratelimit"),
                HeaderName::from_static("ratelimit-policy"),
                RETRY_AFTER,
                ACCESS_TOKEN,
            ])
            // For the session's cookie, where the origins are named one by one.
            .allow_credentials(!anybody)
            .max_age(CORS_MAX_AGE),
    )
}

#[expect(clippy::needless_pass_by_value, reason = "as tower-http calls it")]
fn panicked(panic: Box<dyn std::any::Any + Send>) -> Response {
    error!(
        panic = crate::http::panic_message(panic.as_ref()),
        "a handler panicked"
    );
    let body = reply::errors(&[reply::error(reply::Code::Internal, "internal error")]);
    let json = (
        CONTENT_TYPE,
        HeaderValue::from_static("application/json; charset=utf-8"),
    );
    (StatusCode::INTERNAL_SERVER_ERROR, [json], body).into_response()
}

/// The public keys of access tokens. May be kept for as long as a key is known before it signs.
async fn jwks(State(tokens): State<Tokens>) -> impl IntoResponse {
    let seconds = KNOWN_BEFORE.num_seconds();
    let kept = format!("public, max-age={seconds}");
    ([(CACHE_CONTROL, kept)], Json(tokens.jwks()))
}

async fn scrape(State(metrics): State<Metrics>) -> impl IntoResponse {
    let text = metrics::page(&metrics.app, &metrics.handle).await;
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}

/// Serves until `stop`, then lets requests, streams and sockets end, at most for ten seconds. A connection is cut off when
/// something written to it has waited for [`Timing::stalled`] because nobody reads it, or the head of a request takes longer than
/// [`Timing::head`].
pub async fn serve(
    listener: TcpListener,
    router: Router,
    timing: Timing,
    stop: CancellationToken,
    sockets: TaskTracker,
) {
    let all = async {
        connections::serve(listener, router, timing, stop.clone()).await;
        sockets.close();
        sockets.wait().await;
    };
    let late = async {
        stop.cancelled().await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        () = all => {}
        () = late => {
            warn!("requests were still going on after {} seconds and were cut off", GRACE.as_secs());
        }
    }
}

#[cfg(test)]
mod tests;
