//! `scan lookup://`: the last 90 days from CloudTrail itself, where there is no trail to read.
//!
//! `LookupEvents` gives at most 50 events an answer, and at most two answers a second for each account
//! and region (CloudTrail API reference), the newest first. Regions and accounts are queried in
//! parallel, each at that pace.
//!
//! No lookup attribute narrows the request. A request can have only one, and none covers all root use:
//! user name `root` misses `AssumeRoot` (its user name is the caller's), calls of a session that the
//! root user created, and records without an identity; there are too many event names and sources;
//! `ReadOnly` false misses a root user who only reads.

mod call;

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aws_config::SdkConfig;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use jiff::{SignedDuration, Timestamp};
use rootwatch_aws::CallError;
use rootwatch_core::account::AccountId;
use rootwatch_core::rules::Ruleset;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::{Semaphore, mpsc};

use self::call::LookupCaller;
use super::access::{self, Roles};
use super::commit::Committer;
use super::failure::{CloudError, Failure, RetryBudget};
use super::fetched::{Body, FetchedObject, read_all};
use super::interrupt::Interrupt;
use super::runtime::runtime;
use super::usage::Usage;
use crate::options::ScanOptions;
use crate::progress::Progress;
use crate::scanned::Scanned;
use crate::summary::Summary;

/// Days for which CloudTrail keeps events.
pub const LOOKUP_DAYS_MAX: i64 = 90;
/// Milliseconds between two requests for one account and region.
const PACE_MILLIS: u64 = 500;
/// Events of one answer, by CloudTrail's rule.
const ANSWER_EVENTS_MAX: u32 = 50;
/// Accounts and regions that are queried at the same time.
const TARGETS_AT_ONCE_MAX: usize = 64;
/// Answers that wait to be read; each has at most [`ANSWER_EVENTS_MAX`] events.
const ANSWERS_AHEAD_MAX: usize = 32;
/// Accounts that may be named.
const ACCOUNTS_MAX: usize = 1_000;

/// Whose events to look up.
#[derive(Debug, Clone, Default)]
pub struct LookupPlaces {
    /// Accounts, in which `role_name` is assumed. Empty for the account of the credentials, or for
    /// those of `roles`.
    pub accounts: Vec<String>,
    /// Name of the role in each of `accounts`.
    pub role_name: Option<String>,
    /// Roles to assume, in any accounts.
    pub roles: Roles,
}

impl LookupPlaces {
    /// Reads `lookup://[ACCOUNT,ACCOUNT…]`.
    ///
    /// # Errors
    /// It does not have that form, or accounts are given without a role.
    pub fn parse(text: &str, role_name: Option<String>, roles: Roles) -> Result<Self, CloudError> {
        let wrong = |reason: &str, hint: &'static str| CloudError::Address {
            text: text.to_owned(),
            reason: reason.to_owned(),
            hint,
        };
        let hint = "write lookup://, or lookup://222233334444,333344445555 with --role-name";
        let rest =
            text.strip_prefix("lookup://").ok_or_else(|| wrong("not a lookup address", hint))?;
        let rest = rest.trim_end_matches('/');
        let accounts: Vec<String> =
            rest.split(',').filter(|part| !part.is_empty()).map(str::to_owned).collect();
        if !accounts.iter().all(|id| AccountId::is_valid(id)) || accounts.len() > ACCOUNTS_MAX {
            return Err(wrong("an account id has twelve digits", hint));
        }
        if !accounts.is_empty() && role_name.is_none() {
            let hint = "add --role-name NAME: the role to assume in each of these accounts";
            return Err(wrong("reading other accounts needs a role in each of them", hint));
        }
        if !accounts.is_empty() && !roles.arns.is_empty() {
            let hint = "leave the accounts out: the ARN of a role contains its account";
            return Err(wrong("accounts and --role-arn cannot be combined", hint));
        }
        Ok(Self { accounts, role_name, roles })
    }
}

/// Looks up the events of accounts and regions, and scans them.
///
/// # Errors
/// When the scan cannot begin. [`Summary::skipped`] lists what cannot be looked up later.
pub fn scan_lookup(
    places: &LookupPlaces,
    rules: &Ruleset,
    options: &ScanOptions,
    progress: &Progress,
    usage: &Arc<Usage>,
    interrupt: &Interrupt,
) -> Result<Scanned, CloudError> {
    let begin = Instant::now();
    let runtime = runtime()?;
    let (all, mut total) = runtime.block_on(find(places, options))?;
    let count = all.len() as u64;
    let now = Timestamp::now();
    let oldest = now.saturating_sub(SignedDuration::from_hours(24 * LOOKUP_DAYS_MAX));
    let oldest = oldest.unwrap_or(Timestamp::UNIX_EPOCH);
    let range = (
        options.since.map_or(oldest, |since| since.max(oldest)),
        options.until.map_or(now, |until| until.min(now)),
    );
    total.summary.files = count;
    // `--since 90d` was computed a moment ago.
    let slack = SignedDuration::from_hours(1);
    if options.since.is_some_and(|since| since.saturating_add(slack).is_ok_and(|at| at < oldest)) {
        let reason = format!(
            "CloudTrail keeps {LOOKUP_DAYS_MAX} days of events: older ones were not looked up"
        );
        total.summary.skip(&PathBuf::from("lookup://"), None, reason);
    }
    let committer = std::sync::Mutex::new(Committer::new(total, None));
    let (sender, answers) = mpsc::channel(ANSWERS_AHEAD_MAX);
    let at_once = Arc::new(Semaphore::new(TARGETS_AT_ONCE_MAX));
    let done = Arc::new(AtomicU64::new(0));
    for target in all {
        let mut lookup = TargetLookup {
            target,
            range,
            sender: sender.clone(),
            usage: Arc::clone(usage),
            interrupt: interrupt.clone(),
            targets: count,
            done: Arc::clone(&done),
            done_here: 0,
        };
        let at_once = Arc::clone(&at_once);
        runtime.spawn(async move {
            let _permit = at_once.acquire_owned().await;
            if let Err(failure) = lookup.run().await {
                lookup.send(Body::Failed(failure)).await;
            }
            lookup.report_done(1_000);
        });
    }
    drop(sender);
    read_all(answers, rules, options, progress, &committer);
    let committer = committer.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut scanned = committer.finish(Summary::default(), true)?;
    // The reader threads counted each answer as a file. People count accounts and regions.
    let skipped_whole = scanned.summary.skipped.iter().filter(|at| at.place.is_none()).count();
    scanned.summary.files = count.saturating_sub(skipped_whole as u64);
    scanned.summary.shorten();
    scanned.summary.elapsed = begin.elapsed();
    Ok(scanned)
}

/// An account and region to look up.
struct Target {
    caller: Arc<LookupCaller>,
    account: String,
    region: String,
}

/// Finds the accounts and regions to look up; those that cannot be found are skipped.
async fn find(
    places: &LookupPlaces,
    options: &ScanOptions,
) -> Result<(Vec<Target>, Scanned), CloudError> {
    let sdk = access::sdk().await;
    access::prove(&sdk, None).await?;
    let own = LookupCaller::new(sdk.clone());
    let (account, partition) = own.identity().await.map_err(|failed| CloudError::Credentials {
        whose: String::new(),
        reason: failed.message,
    })?;
    let mut targets: Vec<(String, SdkConfig, Option<String>)> = Vec::new();
    let external_id = places.roles.external_id.as_deref();
    let arns: Vec<(String, String)> = if places.accounts.is_empty() {
        let account = |arn: &str| arn.split(':').nth(4).unwrap_or_default().to_owned();
        places.roles.arns.iter().map(|arn| (account(arn), arn.clone())).collect()
    } else {
        let name = places.role_name.as_deref().unwrap_or_default();
        let arn = |id: &String| format!("arn:{partition}:iam::{id}:role/{name}");
        places.accounts.iter().map(|id| (id.clone(), arn(id))).collect()
    };
    for (account, arn) in arns {
        let sdk = access::as_role(&sdk, &arn, external_id).await;
        targets.push((account, sdk, Some(arn)));
    }
    if targets.is_empty() {
        targets.push((account, sdk, None));
    }
    let (mut all, mut scanned) = (Vec::new(), Scanned::default());
    for (account, sdk, role) in targets {
        let path = PathBuf::from(format!("lookup://{account}"));
        if let Err(error) = access::prove(&sdk, role.as_deref()).await {
            scanned.summary.skip(&path, None, error.to_string());
            continue;
        }
        let caller = Arc::new(own.with_sdk(sdk));
        let regions = if options.regions.is_empty() {
            match caller.regions().await {
                Ok(regions) => regions,
                Err(failed) => {
                    let reason = format!(
                        "cannot list its regions ({}): allow ec2:DescribeRegions, or name them with \
                         --region",
                        failed.message
                    );
                    scanned.summary.skip(&path, None, reason);
                    continue;
                }
            }
        } else {
            options.regions.iter().cloned().collect()
        };
        for region in regions {
            let caller = Arc::clone(&caller);
            all.push(Target { caller, account: account.clone(), region });
        }
    }
    Ok((all, scanned))
}

/// The lookup of one account and region, page after page.
struct TargetLookup {
    target: Target,
    range: (Timestamp, Timestamp),
    sender: mpsc::Sender<FetchedObject>,
    usage: Arc<Usage>,
    interrupt: Interrupt,
    targets: u64,
    /// Thousandths of the range that are done, summed over all targets.
    done: Arc<AtomicU64>,
    /// The part of `done` that this target has added.
    done_here: u64,
}

/// The parts of an answer that paging needs; a reader thread reads the rest.
#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "NextToken")]
    next: Option<String>,
    #[serde(rename = "Events")]
    events: Vec<AnswerEvent>,
}

#[derive(Deserialize)]
struct AnswerEvent {
    /// Seconds since 1970.
    #[serde(rename = "EventTime")]
    time: Option<f64>,
}

impl TargetLookup {
    async fn run(&mut self) -> Result<(), Failure> {
        let (from, mut to) = self.range;
        if from >= to {
            return Ok(());
        }
        let pace = Quota::with_period(Duration::from_millis(PACE_MILLIS))
            .unwrap_or(Quota::per_second(NonZeroU32::MIN));
        let pace: DefaultDirectRateLimiter = RateLimiter::direct(pace);
        let mut budget = RetryBudget::new();
        let mut token: Option<String> = None;
        let mut oldest: Option<f64> = None;
        loop {
            if self.interrupt.is_requested() {
                let reason = "interrupted: older events were not looked up".to_owned();
                return Err(Failure::Refused(reason));
            }
            pace.until_ready().await;
            let mut ask = json!({
                "StartTime": from.as_second(),
                // The last second belongs to the range.
                "EndTime": to.as_second() + 1,
                "MaxResults": ANSWER_EVENTS_MAX,
            });
            if let Some(token) = &token {
                ask["NextToken"] = json!(token);
            }
            self.usage.lookups.fetch_add(1, Ordering::Relaxed);
            let answered = self.target.caller.lookup(&self.target.region, &ask).await;
            let body = match answered {
                Ok(body) => body,
                Err(CallError { code, .. })
                    if token.is_some() && code == "InvalidNextTokenException" =>
                {
                    // The token is too old. Continues at the oldest event so far.
                    token = None;
                    if let Some(at) = oldest.and_then(|at| Timestamp::from_second(at as i64).ok()) {
                        to = at;
                    }
                    continue;
                }
                Err(failed) if failed.advice.is_retry() => {
                    if budget.wait().await {
                        continue;
                    }
                    return Err(Failure::Again { code: Some(failed.code), reason: failed.message });
                }
                Err(failed) => return Err(Failure::Refused(failed.message)),
            };
            budget.reset();
            self.usage.received(body.len());
            let answer: Answer = serde_json::from_slice(&body).map_err(|error| {
                Failure::Refused(format!("cannot parse CloudTrail's answer: {error}"))
            })?;
            let last = answer.events.iter().filter_map(|event| event.time).reduce(f64::min);
            if let Some(last) = last {
                oldest = Some(oldest.map_or(last, |oldest| oldest.min(last)));
                let whole = (self.range.1.as_second() - from.as_second()).max(1) as f64;
                let done = (self.range.1.as_second() as f64 - last) / whole;
                self.report_done((done.clamp(0.0, 1.0) * 1_000.0) as u64);
                self.send(Body::Whole(body)).await;
            }
            token = answer.next.filter(|token| !token.is_empty());
            if token.is_none() {
                return Ok(());
            }
        }
    }

    /// Reports how far this target is.
    fn report_done(&mut self, thousandths: u64) {
        let more = thousandths.saturating_sub(self.done_here);
        self.done_here += more;
        let sum = self.done.fetch_add(more, Ordering::Relaxed) + more;
        self.usage.range_done_thousandths.store(sum / self.targets.max(1), Ordering::Relaxed);
    }

    async fn send(&self, body: Body) {
        let answer = FetchedObject {
            place: None,
            path: format!("lookup://{}/{}", self.target.account, self.target.region).into(),
            name: "lookup-events.json".to_owned(),
            named: true,
            body,
            before: Summary::default(),
            permits: Vec::new(),
            window: None,
        };
        // An error means that the reader threads are gone. They only end early by a panic, which
        // `on_threads` passes on.
        let _ = self.sender.send(answer).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_need_a_role_to_read_them() {
        let parse = |text: &str, role: Option<&str>| {
            LookupPlaces::parse(text, role.map(str::to_owned), Roles::default())
        };
        assert!(parse("lookup://", None).expect("own").accounts.is_empty());
        let two = parse("lookup://222233334444,333344445555", Some("audit")).expect("two");
        assert_eq!(two.accounts, ["222233334444", "333344445555"]);
        assert!(parse("lookup://222233334444", None).is_err());
        assert!(parse("lookup://prod", Some("audit")).is_err());
    }
}
