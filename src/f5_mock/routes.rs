//! Routes: the resource of each path.

use crate::names;

/// The resource that a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resource {
    Health,
    /// The mock's own: the counts of work done.
    Counts,
    /// A resource that confirms credentials.
    Echo,
    Login,
    Tokens,
    Token(String),
    Upload(String),
    /// A command that removes an uploaded file.
    RemoveFile,
    /// A collection of collections.
    Organizing,
    Objects(View, Kind),
    Object(View, Kind, String),
    Transactions,
    Transaction(String),
    Commands(String),
    Profiles,
    Profile(String),
    Nothing,
}

/// The two ways in which iControl shows a certificate or a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// Installed by a command.
    Crypto,
    /// A file with a source.
    File,
}

/// The kinds of object that profiles name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Certificate,
    Key,
}

impl Kind {
    /// Returns iControl's word for it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Certificate => "cert",
            Self::Key => "key",
        }
    }

    fn of(label: &str) -> Option<Self> {
        [Self::Certificate, Self::Key].into_iter().find(|kind| kind.label() == label)
    }
}

impl View {
    /// Returns the two last parts of the path of all objects of a kind.
    const fn segments(self, kind: Kind) -> (&'static str, &'static str) {
        match (self, kind) {
            (Self::Crypto, kind) => ("crypto", kind.label()),
            (Self::File, Kind::Certificate) => ("file", "ssl-cert"),
            (Self::File, Kind::Key) => ("file", "ssl-key"),
        }
    }

    /// Returns the path of all objects of a kind.
    pub fn path(self, kind: Kind) -> String {
        let (branch, name) = self.segments(kind);
        format!("/mgmt/tm/sys/{branch}/{name}")
    }

    /// Returns the `kind` that iControl gives to such an object (`state`), or to all of them (`collectionstate`).
    pub fn kind(self, kind: Kind, suffix: &str) -> String {
        let (branch, name) = self.segments(kind);
        format!("tm:sys:{branch}:{name}:{name}{suffix}")
    }
}

impl Resource {
    /// Returns true if it is open without a login.
    pub fn is_open(&self) -> bool {
        matches!(self, Self::Health | Self::Counts | Self::Login)
    }
}

/// Returns the resource of a path, which may end with a slash, as some clients write collections, and be
/// percent-encoded.
pub fn resource(path: &str) -> Resource {
    let path = path.strip_suffix('/').unwrap_or(path);
    let parts: Vec<String> = path.split('/').skip(1).map(names::decode).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let kind = |label| Kind::of(label);
    match parts[..] {
        ["healthz"] => Resource::Health,
        ["mock", "counts"] => Resource::Counts,
        ["mgmt", "shared", "echo-query"] => Resource::Echo,
        ["mgmt", "shared", "authn", "login"] => Resource::Login,
        ["mgmt", "shared", "authz", "tokens"] => Resource::Tokens,
        ["mgmt", "shared", "authz", "tokens", name] => Resource::Token(name.to_owned()),
        ["mgmt", "shared", "file-transfer", "uploads", file] => Resource::Upload(file.to_owned()),
        ["mgmt", "tm", "util", "unix-rm"] => Resource::RemoveFile,
        ["mgmt", "tm"]
        | ["mgmt", "tm", "sys" | "ltm"]
        | ["mgmt", "tm", "sys", "crypto" | "file"]
        | ["mgmt", "tm", "ltm", "profile"] => Resource::Organizing,
        ["mgmt", "tm", "sys", "crypto", label] => {
            kind(label).map_or(Resource::Nothing, |kind| Resource::Objects(View::Crypto, kind))
        }
        ["mgmt", "tm", "sys", "crypto", label, name] => {
            kind(label).map_or(Resource::Nothing, |kind| Resource::Object(View::Crypto, kind, name.to_owned()))
        }
        ["mgmt", "tm", "sys", "file", label] => match label.strip_prefix("ssl-").and_then(kind) {
            Some(kind) => Resource::Objects(View::File, kind),
            None => Resource::Nothing,
        },
        ["mgmt", "tm", "sys", "file", label, name] => match label.strip_prefix("ssl-").and_then(kind) {
            Some(kind) => Resource::Object(View::File, kind, name.to_owned()),
            None => Resource::Nothing,
        },
        ["mgmt", "tm", "transaction"] => Resource::Transactions,
        ["mgmt", "tm", "transaction", id] => Resource::Transaction(id.to_owned()),
        ["mgmt", "tm", "transaction", id, "commands"] => Resource::Commands(id.to_owned()),
        ["mgmt", "tm", "ltm", "profile", "client-ssl"] => Resource::Profiles,
        ["mgmt", "tm", "ltm", "profile", "client-ssl", name] => Resource::Profile(name.to_owned()),
        _ => Resource::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_map_to_icontrol_resources() {
        let certificate = Resource::Object(View::Crypto, Kind::Certificate, "~Common~a".to_owned());
        for (path, named) in [
            ("/healthz", Resource::Health),
            ("/mgmt/shared/file-transfer/uploads/a.pem", Resource::Upload("a.pem".to_owned())),
            ("/mgmt/tm/sys/crypto/key", Resource::Objects(View::Crypto, Kind::Key)),
            ("/mgmt/tm/sys/crypto/cert/~Common~a", certificate.clone()),
            ("/mgmt/tm/sys/crypto/cert/%7ECommon%7Ea/", certificate),
            ("/mgmt/tm/sys/file/ssl-key/", Resource::Objects(View::File, Kind::Key)),
            ("/mgmt/tm/transaction/7", Resource::Transaction("7".to_owned())),
            ("/mgmt/tm/ltm/profile/client-ssl/", Resource::Profiles),
            ("/mgmt/tm/ltm/profile/client-ssl/p", Resource::Profile("p".to_owned())),
            ("/mgmt/tm/sys/", Resource::Organizing),
        ] {
            assert_eq!(resource(path), named, "{path}");
        }
        for path in ["/", "/mgmt", "/mgmt/tm/sys/crypto/other", "/mgmt/tm/sys/file/cert", "/mgmt/tm/sys//", "/health"] {
            assert_eq!(resource(path), Resource::Nothing, "{path}");
        }
    }
}
