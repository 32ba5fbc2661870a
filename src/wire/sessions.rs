//! TLS sessions that a client keeps to resume them. The library's own store keeps eight TLS 1.3 tickets per server,
//! each of which is good for one connection: more connections at once would find none.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rustls::NamedGroup;
use rustls::client::{ClientSessionMemoryCache, ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;

/// The least room for TLS 1.3 tickets of a server; beyond it the oldest are dropped.
const KEPT_TICKETS: usize = 256;
/// The number of servers for which the other session data is kept.
const KEPT_SERVERS: usize = 8;

/// A store of sessions, which are gathered first and then resumed.
#[derive(Debug)]
pub struct Sessions {
    tickets: Mutex<HashMap<ServerName<'static>, VecDeque<Tls13ClientSessionValue>>>,
    /// True if TLS 1.3 tickets are used: a server gives two for a full handshake, and mostly one for a resumed one.
    resumes: AtomicBool,
    /// The room for tickets of a server.
    most: usize,
    /// TLS 1.2 sessions, which are good for any number of connections, and the key exchange groups that servers chose.
    rest: ClientSessionMemoryCache,
}

impl Sessions {
    /// Makes an empty store, with room for a ticket of each of `count` connections at once, and for the tickets that
    /// they bring.
    pub fn for_connections(count: usize) -> Self {
        let rest = ClientSessionMemoryCache::new(KEPT_SERVERS);
        Self { tickets: Mutex::default(), resumes: AtomicBool::new(false), most: KEPT_TICKETS.max(2 * count), rest }
    }

    /// Returns the number of TLS 1.3 tickets, each of which is for one connection.
    pub fn tickets(&self) -> usize {
        self.tickets.lock().unwrap_or_else(PoisonError::into_inner).values().map(VecDeque::len).sum()
    }

    /// Lets connections resume the gathered sessions from now on.
    pub fn resume(&self) {
        self.resumes.store(true, Ordering::Relaxed);
    }
}

impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, server_name: ServerName<'static>, group: NamedGroup) {
        self.rest.set_kx_hint(server_name, group);
    }

    fn kx_hint(&self, server_name: &ServerName<'_>) -> Option<NamedGroup> {
        self.rest.kx_hint(server_name)
    }

    fn set_tls12_session(&self, server_name: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.rest.set_tls12_session(server_name, value);
    }

    fn tls12_session(&self, server_name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.rest.tls12_session(server_name)
    }

    fn remove_tls12_session(&self, server_name: &ServerName<'static>) {
        self.rest.remove_tls12_session(server_name);
    }

    fn insert_tls13_ticket(&self, server_name: ServerName<'static>, value: Tls13ClientSessionValue) {
        let mut tickets = self.tickets.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = tickets.entry(server_name).or_default();
        if kept.len() >= self.most {
            kept.pop_front();
        }
        kept.push_back(value);
    }

    fn take_tls13_ticket(&self, server_name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        if !self.resumes.load(Ordering::Relaxed) {
            return None;
        }
        // The newest ticket, which lasts longest.
        self.tickets.lock().unwrap_or_else(PoisonError::into_inner).get_mut(server_name)?.pop_back()
    }
}
