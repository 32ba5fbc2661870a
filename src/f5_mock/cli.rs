//! The command line.

use std::net::SocketAddr;
use std::num::NonZeroUsize;

use clap::Parser;

/// An F5 BIG-IP's iControl REST API for benchmarks, in memory and on loopback only. It stops when its standard input
/// ends.
#[derive(Debug, Parser)]
#[command(name = "f5-mock", version)]
pub struct Args {
    /// Loopback address to listen on; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDRESS:PORT", value_parser = loopback)]
    pub listen: SocketAddr,

    /// Worker threads
    #[arg(long, value_name = "N", default_value = "1")]
    pub workers: NonZeroUsize,
}

fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text.parse().map_err(|_| "expected ADDRESS:PORT, such as 127.0.0.1:0".to_owned())?;
    if address.ip().is_loopback() {
        Ok(address)
    } else {
        Err(format!("{} is not a loopback address; this server has no place on a network", address.ip()))
    }
}
