//! Root traffic made up from a seed: EventBridge events of many sessions, for the load command and
//! the crash test. Equal seeds give equal events.

#![allow(dead_code)] // each user needs a part of it

use std::fmt::Write;

use jiff::{SignedDuration, Timestamp};

/// Accounts that AWS's documentation uses.
pub(crate) const ACCOUNTS: [&str; 6] = [
    "111122223333",
    "222233334444",
    "333344445555",
    "444455556666",
    "333333333333",
    "123456789012",
];

/// Calls of a session: service, name, whether it only reads.
const CALLS: [(&str, &str, bool); 12] = [
    ("iam", "ListUsers", true),
    ("iam", "GetAccountSummary", true),
    ("iam", "CreateUser", false),
    ("iam", "CreateAccessKey", false),
    ("s3", "ListBuckets", true),
    ("s3", "PutBucketPolicy", false),
    ("ec2", "DescribeInstances", true),
    ("ec2", "RunInstances", false),
    ("cloudtrail", "StopLogging", false),
    ("health", "DescribeEventAggregates", true),
    ("organizations", "ListAccounts", true),
    ("account", "PutAlternateContact", false),
];

/// Numbers that look random: splitmix64.
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    /// Equal seeds roll equal numbers.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.roll() % end.max(1) as u64) as usize
    }

    /// Puts a list in another order.
    pub(crate) fn shuffle<T>(&mut self, list: &mut [T]) {
        for place in (1..list.len()).rev() {
            list.swap(place, self.below(place + 1));
        }
    }
}

/// One event.
#[derive(Debug, Clone)]
pub(crate) struct Made {
    /// The record's `eventID`.
    pub(crate) id: String,
    /// The EventBridge event.
    pub(crate) json: String,
}

/// An account of an organisation: those of AWS's documentation first, then numbers that it does not
/// give out.
pub(crate) fn account(number: usize) -> String {
    ACCOUNTS.get(number).map_or_else(|| format!("{number:012}"), |&id| id.to_owned())
}

/// What a session's events have in common.
struct Session {
    number: usize,
    account: String,
    begun_at: Timestamp,
    address: String,
}

/// The events of `sessions` root sessions in so many accounts, each with a sign-in or not and up to
/// `calls_max` calls, all within `span` before `end`.
pub(crate) fn sessions(
    dice: &mut Dice,
    sessions: usize,
    accounts: usize,
    calls_max: usize,
    end: Timestamp,
    span: SignedDuration,
) -> Vec<Made> {
    let mut made = Vec::new();
    for number in 0..sessions {
        let session = Session {
            number,
            account: account(dice.below(accounts)),
            begun_at: before(end, span, dice),
            address: format!("198.51.100.{}", 1 + dice.below(250)),
        };
        if dice.below(3) == 0 {
            made.push(sign_in(&session, dice));
        }
        for _ in 0..1 + dice.below(calls_max) {
            let after = SignedDuration::from_secs(1 + dice.below(240) as i64);
            let call = CALLS[dice.below(CALLS.len())];
            made.push(of_session(&session, call, session.begun_at + after, dice));
        }
    }
    made
}

/// Calls of one session in one account: a burst.
pub(crate) fn burst(dice: &mut Dice, calls: usize, end: Timestamp) -> Vec<Made> {
    let session = Session {
        number: 0,
        account: account(1),
        begun_at: end - SignedDuration::from_mins(50),
        address: "203.0.113.77".to_owned(),
    };
    (0..calls)
        .map(|_| {
            let at = session.begun_at + SignedDuration::from_secs(1 + dice.below(2_900) as i64);
            of_session(&session, CALLS[dice.below(CALLS.len())], at, dice)
        })
        .collect()
}

/// One call of a session of its own: it opens an incident that is told.
pub(crate) fn lone_call(number: usize, at: Timestamp, dice: &mut Dice) -> Made {
    let session = Session {
        number,
        account: account(number % ACCOUNTS.len()),
        // No two are alike: the start of the session is part of what ties its calls together.
        begun_at: at - SignedDuration::from_secs(60 + number as i64),
        address: format!("198.51.{}.{}", 100, 1 + number % 250),
    };
    of_session(&session, CALLS[2], at, dice)
}

fn before(end: Timestamp, span: SignedDuration, dice: &mut Dice) -> Timestamp {
    let secs = dice.below(span.as_secs().max(1) as usize) as i64;
    // Records state whole seconds.
    Timestamp::from_second(end.as_second() - 300 - secs).unwrap_or(end)
}

fn event_id(dice: &mut Dice) -> String {
    let (one, other) = (dice.roll(), dice.roll());
    format!(
        "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
        one >> 32,
        one >> 16 & 0xffff,
        one & 0xfff,
        other >> 52,
        other & 0xffff_ffff_ffff
    )
}

fn sign_in(session: &Session, dice: &mut Dice) -> Made {
    let mfa = if dice.below(2) == 0 { "Yes" } else { "No" };
    let rest = format!(
        r#""responseElements":{{"ConsoleLogin":"Success"}},"additionalEventData":{{"MFAUsed":"{mfa}","MobileVersion":"No","LoginTo":"https://console.aws.amazon.com/"}},"readOnly":false,"eventType":"AwsConsoleSignIn""#
    );
    let identity = format!(
        r#"{{"type":"Root","principalId":"{0}","arn":"arn:aws:iam::{0}:root","accountId":"{0}","accessKeyId":""}}"#,
        session.account
    );
    let detail = "AWS Console Sign In via CloudTrail";
    let at = session.begun_at - SignedDuration::from_secs(2);
    record(session, ("signin", "ConsoleLogin"), &identity, &rest, detail, at, dice)
}

fn of_session(
    session: &Session,
    (service, name, reads): (&str, &str, bool),
    at: Timestamp,
    dice: &mut Dice,
) -> Made {
    let identity = format!(
        r#"{{"type":"Root","principalId":"{0}","arn":"arn:aws:iam::{0}:root","accountId":"{0}","accessKeyId":"ASIA{1:010}EXAMPLE","sessionContext":{{"attributes":{{"creationDate":"{2}","mfaAuthenticated":"false"}}}}}}"#,
        session.account,
        session.number % 10_000_000_000,
        session.begun_at
    );
    let rest = format!(
        r#""requestParameters":null,"responseElements":null,"readOnly":{reads},"eventType":"AwsApiCall""#
    );
    let detail = "AWS API Call via CloudTrail";
    record(session, (service, name), &identity, &rest, detail, at, dice)
}

fn record(
    session: &Session,
    (service, name): (&str, &str),
    identity: &str,
    rest: &str,
    detail_type: &str,
    at: Timestamp,
    dice: &mut Dice,
) -> Made {
    let id = event_id(dice);
    let (account, address) = (&session.account, &session.address);
    let mut json = String::with_capacity(1600);
    // Writing to a text cannot fail.
    let _ = write!(
        json,
        r#"{{"version":"0","id":"{}","detail-type":"{detail_type}","source":"aws.{service}","account":"{account}","time":"{at}","region":"us-east-1","resources":[],"detail":{{"eventVersion":"1.11","userIdentity":{identity},"eventTime":"{at}","eventSource":"{service}.amazonaws.com","eventName":"{name}","awsRegion":"us-east-1","sourceIPAddress":"{address}","userAgent":"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/136.0.0.0 Safari/537.36","requestID":"{}","eventID":"{id}","managementEvent":true,"recipientAccountId":"{account}","eventCategory":"Management","tlsDetails":{{"tlsVersion":"TLSv1.3","cipherSuite":"TLS_AES_128_GCM_SHA256","clientProvidedHostHeader":"{service}.us-east-1.amazonaws.com"}},"sessionCredentialFromConsole":"true",{rest}}}}}"#,
        event_id(dice),
        event_id(dice),
    );
    Made { id, json }
}
