//! Incidents: the findings of one root session, with a state.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Deref, DerefMut};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::finding::{Finding, FindingKey, Reason, RootUse, Severity};
use crate::fnv;

/// The id of an incident, short enough to read out on the phone: `7K2-MPX`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct IncidentId(pub String);

/// Characters of an id: none that is easily confused when read out or written by hand.
const ID_ALPHABET: &[u8; 31] = b"23456789ABCDEFGHJKMNPQRSTUVWXYZ";

impl IncidentId {
    /// The id derived from the key of the finding that opened the incident. The derivation never
    /// changes. Further attempts give further ids, in case one is taken.
    #[must_use]
    pub fn derived(opening: &str, attempt: u32) -> Self {
        let again = attempt.to_be_bytes();
        let again = if attempt == 0 { &again[..0] } else { &again[..] };
        let mut hash = fnv::extend(fnv::hash(opening.as_bytes()), again);
        let mut id = String::with_capacity(7);
        for place in 0..6 {
            if place == 3 {
                id.push('-');
            }
            let base = ID_ALPHABET.len() as u64;
            id.push(char::from(ID_ALPHABET[(hash % base) as usize]));
            hash /= base;
        }
        Self(id)
    }
}

impl fmt::Display for IncidentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The state of an incident.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IncidentState {
    /// Findings may still arrive.
    #[default]
    Open,
    /// Closed by silence.
    Quiet,
    /// A person handles it.
    Acknowledged,
    /// A person closed it.
    Resolved,
}

/// What the findings of an incident have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IncidentKind {
    /// One root session: the calls before it, in it, and with credentials that it issued.
    Session,
    /// Privileged sessions that one caller opened (`AssumeRoot`), with their calls.
    Privileged,
    /// One address tried the root user's sign-in in several accounts.
    Spray,
    /// A rule matched a record that is not root use.
    #[serde(alias = "watch")]
    RuleMatch,
    /// Alerts cannot be delivered. Has no findings and never joins another incident.
    #[serde(alias = "telling")]
    DeliveryOutage,
}

impl IncidentKind {
    /// All kinds, in the order of the list above.
    pub const ALL: [Self; 5] =
        [Self::Session, Self::Privileged, Self::Spray, Self::RuleMatch, Self::DeliveryOutage];

    /// The name used in output and in filters: `session`, `delivery_outage` …
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Privileged => "privileged",
            Self::Spray => "spray",
            Self::RuleMatch => "rule_match",
            Self::DeliveryOutage => "delivery_outage",
        }
    }

    /// The kind of this name. Accepts the names of version 0.1 too (`watch`, `telling`).
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "watch" => Some(Self::RuleMatch),
            "telling" => Some(Self::DeliveryOutage),
            _ => Self::ALL.into_iter().find(|kind| kind.name() == name),
        }
    }
}

/// Counts findings that add nothing to one that is kept: a store has them all, correlation does not
/// keep them in memory. See [`crate::correlate::IncidentUpdate::redundant_to`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedundantCount {
    /// How many there are.
    pub count: u64,
    /// The last of their times; `None` if none has one.
    pub last_at: Option<Timestamp>,
}

impl RedundantCount {
    /// Counts one more.
    pub fn add(&mut self, at: Option<Timestamp>) {
        self.count += 1;
        self.last_at = self.last_at.max(at);
    }
}

/// An incident without its findings. All but the id and the state follow from the findings, in
/// whatever order they arrived.
///
/// `A` is how an account is written: its id, or its id with the name that people gave it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncidentHead<A = String> {
    /// Stays the same for the life of the incident.
    pub id: IncidentId,
    /// What the findings have in common.
    pub kind: IncidentKind,
    /// The state of the incident.
    pub state: IncidentState,
    /// The severity of the worst finding, or a higher one that the findings have together.
    pub severity: Severity,
    /// One line for people.
    pub title: String,
    /// Accounts whose root user is concerned, sorted. More than one for a spray or for privileged
    /// sessions into several accounts.
    pub accounts: Vec<A>,
    /// The strongest root use among the findings.
    pub root_use: RootUse,
    /// The reasons for the severity, the strongest first, each code once.
    pub reasons: Vec<Reason>,
    /// The time of the first finding.
    pub first_at: Option<Timestamp>,
    /// The time of the last finding.
    pub last_at: Option<Timestamp>,
    /// Addresses from which a client called, in order of first use; service names left out.
    pub addresses: Vec<String>,
    /// Other incidents of the same attack (the spray that came before a break-in).
    pub related: Vec<IncidentId>,
}

impl IncidentHead {
    /// The same head with the first accounts written otherwise.
    #[must_use]
    pub fn with_accounts<A>(
        &self,
        accounts_max: usize,
        name: &dyn Fn(&str) -> A,
    ) -> IncidentHead<A> {
        IncidentHead {
            id: self.id.clone(),
            kind: self.kind,
            state: self.state,
            severity: self.severity,
            title: self.title.clone(),
            accounts: self.accounts.iter().take(accounts_max).map(|id| name(id)).collect(),
            root_use: self.root_use,
            reasons: self.reasons.clone(),
            first_at: self.first_at,
            last_at: self.last_at,
            addresses: self.addresses.clone(),
            related: self.related.clone(),
        }
    }
}

/// Findings that belong together. Derefs to its [`IncidentHead`]; in JSON, the head's fields are the
/// incident's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incident {
    /// Everything but the findings.
    #[serde(flatten)]
    pub head: IncidentHead,
    /// The findings, sorted by time (those without one last), then key. Each once, with the class and
    /// severity that the incident gives them.
    pub findings: Vec<Finding>,
    /// The originals of findings that the incident classifies or scores differently, and records that
    /// CloudTrail corrected later; sorted by key. Together with `findings` they are the set that
    /// arrived, so that a late record is always correlated with the originals.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub superseded: Vec<Finding>,
    /// Redundant findings that are not in `findings`, counted by the key of the one that they repeat.
    /// A store counts its rows by [`crate::correlate::IncidentUpdate::redundant_to`], with the latest
    /// time of each. Empty if every finding is listed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub echoes: BTreeMap<FindingKey, RedundantCount>,
}

impl Deref for Incident {
    type Target = IncidentHead;

    fn deref(&self) -> &IncidentHead {
        &self.head
    }
}

impl DerefMut for Incident {
    fn deref_mut(&mut self) -> &mut IncidentHead {
        &mut self.head
    }
}

impl From<IncidentHead> for Incident {
    /// The incident with this head and no findings.
    fn from(head: IncidentHead) -> Self {
        Self { head, findings: Vec::new(), superseded: Vec::new(), echoes: BTreeMap::new() }
    }
}

impl Incident {
    /// The incident of a delivery outage: alerts to a destination cannot be delivered since `at`.
    ///
    /// Its id follows from the destination and the moment, so that one outage is one incident. It
    /// opens with [`crate::correlate::Change::Opened`] and ends with
    /// [`crate::correlate::Change::Closed`]; silence does not close it. `why` contains no secrets.
    #[must_use]
    pub fn telling(destination: &str, at: Timestamp, why: &str) -> Self {
        Self::from(IncidentHead {
            id: IncidentId::derived(&format!("telling {destination} {at}"), 0),
            kind: IncidentKind::DeliveryOutage,
            state: IncidentState::Open,
            severity: Severity::High,
            title: format!("Alerts to {destination} cannot be delivered"),
            accounts: Vec::new(),
            root_use: RootUse::No,
            reasons: vec![Reason::new("delivery_failing", why.to_owned())],
            first_at: Some(at),
            last_at: Some(at),
            addresses: Vec::new(),
            related: Vec::new(),
        })
    }

    /// How many findings there are, redundant ones included.
    #[must_use]
    pub fn findings_total(&self) -> u64 {
        let echoes: u64 = self.echoes.values().map(|echoes| echoes.count).sum();
        self.findings.len() as u64 + echoes
    }

    /// True if the finding is in the incident, corrected records included.
    #[must_use]
    pub fn holds(&self, key: &FindingKey) -> bool {
        self.findings.iter().any(|finding| &finding.key == key) || self.original(key).is_some()
    }

    /// The original of a finding that the incident classifies or scores differently, or that a later
    /// record corrected.
    #[must_use]
    pub fn original(&self, key: &FindingKey) -> Option<&Finding> {
        let place = self.superseded.binary_search_by(|finding| finding.key.cmp(key)).ok()?;
        self.superseded.get(place)
    }

    /// The findings as they arrived, before the incident changed any. In no order.
    pub fn originals(&self) -> impl Iterator<Item = &Finding> {
        let kept = self.findings.iter().filter(|finding| self.original(&finding.key).is_none());
        kept.chain(&self.superseded)
    }

    /// The finding with this time and key, as the incident shows it.
    pub(crate) fn at_place(&self, at: Option<Timestamp>, key: &FindingKey) -> Option<&Finding> {
        let wanted = (at.is_none(), at, key);
        let place = self.findings.binary_search_by(|one| {
            (one.event_time.is_none(), one.event_time, &one.key).cmp(&wanted)
        });
        self.findings.get(place.ok()?)
    }

    /// The finding with the key of another one, as the incident shows it.
    pub(crate) fn shown(&self, like: &Finding) -> Option<&Finding> {
        self.at_place(like.event_time, &like.key)
    }
}

/// The order of a timeline: by time, findings without one last, then by key.
#[must_use]
pub fn by_time(one: &Finding, other: &Finding) -> Ordering {
    let at = |finding: &Finding| (finding.event_time.is_none(), finding.event_time);
    at(one).cmp(&at(other)).then_with(|| one.key.cmp(&other.key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::call;

    #[test]
    fn an_incident_is_written_flat_as_stores_have_it() {
        let at = "2026-05-04T14:00:00Z";
        let mut incident = Incident::telling("ops", at.parse().expect("a time"), "refused");
        let head = r#"{"id":"7RE-9AT","kind":"delivery_outage","state":"open","severity":"high","title":"Alerts to ops cannot be delivered","accounts":[],"root_use":"no","reasons":[{"code":"delivery_failing","text":"refused"}],"first_at":"2026-05-04T14:00:00Z","last_at":"2026-05-04T14:00:00Z","addresses":[],"related":[],"findings":["#;
        let head = head.replace("7RE-9AT", &incident.id.0);
        let text = serde_json::to_string(&incident).expect("JSON");
        assert_eq!(text, format!("{head}]}}"));
        assert_eq!(serde_json::from_str::<Incident>(&text).expect("the same"), incident);

        let finding = call("222233334444", "14:00:00", "ListUsers").0;
        incident.echoes.insert(finding.key.clone(), RedundantCount { count: 2, last_at: None });
        incident.superseded.push(finding.clone());
        incident.findings.push(finding);
        let text = serde_json::to_string(&incident).expect("JSON");
        assert!(text.starts_with(&head), "{text}");
        assert_eq!(serde_json::from_str::<Incident>(&text).expect("the same"), incident);
    }
}
