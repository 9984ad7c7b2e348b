//! Events per second of the pattern engine on one thread.
//!
//! The events are made here: CloudTrail records of about 1.8 KB as EventBridge wraps them, varied
//! and the same on every run. Each set of patterns runs in rounds over all events; the median round
//! counts. Times are the thread's time on a processor where Linux tells it, and wall time elsewhere;
//! either comes out too low rather than too high when the machine has other work.

// Printing is what a benchmark is for.
#![allow(clippy::print_stdout)]

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use rootwatch_core::pattern::{EventPattern, PatternSet};

const EVENTS: usize = 20_000;
const ROUNDS: usize = 7;
/// Each round is repeated until it has taken this long.
const ROUND: Duration = Duration::from_millis(600);

/// A small generator of repeatable numbers (xorshift64*).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn pick<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.below(list.len())]
    }

    fn hex(&mut self, digits: usize) -> String {
        (0..digits).map(|_| char::from(b"0123456789abcdef"[self.below(16)])).collect()
    }
}

const CALLS: [(&str, &str); 12] = [
    ("iam.amazonaws.com", "CreateAccessKey"),
    ("iam.amazonaws.com", "AttachUserPolicy"),
    ("sts.amazonaws.com", "AssumeRole"),
    ("s3.amazonaws.com", "PutBucketPolicy"),
    ("s3.amazonaws.com", "GetBucketAcl"),
    ("ec2.amazonaws.com", "DescribeInstances"),
    ("ec2.amazonaws.com", "AuthorizeSecurityGroupIngress"),
    ("kms.amazonaws.com", "Decrypt"),
    ("logs.amazonaws.com", "CreateLogStream"),
    ("signin.amazonaws.com", "ConsoleLogin"),
    ("cloudtrail.amazonaws.com", "StopLogging"),
    ("organizations.amazonaws.com", "LeaveOrganization"),
];

fn identity(r: &mut Random, account: &str, out: &mut String) {
    let name = r.pick(&["deploy", "admin", "build", "reader", "auditor"]);
    let key = r.hex(16).to_uppercase();
    let principal = r.hex(17).to_uppercase();
    let mfa = r.pick(&["true", "false"]);
    if r.below(50) == 0 {
        let _ = write!(
            out,
            r#""userIdentity":{{"type":"Root","principalId":"{account}","arn":"arn:aws:iam::{account}:root","accountId":"{account}","accessKeyId":"ASIA{key}","sessionContext":{{"sessionIssuer":{{}},"webIdFederationData":{{}},"attributes":{{"creationDate":"2026-03-01T09:00:00Z","mfaAuthenticated":"{mfa}"}}}}}},"#
        );
    } else {
        let _ = write!(
            out,
            r#""userIdentity":{{"type":"AssumedRole","principalId":"AROA{principal}:{name}-session","arn":"arn:aws:sts::{account}:assumed-role/{name}/{name}-session","accountId":"{account}","accessKeyId":"ASIA{key}","sessionContext":{{"sessionIssuer":{{"type":"Role","principalId":"AROA{principal}","arn":"arn:aws:iam::{account}:role/{name}","accountId":"{account}","userName":"{name}"}},"webIdFederationData":{{}},"attributes":{{"creationDate":"2026-03-01T09:00:00Z","mfaAuthenticated":"{mfa}"}}}}}},"#
        );
    }
}

fn event(r: &mut Random) -> String {
    let account = format!("{:012}", r.below(40) + 100_000_000_000);
    let (service, name) = CALLS[r.below(CALLS.len())];
    let region = r.pick(&["us-east-1", "us-west-2", "eu-central-1", "eu-west-1"]);
    let short = service.split('.').next().unwrap_or(service);
    let address =
        format!("{}.{}.{}.{}", r.below(223) + 1, r.below(256), r.below(256), r.below(256));
    let agent = r.pick(&[
        "aws-cli/2.15.30 Python/3.11.8 Linux/5.10.210 exe/x86_64.amzn.2 prompt/off command/call",
        "Boto3/1.34.50 md/Botocore#1.34.50 ua/2.0 os/linux#5.10 md/arch#x86_64 lang/python#3.9.18",
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko)",
        "AWS Internal",
    ]);
    let (id, event_id, request) = (r.hex(32), r.hex(32), r.hex(32));
    let time = format!("2026-03-{:02}T{:02}:{:02}:{:02}Z", r.below(28) + 1, r.below(24), 7, 30);
    let mut e = String::with_capacity(2400);
    let _ = write!(
        e,
        r#"{{"version":"0","id":"{id}","detail-type":"AWS API Call via CloudTrail","source":"aws.{short}","account":"{account}","time":"{time}","region":"{region}","resources":[],"detail":{{"eventVersion":"1.09","#
    );
    identity(r, &account, &mut e);
    let _ = write!(
        e,
        r#""eventTime":"{time}","eventSource":"{service}","eventName":"{name}","awsRegion":"{region}","sourceIPAddress":"{address}","userAgent":"{agent}","#
    );
    match r.below(8) {
        0 => e.push_str(r#""errorCode":"AccessDenied","errorMessage":"User is not authorized","#),
        1 => e.push_str(r#""errorCode":"NoSuchEntity","#),
        _ => {}
    }
    if r.below(5) == 0 {
        let _ = write!(
            e,
            r#""requestParameters":{{"policyName":"p-{}","policyDocument":"{{\"Version\":\"2012-10-17\",\"Statement\":[{{\"Effect\":\"Allow\",\"Action\":[\"*\"],\"Resource\":\"*\"}}]}}","userName":"u-{}"}},"#,
            r.below(1000),
            r.below(100)
        );
    } else {
        let _ = write!(
            e,
            r#""requestParameters":{{"bucketName":"logs-{account}","maxResults":{},"ipPermissions":{{"items":[{{"ipProtocol":"tcp","fromPort":{},"toPort":443,"ipRanges":{{"items":[{{"cidrIp":"10.{}.0.0/16"}}]}}}}]}}}},"#,
            r.below(1000),
            r.below(1024),
            r.below(256)
        );
    }
    if r.below(2) == 0 {
        e.push_str(r#""responseElements":null,"#);
    } else {
        let _ = write!(
            e,
            r#""responseElements":{{"requestId":"{request}","_return":true}},"additionalEventData":{{"SignatureVersion":"SigV4","CipherSuite":"ECDHE-RSA-AES128-GCM-SHA256","bytesTransferredIn":{},"AuthenticationMethod":"AuthHeader"}},"#,
            r.below(5000)
        );
    }
    let _ = write!(
        e,
        r#""requestID":"{request}","eventID":"{event_id}","readOnly":{},"resources":[{{"accountId":"{account}","type":"AWS::S3::Bucket","ARN":"arn:aws:s3:::logs-{account}"}},{{"type":"AWS::S3::Object","ARN":"arn:aws:s3:::logs-{account}/AWSLogs/{account}/{region}"}}],"eventType":"AwsApiCall","managementEvent":true,"recipientAccountId":"{account}","eventCategory":"Management","tlsDetails":{{"tlsVersion":"TLSv1.3","cipherSuite":"TLS_AES_128_GCM_SHA256","clientProvidedHostHeader":"{short}.{region}.amazonaws.com"}},"sessionCredentialFromConsole":"true"}}}}"#,
        r.pick(&["true", "false"])
    );
    e
}

const ROOT: [&str; 1] = [r#"{"detail":{"userIdentity":{"type":["Root"]}}}"#];

const MIXED: [&str; 16] = [
    r#"{"detail":{"userIdentity":{"type":["Root"]}}}"#,
    r#"{"detail":{"eventName":["ConsoleLogin"],"userIdentity":{"type":["Root"]}}}"#,
    r#"{"detail":{"eventName":[{"prefix":"Create"},{"prefix":"Put"}]}}"#,
    r#"{"detail":{"eventSource":[{"suffix":".amazonaws.com.cn"}]}}"#,
    r#"{"detail":{"userIdentity":{"arn":[{"wildcard":"arn:aws:sts::*:assumed-role/admin/*"}]}}}"#,
    r#"{"detail":{"sourceIPAddress":[{"cidr":"203.0.0.0/8"}]}}"#,
    r#"{"detail":{"sourceIPAddress":[{"cidr":"2001:db8::/32"},{"cidr":"10.0.0.0/8"}]}}"#,
    r#"{"detail":{"awsRegion":[{"anything-but":["us-east-1","us-west-2"]}]}}"#,
    r#"{"detail":{"errorCode":[{"exists":false}],"readOnly":[false]}}"#,
    r#"{"detail":{"errorCode":[{"exists":true}],"eventName":[{"anything-but":{"prefix":"Get"}}]}}"#,
    r#"{"detail":{"requestParameters":{"maxResults":[{"numeric":[">",100,"<=",200]}]}}}"#,
    r#"{"detail":{"userAgent":[{"equals-ignore-case":"aws internal"}]}}"#,
    r#"{"source":["aws.iam"],"$or":[{"detail":{"eventName":["CreateAccessKey"]}},{"detail":{"errorCode":["AccessDenied"]}}]}"#,
    r#"{"detail":{"resources":{"type":["AWS::S3::Bucket"],"ARN":[{"suffix":"7"}]}}}"#,
    r#"{"detail-type":["AWS API Call via CloudTrail"],"detail":{"eventName":["StopLogging","DeleteTrail"]}}"#,
    r#"{"detail":{"userIdentity":{"sessionContext":{"attributes":{"mfaAuthenticated":["false"]}}},"managementEvent":[true]}}"#,
];

fn exact() -> Vec<String> {
    (0..200)
        .map(|n| {
            let (service, name) = CALLS[n % CALLS.len()];
            let account = 100_000_000_000_usize + n;
            match n % 4 {
                0 => format!(r#"{{"account":["{account}"],"detail":{{"eventName":["{name}"]}}}}"#),
                1 => format!(r#"{{"detail":{{"eventSource":["{service}"],"eventName":["X{n}"]}}}}"#),
                2 => format!(r#"{{"detail":{{"eventName":["{name}","Y{n}"],"awsRegion":["r{n}"]}}}}"#),
                _ => format!(r#"{{"detail":{{"userIdentity":{{"accountId":["{account}"],"type":["Root"]}}}}}}"#),
            }
        })
        .collect()
}

/// Seconds this thread has spent on a processor, from the first field of its `schedstat`.
fn cpu_seconds() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/schedstat").ok()?;
    let nanoseconds: f64 = text.split(' ').next()?.parse().ok()?;
    Some(nanoseconds / 1e9)
}

fn measure(name: &str, patterns: &[impl AsRef<str>], events: &[String]) {
    let patterns: Vec<EventPattern> = patterns
        .iter()
        .map(|text| EventPattern::parse(text.as_ref()).expect("patterns are valid"))
        .collect();
    let set = PatternSet::new(patterns);
    let mut matcher = set.matcher();
    let (mut matched_events, mut matches) = (0, 0);
    for event in events {
        let found = matcher.run(event).expect("events are valid").matched.len();
        matched_events += usize::from(found > 0);
        matches += found;
    }
    let mut speeds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let cpu = cpu_seconds();
            let start = Instant::now();
            let mut done = 0_usize;
            let mut total = 0;
            while start.elapsed() < ROUND {
                for event in events {
                    total += matcher.run(event).expect("events are valid").matched.len();
                }
                done += events.len();
            }
            assert_eq!(total, matches * (done / events.len()));
            let wall = start.elapsed().as_secs_f64();
            let seconds = cpu_seconds().zip(cpu).map_or(wall, |(end, start)| end - start);
            done as f64 / seconds
        })
        .collect();
    speeds.sort_by(f64::total_cmp);
    println!(
        "{name:<18} {:>10.0} events/s median ({:.0} to {:.0}), {matched_events} events matched, {matches} matches",
        speeds[ROUNDS / 2],
        speeds[0],
        speeds[ROUNDS - 1],
    );
}

fn main() {
    // `cargo test --benches` also runs this; there is nothing to measure in a debug build.
    let count = if cfg!(debug_assertions) { 100 } else { EVENTS };
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let events: Vec<String> = (0..count).map(|_| event(&mut random)).collect();
    let bytes: usize = events.iter().map(String::len).sum();
    println!("{} events, {} bytes each on average", events.len(), bytes / events.len());
    measure("1 root pattern", &ROOT, &events);
    measure("16 mixed patterns", &MIXED, &events);
    measure("200 exact", &exact(), &events);
}
