//! One view of an incident for people. Every output shows the same [`IncidentView`] and only lays it
//! out: the terminal, the HTML report, every channel of an alert.
//!
//! All of this is a pure function of an incident's facts. The steps to do first come from the rules
//! that matched; see [`do_first`].

mod account;
mod compact;
mod done;
mod steps;
mod who;

use jiff::Timestamp;
use jiff::tz::TimeZone;

pub use self::account::AccountName;
pub use self::compact::{CompactAccount, CompactLine};
pub use self::steps::{DO_FIRST_MAX, RuleSteps, do_first, rules_by_severity};

use crate::finding::{Finding, Mfa, NeedsRoot, Outcome, Reason, RootUse, Severity};
use crate::incident::{Incident, IncidentId, IncidentKind};
use crate::text;
use crate::timeline::{self, Row};

/// Columns of the title, of one reason, and of one step.
const TEXT_COLUMNS_MAX: usize = 300;
/// Columns of an incident's id.
const ID_COLUMNS_MAX: usize = 40;

/// What the narrative needs to know of an incident: of a whole one, or of the part that an alert
/// carries.
#[derive(Debug, Clone)]
pub struct IncidentFacts<'a> {
    /// See [`IncidentHead::id`](crate::incident::IncidentHead::id).
    pub id: &'a IncidentId,
    /// See [`IncidentHead::kind`](crate::incident::IncidentHead::kind).
    pub kind: IncidentKind,
    /// See [`IncidentHead::severity`](crate::incident::IncidentHead::severity).
    pub severity: Severity,
    /// See [`IncidentHead::title`](crate::incident::IncidentHead::title).
    pub title: &'a str,
    /// See [`IncidentHead::root_use`](crate::incident::IncidentHead::root_use).
    pub root_use: RootUse,
    /// See [`IncidentHead::accounts`](crate::incident::IncidentHead::accounts), with their names.
    pub accounts: Vec<AccountName>,
    /// See [`IncidentHead::reasons`](crate::incident::IncidentHead::reasons).
    pub reasons: &'a [Reason],
    /// See [`IncidentHead::first_at`](crate::incident::IncidentHead::first_at).
    pub first_at: Option<Timestamp>,
    /// See [`IncidentHead::last_at`](crate::incident::IncidentHead::last_at).
    pub last_at: Option<Timestamp>,
    /// See [`IncidentHead::addresses`](crate::incident::IncidentHead::addresses).
    pub addresses: &'a [String],
    /// See [`IncidentHead::related`](crate::incident::IncidentHead::related).
    pub related: &'a [IncidentId],
    /// Whether the most severe task needs the root user.
    pub needs_root: NeedsRoot,
    /// The findings, sorted by time: all of them, or those that the alert quotes.
    pub findings: Vec<&'a Finding>,
}

impl<'a> IncidentFacts<'a> {
    /// The facts of a whole incident. `name` gives the name of an account by its digits.
    #[must_use]
    pub fn of(incident: &'a Incident, name: &dyn Fn(&str) -> AccountName) -> Self {
        Self {
            id: &incident.id,
            kind: incident.kind,
            severity: incident.severity,
            title: &incident.title,
            root_use: incident.root_use,
            accounts: incident.accounts.iter().map(|id| name(id)).collect(),
            reasons: &incident.reasons,
            first_at: incident.first_at,
            last_at: incident.last_at,
            addresses: &incident.addresses,
            related: &incident.related,
            needs_root: needs_root(&incident.findings),
            findings: incident.findings.iter().collect(),
        }
    }

    /// Whether any of these calls used MFA. `None` where the question does not arise: a sign-in that
    /// failed says nothing about MFA, and neither does a call that is not root use.
    fn mfa(&self) -> Option<Mfa> {
        let is_root = matches!(self.root_use, RootUse::Direct | RootUse::Possible);
        if !is_root || self.kind != IncidentKind::Session {
            return None;
        }
        let stated = |finding: &&&Finding| {
            !(finding.session.sign_in && finding.outcome == Outcome::Failure)
                && matches!(finding.root_use, RootUse::Direct | RootUse::Possible)
        };
        let mut all = self.findings.iter().filter(stated).map(|finding| finding.mfa);
        let first = all.next()?;
        Some(all.fold(first, |known, mfa| match (known, mfa) {
            (Mfa::NotUsed, _) | (_, Mfa::NotUsed) => Mfa::NotUsed,
            (Mfa::Used, _) | (_, Mfa::Used) => Mfa::Used,
            (Mfa::NotStated, Mfa::NotStated) => Mfa::NotStated,
        }))
    }
}

/// Whether the most severe task of these findings needs the root user: of the last of equals.
#[must_use]
pub fn needs_root(findings: &[Finding]) -> NeedsRoot {
    let worst = findings.iter().rev().max_by_key(|finding| finding.severity);
    worst.map_or(NeedsRoot::Unknown, |finding| finding.needs_root)
}

/// An incident in words. All texts are safe to show; a channel's own markup still has to be escaped.
#[derive(Debug, Clone)]
pub struct IncidentView {
    /// See [`IncidentHead::severity`](crate::incident::IncidentHead::severity).
    pub severity: Severity,
    /// The incident's id.
    pub id: String,
    /// What happened: one line.
    pub title: String,
    /// The parts of the compact line.
    pub compact: CompactLine,
    /// The accounts with their names, cut and safe to show.
    pub accounts: Vec<AccountName>,
    /// `2026-05-04 13:58 → 14:31 UTC`.
    pub when: String,
    /// Who acted, and how they got in: `root user: console → access key`.
    pub who: String,
    /// From which addresses, and with which clients.
    pub from: String,
    /// Whether MFA was used; `None` where the question does not arise.
    pub mfa: Option<Mfa>,
    /// Whether the most severe task needs the root user.
    pub needs_root: NeedsRoot,
    /// What was done, in order: one sentence.
    pub prose: String,
    /// Why it is as severe as it is, the strongest reason first.
    pub why: Vec<String>,
    /// What to do first, in order: at most [`DO_FIRST_MAX`] steps.
    pub do_first: Vec<String>,
    /// The rows of the timeline.
    pub rows: Vec<Row>,
    /// Ids of related incidents.
    pub related: Vec<String>,
}

impl IncidentView {
    /// The view of an incident, with times in `zone`, which is called `zone_label`. `steps` is what
    /// [`do_first`] gave.
    #[must_use]
    pub fn new(
        facts: &IncidentFacts<'_>,
        steps: &[String],
        zone: &TimeZone,
        zone_label: &str,
    ) -> Self {
        let accounts: Vec<AccountName> = facts.accounts.iter().map(AccountName::shown).collect();
        let name = |id: &str| {
            let named = facts.accounts.iter().find(|account| account.id == id);
            named.map_or_else(|| text::cap(id, ID_COLUMNS_MAX), |account| account.shown().short())
        };
        let rows = timeline::rows(
            &facts.findings,
            timeline::Accounts {
                are_named: accounts.len() > 1,
                by_account: facts.kind == IncidentKind::Spray,
                name: &name,
            },
        );
        let line = |text: &str| text::cap(text.trim(), TEXT_COLUMNS_MAX);
        Self {
            severity: facts.severity,
            id: text::cap(&facts.id.0, ID_COLUMNS_MAX),
            title: line(facts.title),
            compact: CompactLine::of(facts),
            when: text::time_range(facts.first_at, facts.last_at, zone, zone_label),
            who: who::who(facts),
            from: who::from(facts),
            mfa: facts.mfa(),
            needs_root: facts.needs_root,
            prose: done::prose(facts),
            why: facts.reasons.iter().map(|reason| line(&reason.text)).collect(),
            do_first: steps.iter().take(DO_FIRST_MAX).map(|step| line(step)).collect(),
            rows,
            related: facts.related.iter().map(|id| text::cap(&id.0, ID_COLUMNS_MAX)).collect(),
            accounts,
        }
    }
}
