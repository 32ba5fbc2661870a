//! A line: the connection of one client to one peer, kept, opened again after a loss, or new for each arrival.

use std::sync::Arc;
use std::time::Duration;

use super::wiring::Wiring;
use crate::clock::Moment;
use crate::wire::connection::Stopwatch;
use crate::wire::handshake::Record;
use crate::wire::peer::{Connections, Peer};
use crate::wire::request::Method;
use crate::wire::{Connection, Fault, FaultKind, Phases, Scratch};

/// The time for which a new connection is watched before its first request, once a peer has sent data without a
/// request: an answer already under way would otherwise be taken for the answer to that request.
const LISTENING: Duration = Duration::from_millis(200);
/// The longest answer to a greeting, in bytes.
const LONGEST_GREETING: usize = 64 * 1024;

/// The connection of one client to one peer.
pub struct Line {
    peer: Arc<Peer>,
    /// Boxed, so that an idle worker is cheap to move.
    connection: Option<Box<Connection>>,
    /// True if no request was sent on the connection yet.
    fresh: bool,
    /// The moment since which a connection is being opened for a request.
    opening: Option<Moment>,
}

impl Line {
    /// Makes a line without a connection.
    pub fn to(peer: Arc<Peer>) -> Self {
        Self { peer, connection: None, fresh: false, opening: None }
    }

    /// Opens its connection and sends the greeting on it.
    pub async fn open(&mut self, wiring: &Wiring) -> Result<(Record, Phases), Fault> {
        let mut phases = Phases::default();
        // Boxed, so that an idle worker does not hold the memory that a handshake needs.
        let connection = Box::pin(self.peer.dialer(0).open(&mut Stopwatch::from(Moment::now()), &mut phases)).await?;
        let mut connection = Box::new(connection);
        let record = connection.record();
        self.connection = Box::pin(self.greet(wiring, &mut connection)).await?.then_some(connection);
        Ok((record, phases))
    }

    /// Sends the first request of a connection and returns whether the connection was kept. certctl closes a connection
    /// without a request after 5 s, and one that has had a request only after 60 s of silence.
    async fn greet(&self, wiring: &Wiring, connection: &mut Connection) -> Result<bool, Fault> {
        let Connections::Kept(greeting) = &self.peer.connections else { return Ok(true) };
        let mut scratch = wiring.take_scratch(LONGEST_GREETING);
        let (mut watch, mut phases) = (Stopwatch::from(Moment::now()), Phases::default());
        scratch.request.clear();
        scratch.request.extend_from_slice(greeting);
        let kept = connection.exchange(Method::Get, &mut scratch, &mut watch, &mut phases).await;
        wiring.return_scratch(scratch);
        // A connection that is out of step is kept: the next request on it reports the fault.
        Ok(kept? || connection.is_out_of_step())
    }

    /// Opens a connection if there is none, or if its peer has closed it, and returns the handshake. `number` chooses
    /// among the peer's addresses.
    pub async fn ready(
        &mut self,
        wiring: &Wiring,
        number: u64,
        watch: &mut Stopwatch,
        phases: &mut Phases,
    ) -> Result<Option<Record>, Fault> {
        if let Some(connection) = &mut self.connection {
            if !wiring.is_closed(connection.was_idle())? {
                return Ok(None);
            }
            self.connection = None;
        }
        let connection = self.dial(number, watch, phases).await?;
        let record = connection.record();
        self.connection = Some(connection);
        self.fresh = true;
        Ok(Some(record))
    }

    /// Opens a connection beside the one that the line keeps.
    pub async fn dial(
        &mut self,
        number: u64,
        watch: &mut Stopwatch,
        phases: &mut Phases,
    ) -> Result<Box<Connection>, Fault> {
        self.opening = Some(watch.last());
        let connection = Box::new(Box::pin(self.peer.dialer(number).open(watch, phases)).await?);
        self.opening = None;
        Ok(connection)
    }

    /// Sends `scratch.request` on the connection that [`Self::ready`] has left, and reads its answer into `scratch`.
    pub async fn exchange(
        &mut self,
        wiring: &Wiring,
        method: Method,
        scratch: &mut Scratch,
        watch: &mut Stopwatch,
        phases: &mut Phases,
    ) -> Result<(), Fault> {
        // Only a line that is not ready has no connection.
        let connection = self.connection.as_mut().expect("a line that is ready");
        if std::mem::take(&mut self.fresh) {
            let idle = match wiring.outspoken.get() {
                false => connection.idle(),
                true => Box::pin(connection.listen(LISTENING)).await,
            };
            if wiring.is_closed(idle)? {
                return Err(Fault::new(FaultKind::Closed, "the peer closed the connection before the request"));
            }
        }
        let reusable = connection.exchange(method, scratch, watch, phases).await?;
        // A connection that is out of step is kept: the next request on it reports the fault.
        let is_kept = reusable || connection.is_out_of_step();
        if !is_kept && self.peer.connections != Connections::PerArrival {
            self.connection = None;
        }
        Ok(())
    }

    /// Ends the arrival: closes a connection that was for it alone. Returns `false` if it was not left to the peer to
    /// close first.
    pub fn hang_up(&mut self, wiring: &Wiring) -> bool {
        if self.peer.connections != Connections::PerArrival {
            return true;
        }
        self.connection.take().is_none_or(|connection| wiring.close(*connection))
    }

    /// Gives up its connection.
    pub fn drop_connection(&mut self) {
        self.connection = None;
    }

    /// Returns the moment since which a connection could not be opened for a request, and forgets it.
    pub fn take_unopened(&mut self) -> Option<Moment> {
        self.opening.take()
    }

    /// Closes its connection, within at most `patience`.
    pub async fn close(self, patience: Duration) {
        if let Some(connection) = self.connection {
            connection.close(patience).await;
        }
    }
}
