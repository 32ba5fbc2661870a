//! Work that many requests need at once, and that one of them does for all.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;

type Flight<T> = Arc<OnceCell<Result<T, String>>>;

/// The work under way, by its subject; never more than there are requests.
pub struct Flights<T>(Mutex<HashMap<String, Flight<T>>>);

impl<T> Default for Flights<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> Flights<T> {
    /// Returns the result of the work under way on this subject, or does it. If the request that does it goes away,
    /// another one takes it over.
    pub async fn join(&self, subject: &str, work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
        let flight = Arc::clone(self.locked().entry(subject.to_owned()).or_default());
        let landing = Landing { flights: self, subject, flight };
        landing.flight.get_or_init(|| work).await.clone()
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, HashMap<String, Flight<T>>> {
        // A poisoned map is whole: nothing between its updates can panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The end of a request's part in a flight, also of one that goes away: nobody joins the flight any more.
struct Landing<'f, T> {
    flights: &'f Flights<T>,
    subject: &'f str,
    flight: Flight<T>,
}

impl<T> Drop for Landing<'_, T> {
    fn drop(&mut self) {
        let mut flights = self.flights.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A later flight may have begun already.
        if flights.get(self.subject).is_some_and(|known| Arc::ptr_eq(known, &self.flight)) {
            flights.remove(self.subject);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};
    use tokio::sync::Notify;

    #[tokio::test]
    async fn requests_at_once_share_one_piece_of_work() {
        let (flights, count, gate) = (Flights::default(), AtomicU32::new(0), Notify::new());
        let work = || async {
            gate.notified().await;
            Ok(count.fetch_add(1, Ordering::Relaxed))
        };
        let open = async { gate.notify_one() };
        let (first, second, other, ()) =
            tokio::join!(flights.join("a", work()), flights.join("a", work()), async { Ok(9) }, open);
        assert_eq!((first, second, other), (Ok(0), Ok(0), Ok::<_, String>(9)));
        gate.notify_one();
        assert_eq!(flights.join("a", work()).await, Ok(1));
        assert!(flights.locked().is_empty());
    }
}
