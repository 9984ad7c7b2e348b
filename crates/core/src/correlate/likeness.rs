//! Which findings are alike: a fingerprint, and a weaker link by session.
//!
//! Open incidents list their findings by these keys, and [`crate::correlate::redundant`] asks them
//! for the neighbors of a new finding.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::correlate::assess::read_only_without_rule;
use crate::correlate::links::{View, filled};
use crate::finding::{Finding, Mfa, Outcome, RootUse, SessionFacts};

/// Everything that links and assessment read of a finding that may be redundant, except its time,
/// severity, reasons and rules.
#[derive(PartialEq, Hash)]
pub(super) struct Fingerprint<'a> {
    session: &'a SessionFacts,
    root_use: RootUse,
    account: Option<&'a str>,
    recipient: Option<&'a str>,
    key: Option<&'a str>,
    source_ip: Option<&'a str>,
    actor: Option<&'a str>,
    error_code: Option<&'a str>,
    outcome: Outcome,
    mfa: Mfa,
    /// See [`read_only_without_rule`].
    read_only_without_rule: bool,
    /// Only for a sign-in and for an `AssumeRoot` call.
    name: Option<&'a str>,
    /// UTC day of a service's call: it has no other link.
    day: Option<i64>,
}

/// The fingerprint of a finding; equal for all that may be redundant to it. `None` if nothing may:
/// the finding has links of its own, or none that is sure to hold between the two.
pub(super) fn fingerprint<'a>(view: &View<'a>) -> Option<Fingerprint<'a>> {
    let finding = view.finding;
    let session = &finding.session;
    let unlinked = finding.shared_event_id.is_none()
        && finding.addendum.is_none()
        && session.issued_key_id.is_none()
        && finding.root_use != RootUse::Possible
        && (finding.outcome == Outcome::Failure || !(session.sign_in || view.assume_root()));
    let whatever_the_time = view.created().is_some()
        || view.sign_in_arn().is_some()
        || (view.access_key().is_some() && !session.long_term_key);
    let by_gap = view.at.is_some()
        && (view.access_key().is_some()
            || view.on_behalf().is_some()
            || view.failed_sign_in()
            || view.watch_only()
            || view.assume_root());
    if !unlinked || !(whatever_the_time || by_gap) {
        return None;
    }
    let named = session.sign_in || view.assume_root();
    Some(Fingerprint {
        session,
        root_use: finding.root_use,
        account: filled(&finding.account_id),
        recipient: filled(&finding.recipient_account_id),
        key: filled(&finding.access_key_id),
        source_ip: filled(&finding.source_ip),
        actor: filled(&finding.actor),
        error_code: filled(&finding.error_code),
        outcome: finding.outcome,
        mfa: finding.mfa,
        read_only_without_rule: read_only_without_rule(finding),
        name: finding.event_name.as_deref().filter(|_| named),
        day: view.on_behalf().map(|(_, day)| day),
    })
}

/// A link that holds between findings of one session, or failed sign-ins of one account, whatever
/// else they say.
#[derive(PartialEq, Hash)]
pub(super) enum SessionLink<'a> {
    Session { account: &'a str, principal: &'a str, created: i64, root_use: RootUse },
    FailedSignIn { account: &'a str, root_use: RootUse },
}

/// The session link of a finding that has a fingerprint.
pub(super) fn session_link<'a>(view: &View<'a>) -> Option<SessionLink<'a>> {
    fingerprint(view)?;
    let (account, root_use) = (view.account, view.finding.root_use);
    match view.created() {
        _ if view.failed_sign_in() && view.at.is_some() => {
            Some(SessionLink::FailedSignIn { account, root_use })
        }
        Some(created) => {
            Some(SessionLink::Session { account, principal: view.principal(), created, root_use })
        }
        None => None,
    }
}

/// The keys under which open incidents list a finding, to find what it may be redundant to: one for
/// its fingerprint, one for its session link.
pub(super) fn keys(finding: &Finding) -> [Option<u64>; 2] {
    let view = View::new(finding);
    let hash = |value: &dyn Fn(&mut DefaultHasher)| {
        let mut hasher = DefaultHasher::new();
        value(&mut hasher);
        hasher.finish()
    };
    [
        fingerprint(&view).map(|print| hash(&|hasher| print.hash(hasher))),
        session_link(&view).map(|link| hash(&|hasher| link.hash(hasher))),
    ]
}
