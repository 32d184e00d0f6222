//! `GET /`: GraphiQL in the browser, as `make playground` built it, from this server alone.

use std::path::{Path, PathBuf};

use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{Html, IntoResponse as _, Response};
use axum::routing::get;
use axum::{Router, middleware};
use tower_http::services::ServeDir;

/// Nothing from any other host and no script in the page. What GraphiQL needs beyond that: fonts and pictures
/// inside the style sheet, and style elements, which its dialogs write. `'self'` covers the WebSocket to this
/// server too.
const POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; font-src 'self' data:; \
    img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HEADERS: [(HeaderName, &str); 4] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    // Kept by the browser, asked for again each time: an `ETag` answers that, and a new build is seen at
    // once.
    (header::CACHE_CONTROL, "no-cache"),
];

const NOT_BUILT: &str = r#"<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>Kontor</title></head>
<body>
<h1>Kontor is running</h1>
<p>The API is at <code>/graphql</code>; <code>schema.graphql</code> describes it.</p>
<p>The playground has not been built. Install <a href="https://nodejs.org/">Node.js</a> (Debian: <code>apt-get install
nodejs npm</code>), run <code>make playground</code> where Kontor's sources are, and load this page again.</p>
</body>
</html>
"#;

/// The page and its files. `dist` is the folder that `make playground` fills; it may be filled while the
/// server runs. Without it the page says how to get it.
pub fn routes(dist: Option<PathBuf>) -> Router {
    let page = dist.as_ref().map(|dist| dist.join("index.html"));
    let mut router = Router::new().route("/", get(async move || serve_page(page.as_deref()).await));
    if let Some(dist) = dist {
        let files = ServeDir::new(dist)
            .precompressed_gzip()
            .append_index_html_on_directories(false);
        router = router.nest_service("/playground", files);
    }
    router.layer(middleware::map_response(harden))
}

async fn serve_page(page: Option<&Path>) -> Response {
    let built = match page {
        Some(page) => tokio::fs::read_to_string(page).await.ok(),
        None => None,
    };
    match built {
        Some(page) => Html(page).into_response(),
        None => Html(NOT_BUILT).into_response(),
    }
}

async fn harden(mut response: Response) -> Response {
    for (name, value) in HEADERS {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::http::{Request, StatusCode};
    use tower::ServiceExt as _;

    use super::*;

    async fn fetch(
        dist: Option<&Path>,
        path: &str,
        headers: &[(HeaderName, &str)],
    ) -> (Response<()>, String) {
        let mut request = Request::get(path);
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        let request = request.body(Body::empty()).unwrap();
        let response = routes(dist.map(Path::to_owned)).oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        (
            Response::from_parts(parts, ()),
            String::from_utf8_lossy(&body).into_owned(),
        )
    }

    fn built() -> tempfile::TempDir {
        let dist = tempfile::tempdir().unwrap();
        for (name, contents) in [
            ("index.html", "the page"),
            ("app.js", "the script"),
            ("app.js.gz", "the script, gzipped"),
        ] {
            std::fs::write(dist.path().join(name), contents).unwrap();
        }
        dist
    }

    #[tokio::test]
    async fn the_page_and_its_files_are_served() {
        let dist = built();
        let (response, body) = fetch(Some(dist.path()), "/", &[]).await;
        assert_eq!((response.status(), body.as_str()), (StatusCode::OK, "the page"));
        assert_eq!(
            response.headers()[header::CONTENT_TYPE],
            "text/html; charset=utf-8"
        );
        let (response, body) = fetch(Some(dist.path()), "/playground/app.js", &[]).await;
        assert_eq!((response.status(), body.as_str()), (StatusCode::OK, "the script"));
        assert_eq!(response.headers()[header::CONTENT_TYPE], "text/javascript");
        let (response, _) = fetch(Some(dist.path()), "/playground/missing.js", &[]).await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
    }

    #[tokio::test]
    async fn files_go_out_gzipped_to_who_understands_that() {
        let dist = built();
        let (response, body) = fetch(
            Some(dist.path()),
            "/playground/app.js",
            &[(header::ACCEPT_ENCODING, "gzip")],
        )
        .await;
        assert_eq!(body, "the script, gzipped");
        assert_eq!(response.headers()[header::CONTENT_ENCODING], "gzip");
        assert_eq!(response.headers()[header::CONTENT_TYPE], "text/javascript");
    }

    #[tokio::test]
    async fn a_file_is_sent_once() {
        let dist = built();
        let (response, _) = fetch(Some(dist.path()), "/playground/app.js", &[]).await;
        let etag = response.headers()[header::ETAG].to_str().unwrap();
        let (response, body) = fetch(
            Some(dist.path()),
            "/playground/app.js",
            &[(header::IF_NONE_MATCH, etag)],
        )
        .await;
        assert_eq!((response.status(), body.as_str()), (StatusCode::NOT_MODIFIED, ""));
    }

    #[tokio::test]
    async fn every_answer_forbids_other_hosts() {
        let dist = built();
        for path in ["/", "/playground/app.js", "/playground/missing.js"] {
            let (response, _) = fetch(Some(dist.path()), path, &[]).await;
            let policy = response.headers()[header::CONTENT_SECURITY_POLICY]
                .to_str()
                .unwrap();
            assert!(policy.starts_with("default-src 'self';"), "{path}: {policy}");
            assert_eq!(response.headers()[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        }
    }

    #[tokio::test]
    async fn without_a_build_the_page_says_how_to_get_one_and_finds_it_later() {
        let dist = tempfile::tempdir().unwrap();
        for dist in [None, Some(dist.path())] {
            let (response, body) = fetch(dist, "/", &[]).await;
            assert_eq!(response.status(), StatusCode::OK);
            assert!(
                body.contains("make playground") && body.contains("/graphql"),
                "{body}"
            );
        }
        std::fs::write(dist.path().join("index.html"), "the page").unwrap();
        assert_eq!(fetch(Some(dist.path()), "/", &[]).await.1, "the page");
    }

    #[tokio::test]
    async fn nothing_outside_the_folder_is_served() {
        let dist = built();
        for path in [
            "/playground/../Cargo.toml",
            "/playground/%2e%2e/%2e%2e/etc/passwd",
            "/playground//etc/passwd",
        ] {
            let (response, _) = fetch(Some(dist.path()), path, &[]).await;
            assert_ne!(response.status(), StatusCode::OK, "{path}");
        }
    }
}
