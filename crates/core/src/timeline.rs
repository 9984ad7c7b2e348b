//! The calls of an incident as the rows of a timeline. Runs of similar calls become one row.

use jiff::Timestamp;

use crate::access_path::AccessPath;
use crate::finding::{Finding, Outcome, RootUse, Severity};
use crate::{classify, text};

/// Similar calls in a row that become one row.
const RUN_MIN: usize = 3;
/// Columns that the words of a rule, and the target of the call, may take in one row.
const WHAT_COLUMNS_MAX: usize = 160;
const TARGET_COLUMNS_MAX: usize = 60;

/// What stands out in a row: a sign, not color alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowMark {
    /// Nothing.
    Plain,
    /// It failed or was denied.
    Failed,
    /// High or critical.
    Severe,
    /// An AWS service for the root user.
    OnBehalf,
}

impl RowMark {
    fn of(finding: &Finding) -> Self {
        if finding.outcome == Outcome::Failure {
            Self::Failed
        } else if finding.severity >= Severity::High {
            Self::Severe
        } else if finding.root_use == RootUse::OnBehalf {
            Self::OnBehalf
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
            Self::Severe => "!",
            Self::OnBehalf => "~",
        }
    }

    /// What the sign means.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Failed => "failed or denied",
            Self::Severe => "high or critical",
            Self::OnBehalf => "an AWS service for the root user",
        }
    }
}

/// One row of a timeline: a call, or similar calls. All texts are safe to show.
#[derive(Debug, Clone)]
pub struct Row {
    /// When the first call was made; `None` where no record states a time.
    pub first_at: Option<Timestamp>,
    /// When the last call was made.
    pub last_at: Option<Timestamp>,
    /// How many calls the row stands for.
    pub calls: usize,
    /// What stands out.
    pub mark: RowMark,
    /// The worst of the calls.
    pub severity: Severity,
    /// How the root user got in.
    pub access_path: AccessPath,
    /// What was done.
    pub what: String,
    /// Short names of services, in order of first use.
    pub services: Vec<String>,
    /// Addresses, in order of first use.
    pub addresses: Vec<String>,
    /// The account, where the incident concerns more than one.
    pub account: Option<String>,
}

/// Which accounts the rows are about.
#[derive(Clone, Copy)]
pub struct Accounts<'a> {
    /// True when the rows name the account: the incident concerns more than one.
    pub are_named: bool,
    /// True to fold account by account: in a spray one address tries the accounts in turn, and only
    /// then do its repeated rounds become one row for each account.
    pub by_account: bool,
    /// The name of an account by its digits, safe to show.
    pub name: &'a dyn Fn(&str) -> String,
}

/// The rows of a timeline, in order of time. The findings are sorted by time.
#[must_use]
pub fn rows(findings: &[&Finding], accounts: Accounts<'_>) -> Vec<Row> {
    let mut findings: Vec<&Finding> = findings.to_vec();
    if accounts.by_account {
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
            rows.push(row(accounts, group, repeated(first, group.len(), usual)));
        } else {
            rows.push(row(accounts, group, read_only(group)));
        }
    }
    if accounts.by_account {
        rows.sort_by_key(|row| row.first_at);
    }
    rows
}

/// Which rows of a long timeline are shown: the first and the last few, then the most severe, then
/// the earliest. An attacker who makes many calls cannot push the one that matters out of sight.
#[must_use]
pub fn keep(rows: &[Row], max: usize) -> Vec<bool> {
    const ENDS: usize = 5;
    let mut order: Vec<usize> = (0..rows.len()).collect();
    if rows.len() > max {
        order.sort_by_key(|index| {
            let row = &rows[*index];
            let end = *index < ENDS || *index + ENDS >= rows.len();
            let marked = matches!(row.mark, RowMark::Severe | RowMark::Failed);
            (!end, std::cmp::Reverse(row.severity), !marked, *index)
        });
    }
    let mut kept = vec![false; rows.len()];
    for index in order.into_iter().take(max) {
        kept[index] = true;
    }
    kept
}

/// How many of the next findings one row can stand for.
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

/// A call that only reads, succeeded, and needs no row of its own. CloudTrail also marks calls that
/// issue credentials as read-only; those keep their rows.
fn is_quiet(finding: &Finding) -> bool {
    let reads = finding.read_only == Some(true) || finding.root_use == RootUse::OnBehalf;
    let issues = finding.session.issued_key_id.is_some()
        || matches!(
            finding.event_name.as_deref(),
            Some("AssumeRoot" | "GetFederationToken" | "GetSessionToken")
        );
    reads && finding.outcome == Outcome::Success && !finding.session.sign_in && !issues
}

/// Calls of one access path become one row, with those that AWS made in between. A high or critical
/// call joins only calls of the same rule, so that it cannot hide in a crowd.
fn quiet_with(a: &Finding, b: &Finding) -> bool {
    let severe = |finding: &Finding| finding.severity >= Severity::High;
    (a.account_id == b.account_id || a.root_use == RootUse::Privileged)
        && (AccessPath::of(a) == AccessPath::of(b)
            || (AccessPath::of(b) == AccessPath::OnBehalf && b.read_only == Some(true)))
        && severe(a) == severe(b)
        && (!severe(a) || (a.severity == b.severity && a.rules.first() == b.rules.first()))
}

/// What one call did: the words of its rule, the name of the call where those do not contain it, its
/// target, and the region.
fn repeated(finding: &Finding, times: usize, usual: Option<&str>) -> String {
    let name = finding.event_name.as_deref().unwrap_or_default();
    let did = match finding.did.trim() {
        "" if name.is_empty() => &finding.title,
        "" => name,
        did => did,
    };
    let mut what = text::cap(did, WHAT_COLUMNS_MAX);
    if finding.outcome == Outcome::Failure && !["denied", "fail"].iter().any(|it| did.contains(it))
    {
        what.push_str(if classify::was_denied(finding) { " denied" } else { " failed" });
    }
    if !finding.session.sign_in {
        let mut call = if did.contains(name) { String::new() } else { text::cap(name, 80) };
        if let Some(target) = finding.target.as_deref().map(resource)
            && !target.is_empty()
            && !did.contains(target)
            && Some(target) != finding.account_id.as_deref()
        {
            call = format!("{call} {}", text::cap(target, TARGET_COLUMNS_MAX));
        }
        if !call.is_empty() {
            what = format!("{what} · {}", call.trim_start());
        }
    }
    if let Some(region) = finding.region.as_deref().filter(|region| is_unusual(region, usual))
        && !what.contains(region)
    {
        what.push_str(" in\u{a0}");
        what.push_str(&text::cap(region, 40));
    }
    if finding.root_use == RootUse::Derived && !what.contains("root-issued") {
        what.push_str(" (derived\u{a0}session)");
    }
    if times > 1 {
        what.push_str(&format!(" ({}\u{a0}times)", text::thousands(times as u64)));
    }
    what
}

/// The resource part of an ARN, without partition, service, region and account. Other texts stay.
fn resource(target: &str) -> &str {
    if target.starts_with("arn:") { target.splitn(6, ':').nth(5).unwrap_or(target) } else { target }
}

fn read_only(group: &[&Finding]) -> String {
    let count = |finding: &&&Finding| finding.root_use == RootUse::OnBehalf;
    let behalf = group.iter().filter(count).count();
    let number = text::thousands(group.len() as u64);
    let path = group.first().map_or(AccessPath::Console, |first| AccessPath::of(first));
    match path {
        AccessPath::OnBehalf => format!("{number} calls by AWS services for the root user"),
        _ => {
            let kind = match path {
                AccessPath::Console => "read-only console calls",
                AccessPath::AccessKey => "read-only calls with the access key",
                AccessPath::Privileged => "read-only calls in a privileged session",
                AccessPath::Derived => "read-only calls in a derived session",
                _ => "read-only calls",
            };
            if behalf == 0 {
                format!("{number} {kind}")
            } else {
                format!("{number} {kind}, {} by\u{a0}AWS", text::thousands(behalf as u64))
            }
        }
    }
}

fn row(accounts: Accounts<'_>, group: &[&Finding], what: String) -> Row {
    let times = || group.iter().filter_map(|finding| finding.event_time);
    let worst = group.iter().max_by_key(|finding| finding.severity);
    let first = group.first();
    Row {
        first_at: times().min(),
        last_at: times().max(),
        calls: group.len(),
        mark: first.map_or(RowMark::Plain, |finding| RowMark::of(finding)),
        severity: worst.map_or(Severity::Informational, |finding| finding.severity),
        access_path: first.map_or(AccessPath::Console, |finding| AccessPath::of(finding)),
        what,
        services: text::distinct(group.iter().filter_map(|finding| {
            finding.event_source.as_deref().map(|source| text::service(source).into_owned())
        })),
        addresses: text::distinct(group.iter().filter_map(|finding| {
            finding.source_ip.as_deref().map(|address| text::visible(address).into_owned())
        })),
        account: accounts.are_named.then(|| {
            let ids = group.iter().filter_map(|finding| finding.account_id.clone());
            match text::distinct(ids).as_slice() {
                [] => String::new(),
                [one] => (accounts.name)(one),
                many => text::count(many.len() as u64, "account"),
            }
        }),
    }
}

/// The region in which most calls were made.
fn usual_region<'a>(findings: &[&'a Finding]) -> Option<&'a str> {
    let mut counts = std::collections::BTreeMap::<&str, usize>::new();
    for region in findings.iter().filter_map(|finding| finding.region.as_deref()) {
        *counts.entry(region).or_default() += 1;
    }
    counts.into_iter().max_by_key(|(_, count)| *count).map(|(region, _)| region)
}

/// Global services and the sign-in are recorded in `us-east-1`, so that this region says little.
fn is_unusual(region: &str, usual: Option<&str>) -> bool {
    region != "us-east-1" && Some(region) != usual
}
