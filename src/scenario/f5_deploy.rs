//! `f5_deploy`: users who deploy one certificate after another to an F5, each to a profile of its own.

pub mod deployment;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::{Claim, Scenario};
use crate::clock::Moment;
use crate::error::Result;
use crate::load::arrival::PlannedRequest;
use crate::measure::Outcome;
use crate::measure::validity::Work;
use crate::provision::pki::{Authority, KeyType, Purpose};
use crate::wire::http1::Response;
use crate::wire::request::Method;
use deployment::{COMMIT, Credentials, Deployment, LOGIN, LOGOUT, Pair, STEPS};

/// The name of the workload.
pub const NAME: &str = "f5_deploy";
/// The number of certificates that take turns: made beforehand, so that no key is made in measured time.
const POOL: usize = 16;

/// The scenario's state: the certificates to deploy, and the progress of each user.
pub struct F5Deploy {
    host: String,
    user: Credentials,
    pool: Vec<Arc<Pair>>,
    /// Distinguishes the names of this run's objects from those of every other run.
    run: u128,
    deployments: RefCell<HashMap<u64, Deployment>>,
    /// Deployments that were begun.
    begun: Cell<u64>,
    logins: Cell<u64>,
    committed: Cell<u64>,
    logouts: Cell<u64>,
}

impl F5Deploy {
    /// Returns the scenario for a device whose Host is `host`.
    ///
    /// # Errors
    /// If no keys can be made.
    pub fn new(host: &str, user: Credentials) -> Result<Self> {
        let authority = Authority::root(KeyType::EcdsaP256)?;
        let make = |number: usize| {
            let name = format!("deployed-{number}.example.test");
            let identity = authority.issue(KeyType::EcdsaP256, Purpose::Server, &[&name])?;
            Ok(Arc::new(Pair { certificate: identity.chain_pem, key: identity.key_pem }))
        };
        Ok(Self {
            host: host.to_owned(),
            user,
            pool: (0..POOL).map(make).collect::<Result<_>>()?,
            run: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos(),
            deployments: RefCell::default(),
            begun: Cell::new(0),
            logins: Cell::new(0),
            committed: Cell::new(0),
            logouts: Cell::new(0),
        })
    }

    /// Starts a user's next deployment.
    fn begin(&self, client: u64) -> Deployment {
        let number = self.begun.replace(self.begun.get() + 1);
        let pair = self.pool[(number % POOL as u64) as usize].clone();
        Deployment::new(pair, &format!("clientssl-bench-{client}"), &format!("{}-{number}", self.run))
    }
}

impl Scenario for F5Deploy {
    fn title(&self) -> String {
        "each user logs in, uploads and installs a certificate and its key, commits a profile that names them, and logs out"
            .to_owned()
    }

    fn steps(&self) -> &'static [&'static str] {
        STEPS
    }

    fn encode(&self, planned: PlannedRequest, request: &mut Vec<u8>) -> Method {
        let mut deployments = self.deployments.borrow_mut();
        if planned.step == LOGIN {
            deployments.insert(planned.client, self.begin(planned.client));
        }
        let deployment = deployments.entry(planned.client).or_insert_with(|| self.begin(planned.client));
        deployment.encode(planned.step, &self.host, &self.user, request)
    }

    fn judge(&self, planned: PlannedRequest, _start: Moment, response: &Response<'_>) -> Outcome {
        let mut deployments = self.deployments.borrow_mut();
        // Every answer has a request before it.
        let Some(deployment) = deployments.get_mut(&planned.client) else { return Outcome::Wrong };
        let outcome = deployment.judge(planned.step, response);
        let counter = match planned.step {
            LOGIN => &self.logins,
            COMMIT => &self.committed,
            LOGOUT => &self.logouts,
            _ => return outcome,
        };
        counter.set(counter.get() + u64::from(outcome == Outcome::Ok));
        outcome
    }

    fn begin_check(&self, _database: &mut crate::database::DatabaseClient) -> Result<()> {
        Ok(())
    }

    fn finish_check(&self, _unanswered: u64, _database: &mut crate::database::DatabaseClient) -> Result<Vec<Work>> {
        Ok(Vec::new())
    }

    fn claims(&self) -> Vec<Claim> {
        vec![
            Claim { name: "logins", counter: "logins", claimed: self.logins.get() },
            Claim { name: "deployments committed", counter: "deployments", claimed: self.committed.get() },
            Claim { name: "tokens given back", counter: "logouts", claimed: self.logouts.get() },
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::http1::Parser;

    fn scenario() -> F5Deploy {
        F5Deploy::new("localhost:8443", Credentials { username: "u".into(), password: "p".into() }).unwrap()
    }

    fn request(scenario: &F5Deploy, client: u64, step: usize) -> String {
        let mut request = Vec::new();
        scenario.encode(PlannedRequest { seq: 0, client, step }, &mut request);
        String::from_utf8(request).unwrap()
    }

    fn judge(scenario: &F5Deploy, client: u64, step: usize, status: u16, body: &str) -> Outcome {
        let mut parser = Parser::default();
        parser.start(Method::Post);
        let length = body.len();
        let head = format!("HTTP/1.1 {status} x\r\nContent-Type: application/json\r\nContent-Length: {length}");
        parser.feed(format!("{head}\r\n\r\n{body}").as_bytes()).unwrap();
        scenario.judge(PlannedRequest { seq: 0, client, step }, Moment::now(), &parser.response().unwrap())
    }

    /// Returns the text between two others.
    fn between<'t>(text: &'t str, before: &str, after: &str) -> &'t str {
        text.split_once(before).unwrap().1.split_once(after).unwrap().0
    }

    #[test]
    fn each_step_uses_the_results_of_earlier_steps() {
        let scenario = scenario();
        assert!(request(&scenario, 3, 0).ends_with(r#""password":"p","username":"u"}"#));
        assert_eq!(judge(&scenario, 3, 0, 200, r#"{"token":{"token":"T0K"}}"#), Outcome::Ok);
        for (step, file) in [(1, "/x/cert.pem"), (2, "/x/key.pem")] {
            let upload = request(&scenario, 3, step);
            assert!(upload.contains("\r\nX-F5-Auth-Token: T0K\r\nContent-Range: 0-"), "{upload}");
            assert_eq!(judge(&scenario, 3, step, 200, &format!(r#"{{"localFilePath":"{file}"}}"#)), Outcome::Ok);
        }
        let mut names = Vec::new();
        for (step, file) in [(3, "/x/cert.pem"), (4, "/x/key.pem")] {
            let install = request(&scenario, 3, step);
            assert!(install.contains(&format!(r#""from-local-file":"{file}""#)), "{install}");
            names.push(between(&install, r#""name":""#, "\"").to_owned());
            assert_eq!(judge(&scenario, 3, step, 200, &format!(r#"{{"name":"{}"}}"#, names[step - 3])), Outcome::Ok);
        }
        assert_eq!(judge(&scenario, 3, 5, 200, r#"{"transId":42,"state":"STARTED"}"#), Outcome::Ok);
        let update = request(&scenario, 3, 6);
        assert!(update.starts_with("PATCH /mgmt/tm/ltm/profile/client-ssl/~Common~clientssl-bench-3 "), "{update}");
        assert!(update.contains("\r\nX-F5-REST-Coordination-Id: 42\r\n"), "{update}");
        assert!(update.contains(&format!(r#""cert":"/Common/{}""#, names[0])), "{update}");
        assert_eq!(judge(&scenario, 3, 6, 200, "{}"), Outcome::Ok);
        assert!(request(&scenario, 3, 7).starts_with("PATCH /mgmt/tm/transaction/42 "));
        assert_eq!(judge(&scenario, 3, 7, 200, r#"{"state":"COMPLETED"}"#), Outcome::Ok);
        let stale = r#"{"cert":"/Common/old","key":"/Common/old"}"#;
        assert_eq!(judge(&scenario, 3, 8, 200, stale), Outcome::Wrong);
        let fresh = format!(r#"{{"cert":"/Common/{}","key":"/Common/{}"}}"#, names[0], names[1]);
        assert_eq!(judge(&scenario, 3, 8, 200, &fresh), Outcome::Ok);
        assert!(request(&scenario, 3, 9).starts_with("DELETE /mgmt/shared/authz/tokens/T0K "));
        assert_eq!(judge(&scenario, 3, 9, 200, r#"{"token":"T0K"}"#), Outcome::Ok);
        let claimed: Vec<u64> = scenario.claims().iter().map(|claim| claim.claimed).collect();
        assert_eq!(claimed, [1, 1, 1]);
    }

    #[test]
    fn steps_after_a_failed_step_are_wrong_answers() {
        let scenario = scenario();
        request(&scenario, 0, 0);
        assert_eq!(judge(&scenario, 0, 0, 401, "{}"), Outcome::Failed(401));
        assert_eq!(judge(&scenario, 0, 5, 200, r#"{"transId":"txn-1","state":"STARTED"}"#), Outcome::Wrong);
        assert_eq!(judge(&scenario, 0, 7, 200, r#"{"state":"COMPLETED"}"#), Outcome::Wrong);
        assert_eq!(scenario.claims()[1].claimed, 0);
        let first = request(&scenario, 0, 3);
        request(&scenario, 0, 0);
        assert_eq!(judge(&scenario, 0, 0, 200, r#"{"token":{"token":"T"}}"#), Outcome::Ok);
        assert_ne!(between(&first, r#""name":""#, "\""), between(&request(&scenario, 0, 3), r#""name":""#, "\""));
        // Another user is not affected.
        request(&scenario, 1, 0);
        assert_eq!(judge(&scenario, 1, 0, 200, r#"{"token":{"token":"T"}}"#), Outcome::Ok);
        assert_eq!(judge(&scenario, 1, 1, 200, r#"{"localFilePath":""}"#), Outcome::Wrong);
    }
}
