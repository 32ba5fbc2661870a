//! Routes: the handler of each path, and the permission that it needs.

use hyper::header::{self, HeaderValue};
use hyper::{Method, StatusCode};

use crate::acme_answers::{self, Resource};
use crate::app::App;
use crate::auth::Key;
use crate::chain::ReceivedRequest;
use crate::reply::{self, Reply};
use crate::store::Store;
use crate::{
    bulk_renewal, bulk_revocation, certificate_answers, csr_submission, handlers, job_answers, metrics, renewal,
    revocation, version_answers, work_poll,
};

/// The action that an authenticated request wants.
#[derive(Debug, PartialEq, Eq)]
pub enum Route<'p> {
    AuthCheck,
    Agent(&'p str),
    Heartbeat(&'p str),
    Poll(&'p str),
    CreateCertificate,
    Certificates,
    Certificate(&'p str),
    Versions(&'p str),
    Renewal(&'p str),
    Revocation(&'p str),
    BulkRenewal,
    BulkRevocation,
    SigningRequest(&'p str),
    /// A certificate that an agent fetches.
    PickUp {
        agent_id: &'p str,
        certificate_id: &'p str,
    },
    /// An agent's report on a job.
    Report {
        agent_id: &'p str,
        job_id: &'p str,
    },
    Job(&'p str),
    Verification(&'p str),
    Metrics,
    Acme(acme_answers::Call<'p>),
    /// This server's own: the counts of work done.
    Work,
    /// HEAD where certctl's router passes it on and its handler, behind this permission, does not support it.
    Head(&'static str),
    /// A path that has other methods, which are these.
    WrongMethod(&'static str),
    /// A path with doubled slashes, and its form without them.
    Untidy(String),
    Nothing,
}

impl Route<'_> {
    /// Returns the permission that certctl's gate checks, if there is a gate.
    fn permission(&self) -> Option<&'static str> {
        match self {
            Self::Agent(_) => Some("agent.read"),
            Self::Heartbeat(_) => Some("agent.heartbeat"),
            Self::Poll(_) | Self::SigningRequest(_) => Some("agent.job.poll"),
            Self::Report { .. } => Some("agent.job.complete"),
            Self::CreateCertificate | Self::BulkRenewal | Self::Renewal(_) => Some("cert.issue"),
            Self::Certificates | Self::Certificate(_) | Self::Versions(_) => Some("cert.read"),
            Self::PickUp { .. } => Some("cert.read"),
            Self::Revocation(_) => Some("cert.revoke"),
            Self::BulkRevocation => Some("cert.bulk_revoke"),
            Self::Job(_) => Some("job.read"),
            Self::Verification(_) => Some("verification.run"),
            Self::Metrics => Some("metrics.read"),
            Self::Head(permission) => Some(permission),
            Self::AuthCheck | Self::Acme(_) | Self::Work => None,
            Self::WrongMethod(_) | Self::Untidy(_) | Self::Nothing => None,
        }
    }
}

/// Returns the route of a request.
pub fn route<'p>(method: &Method, path: &'p str) -> Route<'p> {
    if path.contains("//") {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        return Route::Untidy(format!("/{}", parts.join("/")));
    }
    let reading = |route, allow| match *method {
        Method::GET | Method::HEAD => route,
        _ => Route::WrongMethod(allow),
    };
    let getting = |route: Route<'p>, allow| match *method {
        Method::GET => route,
        Method::HEAD => Route::Head(route.permission().unwrap_or_default()),
        _ => Route::WrongMethod(allow),
    };
    let posting = |route, allow| if *method == Method::POST { route } else { Route::WrongMethod(allow) };
    let Some(rest) = path.strip_prefix("/api/v1/") else {
        return match path.strip_prefix("/acme/").and_then(acme_call) {
            Some(call) => reading(Route::Acme(call), "GET, HEAD"),
            None if path == "/reference/work" => reading(Route::Work, "GET, HEAD"),
            None => Route::Nothing,
        };
    };
    let parts: Vec<&str> = rest.split('/').collect();
    match *parts {
        ["auth", "check"] => reading(Route::AuthCheck, "GET, HEAD"),
        ["metrics", "prometheus"] => getting(Route::Metrics, "GET, HEAD"),
        ["agents", id] if !id.is_empty() => getting(Route::Agent(id), "DELETE, GET, HEAD"),
        ["agents", id, "heartbeat"] => posting(Route::Heartbeat(id), "POST"),
        ["agents", id, "work"] => getting(Route::Poll(id), "GET, HEAD"),
        ["agents", id, "csr"] => posting(Route::SigningRequest(id), "POST"),
        ["agents", agent_id, "certificates", certificate_id] if !certificate_id.is_empty() => {
            getting(Route::PickUp { agent_id, certificate_id }, "GET, HEAD")
        }
        ["agents", agent_id, "jobs", job_id, "status"] => posting(Route::Report { agent_id, job_id }, "POST"),
        ["jobs", id] if !id.is_empty() => getting(Route::Job(id), "GET, HEAD"),
        ["jobs", id, "verify"] => posting(Route::Verification(id), "POST"),
        ["certificates"] if *method == Method::POST => Route::CreateCertificate,
        ["certificates"] => getting(Route::Certificates, "GET, HEAD, POST"),
        ["certificates", "bulk-renew"] if *method == Method::POST => Route::BulkRenewal,
        ["certificates", "bulk-revoke"] if *method == Method::POST => Route::BulkRevocation,
        ["certificates", id @ ("bulk-renew" | "bulk-revoke")] => {
            getting(Route::Certificate(id), "DELETE, GET, HEAD, POST, PUT")
        }
        ["certificates", id] if !id.is_empty() => getting(Route::Certificate(id), "DELETE, GET, HEAD, PUT"),
        ["certificates", id, "versions"] => getting(Route::Versions(id), "GET, HEAD"),
        ["certificates", id, "renew"] => posting(Route::Renewal(id), "POST"),
        ["certificates", id, "revoke"] => posting(Route::Revocation(id), "POST"),
        _ => Route::Nothing,
    }
}

/// Parses the part of an ACME path below `/acme/`.
fn acme_call(rest: &str) -> Option<acme_answers::Call<'_>> {
    let (profile, resource) = match rest.strip_prefix("profile/").and_then(|rest| rest.split_once('/')) {
        Some((profile, resource)) => (Some(profile), resource),
        None => (None, rest),
    };
    let resource = match resource.split_once('/') {
        None if resource == "directory" => Resource::Directory,
        None if resource == "new-nonce" => Resource::NewNonce,
        Some(("renewal-info", id)) if !id.is_empty() && !id.contains('/') => Resource::RenewalInfo(id),
        _ => return None,
    };
    Some(acme_answers::Call { profile, resource })
}

/// Answers a request by its route, if the key has the permission.
pub async fn dispatch<S: Store>(app: &App<S>, key: &Key, route: Route<'_>, request: &ReceivedRequest) -> Reply {
    if let Some(needed) = route.permission()
        && let Err(reply) = handlers::gate(app, key, needed).await
    {
        return reply;
    }
    match route {
        Route::AuthCheck => handlers::auth_check(app, key).await,
        Route::Agent(id) => handlers::show_agent(app, id, &request.id).await,
        Route::Heartbeat(id) => handlers::beat(app, id, request).await,
        Route::Poll(id) => work_poll::answer(app, id, &request.id).await,
        Route::CreateCertificate => certificate_answers::create(app, request).await,
        Route::Certificates => certificate_answers::list(app, request).await,
        Route::Certificate(id) => certificate_answers::show(app, id, &request.id).await,
        Route::Versions(id) => version_answers::list(app, id, request).await,
        Route::Renewal(id) => renewal::answer(app, key, id, request).await,
        Route::Revocation(id) => revocation::answer(app, key, id, request).await,
        Route::BulkRenewal => bulk_renewal::answer(app, key, request).await,
        Route::BulkRevocation => bulk_revocation::answer(app, key, request).await,
        Route::SigningRequest(id) => csr_submission::answer(app, id, request).await,
        Route::PickUp { agent_id, certificate_id } => {
            version_answers::pick_up(app, agent_id, certificate_id, &request.id).await
        }
        Route::Report { agent_id, job_id } => job_answers::report(app, agent_id, job_id, request).await,
        Route::Job(id) => job_answers::show(app, id, &request.id).await,
        Route::Verification(id) => job_answers::verify(app, id, request).await,
        Route::Metrics => metrics::answer(app, &request.id).await,
        Route::Acme(call) => acme_answers::answer(app, &call, request).await,
        Route::Work => handlers::work(app),
        other => misrouted(other),
    }
}

/// Returns the answer to a request that no handler takes.
pub fn misrouted(route: Route<'_>) -> Reply {
    let nothing = || reply::plain(StatusCode::NOT_FOUND, "404 page not found");
    match route {
        Route::Head(_) => reply::unwanted_method(),
        Route::WrongMethod(allow) => reply::wrong_method(allow),
        Route::Untidy(tidy) => match HeaderValue::try_from(tidy) {
            Ok(tidy) => reply::with_header(reply::empty(StatusCode::TEMPORARY_REDIRECT), header::LOCATION, tidy),
            Err(_) => nothing(),
        },
        _ => nothing(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(path: &str) -> Route<'_> {
        route(&Method::GET, path)
    }

    fn post(path: &str) -> Route<'_> {
        route(&Method::POST, path)
    }

    #[test]
    fn paths_are_routed_as_in_certctl() {
        assert_eq!(post("/api/v1/agents/a-1/heartbeat"), Route::Heartbeat("a-1"));
        assert_eq!(get("/api/v1/agents/a-1/heartbeat"), Route::WrongMethod("POST"));
        assert_eq!(get("/api/v1/agents/a-1/work"), Route::Poll("a-1"));
        assert_eq!(get("/api/v1/agents/a-1"), Route::Agent("a-1"));
        assert_eq!(get("/api/v1/agents/a-1/"), Route::Nothing);
        assert_eq!(get("/api/v1/agents/a-1/heartbeat/x"), Route::Nothing);
        assert_eq!(get("/api/v1/agents"), Route::Nothing);
        assert_eq!(get("/api/v1/agents//heartbeat"), Route::Untidy("/api/v1/agents/heartbeat".to_owned()));
        assert_eq!(post("/api/v1/auth/check"), Route::WrongMethod("GET, HEAD"));
        assert_eq!(post("/api/v1/agents/a-1/csr"), Route::SigningRequest("a-1"));
        assert_eq!(
            get("/api/v1/agents/a-1/certificates/c-1"),
            Route::PickUp { agent_id: "a-1", certificate_id: "c-1" }
        );
        assert_eq!(post("/api/v1/agents/a-1/jobs/j-1/status"), Route::Report { agent_id: "a-1", job_id: "j-1" });
        assert_eq!(get("/api/v1/jobs/j-1"), Route::Job("j-1"));
        assert_eq!(post("/api/v1/jobs/j-1/verify"), Route::Verification("j-1"));
        assert_eq!(get("/api/v1/certificates/c-1/versions"), Route::Versions("c-1"));
        assert_eq!(post("/api/v1/certificates/c-1/renew"), Route::Renewal("c-1"));
        assert_eq!(post("/api/v1/certificates/c-1/revoke"), Route::Revocation("c-1"));
        assert_eq!(post("/api/v1/certificates/bulk-revoke"), Route::BulkRevocation);
        assert_eq!(post("/api/v1/certificates"), Route::CreateCertificate);
        assert_eq!(get("/api/v1/certificates"), Route::Certificates);
        assert_eq!(get("/api/v1/certificates/c-1"), Route::Certificate("c-1"));
        assert_eq!(get("/api/v1/certificates/"), Route::Nothing);
        assert_eq!(post("/api/v1/certificates/bulk-renew"), Route::BulkRenewal);
        assert_eq!(get("/api/v1/certificates/bulk-renew"), Route::Certificate("bulk-renew"));
        assert_eq!(route(&Method::PATCH, "/api/v1/certificates"), Route::WrongMethod("GET, HEAD, POST"));
        assert_eq!(route(&Method::HEAD, "/api/v1/certificates"), Route::Head("cert.read"));
        assert_eq!(get("/api/v1/metrics/prometheus"), Route::Metrics);
    }

    #[test]
    fn acme_paths_have_a_long_and_a_short_form() {
        let call = |profile, resource| Route::Acme(acme_answers::Call { profile, resource });
        assert_eq!(get("/acme/profile/p/directory"), call(Some("p"), Resource::Directory));
        assert_eq!(route(&Method::HEAD, "/acme/profile/p/new-nonce"), call(Some("p"), Resource::NewNonce));
        assert_eq!(get("/acme/profile/p/renewal-info/a.b"), call(Some("p"), Resource::RenewalInfo("a.b")));
        assert_eq!(get("/acme/renewal-info/a.b"), call(None, Resource::RenewalInfo("a.b")));
        assert_eq!(get("/acme/directory"), call(None, Resource::Directory));
        assert_eq!(post("/acme/directory"), Route::WrongMethod("GET, HEAD"));
        for nothing in ["/acme/", "/acme/profile/p", "/acme/profile/p/renewal-info/", "/acme/profile/p/x", "/acme/x"] {
            assert_eq!(get(nothing), Route::Nothing, "{nothing}");
        }
    }
}
