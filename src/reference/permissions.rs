//! certctl's 82 permission names, and the roles that hold them.

/// A role by certctl's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Role {
    /// certctl's id, such as `r-admin`.
    pub id: &'static str,
    /// Its letter in [`PERMISSIONS`]; none for the administrator, who holds all.
    letter: Option<char>,
}

/// The roles that load drivers need.
pub const ROLES: [Role; 4] = [
    Role { id: "r-admin", letter: None },
    Role { id: "r-operator", letter: Some('o') },
    Role { id: "r-viewer", letter: Some('v') },
    Role { id: "r-agent", letter: Some('a') },
];

impl Role {
    /// Returns the role of this id.
    pub fn by_id(id: &str) -> Option<Self> {
        ROLES.into_iter().find(|role| role.id == id)
    }

    /// Returns the names of the permissions that it holds, in order.
    pub fn permissions(self) -> impl Iterator<Item = &'static str> {
        let held = move |holders: &str| self.letter.is_none_or(|letter| holders.contains(letter));
        PERMISSIONS.iter().filter(move |(_, holders)| held(holders)).map(|(name, _)| *name)
    }
}

/// Every permission in order of name, with the letters of the roles beside the administrator that hold it.
pub const PERMISSIONS: [(&str, &str); 82] = [
    ("agent.edit", "o"),
    ("agent.heartbeat", "a"),
    ("agent.job.complete", "a"),
    ("agent.job.poll", "a"),
    ("agent.job.report", "a"),
    ("agent.read", "ov"),
    ("agent.retire", ""),
    ("approval.approve", "o"),
    ("approval.read", "ov"),
    ("approval.reject", "o"),
    ("audit.export", ""),
    ("audit.read", "ov"),
    ("auth.bootstrap.use", ""),
    ("auth.breakglass.admin", ""),
    ("auth.breakglass.login", ""),
    ("auth.key.create", ""),
    ("auth.key.delete", ""),
    ("auth.key.list", ""),
    ("auth.key.rotate", ""),
    ("auth.oidc.create", ""),
    ("auth.oidc.delete", ""),
    ("auth.oidc.edit", ""),
    ("auth.oidc.list", ""),
    ("auth.role.assign", ""),
    ("auth.role.create", ""),
    ("auth.role.delete", ""),
    ("auth.role.edit", ""),
    ("auth.role.list", ""),
    ("auth.role.revoke", ""),
    ("auth.session.list", ""),
    ("auth.session.list.all", ""),
    ("auth.session.revoke", ""),
    ("auth.user.deactivate", ""),
    ("auth.user.read", "o"),
    ("ca.hierarchy.manage", ""),
    ("cert.bulk_revoke", ""),
    ("cert.delete", "o"),
    ("cert.edit", "o"),
    ("cert.issue", "o"),
    ("cert.read", "ova"),
    ("cert.revoke", "o"),
    ("crl.admin", ""),
    ("digest.read", "ov"),
    ("digest.send", "o"),
    ("discovery.claim", "o"),
    ("discovery.read", "ov"),
    ("discovery.run", "oa"),
    ("est.admin", ""),
    ("healthcheck.acknowledge", "o"),
    ("healthcheck.delete", "o"),
    ("healthcheck.edit", "o"),
    ("healthcheck.read", "ov"),
    ("issuer.delete", ""),
    ("issuer.edit", "o"),
    ("issuer.read", "ov"),
    ("job.cancel", "o"),
    ("job.read", "ov"),
    ("metrics.read", "ov"),
    ("network_scan.edit", "o"),
    ("network_scan.read", "ov"),
    ("network_scan.run", "o"),
    ("notification.edit", "o"),
    ("notification.read", "ov"),
    ("owner.delete", "o"),
    ("owner.edit", "o"),
    ("owner.read", "ov"),
    ("policy.delete", "o"),
    ("policy.edit", "o"),
    ("policy.read", "ov"),
    ("profile.delete", ""),
    ("profile.edit", "o"),
    ("profile.read", "ov"),
    ("scep.admin", ""),
    ("stats.read", "ov"),
    ("target.delete", "o"),
    ("target.edit", "o"),
    ("target.read", "ov"),
    ("team.delete", "o"),
    ("team.edit", "o"),
    ("team.read", "ov"),
    ("verification.read", "ov"),
    ("verification.run", "o"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_have_as_many_permissions_as_in_certctl() {
        let sizes = ROLES.map(|role| (role.id, role.permissions().count()));
        assert_eq!(sizes, [("r-admin", 82), ("r-operator", 48), ("r-viewer", 19), ("r-agent", 6)]);
    }
}
