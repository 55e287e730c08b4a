//! The page, in a real browser: what it shows is what the log says, and nobody gets in through it.
#![allow(clippy::unwrap_used, reason = "a failure in a helper must fail the test")]

use std::net::Ipv4Addr;

use edgefold_tests::{Browser, Edgefold, FleetOptions, Ui, Xds, eventually, sha256, tool};
use reqwest::blocking::Client;
use serde_json::{Value, json};

const SECRET: &str = "a secret";

/// A browser with the page.
struct Page {
    browser: Browser,
    url: String,
}

impl Page {
    /// Opens the page of a running edgefold at this place, such as `#map?range=10.0.0.0/8`, and waits until it shows the log.
    #[track_caller]
    fn open(url: &str, place: &str) -> Self {
        let this = Self { browser: Browser::start(), url: url.to_owned() };
        this.go(place);
        this
    }

    #[track_caller]
    fn of(ui: &Ui, place: &str) -> Self {
        Self::open(&format!("http://{}", ui.address), place)
    }

    /// Loads the page again, at another place.
    #[track_caller]
    fn go(&self, place: &str) {
        self.browser.open("about:blank");
        self.browser.open(&format!("{}/{place}", self.url));
        self.browser.wait_until("the log has been read", "document.body.dataset.offset !== undefined");
    }

    /// Waits until the map is painted.
    #[track_caller]
    fn wait_for_map(&self) {
        self.browser
            .wait_until("the map is painted", "document.getElementById('canvas').dataset.isComplete === 'true'");
    }

    /// Waits until an element has a text.
    #[track_caller]
    fn wait_for_text(&self, css: &str, text: &str) {
        let expression = format!("(document.querySelector({css:?})?.innerText ?? '').includes({text:?})");
        self.browser.wait_until(&format!("{css} says {text:?}"), &expression);
    }

    /// Where an address is in the window while the whole map is shown.
    fn place(&self, address: &str) -> (i32, i32) {
        let canvas = self.browser.eval("(() => { const c = document.getElementById('canvas').getBoundingClientRect(); return [c.left, c.top, c.width, c.height]; })()");
        let [left, top, width, height] = [0, 1, 2, 3].map(|at| canvas[at].as_f64().unwrap());
        let (x, y) = on_curve(address.parse::<Ipv4Addr>().unwrap().to_bits(), 32);
        let scale = width.min(height) / 65536.0;
        let at = |middle: f64, place: u32| (middle + (f64::from(place) + 0.5 - 32768.0) * scale).floor();
        #[allow(clippy::cast_possible_truncation, reason = "pixels of a window")]
        let place = (at(left + width / 2.0, x) as i32, at(top + height / 2.0, y) as i32);
        place
    }

    /// The colour of most pixels around a point of the window: a line or a name may be there too.
    fn colour(&self, (x, y): (i32, i32)) -> [i64; 3] {
        let pixels = self.browser.eval(&format!(
            "(() => {{ const canvas = document.getElementById('canvas'); const at = canvas.getBoundingClientRect(); \
             return [...canvas.getContext('2d').getImageData({x} - at.left - 2, {y} - at.top - 2, 5, 5).data]; }})()"
        ));
        let pixels: Vec<i64> = pixels.as_array().unwrap().iter().map(|byte| byte.as_i64().unwrap()).collect();
        let colours: Vec<[i64; 3]> = pixels.chunks(4).map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect();
        *colours.iter().max_by_key(|colour| colours.iter().filter(|other| other == colour).count()).unwrap()
    }

    /// Whether a point of the map is in the colour of what is refused.
    fn is_red(&self, place: (i32, i32)) -> bool {
        let [red, green, blue] = self.colour(place);
        red > green + 60 && red > blue + 60
    }

    /// Nothing went wrong in the browser, and the page has asked nobody else.
    #[track_caller]
    fn assert_is_clean(&self) {
        // It is the tests that read the map.
        let console = self.browser.console().into_iter().filter(|line| !line.contains("willReadFrequently"));
        assert_eq!(console.collect::<Vec<_>>(), Vec::<String>::new());
        let elsewhere: Vec<String> =
            self.browser.requests().into_iter().filter(|url| !url.starts_with(&self.url)).collect();
        assert_eq!(elsewhere, Vec::<String>::new());
    }
}

/// Where the Hilbert curve has an address, by its definition: of four quarters in the order of a U, the first and the last are flipped.
fn on_curve(address: u32, bits: u32) -> (u32, u32) {
    if bits == 0 {
        return (0, 0);
    }
    let half = 1 << (bits / 2 - 1);
    let (x, y) = on_curve(address & ((1 << (bits - 2)) - 1), bits - 2);
    match address >> (bits - 2) {
        0 => (y, x),
        1 => (x, y + half),
        2 => (x + half, y + half),
        _ => (2 * half - 1 - y, half - 1 - x),
    }
}

/// A file with the token [`SECRET`] of somebody who may do everything but remove lists.
fn tokens(edgefold: &Edgefold) -> String {
    let path = edgefold.path("tokens.toml");
    let hash = sha256(SECRET);
    let verbs = r#"["BLACKLIST", "WHITELIST", "LIST"]"#;
    std::fs::write(&path, format!("[ops]\nsha256 = \"{hash}\"\nlists = [\"*\"]\nverbs = {verbs}\n")).unwrap();
    path
}

#[test]
fn the_map_shows_a_block_at_its_place_and_the_block_names_itself() {
    let edgefold = Edgefold::sqlite().block(&["198.0.0.0/8"]).allow(&["198.18.7.7"]);
    let ui = edgefold.ui(&[]);
    let page = Page::of(&ui, "");
    page.wait_for_map();
    let at = page.place("198.128.0.0");
    assert!(page.is_red(at), "{:?} at {at:?}", page.colour(at));
    for other in ["197.128.0.0", "10.0.0.0", "255.255.255.255"] {
        assert!(!page.is_red(page.place(other)), "{other}");
    }
    page.browser.mouse_move(at.0, at.1);
    page.wait_for_text("#hover", "default (deny): ");
    page.wait_for_text("#hover", "198.1");
    page.assert_is_clean();
}

#[test]
fn the_map_is_moved_by_wheel_drag_and_keys() {
    let edgefold = Edgefold::sqlite().block(&["198.0.0.0/8"]);
    let ui = edgefold.ui(&[]);
    let page = Page::of(&ui, "");
    page.wait_for_map();
    let zoom = || page.browser.eval("document.getElementById('canvas').whereIs('198.18.0.0').zoom").as_i64().unwrap();
    let at = page.place("198.128.0.0");
    let before = zoom();
    for _ in 0..4 {
        page.browser.scroll(at.0, at.1, -100);
    }
    page.browser.wait_until(
        "it is larger",
        &format!("document.getElementById('canvas').whereIs('198.18.0.0').zoom > {before} + 2"),
    );
    page.wait_for_map();
    assert!(page.is_red(at), "what the pointer is on stays there");
    page.browser.drag(at, (at.0 - 150, at.1 - 80));
    page.wait_for_map();
    assert!(page.is_red((at.0 - 150, at.1 - 80)), "what is held comes along");

    // Then with keys only, as one who does not see the map.
    assert_eq!(page.browser.role("#canvas"), "application");
    assert_eq!(page.browser.label("#canvas"), "Map of all IPv4 addresses");
    page.browser.eval("document.getElementById('canvas').focus()");
    page.browser.press("Home");
    page.browser.wait_until(
        "all is shown",
        &format!("document.getElementById('canvas').whereIs('198.18.0.0').zoom === {before}"),
    );
    for key in ["ArrowRight", "ArrowDown", "+", "ArrowLeft", "Enter"] {
        page.browser.press(key);
    }
    let cursor = page.browser.eval("document.getElementById('canvas').dataset.cursor");
    let cursor = cursor.as_str().unwrap();
    page.wait_for_text("#here h2", cursor);
    page.wait_for_text("#under-cursor", &format!("{cursor}; refused: none of "));
    page.assert_is_clean();
}

#[test]
fn a_search_flies_there_and_tells_why() {
    let edgefold = Edgefold::sqlite()
        .block(&["192.0.2.0/24", "--ttl", "4h", "--origin", "waf", "--reason", "credential stuffing"])
        .allow(&["192.0.2.77", "--reason", "ticket 4711"])
        .block(&["192.0.2.77"]);
    let ui = edgefold.ui(&[]);
    let page = Page::of(&ui, "");
    page.browser.type_into("#search-text", "192.0.2.77");
    page.browser.press("Enter");
    page.wait_for_text("#here h2", "192.0.2.77");
    page.wait_for_text(".headline", "192.0.2.77 is blocked forever, on list default, by the command at offset 2");
    let events = "[...document.querySelectorAll('.timeline li')].map((li) => [li.querySelector('b').firstChild.textContent, li.classList.contains('counts')])";
    assert_eq!(page.browser.eval(events), json!([["blocked", false], ["freed", false], ["blocked", true]]));
    assert_eq!(page.browser.text(".undo code"), "edgefold allow 192.0.2.77");
    page.browser.wait_until("a copy", "(document.querySelector('.undo .copy').click(), true)");
    page.wait_for_text(".undo .copy", "copied");
    page.wait_for_map();
    let there = "(() => { const at = document.getElementById('canvas').whereIs('192.0.2.77'); return at.width > 4 && at.x > 0 && at.y > 0; })()";
    page.browser.wait_until("the map is there", there);

    page.browser.eval("document.getElementById('search-text').value = ''");
    page.browser.type_into("#search-text", "2001:db8::/32");
    page.browser.press("Enter");
    page.wait_for_text("#bars", "Nothing in 2001:db8::/32 is refused.");
    page.browser.eval("document.getElementById('search-text').value = ''");
    page.browser.type_into("#search-text", "10.0.0.0/33");
    page.browser.press("Enter");
    page.wait_for_text("#notice", "from 0 to 32");
    let console = page.browser.console();
    assert!(console.iter().all(|line| line.contains("400")), "only the refused question: {console:?}");
}

#[test]
fn ipv6_is_shown_as_networks_to_look_into() {
    let mut edgefold = Edgefold::sqlite();
    let ranges: Vec<String> = (0..80).map(|at| format!("2001:db8:{at:x}::/64")).collect();
    let ranges: Vec<&str> = ranges.iter().map(String::as_str).collect();
    edgefold = edgefold.block(&ranges).block(&["2a00::/32"]);
    let ui = edgefold.ui(&[]);
    let page = Page::of(&ui, "");
    page.browser.click("#family-6");
    page.wait_for_text("#bars", "81 ranges");
    page.wait_for_text("#bars li:first-child", "2001:db8::/");
    page.browser.click("#bars li:first-child button");
    page.browser.wait_until("it looks into it", "location.hash.includes('2001:db8::')");
    page.wait_for_text("#here .verdict", "refused");
    page.browser.click("#family-4");
    page.wait_for_map();
    page.assert_is_clean();
}

#[test]
fn the_slider_shows_the_past_and_what_changed() {
    let at = |args: &[&str], time: &str| [args, &["--at", time, "--force"]].concat().join(" ");
    let edgefold = Edgefold::sqlite();
    let run = |line: String| edgefold.run(&line.split(' ').collect::<Vec<_>>());
    run(at(&["block", "10.0.0.0/8"], "2026-11-01T00:00:00Z"));
    run(at(&["block", "20.0.0.0/8"], "2026-11-02T00:00:00Z"));
    run(at(&["allow", "10.0.0.0/8"], "2026-11-03T00:00:00Z"));
    let ui = edgefold.ui(&[]);
    let page = Page::of(&ui, "#map?at=2026-11-01T12:00:00.000Z");
    page.wait_for_map();
    let (ten, twenty) = (page.place("10.128.0.0"), page.place("20.128.0.0"));
    assert_eq!((page.is_red(ten), page.is_red(twenty)), (true, false));
    page.wait_for_text("#moment", "2026-11-01 12:00:00");
    // The keys move it, as any slider.
    page.browser.eval("document.getElementById('slider').focus()");
    page.browser.press("End");
    page.wait_for_text("#moment", "now");
    page.browser.wait_until("it is now", "!location.hash.includes('at=')");
    page.wait_for_map();
    assert_eq!((page.is_red(ten), page.is_red(twenty)), (false, true));
    page.browser.press("Home");
    page.browser.wait_until("it is then", "location.hash.includes('at=2026-11-01T00:0')");
    page.wait_for_map();
    assert_eq!((page.is_red(ten), page.is_red(twenty)), (true, false));
    assert!(page.browser.eval("document.querySelectorAll('#histogram rect').length").as_i64().unwrap() >= 3);

    page.go("#map?since=2026-11-01T12:00:00.000Z");
    page.wait_for_text(".changed .added summary", "16,777,216 addresses in 1 range");
    page.wait_for_text(".changed .removed summary", "16,777,216 addresses in 1 range");
    page.wait_for_map();
    let (came, [red, _, blue]) = (page.is_red(twenty), page.colour(ten));
    assert!(came && blue > red, "what came is red, what went is blue");
    page.assert_is_clean();
}

#[test]
fn playing_goes_on_to_now_and_stops() {
    let edgefold = Edgefold::sqlite();
    edgefold.run(&["block", "10.0.0.0/8", "--at", "2026-11-01T00:00:00Z"]);
    edgefold.run(&["block", "20.0.0.0/8", "--at", "2026-11-12T00:00:00Z"]);
    let ui = edgefold.ui(&[]);
    let page = Page::of(&ui, "#map");
    page.browser.click("#play");
    page.browser.wait_until("it plays", "document.body.classList.contains('past')");
    assert_eq!(page.browser.text("#play"), "Stop");
    page.browser.click("#play");
    assert_eq!(page.browser.text("#play"), "Play");
    page.browser.eval("document.getElementById('slider').value = 985");
    page.browser.click("#play");
    page.browser.wait_until(
        "it has come to now",
        "!document.body.classList.contains('past') && document.getElementById('play').textContent === 'Play'",
    );
    page.assert_is_clean();
}

#[test]
fn a_command_appears_as_it_happens() {
    let edgefold = Edgefold::sqlite();
    let ui = edgefold.ui(&[]);
    let page = Page::of(&ui, "");
    page.wait_for_map();
    let at = page.place("198.128.0.0");
    assert!(!page.is_red(at));
    edgefold.block(&["198.0.0.0/8", "--reason", "just now"]);
    page.wait_for_text(".recent", "reason=\"just now\"");
    page.wait_for_text("#here .verdict", "16,777,216");
    page.browser.wait_until("the log is read", "document.body.dataset.offset === '1'");
    page.wait_for_map();
    eventually("the block on the map", || page.is_red(at).then_some(()));
    edgefold.run(&["lists", "set", "monitoring", "--action", "exempt"]);
    edgefold.run(&["add", "198.0.0.0/9", "--list", "monitoring"]);
    page.wait_for_text("#here .verdict", "8,388,608");
    page.assert_is_clean();
}

#[test]
fn a_block_that_ends_goes_from_the_map_without_a_command() {
    let edgefold = Edgefold::sqlite();
    let ui = edgefold.ui(&[]);
    let page = Page::of(&ui, "#map?range=198.18.0.7");
    edgefold.block(&["198.18.0.7", "--ttl", "4s"]);
    page.wait_for_text("#here .verdict", "refused");
    page.wait_for_text("#here .verdict", "passes");
    page.assert_is_clean();
}

#[test]
fn colours_tell_lists_actions_and_times() {
    let edgefold = Edgefold::sqlite();
    edgefold.run(&["lists", "set", "tor", "--action", "shadow"]);
    edgefold.run(&["add", "10.0.0.0/8", "--list", "tor"]);
    edgefold.block(&["20.0.0.0/8", "--ttl", "30m"]).block(&["30.0.0.0/8"]);
    let ui = edgefold.ui(&[]);
    let page = Page::of(&ui, "#map?colour=action");
    let shades = |colour: &str| {
        page.go(&format!("#map?colour={colour}"));
        page.wait_for_map();
        ["10.128.0.0", "20.128.0.0", "30.128.0.0", "40.128.0.0"].map(|address| page.colour(page.place(address)))
    };
    let [tor, soon, forever, empty] = shades("action");
    assert!(tor != soon && soon == forever && tor != empty, "{tor:?} {soon:?} {forever:?} {empty:?}");
    let [tor, soon, forever, empty] = shades("list");
    assert!(tor != soon && soon == forever && tor != empty, "{tor:?} {soon:?} {forever:?} {empty:?}");
    let [tor, soon, forever, empty] = shades("left");
    assert!(
        tor == empty && soon != forever && soon != empty && forever != empty,
        "{tor:?} {soon:?} {forever:?} {empty:?}"
    );
    let [_, soon, forever, empty] = shades("age");
    assert!(soon == forever && soon != empty, "both are new: {soon:?} {forever:?} {empty:?}");
    assert_eq!(page.browser.eval("document.querySelectorAll('#legend li').length"), json!(5));
    page.go("#map?list=tor");
    page.wait_for_map();
    assert!(
        page.is_red(page.place("10.128.0.0")) && !page.is_red(page.place("20.128.0.0")),
        "only what is on the list"
    );
    page.assert_is_clean();
}

#[test]
fn text_of_the_log_is_only_text() {
    let edgefold = Edgefold::sqlite();
    let markup = "<img src=x onerror=document.body.dataset.hacked=1><script>document.body.dataset.hacked=1</script>";
    edgefold.run(&["block", "192.0.2.7", "--reason", markup]);
    edgefold.run(&["block", "192.0.2.7", "--reason", "\u{202e}turned", "--origin", "<b>"]);
    let log = edgefold.log().strip_prefix("sqlite:").unwrap().to_owned();
    let database = rusqlite::Connection::open(log).unwrap();
    let insert = "INSERT INTO commands VALUES (2, 1, CAST('<i>' AS BLOB), CAST(?1 AS BLOB))";
    database.execute(insert, [format!("{markup}\u{202e}")]).unwrap();
    let ui = edgefold.ui(&[]);
    let page = Page::of(&ui, "#map?range=192.0.2.7");
    page.wait_for_text(".timeline", "<img src=x onerror=");
    page.wait_for_text(".timeline", "\\u{202e}turned");
    let assert_is_text = || {
        let elements = page.browser.eval("document.querySelectorAll('main img, main script, main i').length");
        assert_eq!(elements, json!(0));
    };
    assert_is_text();
    page.go("#log");
    page.wait_for_text("#rejects-table", "<script>");
    page.wait_for_text("#rejects-table", "\\u{202e}");
    assert_is_text();
    page.go("#map");
    page.wait_for_text(".recent", "<img src=x onerror=");
    assert_is_text();
    assert_eq!(page.browser.eval("document.body.dataset.hacked ?? null"), Value::Null);
    page.assert_is_clean();
}

#[test]
fn commands_take_a_token_and_show_first_what_they_would_change() {
    let edgefold = Edgefold::sqlite();
    let ui = edgefold.ui(&["--api-tokens", &tokens(&edgefold)]);
    let page = Page::of(&ui, "#map?range=192.0.2.0/24");
    page.browser.click(".write summary");
    page.browser.type_into(".write [name=token]", "wrong");
    page.browser.click(".write button.strong");
    page.wait_for_text(".write .result", "give a token of this server");
    page.browser.eval("document.querySelector('.write [name=token]').value = ''");
    page.browser.type_into(".write [name=token]", SECRET);
    page.browser.type_into(".write [name=ttl]", "4h");
    page.browser.type_into(".write [name=reason]", "say \"hi\" \\ there");
    page.browser.click(".write button.strong");
    page.wait_for_text(".write .result", "1 range added (256 addresses)");
    page.wait_for_text(
        ".write .result",
        "BLACKLIST 192.0.2.0/24 ttl=14400s origin=\"ops\" reason=\"say \\\"hi\\\" \\\\ there\"",
    );
    assert_eq!(edgefold.run(&["list", "-o", "raw"]), "", "nothing is appended yet");
    page.browser.click(".write .result button.strong");
    page.wait_for_text(".write .result", "Appended at offset 0");
    page.wait_for_text("#here .verdict", "all of 256 addresses");
    assert!(edgefold.run(&["list", "-o", "raw"]).starts_with("192.0.2.0\t192.0.2.255\t"));

    // What is probably a mistake takes a second decision.
    page.go("#map?range=127.0.0.0/8");
    page.browser.click(".write summary");
    page.browser.type_into(".write [name=token]", SECRET);
    page.browser.click(".write button.strong");
    page.wait_for_text(".write .result", "among them 127.0.0.1, from which you look at this page");
    assert_eq!(page.browser.eval("document.querySelector('.write .result button.strong').disabled"), json!(true));
    page.browser.click(".write .result input");
    page.browser.click(".write .result button.strong");
    page.wait_for_text(".write .result", "Appended at offset 1");

    page.go("#lists");
    page.browser.click("#list-write summary");
    page.browser.type_into("#list-write [name=token]", SECRET);
    page.browser.type_into("#list-write [name=name]", "monitoring");
    page.browser.eval("document.querySelector('#list-write [name=action]').value = 'exempt'");
    page.browser.click("#list-write form button");
    page.wait_for_text("#list-write .result", "action=exempt");
    page.browser.click("#list-write .result button.strong");
    page.wait_for_text("#lists-table", "monitoring");
    let console = page.browser.console();
    assert!(console.iter().all(|line| line.contains("401")), "only what had no token: {console:?}");
}

#[test]
fn without_tokens_the_page_only_reads() {
    let edgefold = Edgefold::sqlite().block(&["192.0.2.0/24"]);
    let ui = edgefold.ui(&[]);
    let page = Page::of(&ui, "#map?range=192.0.2.0/24");
    page.wait_for_text(".write", "start edgefold ui with --api-tokens");
    assert_eq!(page.browser.eval("document.querySelectorAll('.write form').length"), json!(0));
    for path in ["dry-run", "commands"] {
        let request = Client::new().post(format!("http://{}/ui/{path}", ui.address)).bearer_auth(SECRET);
        assert_eq!(request.body("WHITELIST 192.0.2.0/24").send().unwrap().status(), 404, "{path}");
    }
    assert_eq!(edgefold.run(&["log", "-o", "json"]).matches("offset").count(), 1);
}

#[test]
fn other_sites_get_nothing() {
    let edgefold = Edgefold::sqlite().block(&["192.0.2.0/24"]);
    let ui = edgefold.ui(&["--api-tokens", &tokens(&edgefold), "--page-host", "edgefold.example"]);
    let url = |path: &str| format!("http://{}{path}", ui.address);
    let get = |path: &str, name: &'static str, value: &str| {
        Client::new().get(url(path)).header(name, value).send().unwrap().status().as_u16()
    };
    let port = ui.address.port();
    // A name that an attacker has pointed here.
    for path in ["/", "/ui/status", "/ui/page.js"] {
        assert_eq!(get(path, "host", &format!("evil.example:{port}")), 403, "{path}");
        assert_eq!(get(path, "host", &format!("edgefold.example:{port}")), 200, "{path}");
        assert_eq!(get(path, "host", &format!("localhost:{port}")), 200, "{path}");
    }
    assert_eq!(get("/ui/status", "sec-fetch-site", "cross-site"), 403);
    assert_eq!(get("/ui/status", "sec-fetch-site", "same-origin"), 200);
    let post = |name: &'static str, value: &str| {
        let request = Client::new().post(url("/ui/commands")).bearer_auth(SECRET).header(name, value);
        request.body("BLACKLIST 10.0.0.0/24").send().unwrap().status().as_u16()
    };
    assert_eq!(post("origin", "https://evil.example"), 403);
    assert_eq!(post("origin", "null"), 403);
    assert_eq!(post("sec-fetch-site", "cross-site"), 403);
    assert_eq!(edgefold.run(&["log", "-o", "json"]).matches("offset").count(), 1, "nothing was appended");
    assert_eq!(post("origin", &format!("http://{}", ui.address)), 200);

    let response = Client::new().get(url("/")).send().unwrap();
    let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
    assert!(header("content-security-policy").contains("frame-ancestors 'none'"));
    assert!(header("content-security-policy").starts_with("default-src 'none'; script-src 'self';"));
    assert_eq!(header("x-frame-options"), "DENY");
    assert_eq!(header("x-content-type-options"), "nosniff");
}

#[test]
fn bad_questions_get_an_answer_that_says_what_is_wrong() {
    let edgefold = Edgefold::sqlite().block(&["192.0.2.0/24"]);
    let ui = edgefold.ui(&[]);
    let get = |path: &str| {
        let response = Client::new().get(format!("http://{}/ui/{path}", ui.address)).send().unwrap();
        (response.status().as_u16(), response.text().unwrap())
    };
    eventually("the log", || (get("area?range=0.0.0.0/0").0 == 200).then_some(()));
    for (path, status, words) in [
        ("tile?zoom=0&x=0&y=1", 400, "no such tile"),
        ("tile?zoom=255&x=0&y=0", 400, "no such tile"),
        ("tile?zoom=0&x=0&y=0&colour=blue", 400, "refused, list, action, left or age"),
        ("tile?zoom=x", 400, "invalid digit"),
        ("area", 400, "range=10.0.0.0/8"),
        ("area?range=10.0.0.0/33", 400, "from 0 to 32"),
        ("area?range=10.0.0.0/8&list=Not+A+List", 400, "list"),
        ("area?range=10.0.0.0/8&at=yesterday", 400, "2016-09-12T15:32:00Z"),
        ("area?range=10.0.0.0/8&offset=1", 400, "unknown field"),
        ("area?range=10.0.0.0/8&unknown=1", 400, "unknown"),
        ("changes?range=10.0.0.0/8", 400, "since"),
        ("nothing", 404, "has only the page"),
    ] {
        let (found, text) = get(path);
        assert_eq!(found, status, "{path}: {text}");
        assert!(text.contains(words), "{path}: {text}");
    }
    let (status, tile) =
        get("tile?zoom=0&x=0&y=0&since=2000-01-01T00:00:00Z&at=9999-01-01T00:00:00Z&colour=age&list=nothing");
    assert_eq!((status, tile.len()), (200, 2 * 256 * 256));
}

#[test]
fn the_page_of_serve_shows_the_fleet_and_writes_with_the_tokens_of_the_api() {
    let edgefold = Edgefold::sqlite().block(&["192.0.2.0/24"]);
    let serve = edgefold.serve_xds(&["--api", "127.0.0.1:0", "--api-tokens", &tokens(&edgefold)]);
    let page = Page::open(&serve.admin_url(), "#fleet");
    page.wait_for_text("#fleet-summary", "No proxy is connected");
    let _envoy = edgefold.envoy_over_xds(FleetOptions {
        id: "edge-1",
        xds: Xds::DeltaAds,
        replicas: &[serve.xds_address()],
        tls: None,
    });
    page.wait_for_text("#fleet-summary", "1 proxy, all enforce everything");
    page.wait_for_text("#fleet-table", "ACK");
    page.go("#map?range=198.51.100.7");
    page.browser.click(".write summary");
    page.browser.type_into(".write [name=token]", SECRET);
    page.browser.click(".write button.strong");
    page.wait_for_text(".write .result", "1 range added (1 address)");
    page.browser.click(".write .result button.strong");
    page.wait_for_text(".write .result", "enforced by 1 proxy");
    page.wait_for_text("#here .verdict", "refused");
    page.go("#lists");
    page.wait_for_text("#lists-table", "default");
    page.wait_for_text("#lists-table", "257");
    page.go("#log");
    page.wait_for_text("#log-facts dd", "2");
    page.wait_for_text("#rejects-summary", "None");
    page.assert_is_clean();
}

#[test]
fn another_log_under_the_same_name_is_not_mixed_with_the_old_one() {
    let edgefold = Edgefold::sqlite().block(&["192.0.2.0/24"]).block(&["192.0.3.0/24"]);
    let ui = edgefold.ui(&[]);
    let page = Page::of(&ui, "");
    page.wait_for_text("#here .verdict", "512 in 1 range");
    let path = edgefold.log().strip_prefix("sqlite:").unwrap().to_owned();
    for file in ["", "-wal", "-shm"] {
        let _gone = std::fs::remove_file(format!("{path}{file}"));
    }
    edgefold.init().block(&["10.0.0.0/24"]).block(&["10.0.1.0/25"]).block(&["10.0.9.0/32"]);
    page.wait_for_text("#here .verdict", "385 in 2 ranges");
}

#[test]
fn a_share_of_the_clients_is_what_the_verdict_of_an_address_says() {
    let edgefold = Edgefold::sqlite();
    edgefold.run(&["lists", "set", "canary", "--action", "deny", "--share", "50%"]);
    edgefold.run(&["add", "198.0.0.0/24", "--list", "canary"]);
    let ui = edgefold.ui(&[]);
    let page = Page::of(&ui, "");
    for (status, words) in [(1, "refused by list canary"), (0, "passes")] {
        let is_such = |address: &String| edgefold.outcome(&["check", address]).status == status;
        let address = (0..=255).map(|last| format!("198.0.0.{last}")).find(is_such).unwrap();
        page.go(&format!("#map?range={address}"));
        page.wait_for_text("#here .verdict", words);
    }
    page.assert_is_clean();
}

#[test]
fn the_page_comes_back_when_edgefold_does_and_says_so_meanwhile() {
    let edgefold = Edgefold::sqlite().block(&["198.0.0.0/8"]);
    let ui = edgefold.ui(&[]);
    let (address, page) = (ui.address.to_string(), Page::of(&ui, ""));
    page.wait_for_map();
    drop(ui);
    page.wait_for_text("#health", "edgefold does not answer");
    page.browser.eval("document.getElementById('zoom-in').click()");
    page.wait_for_text("#notice", "edgefold does not answer");
    let asked = "performance.getEntriesByType('resource').filter((one) => one.name.includes('/ui/tile')).length";
    let before = page.browser.eval(asked).as_i64().unwrap();
    edgefold.block(&["10.0.0.0/24"]);
    let _ui = edgefold.ui(&["--listen", &address]);
    page.wait_for_text("#health", "live, 2 commands");
    page.browser.wait_until("nothing is wrong any more", "document.getElementById('notice').hidden");
    page.wait_for_map();
    // It asks again now and then, and not as fast as it can.
    let after = page.browser.eval(asked).as_i64().unwrap();
    assert!(after - before < 60, "{before} tiles were asked for, then {after}");
}

#[test]
fn what_has_the_focus_keeps_it_and_back_goes_back() {
    let edgefold = Edgefold::sqlite().block(&["198.18.0.0/24"]).block(&["198.51.100.0/24"]);
    let ui = edgefold.ui(&[]);
    let page = Page::of(&ui, "");
    page.wait_for_text("#here .table", "198.51.100.0/24");
    page.browser.eval("[...document.querySelectorAll('#here .table button')].at(-1).focus()");
    let focus = page.browser.eval("document.activeElement.textContent");
    edgefold.block(&["203.0.113.0/24"]);
    page.wait_for_text("#here .table", "203.0.113.0/24");
    assert_eq!(page.browser.eval("document.activeElement.textContent"), focus);
    page.browser.press("Enter");
    page.wait_for_text("#here h2", focus.as_str().unwrap());
    page.browser.wait_until("the panel has the focus", "document.activeElement.id === 'here'");
    page.browser.eval("history.back()");
    page.wait_for_text("#here h2", "0.0.0.0/0");
    // What is wrong in an address of the page is left out.
    page.go("#map?at=yesterday&colour=blue&since=x&range=198.18.0.7");
    page.wait_for_text("#here .verdict", "refused");
    page.assert_is_clean();
}

#[test]
fn everybody_can_use_it() {
    let edgefold =
        Edgefold::sqlite().block(&["192.0.2.0/24", "--reason", "credential stuffing"]).block(&["2001:db8::/48"]);
    edgefold.run(&["lists", "set", "monitoring", "--action", "exempt"]);
    let ui = edgefold.ui(&["--api-tokens", &tokens(&edgefold)]);
    let page = Page::of(&ui, "");
    let axe = std::fs::read_to_string(tool("axe").join("axe.min.js")).unwrap();
    for dark in [false, true] {
        page.browser.emulate_dark(dark);
        for place in
            ["#map", "#map?range=192.0.2.7", "#map?range=::/0", "#map?at=2026-11-01T00:00:00.000Z", "#lists", "#log"]
        {
            page.go(place);
            let shown = "document.querySelector('#here[data-shown], #lists-table td, #rejects-table td') !== null";
            page.browser.wait_until("something is shown", shown);
            page.browser.eval(&format!("(() => {{ {axe} ; window.axe = axe; return 1; }})()"));
            let found = page.browser.eval("axe.run().then((found) => found.violations.map((one) => `${one.id}: ${one.nodes.map((node) => node.html).join(' ')}`))");
            assert_eq!(found, json!([]), "{place}, dark: {dark}");
        }
    }
    // On a phone nothing is cut off.
    page.browser.resize(390, 844);
    for place in ["#map", "#map?range=192.0.2.7", "#map?range=::/0", "#lists", "#log"] {
        page.go(place);
        page.browser.wait_until("it fits", "document.documentElement.scrollWidth <= 390");
    }
}
