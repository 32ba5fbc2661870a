//! A certctl with the daemons that its agents deploy to.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::connectors::Connectors;
use super::side_effects::SideEffects;
use super::{Addresses, CheckedCertctl, System, SystemDescription};
use crate::error::Result;
use crate::scenario::Scenario;

/// A certctl, or a server shaped like it, and daemons that were started beside it.
pub struct CertctlWithDaemons {
    /// The certctl.
    pub certctl: CheckedCertctl,
    /// The daemons; `None` if there are to be none.
    pub daemons: Option<Connectors>,
}

impl System for CertctlWithDaemons {
    fn describe(&self) -> SystemDescription {
        let mut described = self.certctl.describe();
        described.settings.extend(self.daemons.iter().flat_map(|daemons| daemons.description().settings));
        described
    }

    fn addresses(&self) -> Addresses {
        let mut addresses = self.certctl.addresses();
        addresses.system.extend(self.daemons.iter().flat_map(Connectors::listening));
        addresses
    }

    fn begin_check(&self, scenarios: &[&dyn Scenario], stop: &Arc<AtomicBool>) -> Result<Box<dyn SideEffects + '_>> {
        self.certctl.begin_check(scenarios, stop)
    }

    fn certctl(&self) -> Option<&CheckedCertctl> {
        Some(&self.certctl)
    }
}
