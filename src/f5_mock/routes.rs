//! Routes: which path leads where.

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route<'p> {
    Health,
    /// Our own: how much was done.
    Counts,
    Login,
    Upload(&'p str),
    Install(Kind),
    Remove(Kind, &'p str),
    OpenTransaction,
    Transaction(&'p str),
    Commit(&'p str),
    Abandon(&'p str),
    Profile(&'p str),
    /// PATCH keeps what is left out, PUT does not.
    ChangeProfile {
        name: &'p str,
        replace: bool,
    },
    /// Another method would have led somewhere.
    WrongMethod,
    Nothing,
}

/// The kinds of object that profiles name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Certificate,
    Key,
}

impl Kind {
    /// iControl's word for it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Certificate => "cert",
            Self::Key => "key",
        }
    }

    fn of(label: &str) -> Option<Self> {
        [Self::Certificate, Self::Key].into_iter().find(|kind| kind.label() == label)
    }
}

impl Route<'_> {
    /// Whether the route is open to those who have not logged in.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Health | Self::Counts | Self::Login)
    }
}

const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];

/// Where a request leads.
pub fn route<'p>(method: &str, path: &'p str) -> Route<'p> {
    let path = path.split('?').next().unwrap_or(path);
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    let otherwise = || match METHODS.iter().any(|method| find(method, &parts).is_some()) {
        true => Route::WrongMethod,
        false => Route::Nothing,
    };
    find(method, &parts).unwrap_or_else(otherwise)
}

fn find<'p>(method: &str, parts: &[&'p str]) -> Option<Route<'p>> {
    Some(match (method, parts) {
        ("GET", ["healthz"]) => Route::Health,
        ("GET", ["mock", "counts"]) => Route::Counts,
        ("POST", ["mgmt", "shared", "authn", "login"]) => Route::Login,
        ("POST", ["mgmt", "shared", "file-transfer", "uploads", file]) => Route::Upload(file),
        ("POST", ["mgmt", "tm", "sys", "crypto", kind]) => Route::Install(Kind::of(kind)?),
        ("DELETE", ["mgmt", "tm", "sys", "crypto", kind, name]) => Route::Remove(Kind::of(kind)?, name),
        ("POST", ["mgmt", "tm", "transaction"]) => Route::OpenTransaction,
        ("GET", ["mgmt", "tm", "transaction", id]) => Route::Transaction(id),
        ("PATCH", ["mgmt", "tm", "transaction", id]) => Route::Commit(id),
        ("DELETE", ["mgmt", "tm", "transaction", id]) => Route::Abandon(id),
        ("GET", ["mgmt", "tm", "ltm", "profile", "client-ssl", name]) => Route::Profile(name),
        ("PATCH" | "PUT", ["mgmt", "tm", "ltm", "profile", "client-ssl", name]) => {
            Route::ChangeProfile { name, replace: method == "PUT" }
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_where_icontrol_leads() {
        assert_eq!(route("GET", "/healthz"), Route::Health);
        assert_eq!(route("POST", "/mgmt/shared/file-transfer/uploads/a.pem"), Route::Upload("a.pem"));
        assert_eq!(route("POST", "/mgmt/tm/sys/crypto/key"), Route::Install(Kind::Key));
        assert_eq!(
            route("DELETE", "/mgmt/tm/sys/crypto/cert/~Common~a"),
            Route::Remove(Kind::Certificate, "~Common~a")
        );
        assert_eq!(route("PATCH", "/mgmt/tm/transaction/7"), Route::Commit("7"));
        let profile = "/mgmt/tm/ltm/profile/client-ssl/p";
        assert_eq!(route("PUT", profile), Route::ChangeProfile { name: "p", replace: true });
        assert_eq!(route("GET", "/mgmt/tm/ltm/profile/client-ssl/p?expandSubcollections=true"), Route::Profile("p"));
        assert_eq!(route("DELETE", profile), Route::WrongMethod);
        for nothing in ["/", "/mgmt", "/mgmt/tm/sys/crypto/other", "/mgmt/tm/ltm/profile/client-ssl/p/x", "/health"] {
            assert_eq!(route("GET", nothing), Route::Nothing, "{nothing}");
        }
    }
}
