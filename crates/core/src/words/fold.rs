//! The calls of an incident as the rows of a timeline, runs folded.

use crate::finding::{Finding, Outcome, RootUse, Severity};
use crate::incident::IncidentKind;
use jiff::Timestamp;

use super::tell::Story;

/// So many of a kind in a row are told in one.
const RUN_MIN: usize = 3;
/// Columns that the words of a rule, and what was acted on, may take in one row.
const WHAT_COLUMNS_MAX: usize = 160;
const TARGET_COLUMNS_MAX: usize = 60;

/// By which way the root user came. The lanes of the picture, from the door inwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lane {
    /// The sign-in page: attempts, recoveries, MFA checks.
    SignIn,
    /// The console, or temporary keys of a console session.
    Console,
    /// A long-term access key.
    AccessKey,
    /// A privileged session.
    Privileged,
    /// A session that the root user issued.
    Derived,
    /// An AWS service for the root user.
    Behalf,
    /// Not the root user at all.
    Watched,
}

impl Lane {
    /// The way of one finding.
    #[must_use]
    pub fn of(finding: &Finding) -> Self {
        match finding.root_use {
            RootUse::OnBehalf => Self::Behalf,
            RootUse::Derived => Self::Derived,
            RootUse::Privileged => Self::Privileged,
            RootUse::No => Self::Watched,
            RootUse::Direct | RootUse::Possible if finding.session.sign_in => Self::SignIn,
            RootUse::Direct | RootUse::Possible if finding.session.long_term_key => Self::AccessKey,
            RootUse::Direct | RootUse::Possible => Self::Console,
        }
    }

    /// The name of the lane.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::SignIn => "Sign-in",
            Self::Console => "Console",
            Self::AccessKey => "Access key",
            Self::Privileged => "Privileged",
            Self::Derived => "Derived",
            Self::Behalf => "AWS service",
            Self::Watched => "Not root",
        }
    }
}

/// What stands out in a row, told by a sign and not by colour alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Nothing.
    Plain,
    /// It failed or was denied.
    Failed,
    /// High or critical.
    Grave,
    /// An AWS service for the root user.
    Behalf,
}

impl Mark {
    fn of(finding: &Finding) -> Self {
        if finding.outcome == Outcome::Failure {
            Self::Failed
        } else if finding.severity >= Severity::High {
            Self::Grave
        } else if finding.root_use == RootUse::OnBehalf {
            Self::Behalf
        } else {
            Self::Plain
        }
    }

    /// The sign, one column wide.
    #[must_use]
    pub fn sign(self, ascii: bool) -> &'static str {
        match self {
            Self::Plain => " ",
            Self::Failed if ascii => "x",
            Self::Failed => "✗",
            Self::Grave => "!",
            Self::Behalf => "~",
        }
    }

    /// What the sign means.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Failed => "failed or denied",
            Self::Grave => "high or critical",
            Self::Behalf => "an AWS service for the root user",
        }
    }
}

/// One row of a timeline: a call, or calls of a kind. All texts are safe to show.
#[derive(Debug, Clone)]
pub struct Row {
    /// When the first call was made; `None` where no record states a time.
    pub first_at: Option<Timestamp>,
    /// When the last call was made.
    pub last_at: Option<Timestamp>,
    /// Calls that the row stands for.
    pub calls: usize,
    /// What stands out.
    pub mark: Mark,
    /// The worst of the calls.
    pub severity: Severity,
    /// By which way the root user came.
    pub lane: Lane,
    /// What was done.
    pub what: String,
    /// Short names of services, in order of first use.
    pub services: Vec<String>,
    /// Addresses, in order of first use.
    pub addresses: Vec<String>,
    /// The account, where the incident concerns more than one.
    pub account: Option<String>,
}

/// The rows of an incident's timeline, in order of time. `name` gives the name of an account by its
/// digits, safe to show.
#[must_use]
pub fn rows(story: &Story<'_>, name: &dyn Fn(&str) -> String) -> Vec<Row> {
    let mut findings: Vec<&Finding> = story.findings.clone();
    let spray = story.kind == IncidentKind::Spray;
    if spray {
        // One address goes round the accounts: told account by account, the rounds fold.
        findings.sort_by_key(|finding| &finding.account_id);
    }
    let usual = usual_region(&findings);
    let mut rows = Vec::new();
    let mut rest = findings.as_slice();
    while let Some((first, _)) = rest.split_first() {
        let run = run_length(rest);
        let (group, after) = rest.split_at(run);
        rest = after;
        if same(group) {
            rows.push(row(story, name, group, repeated(first, group.len(), usual)));
        } else {
            rows.push(row(story, name, group, read_only(group)));
        }
    }
    if spray {
        rows.sort_by_key(|row| row.first_at);
    }
    rows
}

/// Which rows of a long timeline are shown: the first and the last few, then the gravest, then the
/// earliest. Whoever makes many calls cannot push the one that matters out of sight.
#[must_use]
pub fn keep(rows: &[Row], max: usize) -> Vec<bool> {
    const ENDS: usize = 5;
    let mut order: Vec<usize> = (0..rows.len()).collect();
    if rows.len() > max {
        order.sort_by_key(|index| {
            let row = &rows[*index];
            let end = *index < ENDS || *index + ENDS >= rows.len();
            let marked = matches!(row.mark, Mark::Grave | Mark::Failed);
            (!end, std::cmp::Reverse(row.severity), !marked, *index)
        });
    }
    let mut kept = vec![false; rows.len()];
    for index in order.into_iter().take(max) {
        kept[index] = true;
    }
    kept
}

/// How many of the next findings one row can tell.
fn run_length(findings: &[&Finding]) -> usize {
    let Some((first, after)) = findings.split_first() else { return 0 };
    let equal = 1 + after.iter().take_while(|next| repeats(first, next)).count();
    let quiet = |finding: &&&Finding| is_quiet(finding) && quiet_with(first, finding);
    if is_quiet(first) {
        let run = 1 + after.iter().take_while(quiet).count();
        if run >= RUN_MIN && run > equal {
            return run;
        }
    }
    equal
}

fn same(group: &[&Finding]) -> bool {
    group.split_first().is_none_or(|(first, after)| after.iter().all(|next| repeats(first, next)))
}

fn repeats(a: &Finding, b: &Finding) -> bool {
    a.event_name == b.event_name
        && a.event_source == b.event_source
        && a.did == b.did
        && a.outcome == b.outcome
        && a.error_code == b.error_code
        && a.severity == b.severity
        && a.root_use == b.root_use
        && a.account_id == b.account_id
        && a.source_ip == b.source_ip
        && a.region == b.region
}

/// A call that only reads, came through, and needs no line of its own. CloudTrail also marks calls
/// that issue credentials as reading.
fn is_quiet(finding: &Finding) -> bool {
    let reads = finding.read_only == Some(true) || finding.root_use == RootUse::OnBehalf;
    let issues = finding.session.issued_key_id.is_some()
        || matches!(
            finding.event_name.as_deref(),
            Some("AssumeRoot" | "GetFederationToken" | "GetSessionToken")
        );
    reads && finding.outcome == Outcome::Success && !finding.session.sign_in && !issues
}

/// Calls of one way fold together, with those that AWS made in between. What a rule finds grave
/// folds only with its like, so that it cannot hide in a crowd.
fn quiet_with(a: &Finding, b: &Finding) -> bool {
    let grave = |finding: &Finding| finding.severity >= Severity::High;
    (a.account_id == b.account_id || a.root_use == RootUse::Privileged)
        && (Lane::of(a) == Lane::of(b)
            || (Lane::of(b) == Lane::Behalf && b.read_only == Some(true)))
        && grave(a) == grave(b)
        && (!grave(a) || (a.severity == b.severity && a.rules.first() == b.rules.first()))
}

/// What one call did: the words of its rule, the name of the call where those do not say it, what it
/// was done to, and where.
fn repeated(finding: &Finding, times: usize, usual: Option<&str>) -> String {
    let name = finding.event_name.as_deref().unwrap_or_default();
    let did = match finding.did.trim() {
        "" if name.is_empty() => &finding.title,
        "" => name,
        did => did,
    };
    let mut what = super::cap(did, WHAT_COLUMNS_MAX);
    if finding.outcome == Outcome::Failure && !["denied", "fail"].iter().any(|it| did.contains(it))
    {
        what.push_str(if is_denial(finding) { " denied" } else { " failed" });
    }
    if !finding.session.sign_in {
        let mut call = if did.contains(name) { String::new() } else { super::cap(name, 80) };
        if let Some(target) = finding.target.as_deref().map(resource)
            && !target.is_empty()
            && !did.contains(target)
            && Some(target) != finding.account_id.as_deref()
        {
            call = format!("{call} {}", super::cap(target, TARGET_COLUMNS_MAX));
        }
        if !call.is_empty() {
            what = format!("{what} · {}", call.trim_start());
        }
    }
    if let Some(region) = finding.region.as_deref().filter(|region| is_unusual(region, usual))
        && !what.contains(region)
    {
        what.push_str(" in\u{a0}");
        what.push_str(&super::cap(region, 40));
    }
    if finding.root_use == RootUse::Derived && !what.contains("root-issued") {
        what.push_str(" (derived\u{a0}session)");
    }
    if times > 1 {
        what.push_str(&format!(" ({}\u{a0}times)", super::thousands(times as u64)));
    }
    what
}

/// True when a policy said no, as far as the error code tells.
#[must_use]
pub fn is_denial(finding: &Finding) -> bool {
    crate::classify::was_denied(finding)
}

/// What an ARN names, without partition, service, region and account; other texts as they are.
fn resource(target: &str) -> &str {
    if target.starts_with("arn:") { target.splitn(6, ':').nth(5).unwrap_or(target) } else { target }
}

fn read_only(group: &[&Finding]) -> String {
    let count = |finding: &&&Finding| finding.root_use == RootUse::OnBehalf;
    let behalf = group.iter().filter(count).count();
    let number = super::thousands(group.len() as u64);
    let lane = group.first().map_or(Lane::Console, |first| Lane::of(first));
    match lane {
        Lane::Behalf => format!("{number} calls by AWS services for the root user"),
        _ => {
            let kind = match lane {
                Lane::Console => "read-only console calls",
                Lane::AccessKey => "read-only calls with the access key",
                Lane::Privileged => "read-only calls in a privileged session",
                Lane::Derived => "read-only calls in a derived session",
                _ => "read-only calls",
            };
            if behalf == 0 {
                format!("{number} {kind}")
            } else {
                format!("{number} {kind}, {} by\u{a0}AWS", super::thousands(behalf as u64))
            }
        }
    }
}

fn row(story: &Story<'_>, name: &dyn Fn(&str) -> String, group: &[&Finding], what: String) -> Row {
    let times = || group.iter().filter_map(|finding| finding.event_time);
    let worst = group.iter().max_by_key(|finding| finding.severity);
    let first = group.first();
    Row {
        first_at: times().min(),
        last_at: times().max(),
        calls: group.len(),
        mark: first.map_or(Mark::Plain, |finding| Mark::of(finding)),
        severity: worst.map_or(Severity::Informational, |finding| finding.severity),
        lane: first.map_or(Lane::Console, |finding| Lane::of(finding)),
        what,
        services: distinct(group.iter().filter_map(|finding| {
            finding.event_source.as_deref().map(|source| super::service(source).into_owned())
        })),
        addresses: distinct(group.iter().filter_map(|finding| {
            finding.source_ip.as_deref().map(|address| super::visible(address).into_owned())
        })),
        account: (story.accounts > 1).then(|| {
            let ids = group.iter().filter_map(|finding| finding.account_id.clone());
            match distinct(ids).as_slice() {
                [] => String::new(),
                [one] => name(one),
                many => super::count(many.len() as u64, "account"),
            }
        }),
    }
}

/// Each once, in order of first appearance.
#[must_use]
pub fn distinct(items: impl Iterator<Item = String>) -> Vec<String> {
    let mut seen = Vec::new();
    for item in items {
        if !seen.contains(&item) {
            seen.push(item);
        }
    }
    seen
}

/// The region in which most calls were made.
fn usual_region<'a>(findings: &[&'a Finding]) -> Option<&'a str> {
    let mut counts = std::collections::BTreeMap::<&str, usize>::new();
    for region in findings.iter().filter_map(|finding| finding.region.as_deref()) {
        *counts.entry(region).or_default() += 1;
    }
    counts.into_iter().max_by_key(|(_, count)| *count).map(|(region, _)| region)
}

/// Global services and the sign-in are recorded in `us-east-1`, so that region says little.
fn is_unusual(region: &str, usual: Option<&str>) -> bool {
    region != "us-east-1" && Some(region) != usual
}
