//! A headless Chromium that shows a page and is used as a person would: over [WebDriver](https://www.w3.org/TR/webdriver2/).

use std::cell::{Cell, RefCell};
use std::fmt::Write as _;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use reqwest::Method;
use rustix::process::{Pid, Signal, geteuid, kill_process_group};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::process::Process;
use crate::{TIMEOUT, eventually, tool, workspace};

/// The size of the page when a browser starts, in CSS pixels.
const SIZE: (u32, u32) = (1280, 800);

/// How long a method waits for an element that it needs, or for a condition.
const PATIENCE: Duration = Duration::from_secs(20);

/// The file with the output of chromedriver.
const LOG: &str = "chromedriver.log";

/// The name under which WebDriver refers to an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A running Chromium with one window and an empty profile: a light colour scheme, English, and UTC. It ends when it is dropped, with
/// all of its processes.
///
/// Every method waits until it has done what it says, and waits for the element that it needs. One that fails panics with the console
/// of the page, and leaves a screenshot in `target/screenshots`.
#[derive(Debug)]
pub struct Browser {
    driver: Process,
    client: reqwest::blocking::Client,
    /// The URL of the session.
    session: String,
    /// What the console has said so far. The driver tells everything once.
    console: RefCell<Vec<String>>,
    dark: Cell<bool>,
    reduced_motion: Cell<bool>,
    // Removed after the processes have ended.
    directory: TempDir,
}

impl Browser {
    /// Starts it, with an empty page.
    #[track_caller]
    pub fn start() -> Self {
        let directory = tempfile::Builder::new().prefix("browser-").tempdir().expect("a temporary folder");
        let mut command = Command::new(tool("bin/chromedriver"));
        // All of it is one process group, so that all of it can be killed. Nothing of the user's own settings gets in.
        command
            .arg("--port=0")
            .process_group(0)
            .env("HOME", directory.path())
            .envs([("LANGUAGE", "en"), ("TZ", "UTC")]);
        for folder in ["XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"] {
            command.env_remove(folder);
        }
        if let Some(file) = font_configuration(&directory) {
            command.env("FONTCONFIG_FILE", file);
        }
        let driver = Process::start("chromedriver", &mut command, &directory.path().join(LOG));
        let client = reqwest::blocking::Client::builder().timeout(TIMEOUT).build().expect("an HTTP client");
        let (console, dark, reduced_motion) = (RefCell::default(), Cell::default(), Cell::default());
        // From here on, dropping it ends its processes.
        let mut browser = Self { driver, client, session: String::new(), console, dark, reduced_motion, directory };
        browser.open_session();
        browser.resize(SIZE.0, SIZE.1);
        browser.emulate_media();
        // Instead of Chromium's page for a new tab.
        browser.open("about:blank");
        browser
    }

    #[track_caller]
    fn open_session(&mut self) {
        let mut args = vec![
            "--headless=new".to_owned(),
            format!("--user-data-dir={}", self.profile().join("profile").display()),
            format!("--window-size={},{}", SIZE.0, SIZE.1),
            "--force-color-profile=srgb".to_owned(),
            "--lang=en-US".to_owned(),
            // In a container, /dev/shm is often too small.
            "--disable-dev-shm-usage".to_owned(),
        ];
        if geteuid().is_root() {
            args.push("--no-sandbox".to_owned());
        }
        let options = json!({"binary": tool("bin/chromium"), "args": args});
        let capabilities = json!({"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "WARNING"}});
        // It has no other way to tell which port it got.
        let log = self.directory.path().join(LOG);
        let port = self.driver.wait_for("its port", || {
            let log = std::fs::read_to_string(&log).ok()?;
            log.split_once("started successfully on port ")?.1.split_once('.')?.0.parse::<u16>().ok()
        });
        self.session = format!("http://127.0.0.1:{port}/session");
        let answer = self.command(Method::POST, "", &json!({"capabilities": {"alwaysMatch": capabilities}}));
        let answer = answer.unwrap_or_else(|error| panic!("Chromium did not start: {error}\n{}", self.driver.output()));
        write!(self.session, "/{}", answer["sessionId"].as_str().expect("an id")).expect("a string can be written to");
    }

    /// The folder of its profile. The command line of each of its processes, or the environment, names it.
    pub fn profile(&self) -> &Path {
        self.directory.path()
    }

    /// Opens this page, and waits until it has loaded.
    #[track_caller]
    pub fn open(&self, url: &str) {
        self.post(&format!("open {url}"), "/url", &json!({"url": url}));
    }

    /// The text of the first element that `css` selects, as it is shown.
    #[track_caller]
    pub fn text(&self, css: &str) -> String {
        self.string_of(css, "text")
    }

    /// What assistive technology calls this element.
    #[track_caller]
    pub fn label(&self, css: &str) -> String {
        self.string_of(css, "computedlabel")
    }

    /// The role of this element for assistive technology, such as `button`.
    #[track_caller]
    pub fn role(&self, css: &str) -> String {
        self.string_of(css, "computedrole")
    }

    #[track_caller]
    fn string_of(&self, css: &str, property: &str) -> String {
        let value = self
            .at(css, &format!("read the {property} of {css}"), |element| self.get(&format!("{element}/{property}")));
        value.as_str().unwrap_or_else(|| panic!("{value} is not a string")).to_owned()
    }

    /// Waits until an element that `css` selects is visible.
    #[track_caller]
    pub fn wait_for(&self, css: &str) {
        self.at(css, &format!("see {css}"), |element| match self.get(&format!("{element}/displayed"))? {
            Value::Bool(true) => Ok(Value::Null),
            _ => Err("it is not visible".to_owned()),
        });
    }

    /// Waits until a JavaScript expression is true. `what` says in a failure what was waited for.
    #[track_caller]
    pub fn wait_until(&self, what: &str, expression: &str) {
        self.retry(&format!("wait until {what}"), || match self.try_eval(expression)? {
            Value::Bool(true) => Ok(Value::Null),
            value => Err(format!("{expression} is {value}")),
        });
    }

    /// The value of a JavaScript expression. That of a promise is waited for.
    #[track_caller]
    pub fn eval(&self, expression: &str) -> Value {
        self.expect(&format!("evaluate {expression}"), self.try_eval(expression))
    }

    fn try_eval(&self, expression: &str) -> Result<Value, String> {
        self.command(Method::POST, "/execute/sync", &json!({"script": format!("return ({expression})"), "args": []}))
    }

    /// Clicks in the middle of an element, as soon as that is visible and nothing covers it.
    #[track_caller]
    pub fn click(&self, css: &str) {
        self.at(css, &format!("click {css}"), |element| {
            self.command(Method::POST, &format!("{element}/click"), &json!({}))
        });
    }

    /// Types into an element, after what is in it.
    #[track_caller]
    pub fn type_into(&self, css: &str, text: &str) {
        let keys = json!({"text": text});
        self.at(css, &format!("type into {css}"), |element| {
            self.command(Method::POST, &format!("{element}/value"), &keys)
        });
    }

    /// Presses a key where the focus is: a character, or a name as in [`KeyboardEvent.key`], such as `ArrowLeft`. `Shift+Tab` holds the
    /// first while it presses the second.
    ///
    /// [`KeyboardEvent.key`]: https://developer.mozilla.org/en-US/docs/Web/API/UI_Events/Keyboard_event_key_values
    #[track_caller]
    pub fn press(&self, key: &str) {
        let keys: Vec<char> = if key == "+" { vec!['+'] } else { key.split('+').map(key_code).collect() };
        let event = |kind: &str, key: &char| json!({"type": kind, "value": key.to_string()});
        let down = keys.iter().map(|key| event("keyDown", key));
        let up = keys.iter().rev().map(|key| event("keyUp", key));
        self.act(
            &format!("press {key}"),
            &json!({"type": "key", "id": "keyboard", "actions": down.chain(up).collect::<Value>()}),
        );
    }

    /// Moves the mouse to a point of the window, in CSS pixels from the top left.
    #[track_caller]
    pub fn mouse_move(&self, x: i32, y: i32) {
        self.act(&format!("move the mouse to {x}, {y}"), &mouse(&[move_to(x, y, 0)]));
    }

    /// Presses the mouse button at a point, moves to the other, and releases it there.
    #[track_caller]
    pub fn drag(&self, from: (i32, i32), to: (i32, i32)) {
        let button = |kind: &str| json!({"type": kind, "button": 0});
        // A move that takes some time is several events, as with a real mouse.
        let actions =
            [move_to(from.0, from.1, 0), button("pointerDown"), move_to(to.0, to.1, 100), button("pointerUp")];
        self.act(&format!("drag from {from:?} to {to:?}"), &mouse(&actions));
    }

    /// Turns the wheel at a point: `dy` pixels downwards.
    #[track_caller]
    pub fn scroll(&self, x: i32, y: i32, dy: i32) {
        let action =
            json!({"type": "scroll", "x": x, "y": y, "deltaX": 0, "deltaY": dy, "duration": 0, "origin": "viewport"});
        self.act(&format!("scroll by {dy} at {x}, {y}"), &json!({"type": "wheel", "id": "wheel", "actions": [action]}));
    }

    #[track_caller]
    fn act(&self, what: &str, source: &Value) {
        self.post(what, "/actions", &json!({"actions": [source]}));
    }

    /// Makes the page this large, in CSS pixels.
    #[track_caller]
    pub fn resize(&self, width: u32, height: u32) {
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.devtools("Emulation.setDeviceMetricsOverride", &metrics);
    }

    /// Whether the user prefers a dark colour scheme.
    #[track_caller]
    pub fn emulate_dark(&self, dark: bool) {
        self.dark.set(dark);
        self.emulate_media();
    }

    /// Whether the user prefers that nothing moves.
    #[track_caller]
    pub fn emulate_reduced_motion(&self, reduced: bool) {
        self.reduced_motion.set(reduced);
        self.emulate_media();
    }

    #[track_caller]
    fn emulate_media(&self) {
        let scheme = if self.dark.get() { "dark" } else { "light" };
        let motion = if self.reduced_motion.get() { "reduce" } else { "no-preference" };
        let features = json!([
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": motion},
        ]);
        self.devtools("Emulation.setEmulatedMedia", &json!({"features": features}));
    }

    /// Runs a command of the [DevTools protocol](https://chromedevtools.github.io/devtools-protocol/), for what WebDriver lacks.
    #[track_caller]
    fn devtools(&self, command: &str, parameters: &Value) {
        self.post(command, "/goog/cdp/execute", &json!({"cmd": command, "params": parameters}));
    }

    /// Writes what is visible to a PNG file.
    #[track_caller]
    pub fn screenshot(&self, path: impl AsRef<Path>) {
        self.expect("take a screenshot", self.try_screenshot(path.as_ref()));
    }

    fn try_screenshot(&self, path: &Path) -> Result<(), String> {
        let image = self.get("/screenshot")?;
        let image = BASE64_STANDARD.decode(image.as_str().ok_or("no image")?).map_err(|error| error.to_string())?;
        std::fs::write(path, image).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// All warnings and errors of the console so far, one a line. Violations of a Content-Security-Policy and failed requests are
    /// among them.
    pub fn console(&self) -> Vec<String> {
        let new = self.command(Method::POST, "/se/log", &json!({"type": "browser"})).unwrap_or_default();
        let line = |entry: &Value| {
            let part = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
            format!("{} {}: {}", part("level"), part("source"), part("message"))
        };
        let mut console = self.console.borrow_mut();
        console.extend(new.as_array().into_iter().flatten().map(line));
        console.clone()
    }

    /// The URLs that the page has asked for, apart from its own. The browser keeps the first 250.
    #[track_caller]
    pub fn requests(&self) -> Vec<String> {
        let urls = self.eval("performance.getEntriesByType('resource').map(entry => entry.name)");
        urls.as_array().into_iter().flatten().filter_map(|url| url.as_str().map(str::to_owned)).collect()
    }

    /// Runs `command` with the path of the first element that `css` selects, again until it succeeds: the page may still have to make
    /// the element, replace it or move it.
    #[track_caller]
    fn at(&self, css: &str, what: &str, command: impl Fn(&str) -> Result<Value, String>) -> Value {
        self.retry(what, || {
            let found = self.command(Method::POST, "/element", &json!({"using": "css selector", "value": css}))?;
            command(&format!("/element/{}", found[ELEMENT].as_str().ok_or("no element")?))
        })
    }

    #[track_caller]
    fn retry(&self, what: &str, attempt: impl Fn() -> Result<Value, String>) -> Value {
        let deadline = Instant::now() + PATIENCE;
        let outcome = eventually(what, || match attempt() {
            Err(_) if Instant::now() < deadline => None,
            outcome => Some(outcome),
        });
        self.expect(what, outcome)
    }

    // The caller's line is in the panic, which a closure would hide.
    #[track_caller]
    fn expect<T>(&self, what: &str, outcome: Result<T, String>) -> T {
        match outcome {
            Ok(value) => value,
            Err(error) => self.fail(what, &error),
        }
    }

    #[track_caller]
    fn post(&self, what: &str, path: &str, body: &Value) {
        self.expect(what, self.command(Method::POST, path, body));
    }

    fn get(&self, path: &str) -> Result<Value, String> {
        self.command(Method::GET, path, &Value::Null)
    }

    /// Runs a command of WebDriver, and returns its value, or what it says is wrong.
    fn command(&self, method: Method, path: &str, body: &Value) -> Result<Value, String> {
        let request = self.client.request(method, format!("{}{path}", self.session));
        let request = if body.is_null() { request } else { request.body(body.to_string()) };
        let response = request.send().map_err(|error| format!("chromedriver does not answer: {error}"))?;
        let failed = !response.status().is_success();
        let text = response.text().map_err(|error| error.to_string())?;
        let mut answer: Value = serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))?;
        let value = answer["value"].take();
        if failed { Err(value["message"].as_str().unwrap_or(&text).to_owned()) } else { Ok(value) }
    }

    /// Panics with all that helps to find out why.
    #[track_caller]
    fn fail(&self, what: &str, error: &str) -> ! {
        let url = self.get("/url").unwrap_or_default();
        let screenshot = match self.try_screenshot(&screenshot_path()) {
            Ok(()) => screenshot_path().display().to_string(),
            Err(error) => error,
        };
        let console = self.console().join("\n  ");
        panic!("the browser could not {what}: {error}\npage: {url}\nscreenshot: {screenshot}\nconsole:\n  {console}");
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Chromium ends in order, so that nothing writes to the folder while that is removed. What is left is killed.
        let _ended = self.command(Method::DELETE, "", &Value::Null);
        if let Some(group) = i32::try_from(self.driver.pid()).ok().and_then(Pid::from_raw) {
            let _killed = kill_process_group(group, Signal::KILL);
        }
    }
}

/// A configuration in which only the fonts of the Makefile exist, so that a screenshot is the same everywhere; `None` if the Chromium
/// is the host's.
fn font_configuration(directory: &TempDir) -> Option<PathBuf> {
    let fonts = workspace().join(".tools/chromium/usr/share/fonts");
    let alias =
        |(name, font)| format!("<alias><family>{name}</family><prefer><family>{font}</family></prefer></alias>\n");
    let aliases = [("sans-serif", "DejaVu Sans"), ("serif", "DejaVu Serif"), ("monospace", "DejaVu Sans Mono")]
        .map(alias)
        .concat();
    let (fonts, cache) = (fonts.is_dir().then_some(fonts)?, directory.path().join("fonts"));
    let path = directory.path().join("fonts.conf");
    let text = format!(
        "<fontconfig>\n<dir>{}</dir>\n<cachedir>{}</cachedir>\n{aliases}</fontconfig>\n",
        fonts.display(),
        cache.display()
    );
    std::fs::write(&path, text).expect("a configuration of fonts");
    Some(path)
}

/// Where a failed test leaves a screenshot: its name is that of the test, which is the name of its thread.
fn screenshot_path() -> PathBuf {
    let program = std::env::current_exe().expect("the path of this program");
    // A test is in `target/debug/deps`.
    let folder = program.ancestors().nth(3).expect("a folder for each profile").join("screenshots");
    std::fs::create_dir_all(&folder).expect("a folder for screenshots");
    let thread = std::thread::current();
    folder.join(format!("{}.png", thread.name().unwrap_or("browser").replace("::", "-")))
}

fn mouse(actions: &[Value]) -> Value {
    json!({"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}, "actions": actions})
}

fn move_to(x: i32, y: i32, milliseconds: u32) -> Value {
    json!({"type": "pointerMove", "x": x, "y": y, "duration": milliseconds, "origin": "viewport"})
}

/// The character that stands for a key in [WebDriver](https://www.w3.org/TR/webdriver2/#keyboard-actions).
#[track_caller]
fn key_code(name: &str) -> char {
    match name {
        "Backspace" => '\u{e003}',
        "Tab" => '\u{e004}',
        "Enter" => '\u{e007}',
        "Shift" => '\u{e008}',
        "Control" => '\u{e009}',
        "Alt" => '\u{e00a}',
        "Escape" => '\u{e00c}',
        "PageUp" => '\u{e00e}',
        "PageDown" => '\u{e00f}',
        "End" => '\u{e010}',
        "Home" => '\u{e011}',
        "ArrowLeft" => '\u{e012}',
        "ArrowUp" => '\u{e013}',
        "ArrowRight" => '\u{e014}',
        "ArrowDown" => '\u{e015}',
        "Delete" => '\u{e017}',
        _ => match (name.chars().next(), name.chars().count()) {
            (Some(character), 1) => character,
            _ => panic!("there is no key {name:?} here"),
        },
    }
}
