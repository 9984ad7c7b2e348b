//! One meant and one not meant for every link, sign and change.

use super::*;
use crate::finding::{Mfa, Outcome, RootUse, Severity};
use crate::sample::{Sample, assume_root, call, clock, failed, page, signed_in, watched};

const A: &str = "222233334444";
const B: &str = "333344445555";
const HOME: &str = "192.0.2.10";
const THERE: &str = "203.0.113.77";

fn incidents(samples: &[Sample]) -> Vec<Incident> {
    let findings = samples.iter().map(|sample| sample.0.clone()).collect();
    correlate_all(findings, &CorrelatePolicy::default())
}

fn one(samples: &[Sample]) -> Incident {
    let mut all = incidents(samples);
    assert_eq!(all.len(), 1, "{all:#?}");
    all.remove(0)
}

fn apart(samples: &[Sample]) {
    let all = incidents(samples);
    assert_eq!(all.len(), samples.len(), "{all:#?}");
}

fn codes(incident: &Incident) -> Vec<&str> {
    incident.reasons.iter().map(|reason| reason.code.as_ref()).collect()
}

fn has(incident: &Incident, code: &str) -> bool {
    codes(incident).contains(&code)
}

fn feed(open: &mut OpenIncidents, sample: &Sample) -> Vec<Change> {
    let changes = correlate(open, &sample.0);
    open.apply(&changes);
    changes
}

#[test]
fn one_sign_in_session_arn_is_one_incident_but_not_in_two_accounts() {
    let with = |mut sample: Sample| {
        sample.session.sign_in_session_arn = Some("arn:aws:signin:us-east-1:2:session/x".into());
        sample
    };
    let late = with(call(A, "23:00:00", "GetUser"));
    one(&[with(call(A, "09:00:00", "ListUsers")), late.clone()]);
    apart(&[with(call(B, "09:00:00", "ListUsers")), late]);
}

#[test]
fn one_creation_date_is_one_session_whatever_its_keys() {
    let listed = call(A, "09:10:00", "ListUsers").since("09:00:00").with_key("ASIA1");
    one(&[listed.clone(), call(A, "19:00:00", "GetUser").since("09:00:00").with_key("ASIA2")]);
    apart(&[listed, call(A, "09:11:00", "GetUser").since("09:05:00").with_key("ASIA2")]);
}

#[test]
fn two_root_sessions_of_one_account_in_an_hour_stay_two() {
    let all = incidents(&[
        failed(A, "09:59:00", HOME),
        signed_in(A, "10:00:00", HOME),
        call(A, "10:05:00", "ListUsers").since("10:00:02").from(HOME),
        failed(A, "10:29:00", HOME),
        signed_in(A, "10:30:00", HOME),
        call(A, "10:35:00", "ListUsers").since("10:30:02").from(HOME),
        page(A, "10:36:00", "SetContactAddress").from(HOME),
    ]);
    let sizes: Vec<usize> = all.iter().map(|incident| incident.findings.len()).collect();
    assert_eq!(sizes, [3, 4], "{all:#?}");
}

#[test]
fn an_equal_temporary_key_ties_within_an_account_and_not_across() {
    let here = page(A, "09:00:00", "CloseAccount").with_key("ASIA1");
    one(&[here.clone(), call(A, "12:00:00", "ListUsers").with_key("ASIA1")]);
    apart(&[here, call(B, "09:00:10", "ListUsers").with_key("ASIA1")]);
}

#[test]
fn a_long_term_key_ties_what_is_within_a_day_and_only_one_key() {
    let first = call(A, "2026-05-01T00:00:00Z", "ListUsers").with_key("AKIA1");
    one(&[first.clone(), call(A, "2026-05-02T00:00:00Z", "ListUsers").with_key("AKIA1")]);
    apart(&[
        first,
        call(A, "2026-05-02T00:00:01Z", "ListUsers").with_key("AKIA1"),
        call(A, "2026-05-01T00:00:05Z", "ListUsers").with_key("AKIA2"),
    ]);
}

#[test]
fn a_recovery_belongs_to_the_sign_in_from_its_address_and_to_no_other() {
    let recovery = {
        let mut sample = page(A, "13:58:00", "PasswordRecoveryRequested").from(THERE);
        sample.session.sign_in = true;
        sample
    };
    let incident = one(&[recovery.clone(), signed_in(A, "14:03:00", THERE)]);
    assert_eq!(incident.severity, Severity::Critical);
    assert_eq!(codes(&incident)[0], "success_after_recovery");
    apart(&[recovery.clone(), signed_in(A, "14:03:00", HOME)]);
    apart(&[recovery, signed_in(A, "15:00:00", THERE)]);
}

#[test]
fn an_account_page_joins_the_nearest_session_of_its_address_and_ties_no_two() {
    let early = call(A, "10:00:00", "ListUsers").since("09:59:00").from(HOME);
    let late = call(A, "10:30:00", "ListUsers").since("10:29:00").from(HOME);
    let near = page(A, "10:20:00", "SetContactAddress").from(HOME);
    let all = incidents(&[early.clone(), near.clone(), late]);
    assert_eq!(all.len(), 2);
    assert!(all[1].holds(&near.key));
    apart(&[early.clone(), page(A, "10:20:00", "SetContactAddress").from(THERE)]);
    apart(&[early, page(A, "11:00:01", "SetContactAddress").from(HOME)]);
}

#[test]
fn a_sign_in_joins_the_session_that_follows_from_any_address() {
    let sign_in = signed_in(A, "14:03:00", THERE);
    let relayed = call(A, "14:30:00", "ListUsers").since("14:08:00").from("AWS Internal");
    one(&[sign_in.clone(), relayed]);
    one(&[sign_in.clone(), call(A, "14:30:00", "ListUsers").since("14:02:00")]);
    apart(&[sign_in.clone(), call(A, "14:30:00", "ListUsers").since("14:08:01")]);
    apart(&[sign_in.clone(), call(A, "14:30:00", "ListUsers").since("14:01:59")]);
    apart(&[sign_in, call(B, "14:30:00", "ListUsers").since("14:03:01")]);
}

#[test]
fn a_session_takes_the_nearest_sign_in_and_leaves_the_other_an_incident_of_its_own() {
    let all = incidents(&[
        signed_in(A, "14:03:00", THERE),
        signed_in(A, "14:04:00", HOME),
        call(A, "14:10:00", "ListUsers").since("14:04:02"),
    ]);
    assert_eq!(all.len(), 2);
    assert_eq!(all[0].findings.len(), 1);
    assert_eq!(all[1].addresses, [HOME]);
}

#[test]
fn an_issued_key_ties_to_its_use_however_late() {
    let created = call(A, "14:07:00", "CreateAccessKey").since("14:03:00").issued("AKIA9");
    let used = call(A, "2026-07-01T00:00:00Z", "ListBuckets").with_key("AKIA9");
    one(&[created.clone(), used]);
    apart(&[created, call(A, "14:08:00", "ListBuckets").with_key("AKIA8")]);
}

#[test]
fn assume_root_ties_to_the_member_by_key_or_by_time_and_makes_it_privileged() {
    let asked = assume_root("maria", "13:52:05", B, "ASIA7");
    let by_key = call(B, "13:53:00", "ListAccessKeys").with_key("ASIA7").because("no_mfa");
    let by_time = call(B, "13:54:00", "GetUser").since("13:52:05").read_only().because("no_mfa");
    let mut by_time = by_time.severity(Severity::Medium);
    by_time.mfa = Mfa::NotUsed;
    let incident = one(&[by_time.clone(), asked.clone(), by_key]);
    assert_eq!(incident.kind, IncidentKind::Privileged);
    assert_eq!(incident.root_use, RootUse::Privileged);
    assert_eq!(incident.accounts, [B]);
    let shown = &incident.findings[2];
    assert_eq!(shown.severity, Severity::Informational);
    let codes: Vec<&str> = shown.reasons.iter().map(|reason| reason.code.as_ref()).collect();
    assert_eq!(codes, ["root_identity", "joined_assume_root"]);
    assert_eq!(incident.original(&by_time.key), Some(&by_time.0));

    apart(&[asked.clone(), call(A, "13:54:00", "GetUser").since("13:52:05")]);
    let mut refused = asked;
    refused.outcome = Outcome::Failure;
    apart(&[refused, call(B, "13:54:00", "GetUser").since("13:52:05")]);
}

#[test]
fn a_shared_event_ties_across_accounts_even_what_is_only_watched() {
    one(&[
        call(A, "09:00:00", "AssumeRole").shared("s"),
        watched(B, "09:00:00", "eve").shared("s"),
    ]);
    apart(&[call(A, "09:00:00", "AssumeRole").shared("s"), watched(B, "09:00:00", "eve")]);
}

#[test]
fn a_corrected_record_is_shown_once_and_both_are_known() {
    let first = call(A, "09:00:00", "PutObject");
    let id = first.event_id.clone();
    let better =
        call(A, "09:00:00", "PutObject").keyed("better").late("UPDATED_DATA", id.as_deref());
    let incident = one(&[better.clone(), first.clone()]);
    assert!(incident.findings.len() == 1 && incident.findings[0] == better.0);
    assert!(incident.holds(&first.key) && incident.holds(&better.key));

    let mut open = OpenIncidents::new(CorrelatePolicy::default());
    feed(&mut open, &better);
    let changes = feed(&mut open, &first);
    assert!(
        matches!(&changes[..], [Change::Grew(growth)] if growth.added.is_empty()),
        "{changes:?}"
    );
    assert!(matches!(&feed(&mut open, &first)[..], [Change::Repeated { .. }]));
    apart(&[first, call(A, "09:00:01", "PutObject").late("DELIVERY_DELAY", id.as_deref())]);
}

#[test]
fn corrections_that_correct_one_another_are_all_shown() {
    let ring = |key: &str, other: &str| {
        call(A, "09:00:00", "X").keyed(key).late("UPDATED_DATA", Some(&format!("event of {other}")))
    };
    assert_eq!(one(&[ring("1", "2"), ring("2", "1")]).findings.len(), 2);
}

#[test]
fn failed_sign_ins_of_one_account_gather_from_any_address_and_rise_with_their_number() {
    let tries = |number: usize| -> Vec<Sample> {
        let minutes = 0..number;
        let one = |n: usize| failed(A, &format!("10:{n:02}:00"), &format!("198.51.100.{n}"));
        minutes.map(one).collect()
    };
    let severity = |number| one(&tries(number)).severity;
    assert_eq!(severity(4), Severity::Low);
    assert_eq!(severity(5), Severity::Medium);
    assert_eq!(severity(19), Severity::Medium);
    assert_eq!(severity(20), Severity::High);
    apart(&[failed(A, "10:00:00", HOME), failed(A, "11:00:01", HOME)]);
    apart(&[failed(A, "10:00:00", HOME), failed(B, "10:10:00", THERE)]);
}

#[test]
fn a_success_after_three_failures_is_critical_and_after_two_is_not() {
    let mut samples = vec![
        failed(A, "10:00:00", THERE),
        failed(A, "10:01:00", THERE),
        signed_in(A, "10:03:00", THERE),
    ];
    let incident = one(&samples);
    assert_eq!(incident.severity, Severity::High);
    samples.push(failed(A, "10:02:00", THERE));
    let incident = one(&samples);
    assert_eq!(incident.severity, Severity::Critical);
    assert!(has(&incident, "success_after_failures"));
}

#[test]
fn a_service_call_joins_its_session_and_orphans_gather_by_service_and_day() {
    let poll = call(A, "14:05:00", "Describe").since("14:03:00").by_service("AWS Internal");
    one(&[call(A, "14:04:00", "ListUsers").since("14:03:00"), poll.clone()]);
    apart(&[call(A, "14:04:00", "ListUsers").since("14:02:00"), poll]);

    let scaling =
        |time: &str| call(A, time, "RunInstances").by_service("autoscaling.amazonaws.com");
    let incident = one(&[scaling("00:00:01"), scaling("12:00:00"), scaling("23:59:59")]);
    assert_eq!(incident.severity, Severity::Informational);
    assert_eq!(incident.title, "autoscaling.amazonaws.com acted on behalf of the root user");
    apart(&[
        scaling("23:59:59"),
        scaling("2026-05-05T00:00:00Z"),
        call(A, "23:59:58", "GetTable").by_service("glue.amazonaws.com"),
        call(B, "23:59:58", "RunInstances").by_service("autoscaling.amazonaws.com"),
    ]);
}

#[test]
fn one_caller_s_audit_of_many_accounts_is_one_incident() {
    let incident = one(&[
        assume_root("maria", "13:52:05", A, "ASIA1"),
        assume_root("maria", "14:07:05", B, "ASIA2"),
    ]);
    assert_eq!(incident.title, "Root credentials audited");
    assert_eq!(incident.accounts, [A, B]);
    assert_eq!(incident.severity, Severity::Informational);
    apart(&[
        assume_root("maria", "13:52:05", A, "ASIA1"),
        assume_root("maria", "14:07:06", B, "ASIA2"),
        assume_root("tom", "13:52:06", B, "ASIA3"),
    ]);
}

#[test]
fn a_watched_act_gathers_by_actor_and_never_joins_a_session() {
    let act = watched(A, "10:00:00", "eve").with_key("ASIA1").from(HOME);
    let incident = one(&[act.clone(), watched(A, "10:59:00", "eve")]);
    assert_eq!(incident.kind, IncidentKind::RuleMatch);
    apart(&[act.clone(), watched(A, "10:00:00", "mallory"), watched(B, "10:00:00", "eve")]);
    apart(&[act.clone(), call(A, "10:00:05", "X").with_key("ASIA1").from(HOME)]);
    apart(&[act.clone(), signed_in(A, "10:00:00", HOME)]);
    apart(&[act, call(A, "10:02:00", "CreateAccessKey").issued("ASIA1")]);
}

#[test]
fn a_spray_takes_its_failures_and_is_related_to_what_follows() {
    let all = incidents(&[
        failed(A, "13:50:00", THERE),
        failed(B, "13:50:10", THERE),
        failed(A, "14:02:00", THERE),
        failed(A, "14:03:00", HOME),
    ]);
    assert_eq!(all.len(), 2);
    let (spray, account) = (&all[0], &all[1]);
    assert_eq!(spray.kind, IncidentKind::Spray);
    assert_eq!(spray.title, "Root sign-in failures in 2 accounts");
    assert_eq!((spray.accounts.len(), spray.severity), (2, Severity::Low));
    assert_eq!(account.findings.len(), 2);
    assert_eq!(spray.related.first(), Some(&account.id));
    assert_eq!(account.related.first(), Some(&spray.id));

    apart(&[failed(A, "13:50:00", THERE), failed(B, "13:55:01", THERE)]);
    apart(&[failed(A, "13:50:00", THERE), failed(B, "13:50:01", "AWS Internal")]);
}

#[test]
fn a_spray_during_which_a_sign_in_succeeded_is_high() {
    let spray = [failed(A, "13:50:00", THERE), failed(B, "13:50:10", THERE)];
    let with = |time: &str, address: &str| {
        let all = incidents(&[&spray[..], &[signed_in(B, time, address)]].concat());
        all.into_iter().find(|incident| incident.kind == IncidentKind::Spray).expect("a spray")
    };
    let through = with("13:55:10", THERE);
    assert_eq!(through.severity, Severity::High);
    assert_eq!(codes(&through)[0], "spray_succeeded");
    assert_eq!(with("13:55:11", THERE).severity, Severity::Low);
    assert_eq!(with("13:51:00", HOME).severity, Severity::Low);
}

#[test]
fn a_possible_finding_is_proved_by_a_session_and_not_by_a_failed_sign_in() {
    let closed = page(A, "10:20:00", "CloseAccount").from(HOME);
    let incident = one(&[closed.clone(), call(A, "10:00:00", "X").since("10:00:00").from(HOME)]);
    assert_eq!(incident.findings[1].root_use, RootUse::Direct);
    assert_eq!(incident.original(&closed.key).map(|one| one.root_use), Some(RootUse::Possible));
    let incident = one(&[closed, failed(A, "10:00:00", HOME)]);
    assert_eq!(incident.findings[1].root_use, RootUse::Possible);
}

#[test]
fn a_root_key_used_elsewhere_is_high_and_with_a_denied_call_critical() {
    let created = call(A, "14:07:00", "CreateAccessKey").since("14:03:00").from(THERE);
    let created = created.issued("AKIA9").severity(Severity::Medium);
    let used = |address: &str| call(A, "14:09:00", "ListBuckets").with_key("AKIA9").from(address);
    let incident = one(&[created.clone(), used(HOME)]);
    assert_eq!(incident.severity, Severity::High);
    assert!(has(&incident, "key_used_elsewhere"));
    assert_eq!(one(&[created.clone(), used(THERE)]).severity, Severity::Medium);

    let denied = call(A, "14:12:00", "StopLogging").since("14:03:00").from(THERE).denied();
    let incident = one(&[created, used(HOME), denied]);
    assert_eq!(incident.severity, Severity::Critical);
    assert!(has(&incident, "denied_with_root_key") && has(&incident, "several_signs"));
}

#[test]
fn reasons_come_strongest_first_each_once_without_class_reasons() {
    let incident = one(&[
        call(A, "14:04:00", "X").since("14:03:00").because("no_mfa"),
        call(A, "14:05:00", "Y").since("14:03:00").because("no_mfa").because("long_term_key"),
        call(A, "14:06:00", "Z").since("14:03:00").because("denied").severity(Severity::High),
    ]);
    assert_eq!(codes(&incident), ["denied", "no_mfa", "long_term_key"]);
    assert_eq!(incident.title, "Root user called Z");
}

#[test]
fn without_a_time_only_keys_tie_and_the_finding_sorts_last() {
    let timeless = |mut sample: Sample| {
        sample.event_time = None;
        sample
    };
    let lost = timeless(call(A, "14:09:00", "X").since("14:03:00"));
    let incident = one(&[lost.clone(), call(A, "14:04:00", "Y").since("14:03:00")]);
    assert_eq!(incident.findings[1].key, lost.key);
    apart(&[timeless(failed(A, "10:00:00", HOME)), failed(A, "10:00:01", HOME)]);
}

#[test]
fn a_missing_account_is_the_recipient_s() {
    let mut other = failed(A, "10:01:00", HOME);
    other.account_id = None;
    one(&[failed(A, "10:00:00", HOME), other.clone()]);
    other.recipient_account_id = None;
    let incidents = incidents(&[other]);
    assert!(incidents[0].accounts.is_empty());
}

#[test]
fn ids_are_short_unambiguous_and_the_same_in_every_version() {
    assert_eq!(IncidentId::derived("222233334444 a", 0).0, "CRJ-SCK");
    assert_ne!(IncidentId::derived("x", 0), IncidentId::derived("x", 1));
}

#[test]
fn an_incident_grows_rises_closes_and_reopens() {
    let mut open = OpenIncidents::new(CorrelatePolicy::default());
    let changes = feed(&mut open, &call(A, "14:04:00", "X").since("14:03:00"));
    assert!(matches!(&changes[..], [Change::Opened(_)]));
    let worse = call(A, "14:05:00", "Y").since("14:03:00").severity(Severity::High);
    match &feed(&mut open, &worse)[..] {
        [Change::Grew(growth), Change::Escalated { from, to, .. }] => {
            assert!(growth.added.len() == 1 && growth.added[0] == worse.0);
            assert_eq!((*from, *to), (Severity::Low, Severity::High));
        }
        other => panic!("{other:?}"),
    }
    assert!(close_quiet(&open, clock("15:04:59")).is_empty());
    let closed = close_quiet(&open, clock("15:05:00"));
    assert!(matches!(&closed[..], [Change::Closed { .. }]));
    open.apply(&closed);
    assert!(close_quiet(&open, clock("16:00:00")).is_empty());
    match &feed(&mut open, &call(A, "14:06:00", "Z").since("14:03:00"))[..] {
        [Change::Grew(growth)] => assert!(growth.reopened && growth.state == IncidentState::Open),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_elder_keeps_its_name_and_an_acknowledgement_survives_growth_but_hides_nothing_worse() {
    let mut open = OpenIncidents::new(CorrelatePolicy::default());
    feed(&mut open, &call(A, "14:04:00", "X").since("14:03:00"));
    let elder = open.incidents().next().expect("one").id.clone();
    open.set_state(&elder, IncidentState::Acknowledged);
    feed(&mut open, &call(A, "14:05:00", "X").since("14:03:00"));
    assert_eq!(open.get(&elder).expect("it").state, IncidentState::Acknowledged);

    feed(&mut open, &call(A, "14:09:00", "Y").with_key("AKIA9").severity(Severity::High));
    let created = call(A, "14:07:00", "CreateAccessKey").since("14:03:00").issued("AKIA9");
    let changes = feed(&mut open, &created);
    assert!(
        matches!(&changes[..], [Change::Grew(_), Change::Joined { into, .. }] if *into == elder)
    );
    let only: Vec<&Incident> = open.incidents().collect();
    assert_eq!(only.len(), 1);
    assert_eq!((only[0].findings.len(), only[0].state), (4, IncidentState::Open));
}

#[test]
fn a_call_like_the_ones_before_but_graver_still_raises() {
    let mut open = OpenIncidents::new(CorrelatePolicy::default());
    let like = |time: &str| call(A, time, "X").since("14:03:00").with_key("ASIA1");
    feed(&mut open, &like("14:04:00"));
    feed(&mut open, &like("14:05:00"));
    let echo = feed(&mut open, &like("14:06:00"));
    assert!(matches!(&echo[..], [Change::Grew(_)]), "{echo:?}");
    let graver = feed(&mut open, &like("14:07:00").severity(Severity::High));
    assert!(matches!(&graver[..], [Change::Grew(_), Change::Escalated { .. }]), "{graver:?}");
}

#[test]
fn a_call_like_the_ones_before_still_gathers_what_waited_for_it() {
    for nth in 0..8 {
        let story = ["10:00:00", "10:00:05", "11:31:00"].map(|time| {
            call(A, time, "X").since("09:59:00").from(HOME).with_key(&format!("{nth}"))
        });
        let waiting = page(A, "11:30:00", "CloseAccount").from(HOME).keyed(&nth.to_string());
        let mut open = OpenIncidents::new(CorrelatePolicy::default());
        for sample in [&story[0], &story[1], &waiting, &story[2]] {
            feed(&mut open, sample);
        }
        assert_eq!(open.incidents().count(), 1, "{nth}");
    }
}

#[test]
fn what_a_store_kept_goes_on_where_it_was() {
    let mut open = OpenIncidents::new(CorrelatePolicy::default());
    let story = [
        page(A, "10:20:00", "CloseAccount").from(HOME),
        call(A, "10:00:00", "X").since("10:00:00").from(HOME),
    ];
    story.iter().for_each(|sample| _ = feed(&mut open, sample));
    let text = serde_json::to_string(&open.incidents().collect::<Vec<_>>()).expect("text");
    let kept: Vec<Incident> = serde_json::from_str(&text).expect("incidents");
    let mut again = OpenIncidents::from_incidents(CorrelatePolicy::default(), kept);
    for sample in &story {
        assert!(matches!(&feed(&mut again, sample)[..], [Change::Repeated { .. }]));
    }
    let next = call(A, "10:01:00", "Y").since("10:00:00").from(HOME);
    assert_eq!(feed(&mut again, &next), feed(&mut open, &next));
}

#[test]
fn what_was_let_go_of_is_new_again_and_leaves_nothing_behind() {
    let mut open = OpenIncidents::new(CorrelatePolicy::default());
    let old: Vec<Sample> = (0..3_000)
        .map(|n| call(A, "09:00:00", "X").since("08:00:00").with_key(&format!("ASIA{n}")))
        .enumerate()
        .map(|(n, sample)| sample.keyed(&n.to_string()))
        .collect();
    correlate_batch(&mut open, old.iter().map(|sample| sample.0.clone()).collect());
    let young = call(B, "14:00:00", "X").since("13:00:00");
    feed(&mut open, &young);
    open.retain(|incident| incident.accounts == [B]);
    assert_eq!(open.incidents().count(), 1);
    assert_eq!(open.footprint(), 1);
    assert!(matches!(&feed(&mut open, &young)[..], [Change::Repeated { .. }]));
    assert!(matches!(&feed(&mut open, &old[0])[..], [Change::Opened(_)]));
    let id = open.holder(&young.key).expect("held").clone();
    open.evict(&id);
    assert!(open.get(&id).is_none() && open.holder(&young.key).is_none());
}

#[test]
fn that_alerts_cannot_be_delivered_is_an_incident_that_joins_nothing_and_outlasts_silence() {
    let mut open = OpenIncidents::new(CorrelatePolicy::default());
    let telling = Incident::telling("pager", clock("14:00:00"), "the receiver answers 500");
    assert_eq!(telling.title, "Alerts to pager cannot be delivered");
    open.apply(&[Change::Opened(Box::new(telling.clone()))]);
    feed(&mut open, &call(A, "14:00:00", "X").since("13:00:00"));
    assert_eq!(open.incidents().count(), 2);
    assert_eq!(open.get(&telling.id), Some(&telling));
    let closed = close_quiet(&open, clock("2026-05-06T00:00:00Z"));
    assert!(matches!(&closed[..], [Change::Closed { id, .. }] if *id != telling.id), "{closed:?}");
    let text = serde_json::to_string(&telling).expect("text");
    assert_eq!(serde_json::from_str::<Incident>(&text).expect("an incident"), telling);
}

#[test]
fn an_echo_reopens_moves_the_last_moment_and_is_counted_once_in_a_batch() {
    let mut open = OpenIncidents::new(CorrelatePolicy::default());
    let like = |time: &str| call(A, time, "X").since("14:03:00").with_key("ASIA1");
    feed(&mut open, &like("14:04:00"));
    feed(&mut open, &like("14:05:00"));
    open.apply(&close_quiet(&open, clock("16:00:00")));
    let echo = like("14:05:59");
    let changes = correlate_batch(&mut open, vec![echo.0.clone(), echo.0.clone()]);
    match &changes[..] {
        [Change::Grew(growth), Change::Repeated { id, key }] => {
            assert_eq!(growth.redundant_to, Some(like("14:05:00").0.key));
            assert!(growth.reopened && (id, key) == (&growth.id, &echo.key));
        }
        other => panic!("{other:?}"),
    }
    let incident = open.incidents().next().expect("one");
    assert_eq!((incident.findings.len(), incident.findings_total()), (2, 3));
    assert_eq!(incident.last_at, echo.event_time);
    // What it echoes moves, and takes it along.
    feed(&mut open, &call(A, "14:07:00", "Y").since("14:03:00").severity(Severity::High));
    let incident = open.incidents().next().expect("one");
    assert_eq!(incident.findings_total(), 4);
    let growth = feed(&mut open, &like("14:06:00"));
    assert!(matches!(&growth[..], [Change::Grew(growth)] if growth.redundant_to.is_none()));
}
