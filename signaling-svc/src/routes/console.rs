//! `GET /console/`: the console page. Its files are part of this program: nothing is read from disk or from elsewhere, so
//! that it works offline and always fits this release's API.

use std::sync::LazyLock;

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use service_kit::http::ApiError;
use sha2::{Digest, Sha256};

/// Only our own files run. The page connects to the media nodes' sockets and, to play a recording, to the object store,
/// whose addresses are those of the deployment.
const CSP: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                   connect-src 'self' ws: wss: http: https:; media-src 'self' blob: http: https:; worker-src 'self'; \
                   manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const PERMISSIONS_POLICY: HeaderName = HeaderName::from_static("permissions-policy");

/// A file of the page.
struct Asset {
    path: &'static str,
    bytes: &'static [u8],
    etag: String,
}

macro_rules! assets {
    ($($path:literal),* $(,)?) => {
        [$(($path, include_bytes!(concat!("../../console/", $path)) as &[u8])),*]
    };
}

static ASSETS: LazyLock<Vec<Asset>> = LazyLock::new(|| {
    let files = assets![
        "index.html",
        "style.css",
        "icon.svg",
        "main.js",
        "api.js",
        "dom.js",
        "format.js",
        "theme.js",
        "key.js",
        "talk/page.js",
        "talk/view.js",
        "talk/state.js",
        "talk/rtvi.js",
        "talk/microphone.js",
        "talk/player.js",
        "talk/meter.js",
        "talk/worklets.js",
        "talk/socket.js",
        "talk/webrtc.js",
        "talk/lifeline.js",
        "calls/day.js",
        "calls/live.js",
        "calls/page.js",
        "call/page.js",
        "call/wav.js",
        "call/waveform.js",
        "call/timing.js",
        "nodes/page.js",
    ];
    let asset = |(path, bytes): (&'static str, &'static [u8])| Asset {
        path,
        bytes,
        etag: format!(
            "\"{}\"",
            hex::encode(Sha256::digest(bytes).get(..12).unwrap_or_default())
        ),
    };
    files.into_iter().map(asset).collect()
});

/// The page's files; without state, and open to everyone.
pub fn router() -> Router {
    Router::new()
        .route("/console", get(|| async { Redirect::permanent("/console/") }))
        .route("/console/", get(|headers: HeaderMap| async move { page(&headers) }))
        .route("/console/{*path}", get(file))
}

/// The page itself.
pub fn page(headers: &HeaderMap) -> Response {
    find("index.html").map_or_else(not_there, |asset| answer(asset, headers))
}

async fn file(Path(path): Path<String>, headers: HeaderMap) -> Response {
    find(&path).map_or_else(not_there, |asset| answer(asset, &headers))
}

fn find(path: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.path == path)
}

fn not_there() -> Response {
    ApiError::NotFound("the console page has no such file".to_owned()).into_response()
}

/// Browsers ask each time whether it is still the same file: after an update of the server nothing old is shown.
fn answer(asset: &'static Asset, headers: &HeaderMap) -> Response {
    let known = headers
        .get(IF_NONE_MATCH)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|tags| {
            tags.split(',')
                .any(|tag| tag.trim().trim_start_matches("W/") == asset.etag)
        });
    let mut response = if known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let mut response = Body::from(Bytes::from_static(asset.bytes)).into_response();
        let kind = HeaderValue::from_static(content_type(asset.path));
        response.headers_mut().insert(CONTENT_TYPE, kind);
        response
    };
    let fixed = [
        (CACHE_CONTROL, "no-cache"),
        (CONTENT_SECURITY_POLICY, CSP),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (PERMISSIONS_POLICY, "microphone=(self), camera=(), geolocation=()"),
    ];
    for (name, value) in fixed {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    if let Ok(etag) = HeaderValue::from_str(&asset.etag) {
        response.headers_mut().insert(ETAG, etag);
    }
    response
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map(|(_, kind)| kind) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some(_) | None => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;

    fn files_below(folder: &Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        entries
            .flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] })
            .collect()
    }

    #[test]
    fn every_file_of_the_page_is_served_with_a_type() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("console");
        for file in files_below(&root) {
            let path = file.strip_prefix(&root).unwrap().to_str().unwrap();
            if path == "package.json" {
                // For Node, which runs the unit tests of these modules; browsers need no such thing.
                continue;
            }
            assert!(find(path).is_some(), "{path} is not in the list of assets");
            assert_ne!(content_type(path), "application/octet-stream", "{path}");
        }
    }
}
