//! The certificates that a request about many of them means.

use std::collections::HashSet;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::app::App;
use crate::store::certificate_rows::{Certificate, Field, Page};
use crate::store::{Store, StoreError};

/// Criteria that all must fit, and ids of which a certificate must have one if any are given.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct Criteria {
    profile_id: Option<String>,
    owner_id: Option<String>,
    agent_id: Option<String>,
    issuer_id: Option<String>,
    team_id: Option<String>,
    certificate_ids: Option<Vec<String>>,
}

/// The certificates to change.
pub struct Selection {
    filter: Vec<(Field, String)>,
    ids: Vec<String>,
}

impl Criteria {
    /// Returns the criteria that are set; `None` if none is.
    pub fn selection(self) -> Option<Selection> {
        let fields = [
            (Field::Owner, self.owner_id),
            (Field::Team, self.team_id),
            (Field::Issuer, self.issuer_id),
            (Field::Profile, self.profile_id),
            (Field::Agent, self.agent_id),
        ];
        let given = fields.into_iter().filter_map(|(field, value)| Some((field, value?)));
        let filter: Vec<_> = given.filter(|(_, value)| !value.is_empty()).collect();
        let ids = self.certificate_ids.unwrap_or_default();
        (!filter.is_empty() || !ids.is_empty()).then_some(Selection { filter, ids })
    }
}

impl Selection {
    /// Returns the parts of the request that its audit row repeats.
    pub fn audited(&self) -> Value {
        let mut details = json!({});
        for (field, name) in Field::ALL {
            if let Some((_, value)) = self.filter.iter().find(|(one, _)| *one == field) {
                details[name] = value.as_str().into();
            }
        }
        if !self.ids.is_empty() {
            details["certificate_ids"] = self.ids.join(",").into();
        }
        details
    }

    /// Reads the certificates; ids that do not exist are left out silently.
    pub async fn resolve<S: Store>(self, app: &App<S>) -> Result<Vec<Certificate>, StoreError> {
        let Self { filter, ids } = self;
        if filter.is_empty() {
            let mut found = Vec::with_capacity(ids.len());
            for id in &ids {
                // certctl leaves out those that it fails to read as well.
                found.extend(app.store.certificate(id).await.ok().flatten());
            }
            return Ok(found);
        }
        let page = Page { filter, offset: Some(0), limit: app.behaviour.most_certificates(), ..Page::default() };
        let mut found = app.store.certificates(&page).await?.certificates;
        if !ids.is_empty() {
            let ids: HashSet<&String> = ids.iter().collect();
            found.retain(|certificate| ids.contains(&certificate.id));
        }
        Ok(found)
    }
}
