//! The wire: dialling, TLS, HTTP/1.1 and the phases of one exchange. Independent of scenarios and rates.

pub mod connection;
pub mod fault;
pub mod handshake;
pub mod http1;
pub mod offer;
pub mod peer;
mod records;
pub mod request;
pub mod scratch;
pub mod sessions;
pub mod source;
mod stream;
mod tap;
pub mod tls;
mod verify;
pub mod x509;

pub use connection::{Connection, Dialer, Phases};
pub use fault::{Fault, FaultKind};
pub use handshake::Handshake;
pub use scratch::Scratch;
