//! The files of the page. They are in the binary, as they are: there is nothing to build.

use std::sync::LazyLock;

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use xxhash_rust::xxh3::xxh3_64;

/// A file of the page.
#[derive(Debug)]
pub(super) struct Asset {
    /// Where the page finds it.
    pub(super) path: &'static str,
    content_type: &'static str,
    content: &'static str,
}

macro_rules! assets {
    ($($path:literal $file:literal $content_type:literal)*) => {
        &[$(Asset { path: $path, content_type: $content_type, content: include_str!(concat!("assets/", $file)) }),*]
    };
}

/// All files.
pub(super) const ASSETS: &[Asset] = assets! {
    "/" "index.html" "text/html; charset=utf-8"
    "/ui/page.css" "page.css" "text/css; charset=utf-8"
    "/ui/icon.svg" "icon.svg" "image/svg+xml"
    "/ui/page.js" "page.js" "text/javascript; charset=utf-8"
    "/ui/address.js" "address.js" "text/javascript; charset=utf-8"
    "/ui/curve.js" "curve.js" "text/javascript; charset=utf-8"
    "/ui/fleet.js" "fleet.js" "text/javascript; charset=utf-8"
    "/ui/ask.js" "ask.js" "text/javascript; charset=utf-8"
    "/ui/ipv6.js" "ipv6.js" "text/javascript; charset=utf-8"
    "/ui/lists.js" "lists.js" "text/javascript; charset=utf-8"
    "/ui/log.js" "log.js" "text/javascript; charset=utf-8"
    "/ui/map.js" "map.js" "text/javascript; charset=utf-8"
    "/ui/networks.js" "networks.js" "text/javascript; charset=utf-8"
    "/ui/state.js" "state.js" "text/javascript; charset=utf-8"
    "/ui/time.js" "time.js" "text/javascript; charset=utf-8"
    "/ui/words.js" "words.js" "text/javascript; charset=utf-8"
    "/ui/write.js" "write.js" "text/javascript; charset=utf-8"
};

/// Changes with any of the files, so that a browser never mixes those of two versions.
static TAG: LazyLock<String> = LazyLock::new(|| {
    let all: Vec<u8> = ASSETS.iter().flat_map(|asset| asset.content.bytes()).collect();
    format!("\"{:016x}\"", xxh3_64(&all))
});

impl Asset {
    /// The file, unless the browser has it.
    pub(super) fn response(&self, request: &HeaderMap) -> Response {
        let headers = [(CACHE_CONTROL, "no-cache"), (ETAG, TAG.as_str()), (CONTENT_TYPE, self.content_type)];
        if request.get(IF_NONE_MATCH).is_some_and(|tag| tag.as_bytes() == TAG.as_bytes()) {
            return (StatusCode::NOT_MODIFIED, headers).into_response();
        }
        (headers, self.content).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_small() {
        let bytes: usize = ASSETS.iter().map(|asset| asset.content.len()).sum();
        assert!(bytes < 150_000, "{bytes} bytes");
    }
}
