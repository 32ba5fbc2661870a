//! The state that the clients of all workloads share: buffers, and connections that wait for their peer to close.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use crate::event_loop::detach;
use crate::wire::connection::Idle;
use crate::wire::scratch::Room;
use crate::wire::{Connection, Fault, FaultKind, Scratch};

/// The most buffers that are kept while no request uses them.
const MAX_UNUSED_SCRATCHES: usize = 1_024;
/// The longest wait for a peer to close its connection.
pub const CLOSING_PATIENCE: Duration = Duration::from_secs(1);

/// The state that the clients of all workloads share.
#[derive(Clone, Default)]
pub struct Wiring {
    /// Buffers that no request uses.
    scratch: Rc<RefCell<Vec<Scratch>>>,
    /// The memory that the bodies of all answers share.
    room: Rc<Room>,
    /// True once a peer has sent data without a request.
    pub outspoken: Rc<Cell<bool>>,
    /// The number of connections that wait for their peer to close.
    closing: Rc<Cell<usize>>,
    /// The most that may wait.
    most_closing: usize,
}

impl Wiring {
    /// Lets at most so many connections wait for their peer to close.
    pub fn with_closing(most_closing: usize) -> Self {
        Self { most_closing, ..Self::default() }
    }

    /// Waits, in a task of its own, for the peer to close `connection` first. Returns `false` if too many wait for that
    /// already, so that this side closes it.
    pub fn close(&self, connection: Connection) -> bool {
        if self.closing.get() >= self.most_closing {
            return false;
        }
        let (closing, outspoken) = (self.closing.clone(), self.outspoken.clone());
        closing.set(closing.get() + 1);
        detach(async move {
            if connection.close_second(CLOSING_PATIENCE).await {
                outspoken.set(true);
            }
            closing.set(closing.get() - 1);
        });
        true
    }

    /// Reports whether a peer has closed an idle connection.
    pub fn is_closed(&self, idle: Idle) -> Result<bool, Fault> {
        match idle {
            Idle::Quiet => Ok(false),
            Idle::Closed => Ok(true),
            Idle::Spoke(fault) => {
                // Bytes that are not TLS cannot be taken for an answer.
                self.outspoken.set(self.outspoken.get() || fault.kind == FaultKind::Protocol);
                Err(fault)
            }
        }
    }

    /// Takes buffers for an exchange whose answer has at most `longest_answer` bytes.
    pub fn take_scratch(&self, longest_answer: usize) -> Scratch {
        let unused = self.scratch.borrow_mut().pop();
        let mut scratch = unused.unwrap_or_else(|| Scratch::within(&self.room));
        scratch.bound_body(longest_answer);
        scratch
    }

    /// Takes buffers back.
    pub fn return_scratch(&self, mut scratch: Scratch) {
        scratch.shrink();
        let mut unused = self.scratch.borrow_mut();
        if unused.len() < MAX_UNUSED_SCRATCHES {
            unused.push(scratch);
        }
    }
}
