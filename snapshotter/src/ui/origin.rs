//! Who may look at the page, and what a browser may do with it.
//!
//! There is no password, as for the rest of the admin server, so the network decides who may look. But a page of somebody else, in the browser
//! of a person who may look, must not: browsers keep it from reading answers of other origins, unless it has made its own name point here
//! (DNS rebinding). So a name in `Host` must be known.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{
    CONTENT_SECURITY_POLICY, HOST, HeaderName, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::Response;

use crate::admin::refused;

/// Only the files of the page itself: no inline script or style, nothing from elsewhere, no frame around it, no form that is sent.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";

const HEADERS: [(HeaderName, &str); 6] = [
    (CONTENT_SECURITY_POLICY, POLICY),
    (X_FRAME_OPTIONS, "DENY"),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// Refuses requests under a name that is not known, and from other origins, and adds the headers that say what browsers may do.
pub(super) async fn guard(State(names): State<Arc<Vec<String>>>, request: Request, next: Next) -> Response {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let host = host.or(request.uri().host()).unwrap_or_default();
    let comes_from_elsewhere =
        request.headers().get("sec-fetch-site").is_some_and(|site| site != "same-origin" && site != "none");
    let mut response = if !is_known(host, &names) {
        let name = name_of(host);
        refused(
            StatusCode::FORBIDDEN,
            &format!(
                "edgefold is not known as {name:?}: use an IP address or localhost, or start edgefold with --page-host {name}"
            ),
        )
    } else if comes_from_elsewhere && request.uri().path() != "/" {
        refused(StatusCode::FORBIDDEN, "this is not for other sites")
    } else {
        next.run(request).await
    };
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// The host without its port.
fn name_of(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    }
}

fn is_known(host: &str, names: &[String]) -> bool {
    let name = name_of(host);
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    address.parse::<IpAddr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || names.iter().any(|known| known.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_are_known_are_answered() {
        let names = ["edgefold.example".to_owned()];
        for host in
            ["127.0.0.1:9464", "127.0.0.1", "[::1]:9464", "[::1]", "localhost:80", "LOCALHOST", "edgefold.example:9464"]
        {
            assert!(is_known(host, &names), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "127.0.0.1.evil.example:9464",
            "localhost.evil.example",
            "edgefold.example.evil:1",
            ":80",
        ] {
            assert!(!is_known(host, &names), "{host}");
        }
    }
}
