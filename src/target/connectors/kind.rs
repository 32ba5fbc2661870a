//! Which daemons there are.

use std::fmt;

use crate::target::sidecar::Daemon;

/// The daemons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// nginx.
    Nginx,
    /// Apache httpd.
    Apache,
    /// HAProxy.
    Haproxy,
    /// An F5 BIG-IP, as its iControl REST API.
    F5,
}

impl Kind {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Nginx, Self::Apache, Self::Haproxy, Self::F5];

    /// Its name in results.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Apache => "apache",
            Self::Haproxy => "haproxy",
            Self::F5 => "f5",
        }
    }

    /// What is asked of it.
    pub const fn path(self) -> &'static str {
        match self {
            Self::F5 => "/healthz",
            _ => "/",
        }
    }

    /// The old harness's name of the variable that names a running one.
    pub const fn variable(self) -> &'static str {
        match self {
            Self::Nginx => "NGINX_TARGET_URL",
            Self::Apache => "APACHE_TARGET_URL",
            Self::Haproxy => "HAPROXY_TARGET_URL",
            Self::F5 => "F5_TARGET_URL",
        }
    }

    /// As the one that is started, if it is one of those.
    pub(super) fn daemon(self) -> Option<Daemon> {
        match self {
            Self::Nginx => Some(Daemon::Nginx),
            Self::Apache => Some(Daemon::Apache),
            Self::Haproxy => Some(Daemon::Haproxy),
            Self::F5 => None,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}
