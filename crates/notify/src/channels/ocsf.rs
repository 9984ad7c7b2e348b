//! The channel `ocsf`: Incident and Detection Findings of the Open Cybersecurity Schema Framework, one
//! JSON object a line, in a file or under a prefix of Amazon S3. See [`rootwatch_core::ocsf`].

mod file;

use std::io::{ErrorKind, Write as _};
use std::path::PathBuf;
use std::sync::LazyLock;

use async_trait::async_trait;
use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use reqwest::Method;
use rootwatch_core::alert::{AlertKind, CloseReason};
use rootwatch_core::finding::{Finding, Severity};
use rootwatch_core::ocsf::{self, Activity, Context, Notice, RuleText};
use rootwatch_core::rules::Ruleset;
use rootwatch_core::window::Approval;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::file::Lines;
use super::{Behavior, Channel, Facts, Fault, Message, Settings, ThreadMemory, Tools};
use crate::Sent;
use crate::aws::{self, Aws, Call, Failed, Service};

/// Bytes of a delivery's lines, before they are compressed.
pub const LINES_BYTES_MAX: usize = 1 << 20;
/// Default size of a file in bytes.
const BYTES_MAX: u64 = 64 << 20;
/// Default number of files to keep.
const FILES_MAX: u32 = 10;
/// Letters of a bucket's name.
const BUCKET_CHARS: std::ops::RangeInclusive<usize> = 3..=63;
/// Letters of a prefix: a key of S3 has at most 1,024 bytes, and ours need some.
const PREFIX_CHARS_MAX: usize = 700;

static RULES: LazyLock<Ruleset> = LazyLock::new(Ruleset::built_in);

/// Writes findings in the format of OCSF to a file or to Amazon S3.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// File to append lines to. Either this or `s3`.
    #[serde(default)]
    pub path: Option<String>,
    /// Size in bytes at which the file is rotated to `<path>.1` and so on; 65,536 to
    /// 1,099,511,627,776.
    #[serde(default = "bytes_max")]
    pub bytes_max: u64,
    /// Number of files to keep, including the current one; 1 to 1,000.
    #[serde(default = "files_max")]
    pub files_max: u32,
    /// Bucket and prefix: `s3://bucket/prefix`. Either this or `path`.
    #[serde(default)]
    pub s3: Option<String>,
    /// Region of the bucket. Default: the region of the environment.
    #[serde(default)]
    pub region: Option<String>,
    /// ARN of a role to assume. Default: the hub's own credentials.
    #[serde(default)]
    pub role: Option<String>,
    /// Custom S3 endpoint: an interface VPC endpoint, or LocalStack for tests. May be private and
    /// use `http`.
    #[serde(default)]
    pub endpoint_url: Option<String>,
}

fn bytes_max() -> u64 {
    BYTES_MAX
}

fn files_max() -> u32 {
    FILES_MAX
}

impl Settings for Config {
    const BEHAVIOR: Behavior = Behavior { is_chat: false, rate_per_minute: 0 };
    const FACTS: Facts = Facts {
        about: "Writes each alert as lines of OCSF 1.4.0 in JSON: an Incident Finding (class 2005) \
                with the current state of the incident, and a Detection Finding (class 2004) for \
                each new finding. `metadata.correlation_uid`, the incident's id, joins them. With \
                `path`, lines are appended to a file (mode 0600, flushed to disk) that is rotated \
                when it is full; with `s3`, each delivery is one object, compressed with gzip, \
                `<prefix>/<year>/<month>/<day>/<delivery>.jsonl.gz`. A digest has one line per \
                incident; tests and delivery outages are also lines of class 2005. Your own rules \
                appear by id. S3 needs `s3:PutObject` below the prefix, and the key of an \
                encrypted bucket.",
        limits: &[(
            "lines of a delivery",
            "1 MiB; further findings are omitted and counted in `unmapped.findings_left_out`",
        )],
        answers: &[
            ("the folder does not exist, the disk is full", "retried"),
            ("the path is a folder, the file may not be written", "the configuration is wrong"),
            ("S3: 200", "delivered; the receipt is the object's address"),
            ("S3: `SlowDown`, 408, 429, 500 and above, no answer", "retried"),
            ("S3: `AccessDenied`, `NoSuchBucket`, another region", "the configuration is wrong"),
            ("other", "permanent failure"),
        ],
        repeats: "A retry overwrites its S3 object. In a file, lines may appear twice, with the \
                  same `metadata.uid`, if the hub was killed after writing them.",
        probe: "Opens the file for appending, or lists one key of the bucket with `s3:ListBucket`. \
                `s3:PutObject` is not checked.",
    };

    fn keeps_tickets(&self) -> bool {
        true
    }

    fn example() -> Self {
        Self {
            path: None,
            bytes_max: BYTES_MAX,
            files_max: FILES_MAX,
            s3: Some("s3://example-security-lake/rootwatch".to_owned()),
            region: Some("eu-west-1".to_owned()),
            role: None,
            endpoint_url: None,
        }
    }

    fn problems(&self) -> Vec<Fault> {
        let (endpoint, role) = (self.endpoint_url.as_deref(), self.role.as_deref());
        let mut faults = aws::problems(self.region.as_deref(), endpoint, role);
        match (&self.path, &self.s3) {
            (Some(path), None) => {
                if path.is_empty() || path.ends_with('/') {
                    faults.push(("path", "not a file".to_owned()));
                }
                for (key, given) in [("region", &self.region), ("role", &self.role)] {
                    if given.is_some() {
                        faults.push((key, "this is for `s3`".to_owned()));
                    }
                }
            }
            (None, Some(_)) if self.place().is_none() => {
                let looks = "`s3://bucket/prefix`, of letters, digits and /._=-";
                faults.push(("s3", format!("not a bucket and prefix, for example {looks}")));
            }
            (None, Some(_)) => {}
            _ => faults.push(("path", "either `path` or `s3` is needed".to_owned())),
        }
        if !(64 << 10..=1 << 40).contains(&self.bytes_max) {
            faults.push(("bytes_max", "must be 65536 to 1099511627776".to_owned()));
        }
        if !(1..=1_000).contains(&self.files_max) {
            faults.push(("files_max", "must be 1 to 1000".to_owned()));
        }
        faults
    }

    fn render(&self, message: &Message<'_>) -> Vec<u8> {
        render(message)
    }

    fn open(&self, tools: &Tools<'_>) -> Result<Box<dyn Channel>, Vec<Fault>> {
        if let Some(path) = &self.path {
            let lines = Lines {
                path: PathBuf::from(path),
                bytes_max: self.bytes_max,
                files_max: self.files_max,
            };
            return Ok(Box::new(InFile { lines }));
        }
        let (endpoint, role) = (self.endpoint_url.as_deref(), self.role.as_deref());
        let aws = Aws::new(tools.aws.clone(), self.region.as_deref(), endpoint, role)?;
        let (bucket, prefix) = self.place().unwrap_or_default();
        Ok(Box::new(InS3 { aws, bucket: bucket.to_owned(), prefix: prefix.to_owned() }))
    }
}

impl Config {
    /// The bucket, and the prefix without slashes at its ends.
    fn place(&self) -> Option<(&str, &str)> {
        let rest = self.s3.as_deref()?.strip_prefix("s3://")?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.trim_matches('/');
        let is_bucket = BUCKET_CHARS.contains(&bucket.len())
            && bucket.starts_with(|letter: char| letter.is_ascii_alphanumeric())
            && bucket
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-".contains(&b));
        let is_prefix = prefix.len() <= PREFIX_CHARS_MAX
            && prefix.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._=-".contains(&b))
            && !prefix
                .split('/')
                .any(|part| (part.is_empty() && !prefix.is_empty()) || part == "." || part == "..");
        (is_bucket && is_prefix).then_some((bucket, prefix))
    }
}

/// The lines: each a whole JSON object, together at most [`LINES_BYTES_MAX`] bytes.
#[must_use]
pub fn render(message: &Message<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut left_out = 0_u64;
    let events = events(message);
    let total = events.len();
    for (place, event) in events.into_iter().enumerate() {
        let line = event.to_string();
        if out.len() + line.len() + 1 + COUNT_BYTES > LINES_BYTES_MAX {
            left_out = (total - place) as u64;
            break;
        }
        out.extend_from_slice(line.as_bytes());
        out.push(b'\n');
    }
    if left_out > 0 {
        let (title, uid) = (&message.wording.title, message.thread);
        let mut said = ocsf::notice(&Notice {
            uid,
            title: &rootwatch_core::text::cap(title, 300),
            severity: message.alert.severity,
            at: message.alert.decided_at,
            is_over: false,
        });
        said["unmapped"]["findings_left_out"] = left_out.into();
        out.extend_from_slice(said.to_string().as_bytes());
        out.push(b'\n');
    }
    out
}

/// Bytes that are kept free for the line that counts what was left out.
const COUNT_BYTES: usize = 8 << 10;

/// What an alert says, the incidents first.
fn events(message: &Message<'_>) -> Vec<Value> {
    let alert = message.alert;
    let rule_of = |id: &str| RULES.get(id).map(RuleText::of);
    let accounts = alert.incidents.iter().flat_map(|brief| &brief.accounts);
    let names: std::collections::HashMap<&str, &String> = accounts
        .filter_map(|account| account.name.as_ref().map(|name| (account.id.as_str(), name)))
        .collect();
    let name_of = |id: &str| names.get(id).map(|name| (*name).clone());
    let context = Context { rule_of: &rule_of, name_of: &name_of, at: Some(alert.decided_at) };
    let activity = match &alert.kind {
        AlertKind::Opened | AlertKind::Digest => Activity::Create,
        AlertKind::Closed {
            why: CloseReason::Quiet | CloseReason::Resolved | CloseReason::Joined(_),
        } => Activity::Close,
        _ => Activity::Update,
    };
    // As the destination's redaction left them: what can no longer be read as a finding is no line.
    let findings: Vec<Finding> = message.wording.json["findings"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|value| Finding::deserialize(value).ok())
        .collect();
    if alert.incidents.is_empty() {
        let banner = message.wording.banner.as_deref().unwrap_or_default();
        let is_test = alert.kind == AlertKind::Test;
        let mark = if is_test && !message.wording.title.contains(banner) { banner } else { "" };
        let title = format!("{mark} · {}", message.wording.title);
        return vec![ocsf::notice(&Notice {
            uid: message.thread,
            title: title.trim_start_matches(" · "),
            severity: if is_test { Severity::Informational } else { alert.severity },
            at: alert.decided_at,
            is_over: is_test
                || matches!(alert.kind, AlertKind::DeliveryRecovered { .. } | AlertKind::Digest),
        })];
    }
    let is_digest = alert.kind == AlertKind::Digest;
    let mut events = Vec::new();
    for brief in &alert.incidents {
        let listed: &[Finding] = if is_digest { &[] } else { &findings };
        let mut event = ocsf::incident(&context, brief, listed, activity, alert.decided_at);
        if alert.approval != Approval::Unknown {
            event["unmapped"]["approval"] =
                serde_json::to_value(&alert.approval).unwrap_or_default();
        }
        events.push(event);
    }
    if let Some(brief) = alert.incident() {
        let fresh = findings.iter().filter(|finding| alert.fresh.contains(&finding.key));
        events.extend(
            fresh.map(|one| ocsf::detection(&context, one, &brief.id, Some(brief.state), None)),
        );
    }
    events
}

#[derive(Debug)]
struct InFile {
    lines: Lines,
}

impl InFile {
    /// Does something with the file, away from what must not wait.
    async fn work(
        &self,
        work: impl FnOnce(&Lines) -> std::io::Result<()> + Send + 'static,
        receipt: String,
    ) -> Sent {
        let lines = self.lines.clone();
        let done = tokio::task::spawn_blocking(move || work(&lines)).await;
        let error = match done {
            Ok(Ok(())) => return Sent::Delivered { receipt },
            Ok(Err(error)) => error,
            Err(error) => std::io::Error::other(error),
        };
        let told = format!("cannot write to the file: {error}");
        match error.kind() {
            ErrorKind::IsADirectory | ErrorKind::PermissionDenied | ErrorKind::NotADirectory => {
                Sent::Misconfigured { error: told }
            }
            _ => Sent::RetryAfter { after: None, error: told },
        }
    }
}

#[async_trait]
impl Channel for InFile {
    async fn send(&self, message: &Message<'_>, _: &ThreadMemory<'_>) -> Sent {
        let lines = render(message);
        let count = lines.iter().filter(|byte| **byte == b'\n').count();
        let receipt = format!("{count} line{} appended", if count == 1 { "" } else { "s" });
        self.work(move |file| file.append(&lines), receipt).await
    }

    async fn probe(&self, _now: Timestamp) -> Sent {
        self.work(Lines::probe, "the file can be appended to".to_owned()).await
    }
}

#[derive(Debug)]
struct InS3 {
    aws: Aws,
    bucket: String,
    prefix: String,
}

impl InS3 {
    /// The same in every retry: an object takes its own place.
    fn key(&self, message: &Message<'_>) -> String {
        let day = message.alert.decided_at.to_zoned(TimeZone::UTC).strftime("%Y/%m/%d").to_string();
        let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
        let name: String = message
            .id
            .0
            .chars()
            .map(|letter| if is_plain(letter) { letter } else { '_' })
            .collect();
        let slash = if self.prefix.is_empty() { "" } else { "/" };
        format!("{}{slash}{day}/{name}.jsonl.gz", self.prefix)
    }
}

/// What a refusal asks for.
fn advised(failed: Failed) -> Failed {
    match failed.code.as_str() {
        "NoSuchBucket" => failed.misconfigured().hint("the bucket does not exist"),
        "PermanentRedirect"
        | "AuthorizationHeaderMalformed"
        | "IllegalLocationConstraintException" => {
            failed.misconfigured().hint("set `region` to that of the bucket")
        }
        "AccessDenied" => failed
            .misconfigured()
            .hint("allow the hub's role s3:PutObject below the prefix, and the bucket's key"),
        _ => failed,
    }
}

#[async_trait]
impl Channel for InS3 {
    async fn send(&self, message: &Message<'_>, _: &ThreadMemory<'_>) -> Sent {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        let packed = encoder.write_all(&render(message)).and_then(|()| encoder.finish());
        let body = match packed {
            Ok(body) => body,
            Err(error) => {
                return Sent::Rejected { error: format!("cannot be compressed: {error}") };
            }
        };
        let key = self.key(message);
        let path = format!("/{}/{}", self.bucket, key.replace('=', "%3D"));
        let call = Call {
            content_type: "application/gzip",
            ..Call::rest(Service::S3, Method::PUT, &path, body)
        };
        match self.aws.call(&call, message.now).await {
            // S3 says nothing more; whoever has words to say is somebody else.
            Ok(answer) if answer.body.trim().is_empty() => {
                Sent::Delivered { receipt: format!("s3://{}/{key}", self.bucket) }
            }
            Ok(_) => Sent::RetryAfter {
                after: None,
                error: "the answer does not come from S3".to_owned(),
            },
            Err(failed) => advised(failed).sent,
        }
    }

    async fn probe(&self, now: Timestamp) -> Sent {
        let path = format!("/{}?list-type=2&max-keys=1", self.bucket);
        let call = Call::rest(Service::S3, Method::GET, &path, Vec::new());
        match self.aws.call(&call, now).await {
            Ok(answer) if answer.body.contains("<ListBucketResult") => {
                Sent::Delivered { receipt: format!("s3://{} is there", self.bucket) }
            }
            Ok(_) => Sent::RetryAfter {
                after: None,
                error: "the answer does not come from S3".to_owned(),
            },
            Err(failed) if failed.code == "AccessDenied" => {
                let hint = "the probe looks at the bucket: allow s3:ListBucket";
                failed.misconfigured().hint(hint).sent
            }
            Err(failed) => advised(failed).sent,
        }
    }
}
