//! Who acted, how they got in, and from where.

use super::IncidentFacts;
use crate::access_path::AccessPath;
use crate::finding::{Finding, Outcome, RootUse};
use crate::incident::IncidentKind;
use crate::{classify, text};

/// Addresses that are named one by one.
const NAMED_MAX: usize = 6;

/// Who acted, and how they got in: `root user: console → access key`.
pub(super) fn who(facts: &IncidentFacts<'_>) -> String {
    match facts.kind {
        IncidentKind::Spray => "root sign-in attempts from one address".to_owned(),
        IncidentKind::RuleMatch => not_root(facts),
        IncidentKind::Privileged => privileged(facts),
        IncidentKind::DeliveryOutage => "alerts cannot be delivered".to_owned(),
        IncidentKind::Session => session(facts),
    }
}

/// The callers in order of first appearance: `arn:aws:sts::…, and 2 more`.
fn callers(facts: &IncidentFacts<'_>) -> Option<String> {
    let actors = facts.findings.iter().filter_map(|finding| finding.actor.as_deref());
    let actors = text::distinct(actors.map(|actor| text::cap(actor, text::TEXT_COLUMNS_MAX)));
    let (first, others) = actors.split_first()?;
    Some(match others.len() {
        0 => first.clone(),
        more => format!("{first} and {more} more"),
    })
}

/// Not the root user: the caller and the region, since the first step is to ask the caller.
fn not_root(facts: &IncidentFacts<'_>) -> String {
    let regions = facts.findings.iter().filter_map(|finding| finding.region.as_deref());
    let regions = text::distinct(regions.map(|region| text::cap(region, 40)));
    let mut who = match callers(facts) {
        Some(caller) => format!("by {caller}"),
        None => "by a caller that the record does not name".to_owned(),
    };
    match regions.as_slice() {
        [] => {}
        [one] => who.push_str(&format!(" in {one}")),
        many => who.push_str(&format!(" in {}", text::count(many.len() as u64, "region"))),
    }
    who.push_str(", not root use");
    who
}

fn privileged(facts: &IncidentFacts<'_>) -> String {
    let by = callers(facts);
    let tries = || facts.findings.iter().filter(|finding| is_named(finding, "AssumeRoot"));
    let has_session = facts.findings.iter().any(|finding| finding.session.assumed_root)
        || tries().any(|finding| finding.outcome == Outcome::Success);
    if has_session || tries().next().is_none() {
        return match by {
            Some(caller) => format!("privileged session, opened by {caller}"),
            None => "privileged session".to_owned(),
        };
    }
    let is_denied = |finding: &&Finding| classify::was_denied(finding);
    let ended = if tries().any(|finding| is_denied(finding)) { "was denied" } else { "failed" };
    match by {
        Some(caller) => format!("AssumeRoot by {caller} {ended}"),
        None => format!("AssumeRoot {ended}"),
    }
}

fn session(facts: &IncidentFacts<'_>) -> String {
    let mut paths: Vec<&str> = Vec::new();
    for &finding in &facts.findings {
        let is_sign_in = finding.outcome == Outcome::Success && is_named(finding, "ConsoleLogin");
        let path = match AccessPath::of(finding) {
            AccessPath::SignIn if is_sign_in => "console",
            AccessPath::Console => "console",
            AccessPath::AccessKey => "access key",
            AccessPath::Privileged => "privileged session",
            AccessPath::Derived => "derived session",
            AccessPath::SignIn | AccessPath::OnBehalf | AccessPath::NotRoot => continue,
        };
        if !paths.contains(&path) {
            paths.push(path);
        }
    }
    let who = match facts.root_use {
        RootUse::Possible => "probably the root user",
        RootUse::OnBehalf => "an AWS service for the root user",
        _ => "root user",
    };
    if !paths.is_empty() {
        return format!("{who}: {}", paths.join(" → "));
    }
    let mut sign_ins = facts.findings.iter().filter(|finding| finding.session.sign_in).peekable();
    if sign_ins.peek().is_none() {
        who.to_owned()
    } else if sign_ins.all(|finding| finding.outcome == Outcome::Failure) {
        format!("{who}: failed sign-ins only")
    } else {
        format!("{who}: sign-in page only")
    }
}

fn is_named(finding: &Finding, name: &str) -> bool {
    finding.event_name.as_deref() == Some(name)
}

/// From which addresses, and with which clients:
/// `203.0.113.77 (Chrome on Windows) · access key used from 198.51.100.23 (AWS CLI)`.
pub(super) fn from(facts: &IncidentFacts<'_>) -> String {
    let mut parts = Vec::new();
    for address in facts.addresses.iter().take(NAMED_MAX) {
        let calls = || {
            let from_here =
                |finding: &&Finding| finding.source_ip.as_deref() == Some(address.as_str());
            facts.findings.iter().copied().filter(from_here)
        };
        let mut agents = text::distinct(
            calls().filter_map(|finding| text::agent(finding.user_agent.as_deref())),
        );
        let more = agents.len().saturating_sub(2);
        agents.truncate(2);
        if more > 0 {
            agents.push(format!("{more} more"));
        }
        let mut part = text::cap(address, 80);
        if !agents.is_empty() {
            part = format!("{part} ({})", text::list(&agents));
        }
        let paths: Vec<AccessPath> = calls().map(AccessPath::of).collect();
        let is_issued =
            |path: &AccessPath| matches!(path, AccessPath::AccessKey | AccessPath::Derived);
        if paths.contains(&AccessPath::AccessKey) && paths.iter().all(is_issued) {
            part = format!("access key used from {part}");
        } else if paths.contains(&AccessPath::Derived) && paths.iter().all(is_issued) {
            part = format!("derived session from {part}");
        }
        parts.push(part);
    }
    let more = facts.addresses.len().saturating_sub(NAMED_MAX);
    if more > 0 {
        parts.push(format!("{} more", text::thousands(more as u64)));
    }
    parts.join(" · ")
}
