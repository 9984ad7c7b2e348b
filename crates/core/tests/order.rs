//! Arrival order and repeats must not matter: the story, and small sets at random, come to the
//! same incidents one by one in any order, twice over, and all at once.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRng};
use rootwatch_core::correlate::{Change, CorrelatePolicy, OpenIncidents, correlate, correlate_all};
use rootwatch_core::finding::{Finding, Mfa, RootUse, Severity};
use rootwatch_core::incident::{Incident, IncidentKind};
// The samples below say `crate::finding`, as they are also the unit tests'.
use rootwatch_core::finding;

#[allow(dead_code)]
#[path = "../src/correlate/sample.rs"]
mod sample;
use sample::{Sample, assume_root, call, failed, page, signed_in, watched};

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

fn one_by_one<'a>(findings: impl IntoIterator<Item = &'a Finding>) -> OpenIncidents {
    let mut open = OpenIncidents::new(CorrelatePolicy::default());
    for finding in findings {
        let known = open.holder(&finding.key).is_some();
        let changes = correlate(&open, finding);
        assert_eq!(matches!(&changes[..], [Change::Repeated { .. }]), known, "{changes:?}");
        open.apply(&changes);
    }
    open
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
            (
                Severity::Informational,
                IncidentKind::Privileged,
                8,
                "Root credentials audited in 2 accounts"
            ),
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
