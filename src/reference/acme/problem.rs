//! ACME's errors: problem documents (RFC 7807) of RFC 8555's types.

use hyper::StatusCode;
use hyper::header::{self, HeaderValue};
use serde::{Serialize, Serializer};

use crate::reply::{self, Reply};
use crate::store::StoreError;
use crate::store::acme_order_rows::{Fault, Identifier};

const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/problem+json");

/// A type of RFC 8555, section 6.7.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    AccountDoesNotExist,
    AlreadyRevoked,
    BadCsr,
    BadNonce,
    Connection,
    IncorrectResponse,
    Malformed,
    OrderNotReady,
    RateLimited,
    RejectedIdentifier,
    ServerInternal,
    Unauthorized,
    UserActionRequired,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::AccountDoesNotExist => "accountDoesNotExist",
            Self::AlreadyRevoked => "alreadyRevoked",
            Self::BadCsr => "badCSR",
            Self::BadNonce => "badNonce",
            Self::Connection => "connection",
            Self::IncorrectResponse => "incorrectResponse",
            Self::Malformed => "malformed",
            Self::OrderNotReady => "orderNotReady",
            Self::RateLimited => "rateLimited",
            Self::RejectedIdentifier => "rejectedIdentifier",
            Self::ServerInternal => "serverInternal",
            Self::Unauthorized => "unauthorized",
            Self::UserActionRequired => "userActionRequired",
        }
    }

    fn urn(self) -> String {
        format!("urn:ietf:params:acme:error:{}", self.name())
    }
}

/// An error as its answer states it. The order of the fields is that of certctl's JSON.
#[derive(Debug, Serialize)]
pub struct Problem {
    #[serde(rename = "type", serialize_with = "as_urn")]
    kind: Kind,
    detail: String,
    #[serde(serialize_with = "as_number")]
    status: StatusCode,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subproblems: Vec<Problem>,
    #[serde(skip_serializing_if = "Option::is_none")]
    identifier: Option<Identifier>,
}

fn as_urn<S: Serializer>(kind: &Kind, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_str(&kind.urn())
}

fn as_number<S: Serializer>(status: &StatusCode, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_u16(status.as_u16())
}

impl Problem {
    /// Returns a problem of this status and type.
    pub fn new(status: StatusCode, kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), status, subproblems: Vec::new(), identifier: None }
    }

    /// Returns the problem of a request that makes no sense: 400.
    pub fn malformed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Kind::Malformed, detail)
    }

    /// Returns the problem of a request by the wrong account or key: 401.
    pub fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, Kind::Unauthorized, detail)
    }

    /// Returns the problem of something that does not exist: 404.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, Kind::Malformed, detail)
    }

    /// Returns the problem of a failure of the server's own, which certctl never explains: 500.
    pub fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, Kind::ServerInternal, "ACME server error")
    }

    /// Returns the problem with the identifier that it is about.
    pub fn about(mut self, identifier: Identifier) -> Self {
        self.identifier = Some(identifier);
        self
    }

    /// Returns the problem with those that it consists of.
    pub fn of(mut self, subproblems: Vec<Self>) -> Self {
        self.subproblems = subproblems;
        self
    }

    /// Returns the problem as the error of an order or a challenge.
    pub fn to_fault(&self) -> Fault {
        Fault { kind: self.kind.urn(), detail: self.detail.clone(), status: self.status.as_u16() }
    }

    /// Returns the answer.
    pub fn reply(&self) -> Reply {
        reply::with_header(reply::json(self.status, self), header::CONTENT_TYPE, CONTENT_TYPE)
    }
}

/// Any failure of a store is one of the server's own.
impl From<StoreError> for Problem {
    fn from(_: StoreError) -> Self {
        Self::internal()
    }
}
