//! Flags of what is shown while a run goes on, and at its end.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use clap::Args;

use crate::error::Result;
use crate::files;
use crate::live::server::LiveListener;
use crate::terminal::{errln, outln};

/// The address of a page without one: a free port.
const ANYWHERE: &str = "127.0.0.1:0";

/// Flags of the view of a run.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "View")]
pub struct LiveFlags {
    /// Show the run as a page while it goes on: at this loopback address, or at a free port. The page becomes the report.
    #[arg(long, value_name = "ADDRESS", num_args = 0..=1, default_missing_value = ANYWHERE, value_parser = loopback,
          env = "CERTCTL_BENCH_DASHBOARD")]
    dashboard: Option<SocketAddr>,
    /// Serve the run's figures while it goes on, for Prometheus: OpenMetrics at http://ADDRESS/metrics.
    #[arg(long, value_name = "ADDRESS", env = "CERTCTL_BENCH_METRICS")]
    metrics: Option<SocketAddr>,
    /// Open the report in a browser at the end, and with --dashboard its page at the beginning.
    #[arg(long)]
    open: bool,
}

impl LiveFlags {
    /// Begins to listen where that is wanted, and opens the page, which comes once the run begins. Call it before the
    /// process enters another network: a browser could not reach the page from there.
    ///
    /// # Errors
    /// If an address is taken.
    pub fn bind(&self) -> Result<Vec<LiveListener>> {
        let wanted = [(self.dashboard, true), (self.metrics, false)];
        let wanted = wanted.into_iter().filter_map(|(address, has_page)| Some((address?, has_page)));
        let bound: Vec<_> =
            wanted.map(|(address, has_page)| LiveListener::bind(address, has_page)).collect::<Result<_>>()?;
        for listener in bound.iter().filter(|listener| listener.has_page() && self.open) {
            open(&listener.url()?);
        }
        Ok(bound)
    }

    /// Prints the addresses of listeners.
    ///
    /// # Errors
    /// If the kernel does not know an address.
    pub fn announce(&self, listeners: &[LiveListener]) -> Result<()> {
        for listener in listeners {
            outln!("{:<12} {}", if listener.has_page() { "dashboard" } else { "metrics" }, listener.url()?);
        }
        Ok(())
    }

    /// Opens a report, if that is wanted and no page has become it already.
    pub fn show(&self, report: &Path) {
        if self.open && self.dashboard.is_none() {
            open(&files::shown(report).to_string());
        }
    }
}

/// Opens a page in the user's browser; a failure is a warning.
fn open(page: &str) {
    let program = std::env::var_os("BROWSER").filter(|browser| !browser.is_empty()).unwrap_or("xdg-open".into());
    let mut command = Command::new(&program);
    command.arg(page).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let warn = |why: io::Error| {
        errln!("warning: opening {page} with {}: {why}; open it yourself, or set BROWSER", program.display());
    };
    // It is not waited for: some browsers stay in the foreground.
    command.spawn().map_or_else(warn, drop);
}

fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text.parse().map_err(|_| "write it as 127.0.0.1:5665 or [::1]:5665".to_owned())?;
    match address.ip().is_loopback() {
        true => Ok(address),
        false => Err("the page is for this machine alone: give a loopback address, as 127.0.0.1:5665".to_owned()),
    }
}
