//! Sending a run to an OpenTelemetry collector: OTLP over HTTP, in protobuf (OTLP 1, "OTLP/HTTP").

use std::io::{Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::str::FromStr;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;
use prost::Message as _;

use crate::error::{Context as _, Error, Result};
use crate::foreign;

/// The longest time for the connect, and for each read and write.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest answer, in bytes.
const MOST_BYTES: u64 = 1 << 20;
/// The path of a receiver, where the URL has none.
const PATH: &str = "/v1/metrics";
const HINT: &str = "give the collector's receiver of OTLP over HTTP, such as http://127.0.0.1:4318";

/// The receiver of a collector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Host and port.
    authority: String,
    path: String,
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rest =
            text.strip_prefix("http://").ok_or("write it as http://host:port: TLS is for a collector beside it")?;
        let (authority, path) = rest.split_once('/').map_or((rest, ""), |(authority, path)| (authority, path));
        let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        if !has_port || authority.contains('@') || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("write it as http://host:port".to_owned());
        }
        let path = if path.is_empty() { PATH.to_owned() } else { format!("/{path}") };
        Ok(Self { authority: authority.to_owned(), path })
    }
}

/// Sends a request of metrics.
///
/// # Errors
/// If the collector cannot be reached, or does not take all of it.
pub fn send(endpoint: &Endpoint, request: &[u8]) -> Result<()> {
    let Endpoint { authority, path } = endpoint;
    let sending = || format!("sending the run to http://{authority}{path}");
    let answer = exchange(endpoint, request).context(sending).map_err(|error| error.with_hint(HINT))?;
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let parsed = response.parse(&answer).context(sending)?;
    let (Some(status), httparse::Status::Complete(length)) = (response.code, parsed) else {
        return Err(Error::new(format!("{}: the answer is cut off", sending())).with_hint(HINT));
    };
    if !(200..300).contains(&status) {
        return Err(Error::new(format!("{}: it answered with status {status}", sending())).with_hint(HINT));
    }
    // A body that is no message of OTLP, such as JSON, comes with a status that says enough.
    let partial =
        ExportMetricsServiceResponse::decode(&answer[length..]).ok().and_then(|answer| answer.partial_success);
    match partial.filter(|partial| partial.rejected_data_points > 0) {
        Some(partial) => Err(Error::new(format!(
            "{}: it rejected {} points: {}",
            sending(),
            partial.rejected_data_points,
            foreign::line(&partial.error_message)
        ))),
        None => Ok(()),
    }
}

fn exchange(endpoint: &Endpoint, request: &[u8]) -> std::io::Result<Vec<u8>> {
    let addresses = endpoint.authority.to_socket_addrs()?;
    let mut failed = std::io::Error::other("the name has no address");
    for address in addresses {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => return exchange_on(stream, endpoint, request),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

fn exchange_on(mut stream: TcpStream, endpoint: &Endpoint, request: &[u8]) -> std::io::Result<Vec<u8>> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/x-protobuf\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        endpoint.path,
        endpoint.authority,
        request.len()
    );
    stream.write_all(&[head.as_bytes(), request].concat())?;
    let mut answer = Vec::new();
    stream.take(MOST_BYTES).read_to_end(&mut answer)?;
    Ok(answer)
}
