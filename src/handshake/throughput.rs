//! Handshakes in memory on several cores at once: a client per thread, and one server for all.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use rayon::iter::{IndexedParallelIterator as _, IntoParallelIterator as _, ParallelIterator as _};
use rayon::{ThreadPool, ThreadPoolBuilder};

use super::keyring::Parties;
use super::pipe::{Pipe, unmetered};
use crate::error::{Context, Error, Result};

/// The handshakes of each thread in a batch, on average: enough for the last one to cost the others little.
const PER_THREAD: u64 = 64;

/// Threads that shake hands.
pub struct HandshakeThreads {
    pool: ThreadPool,
    /// A client for each thread.
    clients: Vec<Mutex<(Parties, Pipe)>>,
}

impl HandshakeThreads {
    /// Starts threads, each of which plays both sides of one handshake after another.
    ///
    /// # Errors
    /// If the threads cannot be started, or the first handshake is not what its case specifies.
    pub fn new(threads: usize, parties: &Parties) -> Result<Self> {
        let named = ThreadPoolBuilder::new().num_threads(threads).thread_name(|index| format!("handshake-{index}"));
        let pool = named.build().context(|| format!("starting {threads} threads"))?;
        let clients = (0..threads).map(|_| {
            let (parties, mut pipe) = (parties.with_another_client(), Pipe::default());
            pipe.prime(&parties)?;
            Ok(Mutex::new((parties, pipe)))
        });
        Ok(Self { pool, clients: clients.collect::<Result<_>>()? })
    }

    /// Returns the number of handshakes in a batch.
    pub fn batch(&self) -> u64 {
        PER_THREAD * self.clients.len() as u64
    }

    /// Returns the duration of this many batches, one after another.
    ///
    /// # Errors
    /// If a handshake fails or is not what its case specifies.
    pub fn run(&self, batches: u64) -> Result<Duration> {
        let start = Instant::now();
        for _ in 0..batches {
            self.pool.install(|| {
                (0..self.batch() as usize).into_par_iter().with_max_len(1).try_for_each(|_| self.shake())
            })?;
        }
        Ok(start.elapsed())
    }

    fn shake(&self) -> Result<()> {
        let client = rayon::current_thread_index().and_then(|index| self.clients.get(index));
        // Only its own thread ever takes it.
        let mut client =
            client.and_then(|client| client.try_lock().ok()).ok_or_else(|| Error::new("a thread without a client"))?;
        let (parties, pipe) = &mut *client;
        pipe.shake(parties, &mut unmetered).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handshake::keyring::Keyring;
    use crate::handshake::matrix::{Case, HandshakeId, KeyExchange, SessionUse, TlsVersion};

    #[test]
    fn threads_resume_their_own_sessions() {
        let offer = HandshakeId::new(TlsVersion::Tls13, KeyExchange::X25519, SessionUse::Resumed).unwrap();
        let parties = Keyring::new().unwrap().parties(Case { offer, ..Case::BASE }).unwrap();
        let worker_pool = HandshakeThreads::new(3, &parties).unwrap();
        assert_eq!(worker_pool.batch(), 3 * PER_THREAD);
        worker_pool.run(2).unwrap();
    }

    #[test]
    fn a_failed_handshake_ends_the_batch() {
        let parties = Keyring::new().unwrap().parties(Case::BASE).unwrap();
        let mut worker_pool = HandshakeThreads::new(2, &parties).unwrap();
        let stranger = Keyring::new().unwrap().parties(Case::BASE).unwrap();
        worker_pool.clients =
            vec![Mutex::new((stranger.clone(), Pipe::default())), Mutex::new((stranger, Pipe::default()))];
        worker_pool.run(1).unwrap();
        for client in &mut worker_pool.clients {
            client.get_mut().unwrap().0.server = parties.server.clone();
        }
        let error = worker_pool.run(1).unwrap_err();
        assert!(error.what().contains("invalid peer certificate"), "{error}");
    }
}
