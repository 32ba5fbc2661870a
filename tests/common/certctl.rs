//! The answers of a certctl with nothing wrong to every scenario but ACME.

use super::peer::{Reply, Request, certctl, json};

impl Request {
    /// Returns true for a certificate posted by the workload.
    pub fn is_issuance(&self) -> bool {
        self.method == "POST" && self.path == "/api/v1/certificates"
    }

    /// Returns true for a page requested by the workload.
    pub fn is_list(&self) -> bool {
        self.path.starts_with("/api/v1/certificates?")
    }

    /// Returns true for a poll for work.
    pub fn is_poll(&self) -> bool {
        self.path.ends_with("/work")
    }

    /// Returns the number of certificates that a bulk renewal names.
    pub fn certificates(&self) -> usize {
        self.body.matches("cert-loadtest-bulk-").count()
    }
}

/// Answers as a certctl that has every agent and certificate, and does nothing.
pub fn all_of_certctl(request: &Request) -> Reply {
    match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/api/v1/auth/check") => granted(&["agent.heartbeat", "agent.job.poll", "cert.issue", "cert.read"]),
        // A posted certificate names itself.
        _ if request.is_issuance() => json(201, &request.body),
        _ if request.is_list() => page(),
        _ if request.is_poll() => json(200, "{\"count\":0,\"jobs\":[]}\n"),
        ("POST", "/api/v1/certificates/bulk-renew") => renewed(request.certificates()),
        ("GET", path) if path.starts_with("/api/v1/certificates/") => {
            json(200, &format!("{{\"id\":\"{}\"}}", path.rsplit_once('/').unwrap().1))
        }
        _ => certctl(request),
    }
}

fn granted(permissions: &[&str]) -> Reply {
    let each: Vec<_> = permissions.iter().map(|permission| format!("{{\"permission\":\"{permission}\"}}")).collect();
    json(200, &format!("{{\"user\":\"u\",\"effective_permissions\":[{}]}}", each.join(",")))
}

/// Returns the answer to a bulk renewal that put so many certificates into renewal, and matched no other.
pub fn renewed(certificates: usize) -> Reply {
    let counts = format!(r#""total_matched":{certificates},"total_enqueued":{certificates}"#);
    json(200, &format!("{{{counts},\"total_skipped\":0,\"total_failed\":0}}"))
}

/// Returns the first page of 10,000 certificates.
fn page() -> Reply {
    let rows: Vec<String> = (1..=50).map(|number| format!(r#"{{"id":"cert-loadtest-bulk-{number:05}"}}"#)).collect();
    json(200, &format!(r#"{{"data":[{}],"total":10000,"page":1,"per_page":50}}"#, rows.join(",")))
}
