//! The check that all rows that a workload would change are the suite's own.

use std::fmt::Write as _;

use serde_json::Value;

use super::Inspection;
use crate::error::{Error, Result};
use crate::seed;
use crate::wire::request::Method;

const PATH: &str = "/api/v1/certificates";
/// The most certificates that certctl returns at once.
const PAGE: u64 = 500;
/// The most pages that are read: ten times the seeded certificates.
const MOST_PAGES: u64 = 200;
/// The most ids of foreign certificates in an error.
const EXAMPLES: usize = 3;

impl Inspection<'_> {
    /// Checks that every certificate that fits `criteria` is from the seeds or an earlier run.
    ///
    /// # Errors
    /// If one is not, or the list cannot be read.
    pub(super) async fn certificates_are_ours(&mut self, criteria: &[(&str, &str)]) -> Result<()> {
        // Sorted by name, which is unique among the suite's rows: many have the same time of creation, and certctl
        // lists those in no fixed order, so that a row might be on no page.
        let mut query = format!("?sort=name&per_page={PAGE}");
        for (name, value) in criteria {
            // Writing to a String cannot fail.
            let _ = write!(query, "&{name}={value}");
        }
        let (mut foreign, mut examples) = (0_u64, Vec::new());
        for page in 1.. {
            let path = format!("{PATH}{query}&page={page}");
            let answer = self.probe.send_with_token(Method::Get, &path).await?;
            let json = answer.json().filter(|json| answer.status == 200 && json["data"].is_array());
            let Some(json) = json else {
                return Err(match answer.status {
                    403 => self.may_not("?", "cert.read"),
                    429 => self.limited(),
                    _ => self.not_certctl(PATH, &answer),
                });
            };
            let rows = json["data"].as_array().map_or(&[][..], Vec::as_slice);
            for row in rows.iter().filter(|row| !is_ours(row)) {
                foreign += 1;
                if examples.len() < EXAMPLES {
                    let id = row["id"].as_str().unwrap_or("?");
                    examples.push(id.chars().filter(|letter| !letter.is_control()).take(60).collect::<String>());
                }
            }
            if rows.is_empty() || page * PAGE >= json["total"].as_u64().unwrap_or(0) {
                break;
            }
            if page == MOST_PAGES {
                return Err(Error::new(format!(
                    "{}: more than {} certificates fit the criteria: too many to check that all of them are of the \
                     seeds or of a run",
                    self.certctl.base,
                    MOST_PAGES * PAGE
                ))
                .with_hint(HINT));
            }
        }
        if foreign == 0 {
            return Ok(());
        }
        Err(Error::new(format!(
            "{}: refusing to renew by criteria: {foreign} of the certificates that fit them are neither of the seeds nor of \
             a run (such as {})",
            self.certctl.base,
            examples.join(", ")
        ))
        .with_hint(HINT))
    }
}

const HINT: &str = "renew by id, with --workload enqueue, or load a certctl that holds only the seeds";

fn is_ours(row: &Value) -> bool {
    let text = |key: &str| row[key].as_str().unwrap_or("");
    seed::is_own_certificate(text("id"), text("name"), row["tags"]["source"].as_str().unwrap_or(""))
}
