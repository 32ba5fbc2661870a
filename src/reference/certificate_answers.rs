//! Certificates: their creation, lists of them, and single ones.

use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use hyper::StatusCode;
use serde::Serialize;

use crate::app::App;
use crate::body;
use crate::chain::ReceivedRequest;
use crate::cli::Behaviour;
use crate::clock::{parse_rfc3339, rfc3339};
use crate::etag;
use crate::new_certificate::NewCertificate;
use crate::query::Query;
use crate::reply::{self, Reply};
use crate::store::certificate_rows::{Certificate, Field, Listing, Order, Page};
use crate::store::{Store, Violation};

const DEFAULT_PER_PAGE: i64 = 50;
const MAX_PER_PAGE: i64 = 500;

/// Creates a certificate: one INSERT, and nothing that would lead to its issuance.
pub async fn create<S: Store>(app: &App<S>, request: &ReceivedRequest) -> Reply {
    let refuse = |status, message: &str| reply::failure(status, message, &request.id);
    let Some(new) = body::object::<NewCertificate>(&request.body) else {
        return refuse(StatusCode::BAD_REQUEST, "Invalid request body");
    };
    let certificate = match new.check(&app.ids) {
        Ok(certificate) => certificate,
        Err(message) => return refuse(StatusCode::BAD_REQUEST, &message),
    };
    let error = match app.store.insert_certificate(&certificate).await {
        Ok(()) => {
            app.work.certificates_created.one();
            return reply::json(StatusCode::CREATED, &certificate);
        }
        Err(error) => error,
    };
    match error.violation().filter(|_| app.behaviour == Behaviour::AsDocumented) {
        Some(Violation::Duplicate) => refuse(StatusCode::CONFLICT, "Certificate already exists"),
        Some(Violation::UnknownReference) => {
            refuse(StatusCode::BAD_REQUEST, "Unknown owner, team, issuer, renewal policy or profile")
        }
        None => refuse(StatusCode::INTERNAL_SERVER_ERROR, "Failed to create certificate"),
    }
}

/// Answers with one certificate.
pub async fn show<S: Store>(app: &App<S>, id: &str, request_id: &str) -> Reply {
    match app.store.certificate(id).await {
        Ok(Some(certificate)) => reply::json(StatusCode::OK, &certificate),
        // certctl answers every failure of this lookup like that.
        Ok(None) | Err(_) => reply::failure(StatusCode::NOT_FOUND, "Certificate not found", request_id),
    }
}

/// Answers with a page of certificates.
pub async fn list<S: Store>(app: &App<S>, request: &ReceivedRequest) -> Reply {
    let query = Query::parse(request.head.uri.query());
    let paging = Paging::of(&query);
    match app.store.certificates(&paging.page(&query, app.behaviour)).await {
        Ok(listing) => {
            app.work.certificates_listed.one();
            etag::tag(paging.reply(listing), &request.head.headers)
        }
        Err(_) => reply::failure(StatusCode::INTERNAL_SERVER_ERROR, "Failed to list certificates", &request.id),
    }
}

/// The paging that a request wants.
struct Paging<'q> {
    page: i64,
    per_page: i64,
    page_size: Option<i64>,
    cursor: Option<&'q str>,
}

impl<'q> Paging<'q> {
    fn of(query: &'q Query) -> Self {
        Self {
            page: query.number("page", i64::MAX).unwrap_or(1),
            per_page: query.number("per_page", MAX_PER_PAGE).unwrap_or(DEFAULT_PER_PAGE),
            page_size: query.number("page_size", MAX_PER_PAGE),
            cursor: query.get("cursor"),
        }
    }

    fn page(&self, query: &Query, behaviour: Behaviour) -> Page {
        let filter = Field::ALL.iter().filter_map(|(field, name)| Some((*field, query.get(name)?.to_owned())));
        let sort = query.get("sort").unwrap_or_default();
        let (order, descending) = match sort.strip_prefix('-') {
            Some(name) => (Order::by_name(name), true),
            None => (Order::by_name(sort), !sort.is_empty() && query.get("sort_desc") == Some("true")),
        };
        let limit = self.page_size.unwrap_or(self.per_page);
        let page = Page { filter: filter.collect(), order, descending, limit: Some(limit), ..Page::default() };
        match (self.cursor, behaviour) {
            (None, _) => Page { offset: Some((self.page - 1).saturating_mul(limit)), ..page },
            // As built, no cursor ever decodes, and is then ignored.
            (Some(_), Behaviour::AsBuilt) => page,
            (Some(cursor), Behaviour::AsDocumented) => {
                Page { order: Order::Created, descending: false, after: read_cursor(cursor), ..page }
            }
        }
    }

    fn reply(&self, listing: Listing) -> Reply {
        #[derive(Serialize)]
        struct ByNumber {
            data: Vec<Certificate>,
            total: u64,
            page: i64,
            per_page: i64,
        }
        #[derive(Serialize)]
        struct ByCursor {
            data: Vec<Certificate>,
            total: u64,
            #[serde(skip_serializing_if = "Option::is_none")]
            next_cursor: Option<String>,
            page_size: i64,
        }
        let Listing { certificates: data, total } = listing;
        if self.cursor.is_none() {
            let envelope = ByNumber { data, total, page: self.page, per_page: self.per_page };
            return reply::json(StatusCode::OK, &envelope);
        }
        let next_cursor = data.last().map(cursor_after);
        let page_size = self.page_size.unwrap_or(self.per_page);
        reply::json(StatusCode::OK, &ByCursor { data, total, next_cursor, page_size })
    }
}

/// Returns the cursor to the certificates after this one.
fn cursor_after(certificate: &Certificate) -> String {
    URL_SAFE.encode(format!("{}:{}", rfc3339(certificate.created_at), certificate.id))
}

fn read_cursor(cursor: &str) -> Option<(SystemTime, String)> {
    let text = String::from_utf8(URL_SAFE.decode(cursor).ok()?).ok()?;
    // The time has colons of its own; it ends with its zone.
    let (time, id) = text.split_once("Z:")?;
    Some((parse_rfc3339(&format!("{time}Z"))?, id.to_owned()))
}
