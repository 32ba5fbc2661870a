//! Issued versions: listed, and fetched by agents.

use hyper::StatusCode;
use serde::Serialize;
use serde_json::json;

use crate::app::App;
use crate::audit::Change;
use crate::chain::ReceivedRequest;
use crate::cli::Behaviour;
use crate::query::Query;
use crate::reply::{self, Reply};
use crate::store::Store;
use crate::store::version_rows::CertificateVersion;

const DEFAULT_PER_PAGE: i64 = 50;
const MAX_PER_PAGE: i64 = 500;

#[derive(Serialize)]
struct Envelope<'v> {
    /// null where there is nothing, as in certctl.
    data: Option<&'v [CertificateVersion]>,
    total: usize,
    page: i64,
    per_page: i64,
}

/// Answers with a page of a certificate's versions, the newest first. All of them are read.
pub async fn list<S: Store>(app: &App<S>, id: &str, request: &ReceivedRequest) -> Reply {
    let query = Query::parse(request.head.uri.query());
    let page = query.number("page", i64::MAX).unwrap_or(1);
    let per_page = query.number("per_page", MAX_PER_PAGE).unwrap_or(DEFAULT_PER_PAGE);
    let Ok(versions) = app.store.versions(id).await else {
        let message = "Failed to get certificate versions";
        return reply::failure(StatusCode::INTERNAL_SERVER_ERROR, message, &request.id);
    };
    // As built, a certificate that does not exist has no versions either.
    if versions.is_empty()
        && app.behaviour == Behaviour::AsDocumented
        && matches!(app.store.certificate(id).await, Ok(None))
    {
        return reply::failure(StatusCode::NOT_FOUND, "Certificate not found", &request.id);
    }
    // Both numbers are at least one.
    let [index, per_chunk] = [page - 1, per_page].map(|number| usize::try_from(number).unwrap_or(usize::MAX));
    let data = versions.chunks(per_chunk).nth(index);
    reply::json(StatusCode::OK, &Envelope { data, total: versions.len(), page, per_page })
}

/// Answers with the newest version of a certificate. All of them are read, and an audit row comes before the answer.
pub async fn pick_up<S: Store>(app: &App<S>, agent_id: &str, id: &str, request_id: &str) -> Reply {
    // certctl answers every failure like that.
    let missing = || reply::failure(StatusCode::NOT_FOUND, "Certificate not found or not ready", request_id);
    if !matches!(app.store.agent(agent_id).await, Ok(Some(_))) {
        return missing();
    }
    let Some(version) = app.store.versions(id).await.ok().and_then(|versions| versions.into_iter().next()) else {
        return missing();
    };
    let details = json!({"version": version.serial_number});
    app.audit.append(&Change::by_agent(agent_id, "certificate_retrieved", "certificate", id, details)).await;
    app.work.certificates_fetched.one();
    reply::json(StatusCode::OK, &json!({"certificate_pem": version.pem_chain}))
}
