//! Incidents: the findings of one root session, with a life.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Deref, DerefMut};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::finding::{Finding, FindingKey, Reason, RootUse, Severity};
use crate::fnv;

/// The name of an incident, short enough to say on the telephone: `7K2-MPX`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct IncidentId(pub String);

/// Characters of an id: none that is mistaken for another when read aloud or written by hand.
const ID_ALPHABET: &[u8; 31] = b"23456789ABCDEFGHJKMNPQRSTUVWXYZ";

impl IncidentId {
    /// The id that an incident gets from the key of the finding that opened it: FNV-1a, 64 bits,
    /// which will never change. Further attempts give further ids, for when one is taken.
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

/// Where an incident is in its life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IncidentState {
    /// More may come.
    #[default]
    Open,
    /// Closed by silence.
    Quiet,
    /// Somebody looks after it.
    Acknowledged,
    /// Somebody says that it is over.
    Resolved,
}

/// What gathered the findings of an incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IncidentKind {
    /// One root session: what led to it, what it did, what it issued.
    Session,
    /// Privileged sessions that one caller opened (`AssumeRoot`), with what they did.
    Privileged,
    /// One address tried the root user's sign-in in several accounts.
    Spray,
    /// A rule spoke on a record that is not root use.
    #[serde(alias = "watch")]
    RuleMatch,
    /// Alerts cannot be delivered. Holds no findings and never joins another incident.
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

/// Findings that say again what one that is kept says: a store has them all, correlation does
/// without them. See [`crate::correlate::IncidentUpdate::redundant_to`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedundantCount {
    /// How many there are.
    pub count: u64,
    /// The last moment of which one speaks; `None` when none states a time.
    pub last_at: Option<Timestamp>,
}

impl RedundantCount {
    /// One more.
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
    /// What gathered the findings.
    pub kind: IncidentKind,
    /// Where the incident is in its life.
    pub state: IncidentState,
    /// The worst of the findings, raised by what they mean together.
    pub severity: Severity,
    /// One line for people.
    pub title: String,
    /// Accounts whose root user is concerned, sorted. More than one for a spray or for privileged
    /// sessions into several accounts.
    pub accounts: Vec<A>,
    /// The strongest root use among the findings.
    pub root_use: RootUse,
    /// Why the severity is what it is, the strongest first, each code once.
    pub reasons: Vec<Reason>,
    /// The first moment of which a finding speaks.
    pub first_at: Option<Timestamp>,
    /// The last moment of which a finding speaks.
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
    /// The findings, sorted by time (those without one last), then key. Each once, as the incident
    /// judges them.
    pub findings: Vec<Finding>,
    /// Findings as they stood by themselves where the incident judges otherwise, and records that
    /// CloudTrail corrected later; sorted by key. With `findings` they give back, unchanged, the
    /// set that came in, so that a late record can always be weighed against the originals.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub superseded: Vec<Finding>,
    /// What was left out of `findings`, by the key of the finding that it echoes: a store counts
    /// its rows by [`crate::correlate::IncidentUpdate::redundant_to`], with the latest time of each count. Empty
    /// where every finding is listed.
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
    /// An incident of our own: alerts to a destination cannot be delivered, since `at`.
    ///
    /// Its id follows from the destination and the moment, so that one outage is one incident. It
    /// opens with [`crate::correlate::Change::Opened`] and ends with
    /// [`crate::correlate::Change::Closed`]; silence does not close it. `why` is in words without
    /// secrets.
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

    /// How many findings there are, echoes included.
    #[must_use]
    pub fn findings_total(&self) -> u64 {
        let echoes: u64 = self.echoes.values().map(|echoes| echoes.count).sum();
        self.findings.len() as u64 + echoes
    }

    /// True when the finding is already in the incident, corrected records included.
    #[must_use]
    pub fn holds(&self, key: &FindingKey) -> bool {
        self.findings.iter().any(|finding| &finding.key == key) || self.original(key).is_some()
    }

    /// The finding as it stood by itself, when the incident judges it otherwise or a later record
    /// corrected it.
    #[must_use]
    pub fn original(&self, key: &FindingKey) -> Option<&Finding> {
        let place = self.superseded.binary_search_by(|finding| finding.key.cmp(key)).ok()?;
        self.superseded.get(place)
    }

    /// The findings as they came in, before the incident changed any judgement. In no order.
    pub fn originals(&self) -> impl Iterator<Item = &Finding> {
        let kept = self.findings.iter().filter(|finding| self.original(&finding.key).is_none());
        kept.chain(&self.superseded)
    }

    /// The finding of this time and key as the incident judges it.
    pub(crate) fn at_place(&self, at: Option<Timestamp>, key: &FindingKey) -> Option<&Finding> {
        let wanted = (at.is_none(), at, key);
        let place = self.findings.binary_search_by(|one| {
            (one.event_time.is_none(), one.event_time, &one.key).cmp(&wanted)
        });
        self.findings.get(place.ok()?)
    }

    /// The finding with this key as the incident judges it, found by its place in time.
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
