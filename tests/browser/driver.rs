//! Chromium, driven through chromedriver: one driver for all tests, on a port that it picks; a browser of its own for each
//! page, with a profile that goes with it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use fantoccini::actions::{InputSource, MouseActions, PointerAction};
use fantoccini::key::Key;
use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

/// How long a page may take for what it does by itself, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The running chromedriver.
pub struct Driver {
    child: Mutex<Child>,
    port: u16,
    browser: PathBuf,
}

/// A program's path; by its variable first, then by `PATH`.
fn program(variable: &str, names: &[&str]) -> Option<PathBuf> {
    if let Some(named) = std::env::var_os(variable).filter(|value| !value.is_empty()) {
        return Some(named.into());
    }
    let path = std::env::var_os("PATH")?;
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    names.iter().find_map(|name| folders.iter().map(|folder| folder.join(name)).find(|file| file.is_file()))
}

impl Driver {
    /// `Err` says what is missing.
    pub fn start() -> Result<Self, String> {
        let browser = program("BIEF_TEST_CHROMIUM", &["chromium", "chromium-browser", "google-chrome"])
            .ok_or("no chromium (Debian: apt-get install chromium)")?;
        let driver = program("BIEF_TEST_CHROMEDRIVER", &["chromedriver"])
            .ok_or("no chromedriver (Debian: apt-get install chromium-driver)")?;
        let mut child = Command::new(&driver)
            .args(["--port=0", "--log-level=SEVERE"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| format!("{} can't be started: {e}", driver.display()))?;
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let port = lines.find_map(|line| {
            let told = line.split_once("started successfully on port ")?.1;
            told.trim_end_matches('.').parse().ok()
        });
        // What it says later must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        match port {
            Some(port) => Ok(Self { child: Mutex::new(child), port, browser }),
            None => {
                let _ = child.kill();
                Err(format!("{} told no port", driver.display()))
            }
        }
    }

    pub fn end(&self) {
        let mut child = self.child.lock().unwrap();
        let _ = child.kill();
        let _ = child.wait();
    }

    /// A new browser that shows nothing yet.
    pub fn page(&self) -> Page {
        let downloads = tempfile::tempdir().unwrap();
        let options = json!({
            "browserName": "chrome",
            "goog:loggingPrefs": { "browser": "ALL" },
            "goog:chromeOptions": {
                "binary": self.browser,
                // Root's sandbox is none; a container's /dev/shm is small.
                "args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
                         "--lang=en-GB", "--window-size=1440,1000"],
                "prefs": { "download.default_directory": downloads.path() },
            },
        });
        let Value::Object(capabilities) = options else { unreachable!() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let client = runtime.block_on(async {
            // Nothing leaves this machine, so that there is no TLS.
            let mut builder = ClientBuilder::new(HttpConnector::new());
            builder.capabilities(capabilities).connect(&format!("http://127.0.0.1:{}", self.port)).await
        });
        Page { client: Some(client.unwrap()), runtime, downloads }
    }
}

/// A browser with one page; closed with the value.
pub struct Page {
    client: Option<Client>,
    runtime: Runtime,
    downloads: tempfile::TempDir,
}

/// One of Chromium's own commands.
#[derive(Debug)]
struct DevTools {
    command: &'static str,
    parameters: Value,
}

impl WebDriverCompatibleCommand for DevTools {
    fn endpoint(&self, base: &url::Url, session: Option<&str>) -> Result<url::Url, url::ParseError> {
        base.join(&format!("session/{}/goog/cdp/execute", session.unwrap_or_default()))
    }

    fn method_and_body(&self, _: &url::Url) -> (http::Method, Option<String>) {
        let body = json!({ "cmd": self.command, "params": self.parameters });
        (http::Method::POST, Some(body.to_string()))
    }
}

/// What the browser's console has, since it was asked last.
#[derive(Debug)]
struct Console;

impl WebDriverCompatibleCommand for Console {
    fn endpoint(&self, base: &url::Url, session: Option<&str>) -> Result<url::Url, url::ParseError> {
        base.join(&format!("session/{}/se/log", session.unwrap_or_default()))
    }

    fn method_and_body(&self, _: &url::Url) -> (http::Method, Option<String>) {
        (http::Method::POST, Some(json!({ "type": "browser" }).to_string()))
    }
}

impl Page {
    fn client(&self) -> &Client {
        self.client.as_ref().unwrap()
    }

    pub fn open(&self, url: &str) {
        self.runtime.block_on(self.client().goto(url)).unwrap();
    }

    pub fn reload(&self) {
        self.runtime.block_on(self.client().refresh()).unwrap();
    }

    pub fn address(&self) -> url::Url {
        self.runtime.block_on(self.client().current_url()).unwrap()
    }

    /// Runs the body of a function in the page; what it returns.
    pub fn js(&self, script: &str) -> Value {
        let ran = self.runtime.block_on(self.client().execute(script, Vec::new()));
        ran.unwrap_or_else(|error| panic!("{error}: {script}"))
    }

    /// The text of the first element that a selector finds.
    pub fn text(&self, selector: &str) -> String {
        let selector = json!(selector);
        self.js(&format!("return document.querySelector({selector})?.textContent ?? ''")).as_str().unwrap().to_owned()
    }

    /// Waits until an expression is true; says what was there where it never is.
    pub fn wait(&self, what: &str, expression: &str) {
        self.wait_value(what, &format!("return Boolean({expression})"), |value| value == &Value::Bool(true));
    }

    pub fn wait_value(&self, what: &str, script: &str, met: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        loop {
            let value = self.js(script);
            if met(&value) {
                return value;
            }
            if began.elapsed() > PATIENCE {
                let seen = self.js("return document.body.innerText");
                panic!("not {what} in {PATIENCE:?}: {value}\n{}\n{:#?}", seen.as_str().unwrap(), self.console());
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Clicks what a reader would click: it must be there, seen and enabled.
    pub fn click(&self, selector: &str) {
        self.wait(&format!("{selector} there"), &format!("document.querySelector({})", json!(selector)));
        let clicked = self.runtime.block_on(async { self.client().find(Locator::Css(selector)).await?.click().await });
        clicked.unwrap_or_else(|error| panic!("{selector}: {error}"));
    }

    /// Types into a field as keys.
    pub fn write(&self, selector: &str, text: &str) {
        let wrote = self.runtime.block_on(async {
            let field = self.client().find(Locator::Css(selector)).await?;
            field.clear().await?;
            field.send_keys(text).await
        });
        wrote.unwrap_or_else(|error| panic!("{selector}: {error}"));
    }

    /// Presses a key while an element has the focus.
    pub fn key(&self, selector: &str, key: Key) {
        let pressed = self.runtime.block_on(async {
            let field = self.client().find(Locator::Css(selector)).await?;
            field.send_keys(&String::from(char::from(key))).await
        });
        pressed.unwrap_or_else(|error| panic!("{selector}: {error}"));
    }

    /// Moves the mouse, in pixels of the view; with `drag` from the first point with its button down.
    pub fn mouse(&self, points: &[(f64, f64)], drag: bool) {
        let to = |&(x, y): &(f64, f64)| PointerAction::MoveTo { duration: Some(Duration::from_millis(60)), x, y };
        let mut actions = MouseActions::new("mouse".to_owned());
        for (at, point) in points.iter().enumerate() {
            actions = actions.then(to(point));
            if drag && at == 0 {
                actions = actions.then(PointerAction::Down { button: 0 });
            }
        }
        if drag {
            actions = actions.then(PointerAction::Up { button: 0 });
        }
        self.runtime.block_on(self.client().perform_actions(actions)).unwrap();
    }

    pub fn devtools(&self, command: &'static str, parameters: Value) -> Value {
        self.runtime.block_on(self.client().issue_cmd(DevTools { command, parameters })).unwrap()
    }

    /// The view's size in pixels; below 500 wide that of a phone.
    pub fn size(&self, width: u32, height: u32) {
        let parameters = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500 });
        self.devtools("Emulation.setDeviceMetricsOverride", parameters);
    }

    /// As if the system were set to dark colours, or light ones.
    pub fn prefer(&self, scheme: &str) {
        let parameters = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.devtools("Emulation.setEmulatedMedia", parameters);
    }

    /// Where what is downloaded lands.
    pub fn downloads(&self) -> &Path {
        let path = self.downloads.path();
        self.devtools("Browser.setDownloadBehavior", json!({ "behavior": "allow", "downloadPath": path }));
        path
    }

    pub fn console(&self) -> Vec<String> {
        let entries = self.runtime.block_on(self.client().issue_cmd(Console)).unwrap();
        let entries = entries.as_array().cloned().unwrap_or_default();
        let told = |entry: &Value| format!("{}: {}", entry["level"].as_str().unwrap_or(""), entry["message"]);
        entries.iter().map(told).collect()
    }

    /// Fails where a script failed or something was refused by the page's policy.
    pub fn assert_nothing_went_wrong(&self) {
        let wrong: Vec<String> = self.console().into_iter().filter(|line| line.starts_with("SEVERE")).collect();
        assert!(wrong.is_empty(), "the console has {wrong:#?}");
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        if let Some(client) = self.client.take() {
            // Where the browser crashed there is nothing to close.
            let _ = self.runtime.block_on(client.close());
        }
    }
}
