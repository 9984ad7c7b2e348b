//! Arrival order and repeats must not matter: the story, and small sets at random, come to the
//! same incidents one by one in any order, twice over, and all at once.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRng};
use rootwatch_core::correlate::{
    Change, CorrelatePolicy, OpenIncidents, correlate, correlate_all, correlate_batch,
};
use rootwatch_core::decode::{Item, Limits, decode_log};
use rootwatch_core::detect::{Detector, History};
use rootwatch_core::finding::{Finding, FindingKey, Mfa, RootUse, Severity};
use rootwatch_core::incident::{Incident, IncidentKind};
use rootwatch_core::rules::Ruleset;
use rootwatch_core::sample::{Sample, assume_root, call, failed, page, signed_in, watched};

const MGMT: &str = "111122223333";
const PROD: &str = "222233334444";
const SANDBOX: &str = "333344445555";
const INTRUDER: &str = "203.0.113.77";
const KEY_USER: &str = "198.51.100.23";
const AUDITOR: &str = "192.0.2.10";
const ROOT_KEY: &str = "AKIASTORYROOTEXAMPLE";

/// An incident without what has a history: its id and its state.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Canonical {
    shown: Vec<String>,
    originals: BTreeSet<String>,
    kind: IncidentKind,
    severity: Severity,
    title: String,
    reasons: Vec<String>,
    root_use: String,
    accounts: Vec<String>,
    addresses: Vec<String>,
    span: String,
    related: BTreeSet<BTreeSet<String>>,
}

fn originals(incident: &Incident) -> BTreeSet<String> {
    incident.originals().map(|finding| format!("{finding:?}")).collect()
}

fn canonical<'a>(incidents: impl Iterator<Item = &'a Incident>) -> BTreeSet<Canonical> {
    let incidents: Vec<&Incident> = incidents.collect();
    let one = |incident: &&Incident| Canonical {
        shown: incident.findings.iter().map(|finding| format!("{finding:?}")).collect(),
        originals: originals(incident),
        kind: incident.kind,
        severity: incident.severity,
        title: incident.title.clone(),
        reasons: incident.reasons.iter().map(|one| format!("{} {}", one.code, one.text)).collect(),
        root_use: incident.root_use.to_string(),
        accounts: incident.accounts.clone(),
        addresses: incident.addresses.clone(),
        span: format!("{:?} {:?}", incident.first_at, incident.last_at),
        related: (incident.related.iter())
            .map(|id| originals(incidents.iter().find(|other| &other.id == id).expect("it exists")))
            .collect(),
    };
    let all: BTreeSet<Canonical> = incidents.iter().map(one).collect();
    assert_eq!(all.len(), incidents.len(), "two incidents of the same findings");
    all
}

/// Remembers every finding.
fn exact() -> CorrelatePolicy {
    remembering(0)
}

/// Counts what says again what one nearer than this says.
fn remembering(redundant_secs: i64) -> CorrelatePolicy {
    let mut policy = CorrelatePolicy::default();
    policy.redundant_secs = redundant_secs;
    policy
}

fn one_by_one<'a>(findings: impl IntoIterator<Item = &'a Finding>) -> OpenIncidents {
    let mut open = OpenIncidents::new(exact());
    for finding in findings {
        let known = open.holder(&finding.key).is_some();
        let changes = correlate(&open, finding);
        assert_eq!(matches!(&changes[..], [Change::Repeated { .. }]), known, "{changes:?}");
        open.apply(&changes);
    }
    open
}

/// In batches of one size, with the findings that were counted and not remembered.
fn in_batches(
    policy: CorrelatePolicy,
    findings: &[Finding],
    size: usize,
) -> (OpenIncidents, Vec<(Finding, FindingKey)>) {
    let mut open = OpenIncidents::new(policy);
    let mut followed = open.clone();
    let mut echoes = Vec::new();
    for batch in findings.chunks(size) {
        let changes = correlate_batch(&mut open, batch.to_vec());
        if findings.len() < 1_000 {
            followed.apply(&changes);
            let held = |open: &OpenIncidents| open.incidents().cloned().collect::<Vec<_>>();
            assert_eq!(held(&followed), held(&open), "the changes are not what was done");
        }
        echoes.extend(echoes_in(changes));
    }
    (open, echoes)
}

fn echoes_in(changes: Vec<Change>) -> impl Iterator<Item = (Finding, FindingKey)> {
    changes.into_iter().filter_map(|change| match change {
        Change::Grew(mut growth) => Some((growth.added.pop()?, growth.redundant_to?)),
        _ => None,
    })
}

/// The incidents with what was counted put back, as a store has them; nothing of what is shown,
/// since an echo stays as it came.
fn with_echoes(open: &OpenIncidents, echoes: &[(Finding, FindingKey)]) -> BTreeSet<Canonical> {
    let mut incidents: Vec<Incident> = open.incidents().cloned().collect();
    for (echo, of) in echoes {
        let id = open.holder(of).expect("what is echoed is held");
        let incident = incidents.iter_mut().find(|one| &one.id == id).expect("its incident");
        let counted = incident.echoes.get_mut(of).expect("it is counted");
        counted.count -= 1;
        assert!(counted.last_at >= echo.event_time);
        incident.findings.push(echo.clone());
    }
    for incident in &incidents {
        assert!(incident.echoes.values().all(|echoes| echoes.count == 0), "{:?}", incident.echoes);
    }
    unshown(canonical(incidents.iter()))
}

fn unshown(incidents: BTreeSet<Canonical>) -> BTreeSet<Canonical> {
    let hide = |one| Canonical { shown: Vec::new(), ..one };
    incidents.into_iter().map(hide).collect()
}

fn all_at_once(findings: &[Finding]) -> BTreeSet<Canonical> {
    canonical(correlate_all(findings.to_vec(), &CorrelatePolicy::default()).iter())
}

fn short_story() -> Vec<Finding> {
    let mut recovery = page(PROD, "13:58:31", "PasswordRecoveryRequested").from(INTRUDER);
    recovery.session.sign_in = true;
    let samples = [
        failed(SANDBOX, "13:57:00", INTRUDER),
        recovery,
        failed(PROD, "14:00:06", INTRUDER),
        signed_in(PROD, "14:03:12", INTRUDER).because("no_mfa"),
        call(PROD, "14:07:19", "CreateAccessKey").since("14:03:14").issued(ROOT_KEY).from(INTRUDER),
        call(PROD, "14:09:33", "ListBuckets").with_key(ROOT_KEY).from(KEY_USER),
        assume_root("maria", "14:03:14", PROD, "ASIAAUDIT"),
    ];
    samples.into_iter().map(|sample| sample.0).collect()
}

/// The break-in at Example Corp, with the audit and the noise around it.
fn story() -> Vec<Finding> {
    let mut all: Vec<Sample> = Vec::new();
    for (minute, account) in [MGMT, PROD, SANDBOX].iter().enumerate() {
        all.push(failed(account, &format!("13:50:{:02}", 4 + 14 * minute), INTRUDER));
        all.push(failed(account, &format!("13:50:{:02}", 11 + 14 * minute), INTRUDER));
        all.push(
            call(account, "12:20:00", "BackupJobCompleted").by_service("backup.amazonaws.com"),
        );
    }
    for (account, at, key) in [(PROD, 5, "ASIAAUDITPROD"), (SANDBOX, 21, "ASIAAUDITSBOX")] {
        let asked = format!("13:52:{at:02}");
        all.push(assume_root("maria", &asked, account, key).from(AUDITOR));
        for (place, name) in
            ["GetAccountSummary", "ListAccessKeys", "ListMFADevices"].iter().enumerate()
        {
            // The first of them does not say that its session was assumed.
            let mut one = call(account, &format!("13:52:{:02}", at + 2 * (place + 1)), name)
                .since(&asked)
                .with_key(key)
                .from(AUDITOR)
                .read_only();
            if place > 0 {
                one = one.used(RootUse::Privileged).severity(Severity::Informational);
                one.session.assumed_root = true;
            } else {
                one = one.severity(Severity::Medium).because("no_mfa");
                one.mfa = Mfa::NotUsed;
            }
            all.push(one);
        }
    }
    let mut recovery = page(PROD, "13:58:31", "PasswordRecoveryRequested").from(INTRUDER);
    recovery.session.sign_in = true;
    all.push(recovery.severity(Severity::High));
    let mut recovery = call(PROD, "14:01:18", "PasswordRecoveryCompleted").from(INTRUDER);
    recovery.session.sign_in = true;
    all.push(recovery.severity(Severity::High));
    for at in ["14:02:06", "14:02:21", "14:02:48"] {
        all.push(failed(PROD, at, INTRUDER));
    }
    all.push(signed_in(PROD, "14:03:12", INTRUDER).because("no_mfa").severity(Severity::Critical));
    let console = |time: &str, name: &str, nth: usize| {
        call(PROD, time, name)
            .since("14:03:14")
            .with_key(&format!("ASIACONSOLE{nth}"))
            .from(INTRUDER)
    };
    for nth in 0..26 {
        let one = console(&format!("14:04:{:02}", 2 + nth), "Describe", nth % 5).read_only();
        all.push(if nth % 4 == 3 { one.by_service("AWS Internal") } else { one });
    }
    let key = console("14:07:19", "CreateAccessKey", 1).issued(ROOT_KEY);
    all.push(key.because("created_root_key").severity(Severity::Critical));
    let by_key = |time: &str, name: &str| {
        call(PROD, time, name).with_key(ROOT_KEY).from(KEY_USER).because("long_term_key")
    };
    all.push(by_key("14:09:33", "GetCallerIdentity"));
    all.push(by_key("14:09:58", "ListBuckets"));
    all.push(console("14:12:41", "StopLogging", 3).denied().because("denied"));
    all.push(by_key("14:15:07", "CreateUser").severity(Severity::High));
    all.push(by_key("14:15:24", "AttachUserPolicy").severity(Severity::High));
    all.push(by_key("14:20:16", "GetFederationToken").issued("ASIAFEDERATED"));
    let mut run =
        call(PROD, "14:21:02", "RunInstances").since("14:20:16").with_key("ASIAFEDERATED");
    run.session.principal_type = Some("FederatedUser".to_owned());
    run.session.principal_arn = Some(format!("arn:aws:sts::{PROD}:federated-user/ops"));
    run.region = Some("ap-southeast-2".to_owned());
    all.push(run.from(KEY_USER).used(RootUse::Derived));
    all.push(console("14:24:10", "GetBucketPolicy", 2));
    all.push(console("14:25:37", "ListRoles", 4).late("DELIVERY_DELAY", None));
    all.push(console("14:31:08", "DescribeInstances", 3));
    all.push(call(SANDBOX, "13:31:44", "RunInstances").by_service("autoscaling.amazonaws.com"));
    all.into_iter().map(|sample| sample.0).collect()
}

#[test]
fn the_story_is_a_break_in_a_spray_an_audit_and_what_services_did() {
    let incidents = correlate_all(story(), &CorrelatePolicy::default());
    let outline: Vec<(Severity, IncidentKind, usize, &str)> = (incidents.iter())
        .map(|one| (one.severity, one.kind, one.findings.len(), one.title.as_str()))
        .collect();
    assert_eq!(
        outline,
        [
            (Severity::Critical, IncidentKind::Session, 43, "Root user called ConsoleLogin"),
            (Severity::Low, IncidentKind::Spray, 6, "Root sign-in failures in 3 accounts"),
            (
                Severity::Informational,
                IncidentKind::Session,
                1,
                "Root user called BackupJobCompleted"
            ),
            (
                Severity::Informational,
                IncidentKind::Session,
                1,
                "Root user called BackupJobCompleted"
            ),
            (
                Severity::Informational,
                IncidentKind::Session,
                1,
                "Root user called BackupJobCompleted"
            ),
            (Severity::Informational, IncidentKind::Session, 1, "Root user called RunInstances"),
            (Severity::Informational, IncidentKind::Privileged, 8, "Root credentials audited"),
        ]
    );
    let (break_in, spray, audit) = (&incidents[0], &incidents[1], &incidents[6]);
    assert_eq!(break_in.accounts, [PROD]);
    assert_eq!(break_in.addresses, [INTRUDER, KEY_USER]);
    assert_eq!(break_in.root_use, RootUse::Direct);
    assert!(break_in.related.len() == 1 && break_in.related[0] == spray.id);
    let codes: Vec<&str> = break_in.reasons.iter().map(|reason| reason.code.as_ref()).collect();
    assert_eq!(
        codes,
        [
            "success_after_failures",
            "success_after_recovery",
            "no_mfa",
            "created_root_key",
            "key_used_elsewhere",
            "denied_with_root_key",
            "long_term_key",
            "failed_sign_ins",
            "denied",
        ]
    );
    assert_eq!(spray.accounts, [MGMT, PROD, SANDBOX]);
    assert!(spray.related.len() == 1 && spray.related[0] == break_in.id);
    assert_eq!(audit.accounts, [PROD, SANDBOX]);
    assert_eq!(audit.root_use, RootUse::Privileged);
}

#[test]
fn a_short_story_in_every_order_and_twice_over_is_the_same() {
    let story = short_story();
    let wanted = all_at_once(&story);
    let mut order: Vec<usize> = (0..story.len()).collect();
    let mut orders = 0;
    loop {
        let once = order.iter().map(|&place| &story[place]);
        assert_eq!(canonical(one_by_one(once.clone()).incidents()), wanted, "{order:?}");
        let each_twice = once.flat_map(|finding| [finding, finding]);
        assert_eq!(canonical(one_by_one(each_twice).incidents()), wanted, "{order:?}");
        orders += 1;
        if !next_permutation(&mut order) {
            break;
        }
    }
    assert_eq!(orders, 5_040);
}

fn next_permutation(order: &mut [usize]) -> bool {
    let Some(pivot) = order.windows(2).rposition(|pair| pair[0] < pair[1]) else { return false };
    let next = order.iter().rposition(|&one| one > order[pivot]).expect("the pivot's neighbour");
    order.swap(pivot, next);
    order[pivot + 1..].reverse();
    true
}

#[test]
fn the_story_in_three_hundred_orders_and_twice_over_is_the_same() {
    let story = story();
    let wanted = all_at_once(&story);
    let mut random = TestRng::deterministic_rng(Config::default().rng_algorithm);
    for _ in 0..300 {
        let mut order: Vec<&Finding> = story.iter().collect();
        shuffle(&mut order, &mut random);
        assert_eq!(canonical(one_by_one(order.iter().copied()).incidents()), wanted);
        let mut twice = [order.clone(), order].concat();
        shuffle(&mut twice, &mut random);
        assert_eq!(canonical(one_by_one(twice).incidents()), wanted);
    }
}

fn shuffle<T>(items: &mut [T], random: &mut TestRng) {
    for end in (1..items.len()).rev() {
        items.swap(end, random.random_range(0..=end));
    }
}

/// A finding out of a small world, in which keys, addresses and times often meet.
fn any_finding() -> impl Strategy<Value = Sample> {
    let kinds = 0..15_u8;
    let moment = (0..60_u32).prop_map(|step| {
        // Steps at, just under and just over the gaps of the policy.
        let secs = step * 150 + step % 3;
        format!("{:02}:{:02}:{:02}", 10 + secs / 3_600, secs / 60 % 60, secs % 60)
    });
    let parts = (kinds, 0..2_usize, moment.clone(), 0..3_usize, moment, 0..3_u8, 0..12_u8);
    parts.prop_map(|(kind, account, time, address, other, which, extra)| {
        let account = [PROD, SANDBOX][account];
        let address = [INTRUDER, KEY_USER, "AWS Internal"][address];
        let key = format!("{}{which}", if extra % 2 == 0 { "ASIA" } else { "AKIA" });
        let mut one = match kind {
            0..=2 => failed(account, &time, address),
            3 | 4 => signed_in(account, &time, address),
            5 => {
                let mut one = page(account, &time, "PasswordRecoveryCompleted").from(address);
                one.session.sign_in = true;
                one
            }
            6 => page(account, &time, "CloseAccount").from(address),
            7 => page(account, &time, "SetContactAddress").from(address).with_key(&key),
            8 => call(account, &time, "ListUsers").since(&other).from(address),
            9 => call(account, &time, "GetUser").since(&time).from(address).with_key(&key),
            10 => call(account, &time, "ListBuckets").with_key(&key).from(address).denied(),
            11 => call(account, &time, "CreateAccessKey").since(&other).from(address).issued(&key),
            12 => assume_root(["maria", "tom"][account.len() % 2], &time, account, &key),
            13 => {
                let one = call(account, &time, "Describe").by_service(address);
                if extra % 3 == 0 { one } else { one.since(&other) }
            }
            _ => watched(account, &time, "eve").from(address),
        };
        match extra {
            8 => one.event_time = None,
            9 => one = one.shared(&which.to_string()),
            10 => {
                let original = format!("event of {account} {other} {}", one.did);
                one = one.late("UPDATED_DATA", Some(&original));
            }
            11 => one.session.sign_in_session_arn = Some(format!("arn:{which}")),
            _ => {}
        }
        one
    })
}

fn any_findings() -> impl Strategy<Value = (Vec<Finding>, Vec<Finding>)> {
    let some = proptest::collection::vec((any_finding(), 0..5_u8, 1..4_000_u16), 1..16).prop_map(
        |samples| {
            // Some are repeated under other names, as consoles and services do: soon or much later,
            // now and then from elsewhere or graver.
            let crowd = samples.into_iter().flat_map(|(sample, echoes, pace)| {
                (0..=echoes).map(move |nth| {
                    let mut one = sample.clone();
                    let later = jiff::SignedDuration::from_secs(i64::from(nth) * i64::from(pace));
                    one.event_time = one.event_time.and_then(|at| at.checked_add(later).ok());
                    if nth > 0 {
                        one.event_id = None;
                    }
                    match (nth, pace % 3) {
                        (3, 0) => one.severity(Severity::Critical).because("worse"),
                        (3, 1) => one.from(AUDITOR),
                        _ => one,
                    }
                })
            });
            let samples = crowd.enumerate();
            let numbered = samples.map(|(place, mut sample)| {
                // The event id stays what corrections name; the key must be a finding's own.
                sample.key.0.push_str(&format!(" {place}"));
                sample.0
            });
            numbered.collect::<Vec<Finding>>()
        },
    );
    some.prop_flat_map(|findings| (Just(findings.clone()), Just(findings).prop_shuffle()))
}

proptest! {
    #![proptest_config(Config { cases: 1_000, ..Config::default() })]

    #[test]
    fn small_sets_at_random_come_to_the_same_in_any_order((given, shuffled) in any_findings()) {
        let wanted = all_at_once(&given);
        prop_assert_eq!(&all_at_once(&shuffled), &wanted);
        prop_assert_eq!(&canonical(one_by_one(&given).incidents()), &wanted);
        let mut in_time: Vec<&Finding> = shuffled.iter().collect();
        in_time.sort_by_key(|finding| finding.event_time);
        prop_assert_eq!(&canonical(one_by_one(in_time).incidents()), &wanted);
        let open = one_by_one(&shuffled);
        prop_assert_eq!(&canonical(open.incidents()), &wanted);

        // No finding is lost or in two incidents.
        let mut kept: Vec<&Finding> = open.incidents().flat_map(Incident::originals).collect();
        let mut all: Vec<&Finding> = given.iter().collect();
        kept.sort_by(|one, other| one.key.cmp(&other.key));
        all.sort_by(|one, other| one.key.cmp(&other.key));
        prop_assert_eq!(kept, all);
        for finding in &given {
            let holder = open.holder(&finding.key).and_then(|id| open.get(id));
            prop_assert!(holder.is_some_and(|incident| incident.holds(&finding.key)));
        }
    }
}

proptest! {
    #![proptest_config(Config { cases: 400, ..Config::default() })]

    #[test]
    fn small_sets_at_random_in_batches_come_to_the_same((given, shuffled) in any_findings()) {
        let wanted = all_at_once(&given);
        for size in [1, 2, 5, 16, usize::MAX] {
            let size = size.min(shuffled.len());
            let (open, echoes) = in_batches(exact(), &shuffled, size);
            prop_assert!(echoes.is_empty());
            prop_assert_eq!(&canonical(open.incidents()), &wanted);
            let each_twice = [&shuffled[..], &given[..]].concat();
            prop_assert_eq!(&canonical(in_batches(exact(), &each_twice, size).0.incidents()), &wanted);
        }
    }

    #[test]
    fn what_is_counted_and_not_remembered_changes_nothing((given, shuffled) in any_crowd()) {
        let wanted = unshown(all_at_once(&given));
        for size in [1, 3, 16, usize::MAX] {
            let size = size.min(shuffled.len());
            let (open, echoes) = in_batches(remembering(1), &shuffled, size);
            prop_assert_eq!(&with_echoes(&open, &echoes), &wanted);
        }
        let mut open = OpenIncidents::new(remembering(1));
        let mut echoes = Vec::new();
        for finding in &shuffled {
            let changes = correlate(&open, finding);
            open.apply(&changes);
            echoes.extend(echoes_in(changes));
        }
        prop_assert_eq!(&with_echoes(&open, &echoes), &wanted);
    }
}

/// Findings of which many say the same at the same second. Nothing is corrected: see
/// [`rootwatch_core::correlate::IncidentUpdate::redundant_to`].
fn any_crowd() -> impl Strategy<Value = (Vec<Finding>, Vec<Finding>)> {
    let some = proptest::collection::vec((any_finding(), 0..40_usize), 1..8).prop_map(|samples| {
        let crowd = samples.into_iter().flat_map(|(sample, echoes)| {
            std::iter::repeat_n(sample, echoes + 1).enumerate().map(|(nth, mut sample)| {
                sample.addendum = None;
                if nth % 7 == 6 {
                    sample = sample.severity(Severity::High).because("worse");
                }
                sample
            })
        });
        let numbered = crowd.enumerate().map(|(place, mut sample)| {
            sample.event_id = None;
            sample.key.0.push_str(&format!(" {place:03}"));
            sample.0
        });
        numbered.collect::<Vec<Finding>>()
    });
    some.prop_flat_map(|findings| (Just(findings.clone()), Just(findings).prop_shuffle()))
}

/// Not an assertion, but it would be noticed: `cargo test --release -- --nocapture an_archive`.
#[test]
fn an_archive_is_correlated_in_one_sweep() {
    let number = if cfg!(debug_assertions) { 5_000 } else { 200_000 };
    let archive: Vec<Finding> = (0..number)
        .map(|n: u32| {
            let account = format!("{:012}", n % 97);
            let secs = n / 4 % 86_400;
            let time = format!("{:02}:{:02}:{:02}", secs / 3_600, secs / 60 % 60, secs % 60);
            let address = format!("198.51.{}.{}", n % 7, n % 251);
            let one = match n % 5 {
                0 => failed(&account, &time, &address),
                1 => call(&account, &time, "ListUsers").since(&time[..]).from(&address),
                2 => call(&account, &time, "ListBuckets").with_key("AKIA1").from(&address),
                3 => call(&account, &time, "RunInstances").by_service("autoscaling.amazonaws.com"),
                _ => page(&account, &time, "SetContactAddress").from(&address),
            };
            one.keyed(&n.to_string()).0
        })
        .collect();
    let start = std::time::Instant::now();
    let incidents = correlate_all(archive, &CorrelatePolicy::default());
    println!("{number} findings, {} incidents, {:?}", incidents.len(), start.elapsed());
    assert_eq!(incidents.iter().map(|one| one.findings.len()).sum::<usize>(), number as usize);
}

/// So many root calls of one session within an hour, in no order.
fn burst(number: usize, one: impl Fn(usize, &str) -> Sample) -> Vec<Finding> {
    let mut random = TestRng::deterministic_rng(Config::default().rng_algorithm);
    let mut burst: Vec<Finding> = (0..number)
        .map(|n| {
            let secs = n * 3_600 / number;
            let time = format!("15:{:02}:{:02}", secs / 60, secs % 60);
            one(n, &time).keyed(&format!("{n:06}")).0
        })
        .collect();
    shuffle(&mut burst, &mut random);
    burst
}

/// In batches of 500; how many findings are remembered of how many.
#[expect(clippy::print_stdout, reason = "a measurement, for who asks with --nocapture")]
fn measured(what: &str, burst: &[Finding]) -> (OpenIncidents, usize) {
    let start = std::time::Instant::now();
    let (open, _) = in_batches(CorrelatePolicy::default(), burst, 500);
    let took = start.elapsed();
    let kept: Vec<&Finding> = open.incidents().flat_map(Incident::originals).collect();
    let bytes: usize = kept.iter().map(|one| serde_json::to_string(one).expect("text").len()).sum();
    let total: u64 = open.incidents().map(Incident::findings_total).sum();
    println!(
        "{what}: {} findings, {} incidents, {} findings of {bytes} bytes as JSON kept, {took:?}",
        burst.len(),
        open.incidents().count(),
        kept.len(),
    );
    assert_eq!(total, burst.len() as u64);
    let kept = kept.len();
    (open, kept)
}

const BURST: usize = if cfg!(debug_assertions) { 4_000 } else { 50_000 };

#[test]
fn a_burst_of_one_session_is_one_incident_and_hardly_remembered() {
    let names = ["ListUsers", "GetUser", "ListBuckets"];
    let burst = burst(BURST, |n, time| {
        let one = call(PROD, time, names[n % 3]).since("15:00:00").with_key("ASIA1").from(INTRUDER);
        if n % 50 == 0 { one.severity(Severity::Medium).because("not_root_task") } else { one }
    });
    let (open, kept) = measured("one session", &burst);
    let wanted = correlate_all(burst, &CorrelatePolicy::default());
    let incident = open.incidents().next().expect("an incident");
    assert!(open.incidents().count() == 1 && kept < 200, "{kept}");
    assert_eq!(incident.severity, wanted[0].severity);
    assert_eq!(incident.reasons, wanted[0].reasons);
    assert_eq!((incident.first_at, incident.last_at), (wanted[0].first_at, wanted[0].last_at));
}

#[test]
fn failed_sign_ins_without_end_are_counted_to_the_last_and_hardly_remembered() {
    let burst = burst(BURST, |_, time| failed(PROD, time, INTRUDER));
    let (open, kept) = measured("failed sign-ins", &burst);
    let incident = open.incidents().next().expect("an incident");
    assert!(open.incidents().count() == 1 && kept < 500, "{kept}");
    assert_eq!(incident.severity, Severity::High);
    assert_eq!(incident.reasons[0].text, format!("{BURST} failed sign-ins"));
}

#[test]
fn a_burst_in_which_no_two_are_alike_is_correlated_in_time() {
    let address = |n: usize| format!("198.51.{}.{}", n / 250, n % 250);
    let one_session = burst(BURST, |n, time| {
        call(PROD, time, "ListUsers")
            .since("15:00:00")
            .with_key(&format!("ASIA{n}"))
            .from(&address(n))
    });
    let (open, _) = measured("one session, other keys and addresses", &one_session);
    assert_eq!(open.incidents().count(), 1);
    let keys = burst(BURST, |n, time| {
        call(PROD, time, "ListUsers").with_key(&format!("AKIA{n}")).from(&address(n))
    });
    measured("other long-term keys and addresses", &keys);
    let guesses = burst(BURST, |n, time| failed(PROD, time, &address(n)));
    let (open, _) = measured("failed sign-ins from other addresses", &guesses);
    let incident = open.incidents().next().expect("an incident");
    assert!(open.incidents().count() == 1);
    assert_eq!(incident.reasons[0].text, format!("{BURST} failed sign-ins"));
}

/// A record of the root user's sign-in pages in PROD.
fn sign_in_record(time: &str, name: &str, address: &str, result: &str) -> String {
    format!(
        r#"{{"eventVersion":"1.08","eventTime":"{time}","eventSource":"signin.amazonaws.com",
        "eventName":"{name}","awsRegion":"us-east-1","eventType":"AwsConsoleSignIn",
        "userIdentity":{{"type":"Root","principalId":"{PROD}","arn":"arn:aws:iam::{PROD}:root",
        "accountId":"{PROD}"}},"sourceIPAddress":"{address}","recipientAccountId":"{PROD}",
        "responseElements":{{"{name}":"{result}"}},"additionalEventData":{{"MFAUsed":"Yes"}},
        "eventID":"{name} {time}"}}"#
    )
}

/// The severities of the incidents of these records, settled as they come.
fn severities_as_they_come(records: &[&String]) -> Vec<Severity> {
    let rules = Ruleset::built_in();
    let mut detector = Detector::new(&rules);
    let mut history = History::of_store();
    let mut open = OpenIncidents::new(CorrelatePolicy::default());
    for record in records {
        let mut detected = Vec::new();
        decode_log(record.as_bytes(), &Limits::default(), &mut |_, item| {
            if let Item::Event(event) = item {
                detected.extend(detector.detect(&event));
            }
        });
        for one in detected {
            let finding = history.finalize(one, &rules).expect("a finding");
            correlate_batch(&mut open, vec![finding]);
        }
    }
    let mut severities: Vec<Severity> = open.incidents().map(|one| one.severity).collect();
    severities.sort();
    severities
}

#[test]
fn a_sign_in_that_arrives_before_what_it_follows_is_as_critical_as_after() {
    let sign_in =
        |address| sign_in_record("2026-05-04T14:03:12Z", "ConsoleLogin", address, "Success");
    let tried = |at| {
        sign_in_record(&format!("2026-05-04T13:{at}:06Z"), "ConsoleLogin", INTRUDER, "Failure")
    };
    let recovered =
        sign_in_record("2026-05-04T02:03:13Z", "PasswordRecoveryCompleted", INTRUDER, "Success");
    let long_ago =
        sign_in_record("2026-05-03T14:03:11Z", "PasswordRecoveryCompleted", INTRUDER, "Success");
    for address in [INTRUDER, AUDITOR] {
        let stories = [
            (vec![tried(10), tried(20), tried(30)], true),
            (vec![tried(10), tried(20)], false),
            (vec![recovered.clone()], true),
            (vec![long_ago.clone()], false),
        ];
        for (before, critical) in stories {
            let sign_in = sign_in(address);
            let in_order: Vec<&String> = before.iter().chain([&sign_in]).collect();
            let too_early: Vec<&String> = [&sign_in].into_iter().chain(&before).collect();
            let wanted = severities_as_they_come(&in_order);
            assert_eq!(wanted.contains(&Severity::Critical), critical, "{in_order:?}");
            // How new an address is depends on the arrival; how bad it all is does not.
            let severities = severities_as_they_come(&too_early);
            assert_eq!(severities.last(), wanted.last(), "{in_order:?}");
        }
    }
}
