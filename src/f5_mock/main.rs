//! `f5-mock`: an F5 BIG-IP as certctl's connector sees it: iControl REST over HTTPS, and a virtual server that serves
//! the certificate of its client-ssl profile.
//!
//! It does no more than a deployment needs, and in memory. Numbers measured on it are its own, never an F5's: a real
//! device takes seconds where this takes microseconds.
//!
//! | module | noun |
//! |---|---|
//! | `cli`, `announce` | the command line; the one line of JSON that states the address |
//! | `tls` | the TLS settings, and the certificate that is served now |
//! | `listener`, `reply` | connections; answers and errors in iControl's shape |
//! | `routes`, `query` | the resource of a path; the items and fields of a collection that are wanted |
//! | `handlers`, `objects` | the answers: to logins and uploads; about certificates, keys, profiles, transactions |
//! | `tokens` | the tokens of users who have logged in |
//! | `files` | uploads, chunk by chunk |
//! | `device`, `draft` | certificates, keys, profiles, transactions; commands, of which all are carried out or none |
//! | `names`, `shelf` | names of objects; a store that stays within its bounds |
//!
//! Sockets, certificates and the requests to stop are [`certctl_bench::servers`].

#![warn(clippy::unwrap_used)]

mod announce;
mod cli;
mod device;
mod draft;
mod files;
mod handlers;
mod listener;
mod names;
mod objects;
mod query;
mod reply;
mod routes;
mod shelf;
mod tls;
mod tokens;

use std::process::ExitCode;
use std::sync::Arc;

use certctl_bench::cli::exit;
use certctl_bench::terminal;
use clap::Parser;

use crate::cli::Args;
use crate::handlers::App;
use certctl_bench::servers::leaf::Leaf;
use certctl_bench::servers::{process, socket};

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return exit::usage(&error),
    };
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            terminal::message(format_args!("f5-mock: {message}\n"));
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), String> {
    process::raise_descriptor_limit();
    // Its workers, and the threads that wait for standard input and for lookups of names.
    process::allow_threads(args.workers.get() + 2)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(args.workers.get())
        .enable_all()
        .build()
        .map_err(|e| format!("cannot start {} worker threads: {e}; lower --workers", args.workers))?;
    let outcome = runtime.block_on(serve(args));
    // Connections still have tasks, which are not waited for.
    runtime.shutdown_background();
    outcome
}

/// Listens, announces the address, and serves until it is to stop.
async fn serve(args: &Args) -> Result<(), String> {
    let leaf = Leaf::generate("f5-mock", &tls::NAMES)?;
    let served = Arc::new(tls::Served::new(&leaf)?);
    let config = tls::server_config(Arc::clone(&served))?;
    let app = Arc::new(App::new(&leaf, served)?);
    let stop = process::stop_requested()?;
    let listener = socket::bind(args.listen)?;
    let address = listener.local_addr().map_err(|e| format!("cannot read the listening address: {e}"))?;
    announce::print(address, &leaf.ca_pem)?;
    tokio::select! {
        () = listener::accept(listener, config, app) => {}
        () = stop => {}
    }
    Ok(())
}
