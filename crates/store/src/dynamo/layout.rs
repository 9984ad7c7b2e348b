//! The keys and items of incidents and findings.

use rootwatch_core::alert::NotifiedState;
use rootwatch_core::finding::FindingKey;
use rootwatch_core::incident::{Incident, IncidentId, IncidentState};

use super::item::{Item, Key, name, sorted};
use crate::rows::{self, from_json, json, micros_or_none};
use crate::{Resolution, StoreError};

/// Maximum number of accounts in the list entry of an incident; with more, the incident has to be read.
pub(super) const ENTRY_ACCOUNTS_MAX: usize = 20;

/// The collection of an incident: `E` counts of redundant findings, `F` findings, `H` the incident
/// itself, `O` findings as classified on their own, `X` redundant findings.
pub(super) fn incident_pk(id: &IncidentId) -> String {
    format!("I#{}", name(&id.0))
}

pub(super) fn head_of(id: &IncidentId) -> Key {
    Key::new(incident_pk(id), "H")
}

/// The item that names the incident of a finding.
pub(super) fn known_key(key: &FindingKey) -> Key {
    Key::new(format!("K#{}", name(&key.0)), "K")
}

/// Sort key prefix of rule matches in an account. It sorts before addresses (`I#`) and keys (`K#`), so
/// that one range has all of them since some moment.
pub(super) const MATCHES: &str = "H#";

pub(super) fn past_pk(account: &str) -> String {
    format!("A#{}", name(account))
}

/// The key in the list of all incidents, by their last moment.
pub(super) fn entry_key(last: i64, id: &IncidentId) -> Key {
    Key::new("IT", format!("{}#{}", sorted(last), name(&id.0)))
}

pub(super) fn unended_key(id: &IncidentId) -> Key {
    Key::new("U", format!("={}", name(&id.0)))
}

pub(super) fn account_key(account: &str) -> Key {
    Key::new("AA", format!("={}", name(account)))
}

pub(super) fn position_key(position: &str) -> Key {
    Key::new("P", format!("={}", name(position)))
}

pub(super) fn unverified_key(key: &FindingKey) -> Key {
    Key::new(format!("V#{}", name(&key.0)), "V")
}

pub(super) fn echoes_key(id: &IncidentId, echoed: &str) -> Key {
    Key::new(incident_pk(id), format!("E#{}", name(echoed)))
}

pub(super) fn original_key(id: &IncidentId, key: &str) -> Key {
    Key::new(incident_pk(id), format!("O#{}", name(key)))
}

/// The key of a shown finding: letter `F`, or `X` for a redundant one.
pub(super) fn shown_key(id: &IncidentId, letter: &str, at: i64, key: &str) -> Key {
    Key::new(incident_pk(id), format!("{letter}#{}#{}", sorted(at), name(key)))
}

pub(super) fn match_key(account: &str, at: i64, key: &str) -> Key {
    Key::new(past_pk(account), format!("{MATCHES}{}#{}", sorted(at), name(key)))
}

pub(super) fn is_unended(state: IncidentState) -> bool {
    matches!(state, IncidentState::Open | IncidentState::Acknowledged)
}

/// The head item of an incident, parsed.
#[derive(Debug, Clone)]
pub(super) struct HeadItem {
    /// Without findings.
    pub(super) incident: Incident,
    pub(super) revision: u64,
    pub(super) notified: NotifiedState,
    pub(super) resolution: Option<Resolution>,
    pub(super) total: i64,
    /// Number of stored findings as classified on their own.
    pub(super) originals: i64,
    pub(super) digested: bool,
    pub(super) changed: i64,
}

impl HeadItem {
    pub(super) fn read(item: &Item) -> Result<Self, StoreError> {
        let resolution = item.text("handled");
        Ok(Self {
            incident: item.body("an incident")?,
            revision: item.counts("rev")? as u64,
            notified: from_json("a notified state", item.needs("told")?)?,
            resolution: resolution.map(|text| from_json("a resolution", text)).transpose()?,
            total: item.counts("total")?,
            originals: item.counts("originals")?,
            digested: item.counts("digested")? == 1,
            changed: item.counts("changed")?,
        })
    }

    pub(super) fn item(&self) -> Result<Item, StoreError> {
        let mut item = Item::default()
            .with("rev", self.revision as i64)
            .with("told", json(&self.notified)?)
            .with("total", self.total)
            .with("originals", self.originals)
            .with("digested", i64::from(self.digested))
            .with("changed", self.changed)
            .with_body(&self.incident)?;
        if let Some(resolution) = &self.resolution {
            item.set("handled", json(resolution)?);
        }
        Ok(item)
    }

    /// Its entry in the list of all incidents.
    pub(super) fn entry(&self) -> Item {
        let incident = &self.incident;
        let mut item = Item::default()
            .with("id", incident.id.0.as_str())
            .with("first", micros_or_none(incident.first_at))
            .with("state", rows::state(incident.state))
            .with("kind", rows::kind(incident.kind))
            .with("sev", incident.severity as i64)
            .with("digested", i64::from(self.digested));
        if incident.accounts.len() <= ENTRY_ACCOUNTS_MAX {
            item.set("accounts", incident.accounts.clone());
        }
        item
    }

    /// Its entry in the list of open and acknowledged incidents.
    pub(super) fn unended(&self) -> Option<Item> {
        let item = Item::default()
            .with("id", self.incident.id.0.as_str())
            .with("sev", self.incident.severity as i64);
        is_unended(self.incident.state).then_some(item)
    }

    pub(super) fn last(&self) -> i64 {
        micros_or_none(self.incident.last_at)
    }

    pub(super) fn listed(&self) -> Listed {
        Listed { last: self.last(), entry: self.entry(), unended: self.unended() }
    }
}

/// The list entries of an incident.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) last: i64,
    pub(super) entry: Item,
    pub(super) unended: Option<Item>,
}

/// What is stored about a finding besides its content.
#[derive(Debug, Clone)]
pub(super) struct KnownFinding {
    pub(super) incident: IncidentId,
    pub(super) at: i64,
    /// `F`, `X`, or `O` where a later record corrected it.
    pub(super) letter: String,
    pub(super) redundant_to: Option<String>,
    pub(super) has_original: bool,
    pub(super) received: i64,
    /// The account whose history lists it, if a rule matched.
    pub(super) matched_account: Option<String>,
}

impl KnownFinding {
    pub(super) fn read(item: &Item) -> Result<Self, StoreError> {
        Ok(Self {
            incident: IncidentId(item.needs("i")?.to_owned()),
            at: item.counts("at")?,
            letter: item.needs("l")?.to_owned(),
            redundant_to: item.text("e").map(str::to_owned),
            has_original: item.number("o") == Some(1),
            received: item.counts("r")?,
            matched_account: item.text("s").map(str::to_owned),
        })
    }

    pub(super) fn item(&self) -> Item {
        let mut item = Item::default()
            .with("i", self.incident.0.as_str())
            .with("at", self.at)
            .with("l", self.letter.as_str())
            .with("r", self.received);
        if let Some(echoed) = &self.redundant_to {
            item.set("e", echoed.as_str());
        }
        if self.has_original {
            item.set("o", 1);
        }
        if let Some(account) = &self.matched_account {
            item.set("s", account.as_str());
        }
        item
    }

    pub(super) fn is_shown(&self) -> bool {
        self.letter != "O"
    }

    pub(super) fn shown_key(&self, key: &str) -> Key {
        shown_key(&self.incident, &self.letter, self.at, key)
    }
}
