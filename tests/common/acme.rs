//! The answers of a certctl's ACME server with nothing wrong.

use std::sync::atomic::{AtomicU64, Ordering};

use super::peer::{Reply, Request, Step, answer, certctl};

/// The requests of each user in a round.
pub const STEPS: [&str; 4] = ["directory", "new_nonce", "renewal_info_malformed", "renewal_info_unknown"];

impl Request {
    /// Returns the index of the request in [`STEPS`]; the preflight requests a directory too.
    pub fn acme_step(&self) -> Option<usize> {
        let end = self.path.strip_prefix("/acme/profile/prof-standard-tls/")?;
        ["directory", "new-nonce", "renewal-info/aaaa", "renewal-info/aaaa.bbbb"].iter().position(|path| *path == end)
    }
}

/// Returns the right answer, with a new nonce where one is due.
pub fn acme(request: &Request) -> Reply {
    static NONCES: AtomicU64 = AtomicU64::new(0);
    acme_with_nonce(request, &format!("nonce-{}", NONCES.fetch_add(1, Ordering::SeqCst)))
}

/// Returns the right answer, with this nonce.
pub fn acme_with_nonce(request: &Request, nonce: &str) -> Reply {
    let base = format!("https://{}/acme/profile/prof-standard-tls", request.host);
    match request.acme_step() {
        Some(0) => {
            let names = ["newNonce", "newAccount", "newOrder", "renewalInfo"];
            let urls = names.iter().zip(["new-nonce", "new-account", "new-order", "renewal-info"]);
            let urls: Vec<_> = urls.map(|(name, path)| format!("\"{name}\":\"{base}/{path}\"")).collect();
            with_nonce("Content-Type: application/json\r\n", nonce, &format!("{{{}}}", urls.join(",")))
        }
        Some(1) => with_nonce("", nonce, ""),
        Some(2) => problem(400, "malformed"),
        Some(3) => problem(404, "malformed"),
        _ => certctl(request),
    }
}

fn with_nonce(head: &str, nonce: &str, body: &str) -> Reply {
    let head = format!("HTTP/1.1 200 x\r\n{head}Replay-Nonce: {nonce}\r\nContent-Length: {}\r\n\r\n", body.len());
    vec![Step::Send((head + body).into())]
}

/// Returns a problem document of an ACME error.
pub fn problem(status: u16, kind: &str) -> Reply {
    let body = format!(r#"{{"type":"urn:ietf:params:acme:error:{kind}","detail":"x","status":{status}}}"#);
    answer(status, "application/problem+json", &body)
}

/// Returns a reply without its body, as HEAD requires.
pub fn head_of(reply: Reply) -> Reply {
    let head = |bytes: Vec<u8>| {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").map_or(bytes.len(), |at| at + 4);
        bytes[..end].to_vec()
    };
    let of = |step| if let Step::Send(bytes) = step { Step::Send(head(bytes)) } else { step };
    reply.into_iter().map(of).collect()
}
