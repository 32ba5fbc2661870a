//! The directory of an ACME server (RFC 8555, section 7.1.1), and the reasons for which certctl may not show one.

use hyper::Uri;

use super::Inspection;
use crate::error::{Error, Result};
use crate::foreign;
use crate::scenario::acme::Paths;
use crate::system::base_url::{BaseUrl, redact};
use crate::system::probe::Answer;
use crate::wire::request::Method;

/// Returns the path of renewal information.
///
/// # Errors
/// If there is none; `base` is the system's.
pub fn renewal_info<'p>(paths: &'p Paths, base: &BaseUrl) -> Result<&'p str> {
    paths.renewal_info.as_deref().ok_or_else(|| {
        Error::new(format!("{base}: the ACME server has no renewalInfo"))
            .with_hint("start certctl with CERTCTL_ACME_SERVER_ARI_ENABLED=true")
    })
}

impl Inspection<'_> {
    /// Reads the directory at `directory`, a path or a URL of the system.
    pub(in crate::inspect) async fn acme(&mut self, directory: &str, bearer: bool) -> Result<Paths> {
        let path = path_at(Some(&self.certctl.base), directory)?;
        let answer =
            if bearer { self.probe.send_with_token(Method::Get, &path).await? } else { self.probe.get(&path).await? };
        match answer.status {
            429 => Err(self.limited()),
            200 if !answer.is_html() => self.read(&path, &answer),
            _ => Err(self.no_directory(&path, &answer, bearer)),
        }
    }

    fn read(&self, path: &str, answer: &Answer) -> Result<Paths> {
        let no_directory = |what: String| {
            Error::new(format!("{}{path} is not an ACME directory: {what}", self.certctl.base)).with_hint(
                "name the directory of certctl's ACME server, such as /acme/profile/prof-standard-tls/directory",
            )
        };
        let json = answer.json().ok_or_else(|| no_directory("it is not JSON".to_owned()))?;
        let url = |name: &str| match json[name].as_str() {
            // A URL elsewhere would be measured as this system.
            // A fragment is never sent, and has no meaning here.
            Some(url) => path_at(Some(&self.certctl.base), url.split('#').next().unwrap_or(url))
                .map_err(|_| no_directory(format!("its {name} is on another server: {}", foreign::line(&redact(url))))),
            None => Err(no_directory(format!("it has no {name}"))),
        };
        let new_nonce = url("newNonce")?;
        // Signed requests repeat these as they are.
        let whole = |name: &str| url(name).map(|_| json[name].as_str().unwrap_or_default().to_owned());
        let [new_account, new_order] = [whole("newAccount")?, whole("newOrder")?];
        let renewal_info = if json["renewalInfo"].is_null() { None } else { Some(url("renewalInfo")?) };
        Ok(Paths { directory: path.to_owned(), new_nonce, renewal_info, new_account, new_order })
    }

    fn no_directory(&self, path: &str, answer: &Answer, bearer: bool) -> Error {
        let (base, status, reason) = (&self.certctl.base, answer.status, answer.reason());
        if answer.is_html() {
            return Error::new(format!("{base}{path} is a page of certctl's dashboard, which hides its ACME server"))
                .with_hint("run certctl from a folder without web/, so that it serves only its API");
        }
        let default_profile = answer
            .json()
            .is_some_and(|json| json["type"].as_str().is_some_and(|problem| problem.ends_with(":userActionRequired")));
        match status {
            401 if !bearer => Error::new(format!("{base}{path}: ACME requires one of certctl's API keys ({reason})"))
                .with_hint("leave out --no-bearer: certctl requires the token for ACME too"),
            403 if default_profile => Error::new(format!("{base}{path}: certctl has no default ACME profile"))
                .with_hint("name one with --profile, or start certctl with CERTCTL_ACME_SERVER_DEFAULT_PROFILE_ID"),
            // certctl answers 500 for an unknown profile; its documentation says 404.
            404 | 500 if answer.is_json => {
                Error::new(format!("{base}{path}: the ACME profile is not known ({status}: {reason})")).with_hint(
                    "name a row of certificate_profiles with --profile, such as prof-standard-tls (certctl's seeds \
                     have no prof-test)",
                )
            }
            404 => Error::new(format!("{base}{path}: there is no ACME server (404)"))
                .with_hint("correct CERTCTL_ACME_DIRECTORY, such as /acme/profile/prof-standard-tls/directory"),
            _ => Error::new(format!("{base}{path} answers {status} instead of an ACME directory: {reason}"))
                .with_hint("check certctl's log"),
        }
    }
}

/// Checks that a directory is a path, as it must be for a server that is not started yet, whose port is unknown.
///
/// # Errors
/// If it is not.
pub fn is_path(directory: &str) -> Result<()> {
    path_at(None, directory).map(drop)
}

/// Returns the path of a directory that is given as a path or, if `base` is known, as a URL.
fn path_at(base: Option<&BaseUrl>, directory: &str) -> Result<String> {
    let wrong = |why: &str| {
        let url = base.map_or_else(String::new, |base| format!(", or as a URL that begins with {base}"));
        Error::usage(format!("the ACME directory `{}` {why}", redact(directory)))
            .with_hint(format!("write it as /acme/profile/PROFILE/directory{url}"))
    };
    if directory.contains('#') {
        return Err(wrong("has a fragment, which is never sent"));
    }
    let uri: Uri = directory.parse().map_err(|_| wrong("is neither a path nor a URL"))?;
    if uri.authority().is_some() {
        // `Base` knows the default port and the forms of an address.
        let root = directory.strip_suffix(uri.path_and_query().map_or("", |path| path.as_str())).unwrap_or(directory);
        if base.is_none() || root.parse::<BaseUrl>().ok().as_ref() != base {
            return Err(wrong("is not on the system under test"));
        }
    }
    match uri.path_and_query() {
        Some(path) if path.as_str().starts_with('/') => Ok(path.as_str().to_owned()),
        _ => Err(wrong("has no path")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acme_directory_is_a_path_of_the_system() {
        let base: BaseUrl = "https://certctl.example".parse().unwrap();
        for text in ["/a/d", "https://certctl.example/a/d", "https://certctl.example:443/a/d"] {
            assert_eq!(path_at(Some(&base), text).unwrap(), "/a/d");
        }
        assert_eq!(path_at(Some(&base), "https://certctl.example/acme?to=nonce").unwrap(), "/acme?to=nonce");
        for (text, why) in [
            ("https://elsewhere.example/a/d", "is not on the system under test"),
            ("https://certctl.example:8443/a/d", "is not on the system under test"),
            ("http://certctl.example/a/d", "is not on the system under test"),
            ("a/d", "is neither a path nor a URL"),
            ("/a/d#part", "has a fragment"),
            ("", "is neither a path nor a URL"),
            ("https://u:secret@certctl.example/a/d", "is not on the system under test"),
            ("https://u:secret words@certctl.example/a/d", "is neither a path nor a URL"),
        ] {
            let error = path_at(Some(&base), text).unwrap_err().to_string();
            assert!(error.contains(why) && !error.contains("secret"), "{text}: {error}");
            let error = is_path(text).unwrap_err().to_string();
            assert!(error.contains(why) && !error.contains("secret"), "{text}: {error}");
        }
        is_path("/a/d").unwrap();
    }
}
