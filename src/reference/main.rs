//! `certctl-reference`: a certctl-shaped HTTPS server, the default system under test where no certctl is named.
//!
//! It does certctl's work per request (permission SELECT, the same statements on the same tables, one hash-chained
//! audit INSERT) in certctl's order and answers in certctl's shapes. Numbers measured on it are its own, never
//! certctl's.
//!
//! | module | noun |
//! |---|---|
//! | `cli` | the command line and the tokens |
//! | `announce` | the one line of JSON that states the address |
//! | `tls`, `listener` | the TLS settings; connections and their time limits |
//! | `body`, `query` | request and response bodies; query strings |
//! | `app`, `chain`, `routes` | the state that requests share; the layers they pass; the route of each path |
//! | `auth`, `limiter`, `permissions` | bearer keys; token buckets; certctl's roles |
//! | `handlers`, `heartbeat` | the small answers; a heartbeat |
//! | `certificate_answers`, `new_certificate` | creating, listing and showing certificates; the fields of a new one |
//! | `renewal`, `bulk_renewal` | renewing a certificate, or many |
//! | `certificate_criteria` | the certificates that a request about many means |
//! | `work_poll`, `csr_submission`, `job_answers` | an agent's jobs; its signing requests; its reports |
//! | `job_processor`, `deployment_job` | the jobs that the server does itself |
//! | `authority`, `signing_request` | the local issuer; the requests that it signs |
//! | `issuance`, `version_answers` | signed requests become versions; the versions shown |
//! | `revocation`, `bulk_revocation` | revoking a certificate, or many |
//! | `notifications` | notifications to owners |
//! | `pki_answers`, `ocsp`, `crl` | relying parties' requests; the status of serial numbers; lists of revoked ones |
//! | `responder`, `ocsp_limiter`, `flights` | OCSP responses; the limit on them; work that requests share |
//! | `acme`, `renewal_window` | ACME: accounts, orders, certificates; the time of a renewal |
//! | `metrics`, `work` | certctl's metrics; this server's own counts of work done |
//! | `audit` | the audit log |
//! | `reply`, `etag` | envelopes, content types and headers; entity tags |
//! | `store` | the store of all rows: PostgreSQL or memory |
//! | `base64url`, `pem`, `clock`, `ids` | base64url and PEM; timestamps; identifiers |
//! | `delay` | a delay of known size |
//!
//! Sockets, certificates and the requests to stop are [`certctl_bench::servers`].

#![warn(clippy::unwrap_used)]

mod acme;
mod announce;
mod app;
mod audit;
mod auth;
mod authority;
mod base64url;
mod body;
mod bulk_renewal;
mod bulk_revocation;
mod certificate_answers;
mod certificate_criteria;
mod chain;
mod cli;
mod clock;
mod crl;
mod csr_submission;
mod delay;
mod deployment_job;
mod etag;
mod flights;
mod handlers;
mod heartbeat;
mod ids;
mod issuance;
mod job_answers;
mod job_processor;
mod limiter;
mod listener;
mod metrics;
mod new_certificate;
mod notifications;
mod ocsp;
mod ocsp_limiter;
mod pem;
mod permissions;
mod pki_answers;
mod query;
mod renewal;
mod renewal_window;
mod reply;
mod responder;
mod revocation;
mod routes;
mod signing_request;
mod store;
mod timer;
mod tls;
mod version_answers;
mod work;
mod work_poll;

use std::process::ExitCode;
use std::sync::Arc;

use certctl_bench::cli::exit;
use certctl_bench::{foreign, terminal};
use clap::Parser;

use crate::app::App;
use crate::cli::{Args, KeyGeneration, Tokens};
use crate::job_processor::KEY_THREADS;
use crate::store::memory::{MemoryStore, Seeds};
use crate::store::postgres::PostgresStore;
use crate::store::{Settings, Store};
use crate::tls::Identity;
use certctl_bench::servers::{process, socket};

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return exit::usage(&error),
    };
    let outcome = Tokens::from_environment().and_then(|tokens| run(args, tokens));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            // An error of the database may contain its password.
            terminal::message(format_args!("certctl-reference: {}\n", foreign::redact(&message)));
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args, tokens: Tokens) -> Result<(), String> {
    process::raise_descriptor_limit();
    // Its workers, and the threads that wait for standard input, look up names, and make keys.
    process::allow_threads(args.workers.get() + 2 + KEY_THREADS)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(args.workers.get())
        .enable_all()
        .build()
        .map_err(|e| format!("cannot start {} worker threads: {e}; lower --workers", args.workers))?;
    let outcome = runtime.block_on(async {
        match &args.database {
            Some(url) => {
                let (store, settings) = PostgresStore::open(url, &tokens.grants()).await?;
                serve(&args, tokens, store, settings).await
            }
            None => {
                let Args { agents, certificates, targets, deployments, drain, drain_agents, .. } = args;
                let seeds = Seeds { agents, certificates, targets, deployments, drain, drain_agents };
                let (store, settings) = MemoryStore::new(seeds, tokens.grants());
                serve(&args, tokens, store, settings).await
            }
        }
    });
    // Connections that outlived the drain still have tasks, which are not waited for.
    runtime.shutdown_background();
    outcome
}

/// Listens, announces the address, and serves until it is to stop.
async fn serve<S: Store>(args: &Args, tokens: Tokens, store: S, mut settings: Settings) -> Result<(), String> {
    let identity = Identity::of(args)?;
    let ca_pem = identity.ca_pem.clone();
    let tls = identity.into_server_config()?;
    let app = Arc::new(App::new(store, tokens.into_keys(), args)?);
    app.store.forget_publications().await.map_err(|error| format!("cannot drop what others signed: {error}"))?;
    let stop = process::stop_requested()?;
    let listener = socket::bind(args.listen)?;
    start_loops(args, &app, &mut settings);
    let address = listener.local_addr().map_err(|e| format!("cannot read the listening address: {e}"))?;
    settings.values.extend(args.acme_deviations());
    announce::print(address, ca_pem.as_deref(), args.behaviour, &settings)?;
    tokio::select! {
        () = listener::accept(listener, tls, Arc::clone(&app)) => {}
        () = stop => {}
    }
    app.drain().await;
    Ok(())
}

/// Starts the work that no request causes, and adds to the settings those of its that are not the usual ones.
fn start_loops<S: Store>(args: &Args, app: &Arc<App<S>>, settings: &mut Settings) {
    if args.keygen == KeyGeneration::Server {
        settings.values.insert("keygen".to_owned(), "server".into());
    }
    if let Some(interval) = args.job_rounds() {
        settings.values.insert("job_interval_s".to_owned(), interval.as_secs_f64().into());
        tokio::spawn(job_processor::run(Arc::clone(app), interval));
    }
    if !args.crl_interval.is_zero() {
        tokio::spawn(crl::refresh(Arc::clone(app), args.crl_interval));
    }
}
