//! A real browser that a test drives while a page changes, through its WebDriver (W3C WebDriver, section 6).

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::process::until;

/// A browser with one window, ended when dropped.
pub struct WebDriver {
    driver: Child,
    port: u16,
    session: String,
}

impl WebDriver {
    /// Starts a browser with a window of this size, light or dark.
    pub fn start(width: u32, height: u32, dark: bool) -> Self {
        let mut driver =
            Command::new("chromedriver").arg("--port=0").stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = lines.find_map(|line| {
            let line = line.unwrap();
            line.split_once("started successfully on port ")?.1.trim_end_matches('.').parse().ok()
        });
        // What it prints later is read and discarded: a full pipe would block it.
        std::thread::spawn(move || lines.for_each(drop));
        let mut driver = Self { driver, port: port.expect("the port of chromedriver"), session: String::new() };
        let mut arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"].to_vec();
        let size = format!("--window-size={width},{height}");
        arguments.push(&size);
        if dark {
            arguments.push("--force-dark-mode");
        }
        let options = json!({"args": arguments});
        let wanted = json!({"capabilities": {"alwaysMatch": {"goog:chromeOptions": options}}});
        let made = driver.ask("POST", "/session", &wanted);
        driver.session = format!("/session/{}", made["sessionId"].as_str().unwrap());
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        driver.devtools("Emulation.setDeviceMetricsOverride", &metrics);
        let scheme = if dark { "dark" } else { "light" };
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        driver.devtools("Emulation.setEmulatedMedia", &media);
        driver
    }

    fn devtools(&self, command: &str, parameters: &Value) {
        let path = format!("{}/goog/cdp/execute", self.session);
        self.ask("POST", &path, &json!({"cmd": command, "params": parameters}));
    }

    /// Opens a page.
    pub fn open(&self, url: &str) {
        self.ask("POST", &format!("{}/url", self.session), &json!({ "url": url }));
    }

    /// Runs a script in the page, and returns what it returns.
    pub fn run(&self, script: &str) -> Value {
        self.ask("POST", &format!("{}/execute/sync", self.session), &json!({"script": script, "args": []}))
    }

    /// Waits until a script returns true.
    pub fn until(&self, script: &str) {
        until(script, || self.run(script) == Value::Bool(true));
    }

    /// Presses a key, such as `\u{e004}`, the tabulator (WebDriver, section 17.4.2).
    pub fn press(&self, key: &str) {
        let actions = json!([{"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]);
        let source = json!({"actions": [{"type": "key", "id": "keyboard", "actions": actions}]});
        self.ask("POST", &format!("{}/actions", self.session), &source);
    }

    /// Writes a picture of the page into the folder that the environment names, to be looked at.
    pub fn picture(&self, name: &str) {
        use base64::Engine as _;
        let Some(folder) = std::env::var_os("CERTCTL_BENCH_PICTURES") else { return };
        let whole = self.run("return document.documentElement.scrollHeight");
        let width = self.run("return innerWidth");
        let metrics = json!({"width": width, "height": whole, "deviceScaleFactor": 1, "mobile": false});
        self.devtools("Emulation.setDeviceMetricsOverride", &metrics);
        let picture = self.ask("GET", &format!("{}/screenshot", self.session), &Value::Null);
        let bytes = base64::engine::general_purpose::STANDARD.decode(picture.as_str().unwrap()).unwrap();
        std::fs::write(std::path::Path::new(&folder).join(format!("{name}.png")), bytes).unwrap();
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let body = if body.is_null() { String::new() } else { body.to_string() };
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut reader = BufReader::new(stream);
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            let line = line.trim().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut answer = vec![0; length];
        reader.read_exact(&mut answer).unwrap();
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert!(answer["value"].get("error").is_none(), "{method} {path}: {answer}");
        answer["value"].clone()
    }
}

impl Drop for WebDriver {
    fn drop(&mut self) {
        if !self.session.is_empty() && !std::thread::panicking() {
            self.ask("DELETE", &self.session, &Value::Null);
        }
        // It may have ended already.
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
