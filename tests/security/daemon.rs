//! A running daemon, and commands, as a user starts them.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How long anything may take that ends by itself on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(120);

pub fn bief(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bief"));
    command.args(arguments);
    for variable in ["FAILPOINTS", "RUST_LOG", "BIEF_LOG", "BIEF_TOKEN"] {
        command.env_remove(variable);
    }
    command
}

/// Runs a command to its end: all that it printed, and its exit code.
pub fn printed(command: &mut Command) -> (String, i32) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (String::from_utf8_lossy(&text).into_owned(), output.status.code().unwrap_or(-1))
}

/// `bief run`; killed with the value.
pub struct Daemon {
    child: Child,
    pub address: String,
    log: Arc<Mutex<String>>,
}

impl Daemon {
    pub fn start(config: &Path, environment: &[(&str, &str)]) -> Self {
        let mut command = bief(&["run", "-c"]);
        command.arg(config).envs(environment.iter().copied()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (told, address) = channel();
        let (lines, kept) = (BufReader::new(child.stderr.take().unwrap()), Arc::clone(&log));
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                let parsed: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
                if let Some(http) = parsed["http"].as_str() {
                    let _ = told.send(http.to_owned());
                }
                let mut kept = kept.lock().unwrap();
                kept.push_str(&line);
                kept.push('\n');
            }
        });
        let address = address.recv_timeout(PATIENCE).unwrap_or_else(|_| {
            let _ = child.kill();
            panic!("the daemon did not tell its address: {}", log.lock().unwrap())
        });
        Self { child, address, log }
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Bytes of memory that it has at the moment.
    #[cfg(target_os = "linux")]
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap() << 10
    }

    /// The first document of the live stream, which has no end.
    pub fn first_event(&self, token: &str) -> String {
        let request = ureq::get(format!("http://{}/events", self.address));
        let answer = request.header("Authorization", format!("Bearer {token}")).call().unwrap();
        let lines = BufReader::new(answer.into_body().into_reader()).lines();
        lines.map(Result::unwrap).find(|line| line.starts_with("data: ")).unwrap()
    }

    /// Headers and text of the answer to a change.
    pub fn post(&self, path: &str, token: &str, body: &str) -> String {
        let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
        let request = agent.post(format!("http://{}{path}", self.address)).header("Content-Type", "application/json");
        text_of(request.header("Authorization", format!("Bearer {token}")).send(body).unwrap())
    }

    /// Status and all headers and text of an answer.
    pub fn get(&self, path: &str, token: Option<&str>) -> (u16, String) {
        let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
        let mut request = agent.get(format!("http://{}{path}", self.address));
        if let Some(token) = token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let answer = request.call().unwrap();
        (answer.status().as_u16(), text_of(answer))
    }
}

/// All headers, then the body.
fn text_of(mut answer: ureq::http::Response<ureq::Body>) -> String {
    let headers = format!("{:?}", answer.headers());
    headers + &answer.body_mut().read_to_string().unwrap()
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
