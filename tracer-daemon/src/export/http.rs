//! The pages that leakline serves:
//!
//! | path | answer |
//! |---|---|
//! | `/metrics` | `OpenMetrics` 1.0.0 to a client that accepts it, else the classic text format 0.0.4 |
//! | `/healthz` | 200 while the process lives |
//! | `/readyz` | 503 until the first pass over all targets is complete, then 200 for good |
//! | `/` | this list, for a person |
//!
//! Owns routes, status codes and content negotiation. Refuses to open a socket (the pipeline does) and never serves
//! memory of a target: what is not in [`Metrics`] cannot be reached from here.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use axum::{
    Router,
    extract::State,
    http::{
        HeaderMap, StatusCode,
        header::{ACCEPT, CONTENT_TYPE, VARY, X_CONTENT_TYPE_OPTIONS},
    },
    response::{IntoResponse, Response},
    routing::get,
};

use super::metrics::Metrics;

/// Content type of `OpenMetrics` text.
pub const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Content type of the classic text format.
pub const CLASSIC: &str = "text/plain; version=0.0.4; charset=utf-8";
const PLAIN: &str = "text/plain; charset=utf-8";

/// A latch that opens once: the first pass over all targets is complete. Clones are one latch.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// Not ready yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on, ready.
    pub fn mark_ready(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether it was marked.
    pub fn is_ready(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// What the pages show.
#[derive(Clone, Debug)]
pub struct HttpState {
    /// For `/metrics`.
    pub metrics: Metrics,
    /// For `/readyz`.
    pub readiness: Readiness,
}

/// All pages.
pub fn router(state: HttpState) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { plain(StatusCode::OK, "ok\n") }))
        .route("/readyz", get(readyz))
        .with_state(state)
}

async fn index() -> Response {
    plain(
        StatusCode::OK,
        concat!(
            "leakline ",
            env!("CARGO_PKG_VERSION"),
            "\n\n\
             /metrics  what Go programs on this host allocate, for Prometheus\n\
             /healthz  200 while leakline lives\n\
             /readyz   200 once the first pass over all targets is complete\n",
        ),
    )
}

async fn readyz(State(state): State<HttpState>) -> Response {
    if state.readiness.is_ready() {
        plain(StatusCode::OK, "ready\n")
    } else {
        plain(StatusCode::SERVICE_UNAVAILABLE, "the first pass over all targets is not complete\n")
    }
}

async fn metrics(State(state): State<HttpState>, headers: HeaderMap) -> Response {
    let accept: Vec<&str> = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let (content_type, exposition) = if prefers_open_metrics(&accept.join(",")) {
        (OPEN_METRICS, state.metrics.open_metrics())
    } else {
        (CLASSIC, state.metrics.classic_text())
    };
    match exposition {
        Ok(exposition) => {
            let headers = [(CONTENT_TYPE, content_type), (X_CONTENT_TYPE_OPTIONS, "nosniff"), (VARY, "accept")];
            (headers, exposition).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "metrics could not be written");
            plain(StatusCode::INTERNAL_SERVER_ERROR, "metrics could not be written\n")
        }
    }
}

fn plain(status: StatusCode, body: &'static str) -> Response {
    (status, [(CONTENT_TYPE, PLAIN), (X_CONTENT_TYPE_OPTIONS, "nosniff")], body).into_response()
}

/// Whether an Accept header names `OpenMetrics` in a version that we write, and likes plain text no better.
fn prefers_open_metrics(accept: &str) -> bool {
    let (mut open_metrics, mut plain) = (0.0_f32, 0.0_f32);
    for range in accept.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let Some(media_type) = parts.next() else { continue };
        let (mut quality, mut version) = (1.0, None);
        for (name, value) in parts.filter_map(|parameter| parameter.split_once('=')) {
            let value = value.trim().trim_matches('"');
            match name.trim().to_ascii_lowercase().as_str() {
                "q" => quality = value.parse().unwrap_or(0.0),
                "version" => version = Some(value),
                _ => {}
            }
        }
        if media_type.eq_ignore_ascii_case("application/openmetrics-text") && matches!(version, None | Some("1.0.0")) {
            open_metrics = open_metrics.max(quality);
        } else if media_type.eq_ignore_ascii_case("text/plain") {
            plain = plain.max(quality);
        }
    }
    open_metrics > 0.0 && open_metrics >= plain
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, http::Request};
    use tower::ServiceExt as _;

    use super::*;
    use crate::export::{
        fixture,
        metrics::{MetricsSettings, ProcessKey},
    };

    fn state() -> HttpState {
        let metrics = Metrics::new(MetricsSettings::default());
        metrics.observe(ProcessKey(1), &fixture::report().process, &fixture::snapshot());
        HttpState { metrics, readiness: Readiness::new() }
    }

    /// Status, content type and body.
    fn ask(state: &HttpState, path: &str, accept: Option<&str>) -> (StatusCode, String, String) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut request = Request::builder().uri(path);
            if let Some(accept) = accept {
                request = request.header(ACCEPT, accept);
            }
            let response = router(state.clone()).oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
            let status = response.status();
            let content_type =
                response.headers().get(CONTENT_TYPE).map_or("", |value| value.to_str().unwrap()).to_owned();
            let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
            (status, content_type, String::from_utf8(body.to_vec()).unwrap())
        })
    }

    #[test]
    fn metrics_are_open_metrics_to_who_asks_for_it() {
        let (status, content_type, body) =
            ask(&state(), "/metrics", Some("application/openmetrics-text;version=1.0.0"));
        assert_eq!((status, content_type.as_str()), (StatusCode::OK, OPEN_METRICS));
        assert!(body.contains("# TYPE leakline_probe_hits counter\n") && body.ends_with("# EOF\n"));
    }

    #[test]
    fn metrics_are_classic_text_to_everyone_else() {
        for accept in [None, Some("*/*"), Some("text/plain"), Some("application/json")] {
            let (status, content_type, body) = ask(&state(), "/metrics", accept);
            assert_eq!((status, content_type.as_str()), (StatusCode::OK, CLASSIC));
            assert!(body.contains("# TYPE leakline_probe_hits_total counter\n") && !body.contains("# EOF"));
        }
    }

    #[test]
    fn negotiation_follows_quality_and_version() {
        let prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                          application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;q=0.4,\
                          text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        assert!(prefers_open_metrics(prometheus));
        assert!(prefers_open_metrics("Application/OpenMetrics-Text; Version=\"1.0.0\""));
        assert!(prefers_open_metrics("text/plain;q=0.5, application/openmetrics-text"));
        assert!(!prefers_open_metrics("application/openmetrics-text;q=0.4, text/plain;q=0.5"));
        assert!(!prefers_open_metrics("application/openmetrics-text;version=0.0.1"));
        assert!(!prefers_open_metrics("application/openmetrics-text;q=0"));
        assert!(!prefers_open_metrics("application/openmetrics-text;q=NaN"));
        assert!(!prefers_open_metrics(""));
        assert!(!prefers_open_metrics(";;,=,q="));
    }

    #[test]
    fn ready_only_after_the_latch_opened() {
        let state = state();
        assert_eq!(ask(&state, "/readyz", None).0, StatusCode::SERVICE_UNAVAILABLE);
        state.readiness.mark_ready();
        assert_eq!(ask(&state, "/readyz", None).0, StatusCode::OK);
    }

    #[test]
    fn healthy_while_it_answers_and_everything_else_is_unknown() {
        assert_eq!(ask(&state(), "/healthz", None).0, StatusCode::OK);
        assert_eq!(ask(&state(), "/debug/memory", None).0, StatusCode::NOT_FOUND);
    }

    #[test]
    fn the_index_lists_every_page() {
        let (status, _, body) = ask(&state(), "/", None);
        assert_eq!(status, StatusCode::OK);
        for path in ["/metrics", "/healthz", "/readyz"] {
            assert!(body.contains(path), "{path}");
        }
    }
}
