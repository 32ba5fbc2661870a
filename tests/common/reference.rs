//! The reference server, as a system that runs already.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use super::peer::TOKEN;

pub const VIEWER_TOKEN: &str = "recognisable-viewer-77d1";

/// A running reference server with its rows in memory; it ends when dropped.
pub struct Reference {
    child: Child,
    folder: TempDir,
    address: String,
}

impl Reference {
    pub fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_certctl-reference"));
        command.arg("--in-memory").args(arguments);
        Self::spawn(command)
    }

    /// Starts one with its rows in this database, which holds the seeds already.
    pub fn on_database(url: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_certctl-reference"));
        command.args(["--database", url]).args(arguments);
        Self::spawn(command)
    }

    fn spawn(mut command: Command) -> Self {
        command.env("CERTCTL_REFERENCE_TOKEN", TOKEN).env("CERTCTL_REFERENCE_VIEWER_TOKEN", VIEWER_TOKEN);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let announced: Value = serde_json::from_str(&line).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), announced["ca_pem"].as_str().unwrap()).unwrap();
        Self { child, folder, address: announced["address"].as_str().unwrap().to_owned() }
    }

    pub fn base(&self) -> String {
        format!("https://{}", self.address)
    }

    pub fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        // The test is over; it may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
