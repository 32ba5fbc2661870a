//! The making of certificates to revoke: requests to a system before it is loaded.

use super::CheckedCertctl;
use super::probe::{Answer, Probe};
use crate::error::{Error, Result};
use crate::foreign;
use crate::load::runtime::runtime;
use crate::scenario::revocation::batch::{Batch, Making};
use crate::scenario::signing::SigningRequest;
use crate::status::IssuerCertificate;
use crate::wire::request::Method;

/// Has the system sign `certificates` new certificates, one after another. `run` distinguishes them from those of all
/// other runs. Not for use inside an async runtime.
///
/// # Errors
/// If the system does not answer, or does not sign one, or shows one that its issuer did not sign.
pub fn make(certctl: &CheckedCertctl, run: &str, certificates: u64) -> Result<Batch> {
    let names: Vec<String> = (1..=certificates).map(|number| Batch::name(run, number)).collect();
    let requests = SigningRequest::all(&names)?;
    let mut probe = Probe::new(&certctl.certctl, certctl.dialer.clone());
    runtime()?.block_on(async {
        let (mut made, mut issuer) = (Vec::with_capacity(requests.len()), None::<IssuerCertificate>);
        for (number, request) in (1..).zip(&requests) {
            let making = Making::new(run, number);
            let failed = |what: &str, why: String| {
                Error::new(format!(
                    "making certificate {number} of {certificates} to revoke, {what} at {}: {why}",
                    certctl.certctl.base
                ))
                .with_hint("check certctl's log: it has to sign a certificate of the issuer iss-local for an agent")
            };
            let (path, body) = making.posting();
            expect(&probe.post_with_token(path, &body).await?, 201).map_err(|why| failed(path, why))?;
            let (path, body) = making.signing(&request.csr_pem);
            expect(&probe.post_with_token(&path, &body).await?, 202).map_err(|why| failed(&path, why))?;
            let path = making.showing();
            let answer = probe.send_with_token(Method::Get, &path).await?;
            let shown = expect(&answer, 200).and_then(|()| making.shown(&answer.body));
            let (certificate, its_issuer) = shown.map_err(|why| failed(&path, foreign::line(&why)))?;
            match &issuer {
                Some(first) if *first != its_issuer => {
                    return Err(failed(&path, "its issuer is another than that of the first certificate".to_owned()));
                }
                _ => issuer = Some(its_issuer),
            }
            made.push(certificate);
        }
        let issuer = issuer.ok_or_else(|| Error::usage("a batch to revoke needs at least one certificate"))?;
        Ok(Batch { run: run.to_owned(), issuer, certificates: made })
    })
}

/// Requires the status of an answer; the error has its reason, in words.
fn expect(answer: &Answer, status: u16) -> Result<(), String> {
    match answer.status {
        found if found == status => Ok(()),
        found => Err(format!("{found}: {}", answer.reason())),
    }
}
