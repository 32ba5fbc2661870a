//! The kinds of daemon.

use std::fmt;

use clap::ValueEnum;

use crate::provision::daemon::Daemon;

/// A kind of daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum ConnectorKind {
    /// nginx.
    Nginx,
    /// Apache httpd.
    Apache,
    /// HAProxy.
    Haproxy,
    /// An F5 BIG-IP, through its iControl REST API.
    F5,
}

impl ConnectorKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Nginx, Self::Apache, Self::Haproxy, Self::F5];

    /// Returns its name in results.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Apache => "apache",
            Self::Haproxy => "haproxy",
            Self::F5 => "f5",
        }
    }

    /// Returns the path of the requests to it.
    pub const fn path(self) -> &'static str {
        match self {
            Self::F5 => "/healthz",
            _ => "/",
        }
    }

    /// Returns the environment variable with the URL of a running one, as the old harness named it.
    pub const fn variable(self) -> &'static str {
        match self {
            Self::Nginx => "NGINX_TARGET_URL",
            Self::Apache => "APACHE_TARGET_URL",
            Self::Haproxy => "HAPROXY_TARGET_URL",
            Self::F5 => "F5_TARGET_URL",
        }
    }

    /// Returns the daemon that is started for it; `None` for the F5.
    pub fn daemon(self) -> Option<Daemon> {
        match self {
            Self::Nginx => Some(Daemon::Nginx),
            Self::Apache => Some(Daemon::Apache),
            Self::Haproxy => Some(Daemon::Haproxy),
            Self::F5 => None,
        }
    }
}

impl fmt::Display for ConnectorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}
