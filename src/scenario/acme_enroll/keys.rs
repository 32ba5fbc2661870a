//! The keys of enrolments: made ahead of the load, on all processors, so that none is made in measured time.

use std::cell::{Cell, RefCell};

use rayon::prelude::*;

use super::super::signing::SigningRequest;
use super::jws::AccountKey;
use crate::error::Result;

/// The most keys of a kind that are made ahead.
pub const MOST_AHEAD: u64 = 200_000;

/// A certificate to order: one name, and a request with a key of its own (P-256), which is not kept.
pub struct Wanted {
    /// The name.
    pub name: String,
    /// The certificate signing request; absent where no order is finalized.
    pub request: Option<SigningRequest>,
}

/// A stock of keys that no account and no certificate has used.
pub struct KeyStock {
    /// The end of every name.
    suffix: String,
    finalize: bool,
    accounts: RefCell<Vec<AccountKey>>,
    requests: RefCell<Vec<(String, SigningRequest)>>,
    ordered: Cell<u64>,
    late: Cell<u64>,
}

impl KeyStock {
    /// Makes so many account keys and, with `finalize`, so many signing requests: at least one and at most
    /// [`MOST_AHEAD`] of each. Every name has the end `suffix`, and differs from the others of this set.
    ///
    /// # Errors
    /// If the suffix is invalid, or no key can be made.
    pub fn make(accounts: u64, orders: u64, finalize: bool, suffix: String) -> Result<Self> {
        let orders = if finalize { orders.clamp(1, MOST_AHEAD) } else { 0 };
        let accounts = (0..accounts.clamp(1, MOST_AHEAD)).into_par_iter().map(|_| AccountKey::generate());
        let accounts = accounts.collect::<Result<_>>()?;
        let request = |number: usize| {
            let name = name(number as u64, &suffix);
            SigningRequest::new(&name).map(|request| (name, request))
        };
        // The first is taken from the end.
        let requests = (0..orders as usize).into_par_iter().rev().map(request).collect::<Result<_>>()?;
        Ok(Self {
            suffix,
            finalize,
            accounts: RefCell::new(accounts),
            requests: RefCell::new(requests),
            ordered: Cell::new(0),
            late: Cell::new(0),
        })
    }

    /// Returns the number of account keys, and of signing requests, that are left.
    pub fn left(&self) -> (u64, u64) {
        (self.accounts.borrow().len() as u64, self.requests.borrow().len() as u64)
    }

    /// Returns the number of keys that were made when they were needed, since none was left.
    pub fn late(&self) -> u64 {
        self.late.get()
    }

    /// Returns a key that no account has; if none is left, one that is made now.
    pub fn account(&self) -> AccountKey {
        let ahead = self.accounts.borrow_mut().pop();
        ahead.unwrap_or_else(|| self.made_late(AccountKey::generate()))
    }

    /// Returns a certificate that was not ordered yet, with a request that was made ahead; if none is left, one that is
    /// made now.
    pub fn wanted(&self) -> Wanted {
        let number = self.ordered.replace(self.ordered.get() + 1);
        if let Some((name, request)) = self.requests.borrow_mut().pop() {
            return Wanted { name, request: Some(request) };
        }
        let name = name(number, &self.suffix);
        let request = self.finalize.then(|| self.made_late(SigningRequest::new(&name)));
        Wanted { name, request }
    }

    fn made_late<T>(&self, made: Result<T>) -> T {
        self.late.set(self.late.get() + 1);
        made.expect("one of the kind was made ahead, and differs in digits of its name alone")
    }
}

fn name(number: u64, suffix: &str) -> String {
    format!("e{number}{suffix}")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_key_and_no_name_is_used_twice() {
        let keys = KeyStock::make(2, 3, true, "-x.example.test".to_owned()).unwrap();
        assert_eq!(keys.left(), (2, 3));
        let signed = |key: AccountKey| key.sign(None, "n", "u", "").split('.').next().unwrap_or_default().to_owned();
        let accounts: HashSet<String> = (0..4).map(|_| signed(keys.account())).collect();
        assert_eq!((accounts.len(), keys.late()), (4, 2));
        let wanted: Vec<Wanted> = (0..5).map(|_| keys.wanted()).collect();
        let names: Vec<&str> = wanted.iter().map(|wanted| wanted.name.as_str()).collect();
        assert_eq!(names[..2], ["e0-x.example.test", "e1-x.example.test"]);
        assert_eq!(names.iter().collect::<HashSet<_>>().len(), 5);
        let public = wanted.iter().map(|wanted| wanted.request.as_ref().unwrap().public_key.clone());
        assert_eq!(public.collect::<HashSet<_>>().len(), 5);
        assert_eq!((keys.late(), keys.left()), (4, (0, 0)));
    }

    #[test]
    fn orders_that_are_not_finalized_need_no_key() {
        let keys = KeyStock::make(1, 1_000, false, ".example.test".to_owned()).unwrap();
        assert_eq!(keys.left(), (1, 0));
        let wanted = keys.wanted();
        assert!(wanted.request.is_none() && wanted.name == "e0.example.test");
        assert_eq!(keys.late(), 0);
    }
}
