//! The harness of the tests in a browser: it does what it says, and leaves nothing behind.
#![allow(clippy::unwrap_used, reason = "a failure in a helper must fail the test")]

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::mpsc;
use std::thread;

use axum::Router;
use axum::http::header;
use axum::routing::get;
use edgefold_tests::{Browser, eventually};
use serde_json::json;

const PAGE: &str = r#"<!doctype html>
<html lang="en">
<title>A page</title>
<link rel="stylesheet" href="style.css">
<button aria-label="Count up">+1</button>
<output>0</output>
<input aria-label="Name">
<p id="keys"></p>
<p id="mouse"></p>
<script>document.title = "an inline script";</script>
<script src="script.js"></script>
"#;

const STYLE: &str = "
body { background: rgb(255, 255, 255); margin: 0; min-height: 3000px; }
@media (prefers-color-scheme: dark) { body { background: rgb(17, 17, 17); } }
";

const SCRIPT: &str = r##"
const show = (id, text) => { document.querySelector(id).textContent += text; };
let count = 0;
document.querySelector("button").onclick = () => setTimeout(() => { document.querySelector("output").value = ++count; }, 50);
onkeydown = event => show("#keys", `${event.shiftKey && event.key !== "Shift" ? "shifted " : ""}${event.key} `);
onmousedown = event => show("#mouse", `down ${event.x},${event.y} `);
onmouseup = event => show("#mouse", `up ${event.x},${event.y} `);
"##;

/// A small page, whose policy allows its own files and nothing else.
struct Site {
    url: String,
    _runtime: tokio::runtime::Runtime,
}

impl Site {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let policy = "default-src 'none'; script-src 'self'; style-src 'self'";
        let file = |kind: &'static str, text: &'static str| {
            get(
                move || async move { ([(header::CONTENT_TYPE, kind), (header::CONTENT_SECURITY_POLICY, policy)], text) },
            )
        };
        let router = Router::new()
            .route("/", file("text/html", PAGE))
            .route("/style.css", file("text/css", STYLE))
            .route("/script.js", file("text/javascript", SCRIPT))
            .route("/favicon.ico", file("image/x-icon", ""));
        runtime.spawn(async move { axum::serve(listener, router).await });
        Self { url, _runtime: runtime }
    }
}

#[test]
fn a_page_is_read_and_clicked() {
    let (site, browser) = (Site::start(), Browser::start());
    browser.open(&site.url);
    assert_eq!(browser.text("output"), "0");
    browser.click("button");
    browser.wait_until("the count is 1", "document.querySelector('output').value === '1'");
    assert_eq!((browser.text("output"), browser.text("button")), ("1".to_owned(), "+1".to_owned()));
    assert_eq!((browser.role("button"), browser.label("button")), ("button".to_owned(), "Count up".to_owned()));
    assert_eq!(
        browser.eval("Promise.resolve({count: document.querySelectorAll('button').length})"),
        json!({"count": 1})
    );
    assert_eq!(browser.requests(), ["style.css", "script.js"].map(|file| format!("{}{file}", site.url)));
}

#[test]
fn keys_and_mouse_reach_the_page() {
    let (site, browser) = (Site::start(), Browser::start());
    browser.open(&site.url);
    for key in ["ArrowLeft", "+", "Enter"] {
        browser.press(key);
    }
    browser.press("Shift+Tab");
    assert_eq!(browser.text("#keys"), "ArrowLeft shifted + Enter Shift shifted Tab", "as on a US keyboard");
    browser.type_into("input", "edge");
    browser.type_into("input", "fold");
    assert_eq!(browser.eval("document.querySelector('input').value"), "edgefold");

    browser.drag((300, 200), (320, 250));
    assert_eq!(browser.text("#mouse"), "down 300,200 up 320,250");
    browser.mouse_move(20, 10);
    assert_eq!(browser.eval("document.querySelector('button').matches(':hover')"), true);
    browser.scroll(300, 200, 120);
    browser.wait_until("the page has scrolled", "scrollY === 120");
}

#[test]
fn the_size_and_the_preferences_of_the_user_are_emulated() {
    let (site, browser) = (Site::start(), Browser::start());
    browser.open(&site.url);
    let background = || browser.eval("getComputedStyle(document.body).backgroundColor");
    assert_eq!(background(), "rgb(255, 255, 255)");
    browser.emulate_dark(true);
    browser.emulate_reduced_motion(true);
    assert_eq!(background(), "rgb(17, 17, 17)");
    assert_eq!(browser.eval("matchMedia('(prefers-reduced-motion: reduce)').matches"), true);
    browser.emulate_dark(false);
    assert_eq!(background(), "rgb(255, 255, 255)");
    assert_eq!(browser.eval("matchMedia('(prefers-reduced-motion: reduce)').matches"), true);

    assert_eq!(browser.eval("[innerWidth, innerHeight]"), json!([1280, 800]));
    browser.resize(640, 480);
    assert_eq!(browser.eval("[innerWidth, innerHeight]"), json!([640, 480]));
    let path = tempfile::Builder::new().suffix(".png").tempfile().unwrap().into_temp_path();
    browser.screenshot(&path);
    // The width and the height stand after the signature of a PNG file, and the header of its first chunk.
    let image = std::fs::read(&path).unwrap();
    let number = |at: usize| u32::from_be_bytes(image[at..at + 4].try_into().unwrap());
    assert_eq!((&image[1..4], number(16), number(20)), (&b"PNG"[..], 640, 480));
}

#[test]
fn a_violation_of_the_policy_is_in_the_console() {
    let (site, browser) = (Site::start(), Browser::start());
    browser.open(&site.url);
    assert_eq!(browser.eval("document.title"), "A page", "the inline script has not run");
    let violation = || browser.console().into_iter().find(|line| line.contains("Content Security Policy"));
    let line = eventually("the violation", violation);
    assert!(line.contains("inline script"), "{line}");
    assert_eq!(violation(), Some(line), "it is told again");
}

#[test]
fn nothing_is_left_of_a_test_that_panics() {
    let (sender, receiver) = mpsc::channel();
    let test = thread::spawn(move || {
        let browser = Browser::start();
        let profile = browser.profile().to_owned();
        sender.send((processes(&profile), profile)).unwrap();
        panic!("this panic is part of the test");
    });
    let (running, profile) = receiver.recv().unwrap();
    assert!(test.join().is_err());
    assert!(running.len() > 2, "chromedriver, Chromium and its own children: {running:?}");
    eventually("the end of all its processes", || processes(&profile).is_empty().then_some(()));
    assert!(!profile.exists(), "{}", profile.display());
}

/// The names of the processes that have this folder on their command line or in their environment.
fn processes(folder: &Path) -> Vec<String> {
    let folder = folder.to_str().unwrap().as_bytes();
    let names = |process: &Path| {
        let read = |file: &str| std::fs::read(process.join(file)).unwrap_or_default();
        let named = |file: &str| read(file).windows(folder.len()).any(|window| window == folder);
        (named("cmdline") || named("environ")).then(|| String::from_utf8_lossy(&read("comm")).into_owned())
    };
    std::fs::read_dir("/proc").unwrap().filter_map(|entry| names(&entry.unwrap().path())).collect()
}
