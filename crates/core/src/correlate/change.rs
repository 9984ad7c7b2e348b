//! What correlation reports: the changes to incidents, and the policy that decides them.

use std::collections::{BTreeMap, HashSet};
use std::ops::Deref;

use jiff::Timestamp;

use crate::finding::{Finding, FindingKey, Severity};
use crate::incident::{Incident, IncidentHead, IncidentId, RedundantCount, by_time};

/// A finding this near in time to one that it repeats is not kept in memory.
pub const REDUNDANT_SECS: i64 = 60;

/// How near in time findings must be to belong together. Gaps are inclusive.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CorrelatePolicy {
    /// Sign-ins, recoveries and account pages of one account and address, failed sign-ins of one
    /// account, and rule matches of one actor: seconds between one and the next. Default 3,600.
    pub sign_in_gap_secs: i64,
    /// Failed sign-ins from one address: seconds between one and the next. Default 300.
    pub spray_gap_secs: i64,
    /// Accounts that make such failed sign-ins a spray. Default 2, and never less.
    pub spray_accounts_min: usize,
    /// A spray is related to what its address does up to this many seconds after. Default 3,600.
    pub spray_related_secs: i64,
    /// Uses of one long-term root key: seconds between one and the next. Default 86,400.
    pub key_gap_secs: i64,
    /// A sign-in belongs to a session that begins up to this many seconds after it. Default 300.
    pub sign_in_lead_secs: i64,
    /// `AssumeRoot` calls of one caller: seconds between one and the next. Default 900.
    pub audit_gap_secs: i64,
    /// An incident is quiet when its last finding is this many seconds old. Default 3,600.
    pub quiet_after_secs: i64,
    /// A finding that adds nothing to one nearer than this many seconds is counted, not kept in
    /// memory; gaps are then measured with this precision. 0 keeps all. Default
    /// [`REDUNDANT_SECS`].
    pub redundant_secs: i64,
}

impl Default for CorrelatePolicy {
    fn default() -> Self {
        Self {
            sign_in_gap_secs: 3_600,
            spray_gap_secs: 300,
            spray_accounts_min: 2,
            spray_related_secs: 3_600,
            key_gap_secs: 86_400,
            sign_in_lead_secs: 300,
            audit_gap_secs: 900,
            quiet_after_secs: 3_600,
            redundant_secs: REDUNDANT_SECS,
        }
    }
}

/// One step in the life of an incident, with what a store needs to follow it.
///
/// The changes of one call belong together: save all of them or none.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// A new incident.
    Opened(Box<Incident>),
    /// An incident gained or lost findings, or one of its attributes changed.
    Grew(Box<IncidentUpdate>),
    /// Follows the [`Change::Grew`] that carries the new severity.
    Escalated {
        /// The incident.
        id: IncidentId,
        /// The worst severity before, of this incident and of those that joined it.
        from: Severity,
        /// The severity now.
        to: Severity,
    },
    /// An incident ended by joining another: its findings are in others, most of them in `into`.
    Joined {
        /// The incident that remains; its [`Change::Grew`] precedes this change.
        into: IncidentId,
        /// The incident that ended. A later split may open an incident with this id again.
        from: IncidentId,
    },
    /// No finding arrived for a while: the incident is [`IncidentState::Quiet`](crate::incident::IncidentState::Quiet).
    Closed {
        /// The incident.
        id: IncidentId,
        /// When it was decided.
        at: Timestamp,
    },
    /// The finding is known; nothing changes.
    Repeated {
        /// The incident that holds it.
        id: IncidentId,
        /// The finding.
        key: FindingKey,
    },
}

/// An update of a known incident: the rows to write, not the whole incident.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct IncidentUpdate {
    /// What the incident is from now on. The update derefs to it.
    pub head: IncidentHead,
    /// True when the incident was quiet or resolved and is open again.
    pub reopened: bool,
    /// See [`Incident::superseded`]: the whole list from now on.
    pub superseded: Vec<Finding>,
    /// Findings new to the timeline.
    pub added: Vec<Finding>,
    /// Findings of the timeline that are classified or scored differently from now on.
    pub changed: Vec<Finding>,
    /// Findings that leave the timeline: corrected by a later record, or part of another incident.
    pub removed: Vec<FindingKey>,
    /// Set when the single finding of `added` is redundant: it adds nothing to the finding with this
    /// key, which is near it in time. Then only counts and the last moment change, and memory does
    /// not keep the finding.
    ///
    /// A store keeps it, with this key beside it. It stays in the incident of the finding that it
    /// repeats: when that one is in `added` or `superseded` (or in the incident of a
    /// [`Change::Opened`]), its redundant findings move with it. A redundant finding keeps its own
    /// classification, even when the finding that it repeats is classified differently later.
    pub redundant_to: Option<FindingKey>,
    /// Counts of what is redundant to the findings that the incident gains: see
    /// [`Incident::echoes`].
    pub echoes: BTreeMap<FindingKey, RedundantCount>,
}

impl Deref for IncidentUpdate {
    type Target = IncidentHead;

    fn deref(&self) -> &IncidentHead {
        &self.head
    }
}

impl IncidentUpdate {
    pub(super) fn differs_from(&self, before: &Incident) -> bool {
        !(self.added.is_empty() && self.changed.is_empty() && self.removed.is_empty())
            || self.head != before.head
            || self.superseded != before.superseded
    }

    /// Counts a redundant finding in the incident; false when the update is of another kind.
    pub(super) fn counts_redundant_in(&self, incident: &mut Incident) -> bool {
        let (Some(kept), [one]) = (&self.redundant_to, &self.added[..]) else { return false };
        incident.echoes.entry(kept.clone()).or_default().add(one.event_time);
        incident.head.last_at = self.head.last_at;
        incident.head.state = self.head.state;
        true
    }

    /// Applies the update to the incident. A redundant finding is counted, not listed.
    pub fn apply_to(self, incident: &mut Incident) {
        if self.counts_redundant_in(incident) {
            return;
        }
        if !self.removed.is_empty() {
            let gone: HashSet<&FindingKey> = self.removed.iter().collect();
            incident.findings.retain(|finding| !gone.contains(&finding.key));
        }
        for finding in self.changed {
            match incident.findings.binary_search_by(|one| by_time(one, &finding)) {
                Ok(place) => incident.findings[place] = finding,
                Err(place) => incident.findings.insert(place, finding),
            }
        }
        // Many at once are not inserted one by one: findings are large.
        incident.findings.extend(self.added);
        incident.findings.sort_by(by_time);
        incident.findings.dedup_by(|later, one| later.key == one.key);
        incident.head = self.head;
        incident.superseded = self.superseded;
        incident.echoes.extend(self.echoes);
        let gone = self.removed.iter().filter(|key| incident.original(key).is_none());
        let gone: Vec<&FindingKey> = gone.collect();
        for key in gone {
            incident.echoes.remove(key);
        }
    }
}
