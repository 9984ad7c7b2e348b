//! Texts as CloudTrail and the services that carry its records write them, and others that no service
//! would write, made from a tape of choices. The empty tape gives the plainest text, so that a shorter
//! tape is a simpler failure.

use std::fmt::Write;

/// Choices, one a byte; after the end every choice is the first.
pub(crate) struct Tape<'t> {
    bytes: &'t [u8],
    at: usize,
}

impl<'t> Tape<'t> {
    pub(crate) fn new(bytes: &'t [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn byte(&mut self) -> usize {
        self.at += 1;
        self.bytes.get(self.at - 1).copied().unwrap_or(0).into()
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        let choice = if n > 256 { self.byte() * 256 + self.byte() } else { self.byte() };
        choice % n
    }

    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// False on an empty tape.
    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == n - 1
    }

    fn shuffle<T>(&mut self, list: &mut [T]) {
        // Mostly as it was: CloudTrail's own order.
        match self.below(8) {
            0..5 => {}
            5 => list.reverse(),
            6 if !list.is_empty() => {
                let by = self.below(list.len());
                list.rotate_left(by);
            }
            _ => {
                for last in (1..list.len()).rev() {
                    let with = self.below(last + 1);
                    list.swap(last, with);
                }
            }
        }
    }
}

/// JSON that keeps the order of members and may repeat them.
#[derive(Clone, Debug)]
pub(crate) enum Json {
    Raw(&'static str),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(&'static str, Json)>),
}

use Json::{List, Object, Raw};

fn text(text: impl Into<String>) -> Json {
    Json::Text(text.into())
}

const ACCOUNT: &str = "222233334444";
const ROOT_ARN: &str = "arn:aws:iam::222233334444:root";
const ROOTS: [&str; 5] = ["Root", "ROOT", "root", "rOoT", "RooT"];

/// Names that nothing matches, names that rules or the classification match, and names like them.
const NAMES: [&str; 26] = [
    "DescribeInstances",
    "GetObject",
    "AssumeRoot",
    "AssumeRole",
    "ConsoleLogin",
    "StopLogging",
    "X",
    "CreateAccessKey",
    "PasswordRecoveryRequested",
    "CloseAccount",
    "SetSecurityQuestions",
    "DeleteTrail",
    "AssumeRootX",
    "assumeroot",
    "StopLoggin",
    "StopLoggings",
    "DeleteRootCA",
    "AwsConsoleAction",
    "LeaveOrganization",
    "DeleteDetector",
    "PutBucketPolicy",
    "a name with spaces, a \"quote\" and a \\",
    "名前",
    "ListRoot",
    "eventName",
    "StopConfigurationRecorder",
];

const SOURCES: [&str; 9] = [
    "ec2.amazonaws.com",
    "sts.amazonaws.com",
    "signin.amazonaws.com",
    "iam.amazonaws.com",
    "cloudtrail.amazonaws.com",
    "billingconsole.amazonaws.com",
    "organizations.amazonaws.com",
    "guardduty.amazonaws.com",
    "sts.amazonaws.com.cn",
];

/// One record; `id` becomes its `eventID`.
pub(crate) fn record(tape: &mut Tape<'_>, id: usize) -> Json {
    let mut members =
        vec![("eventVersion", text("1.11")), ("eventSource", text(tape.pick(&SOURCES)))];
    match tape.below(16) {
        0..12 => members.push(("eventName", text(tape.pick(&NAMES)))),
        12 => {}
        13 => members.push(("eventName", List(vec![text(tape.pick(&NAMES))]))),
        14 => members.push(("eventName", Raw(tape.pick(&["null", "7", "true", "\"\"", "{}"])))),
        _ => {
            members.push(("eventName", text(tape.pick(&NAMES))));
            members.push(("eventName", text(tape.pick(&NAMES))));
        }
    }
    if let Some(identity) = identity(tape) {
        members.push(("userIdentity", identity));
    }
    if tape.one_in(16) {
        members.extend(identity(tape).map(|identity| ("userIdentity", identity)));
    }
    const TYPES: [&str; 5] = [
        "AwsApiCall",
        "AwsConsoleSignIn",
        "AwsConsoleAction",
        "AwsServiceEvent",
        "awsserviceevent",
    ];
    if !tape.one_in(4) {
        members.push(("eventType", text(tape.pick(&TYPES))));
    }
    if !tape.one_in(16) {
        members.push(("eventID", text(format!("id-{id}"))));
    }
    members.push(("eventTime", text(format!("2026-05-04T14:{:02}:00Z", id % 60))));
    members.push(("requestParameters", decoy(tape)));
    if tape.one_in(2) {
        members.push(("responseElements", decoy(tape)));
    }
    if tape.one_in(4) {
        members.push(("errorCode", text("AccessDenied")));
    }
    if tape.one_in(8) {
        members.push((tape.pick(&["TopicArn", "Message", "detail", "source"]), decoy(tape)));
    }
    members.push(("awsRegion", text("us-east-1")));
    members
        .push(("userAgent", text(tape.pick(&["aws-cli/2", "a & <b> 'c' = d", "é \u{1F600} 名"]))));
    members.push(("recipientAccountId", text(ACCOUNT)));
    tape.shuffle(&mut members);
    Object(members)
}

fn identity(tape: &mut Tape<'_>) -> Option<Json> {
    let arn = ("arn", text(ROOT_ARN));
    let account = ("accountId", text(ACCOUNT));
    let user_arn = ("arn", text("arn:aws:iam::222233334444:user/root"));
    let mut members = match tape.below(16) {
        0 => vec![("type", text("IAMUser")), user_arn, account],
        1 => vec![("type", text("AssumedRole")), account],
        2 | 3 => vec![("type", text(tape.pick(&ROOTS))), arn, account],
        4 => vec![
            ("type", text(tape.pick(&ROOTS))),
            ("invokedBy", text(tape.pick(&["autoscaling.amazonaws.com", "signin.amazonaws.com"]))),
        ],
        5 => vec![arn, account],
        6 => vec![("arn", text("arn:aws-us-gov:iam::222233334444:root"))],
        7 => vec![account],
        8 => vec![("type", text("IAMUser")), ("userName", text("root")), user_arn],
        9 => vec![("type", text("AWSAccount")), arn],
        10 => vec![("type", List(vec![text("Root")])), user_arn],
        11 => vec![("type", Raw("null")), arn],
        12 => vec![("type", text("Root")), ("type", text("IAMUser"))],
        13 => return None,
        14 => return Some(Raw(tape.pick(&["null", "\"Root\"", "[{\"type\":\"Root\"}]", "7"]))),
        _ => vec![("type", text("AWSService")), ("invokedBy", text("sts.amazonaws.com"))],
    };
    let session = match tape.below(10) {
        0..4 => None,
        4 => Some((
            "sessionIssuer",
            Object(vec![("type", text("Role")), ("userName", text("Root"))]),
        )),
        5 => Some(("sessionIssuer", Object(vec![("type", text(tape.pick(&ROOTS)))]))),
        6 => Some(("assumedRoot", Raw(tape.pick(&["\"true\"", "true", "\"True\"", "[true]"])))),
        7 => Some(("assumedRoot", Raw(tape.pick(&["\"false\"", "false", "null", "\"yes\""])))),
        8 => Some(("attributes", Object(vec![("mfaAuthenticated", text("false"))]))),
        _ => Some(("sessionIssuer", Raw("[]"))),
    };
    members.extend(session.map(|member| ("sessionContext", Object(vec![member]))));
    tape.shuffle(&mut members);
    Some(Object(members))
}

/// What stands in a record and looks like root use, or like another record, and is neither.
fn decoy(tape: &mut Tape<'_>) -> Json {
    let root = || Object(vec![("type", text("Root")), ("arn", text(ROOT_ARN))]);
    match tape.below(14) {
        0 => Raw("null"),
        1 => Object(vec![("userIdentity", root())]),
        2 => Object(vec![(
            "policy",
            text(r#"{"Statement":[{"Principal":{"AWS":"arn:aws:iam::222233334444:root"}}]}"#),
        )]),
        3 => Object(vec![("name", text("RootCA")), ("other", text("Root"))]),
        4 => Object(vec![("eventName", text(tape.pick(&NAMES)))]),
        5 => Object(vec![("quoted", text(r#"{"userIdentity":{"type":"Root"}}"#))]),
        6 => List(vec![root(), text("}{][\",:"), Raw("-1.5e3")]),
        7 => Object(vec![(
            "inner",
            Object(vec![
                ("eventVersion", text("1.11")),
                ("eventID", text("decoy")),
                ("eventName", text("AssumeRoot")),
                ("userIdentity", root()),
            ]),
        )]),
        8 => Object(vec![("Records", List(vec![root()])), ("Events", List(vec![]))]),
        9 => Object(vec![("x", text("\\")), ("y", text("\"")), ("z", text("\\\"Root\\"))]),
        10 => Object(vec![("assumedRoot", text("true")), ("eventType", text("AwsConsoleAction"))]),
        11 => text(r#"{"Records":[{"eventName":"AssumeRoot","eventSource":"sts.amazonaws.com"}]}"#),
        12 => Object(vec![("bucketName", text("b")), ("userName", text("root"))]),
        _ => text("\u{0}\u{1f}\u{7f}\u{2028}\u{10ffff} tab\tline\n"),
    }
}

/// How a text is written.
pub(crate) struct Writer<'a, 't> {
    pub(crate) tape: &'a mut Tape<'t>,
    spaces: [&'static str; 3],
    mixed: bool,
    /// One string in so many is written with escapes; none for 0.
    escapes: usize,
}

impl<'a, 't> Writer<'a, 't> {
    pub(crate) fn new(tape: &'a mut Tape<'t>) -> Self {
        // After an opening bracket or comma, before and after a colon.
        let (spaces, mixed) = match tape.below(10) {
            0..5 => (["", "", ""], false),
            5 => ([" ", "", " "], false),
            6 => (["\n    ", "", " "], false),
            7 => (["\t", "\t", "\t"], false),
            8 => (["\r\n", " ", "\r\n\r\n"], false),
            _ => (["", "", ""], true),
        };
        let escapes = tape.pick(&[0, 0, 0, 12, 3, 1]);
        Self { tape, spaces, mixed, escapes }
    }

    fn space(&mut self, out: &mut String, which: usize) {
        let space = if self.mixed {
            self.tape.pick(&["", " ", "\n", "\t\t", "\r\n  ", "          "])
        } else {
            self.spaces[which]
        };
        out.push_str(space);
    }

    pub(crate) fn write(&mut self, out: &mut String, value: &Json) {
        match value {
            Json::Raw(raw) => out.push_str(raw),
            Json::Text(text) => self.string(out, text),
            Json::List(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    out.push_str(if index == 0 { "" } else { "," });
                    self.space(out, 0);
                    self.write(out, item);
                }
                self.space(out, 1);
                out.push(']');
            }
            Json::Object(members) => {
                out.push('{');
                for (index, (name, value)) in members.iter().enumerate() {
                    out.push_str(if index == 0 { "" } else { "," });
                    self.space(out, 0);
                    self.string(out, name);
                    self.space(out, 1);
                    out.push(':');
                    self.space(out, 2);
                    self.write(out, value);
                }
                self.space(out, 1);
                out.push('}');
            }
        }
    }

    /// A string, in which any character may be an escape.
    fn string(&mut self, out: &mut String, text: &str) {
        let with_escapes = self.escapes > 0 && self.tape.one_in(self.escapes.max(2));
        // All of them, every second one, quotes and backslashes only, or a single one.
        let manner = if with_escapes { 1 + self.tape.below(4) } else { 0 };
        let single =
            if manner == 4 { self.tape.below(64) % text.chars().count().max(1) } else { 0 };
        let upper = manner > 0 && self.tape.one_in(2);
        out.push('"');
        for (index, letter) in text.chars().enumerate() {
            let special = matches!(letter, '"' | '\\');
            let escaped = match manner {
                0 => false,
                1 => true,
                2 => index % 2 == 1,
                3 => special || "<>&'=".contains(letter),
                _ => index == single,
            };
            match letter {
                _ if escaped => escape(out, letter, upper),
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\t' => out.push_str("\\t"),
                '\u{0}'..='\u{1f}' => escape(out, letter, upper),
                '/' if upper => out.push_str("\\/"),
                _ => out.push(letter),
            }
        }
        out.push('"');
    }
}

fn escape(out: &mut String, letter: char, upper: bool) {
    for unit in letter.encode_utf16(&mut [0; 2]) {
        let written =
            if upper { write!(out, "\\u{unit:04X}") } else { write!(out, "\\u{unit:04x}") };
        written.expect("memory");
    }
}

/// A text, and what a reader must find in it.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) text: Vec<u8>,
    pub(crate) records: Vec<serde_json::Value>,
    /// The text's units are its records one to one, so that they can be counted without decoding.
    pub(crate) plain: bool,
}

/// A sound text of up to six records in one of the shapes in which they arrive.
pub(crate) fn sound(tape: &mut Tape<'_>) -> Made {
    let shape = tape.below(18);
    let bom = tape.one_in(12);
    let count = if shape == 4 { 1 } else { 1 + tape.below(6) };
    let records: Vec<Json> = (0..count).map(|id| record(tape, id)).collect();
    let mut writer = Writer::new(tape);
    let mut written = Vec::new();
    for record in &records {
        let mut out = String::new();
        writer.write(&mut out, record);
        written.push(out);
    }
    let values =
        written.iter().map(|text| serde_json::from_str(text).expect("a sound record")).collect();
    let mut out = String::new();
    if bom {
        out.push('\u{feff}');
    }
    wrap(&mut writer, &mut out, shape, &written);
    Made { text: out.into_bytes(), records: values, plain: shape != 9 }
}

fn wrap(writer: &mut Writer<'_, '_>, out: &mut String, shape: usize, written: &[String]) {
    let separator = |writer: &mut Writer<'_, '_>| {
        let mut out = String::new();
        writer.space(&mut out, 0);
        out + ","
    };
    let list = |writer: &mut Writer<'_, '_>| {
        let separator = separator(writer);
        format!("[{}]", written.join(&separator))
    };
    let member = |writer: &mut Writer<'_, '_>, name: &str, value: &str| {
        let mut out = String::new();
        writer.string(&mut out, name);
        writer.space(&mut out, 1);
        out.push(':');
        writer.space(&mut out, 2);
        out + value
    };
    match shape {
        1 => out.push_str(&list(writer)),
        2 => written.iter().for_each(|one| *out += &format!("{one}\n")),
        3 | 4 => written.iter().for_each(|one| *out += one),
        5 => written.iter().for_each(|one| *out += &format!("{}\r\n", event(writer, one))),
        6 => {
            for one in written {
                let message = event(writer, one);
                *out += &format!("{}\n", envelope(writer, &message));
            }
        }
        7 => {
            let message = format!("{{\"Records\":{}}}", list(writer));
            *out += &envelope(writer, &message);
        }
        8 => {
            let entries: Vec<String> = written
                .iter()
                .map(|one| {
                    let entry = Object(vec![
                        ("EventName", text("GetUser")),
                        ("Username", text("root")),
                        ("CloudTrailEvent", text(one.clone())),
                    ]);
                    let mut out = String::new();
                    writer.write(&mut out, &entry);
                    out
                })
                .collect();
            let events = format!("[{}]", entries.join(","));
            *out += &format!("{{{},\"NextToken\":\"x\"}}", member(writer, "Events", &events));
        }
        9 => {
            let list = list(writer);
            *out += &format!("{{\"version\":1,{}}}", member(writer, "Records", &list));
        }
        10 => {
            let list = list(writer);
            let records = member(writer, "Records", &list);
            *out += &format!("{{{records},\"eventName\":\"X\",\"more\":[{{}}],\"y\":\"]}}\"}} ");
        }
        11 => {
            let (first, second) = written.split_at(written.len() / 2);
            let (first, second) =
                (format!("[{}]", first.join(",")), format!("[{}]", second.join(",")));
            let first = member(writer, "Records", &first);
            *out +=
                &format!("{{{first},\"y\":{{\"z\":1}},{}}}\n", member(writer, "Records", &second));
        }
        12 => {
            for one in written {
                *out += &format!("{{{}}}\n", member(writer, "Records", &format!("[{one}]")));
            }
        }
        _ => {
            let list = list(writer);
            *out += &format!("{{{}}}", member(writer, "Records", &list));
        }
    }
}

/// An EventBridge event around a record.
fn event(writer: &mut Writer<'_, '_>, record: &str) -> String {
    let mut members = vec![
        format!("\"source\":\"aws.{}\"", writer.tape.pick(&["iam", "signin", "sts"])),
        "\"detail-type\":\"AWS API Call via CloudTrail\"".to_owned(),
        "\"account\":\"222233334444\"".to_owned(),
        format!("\"detail\":{record}"),
    ];
    writer.tape.shuffle(&mut members);
    format!("{{{}}}", members.join(","))
}

/// An SNS envelope around a text.
fn envelope(writer: &mut Writer<'_, '_>, message: &str) -> String {
    let mut members = vec![
        ("Type", text("Notification")),
        ("TopicArn", text("arn:aws:sns:us-east-1:222233334444:root")),
        ("Message", text(message)),
    ];
    if writer.tape.one_in(4) {
        members.push(("MessageAttributes", Object(vec![("eventName", text("GetObject"))])));
    }
    writer.tape.shuffle(&mut members);
    let mut out = String::new();
    writer.write(&mut out, &Object(members));
    out
}

/// What is put into a text to break it.
const SHARDS: [&[u8]; 28] = [
    b"\"",
    b"\\",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\n",
    b"\n{",
    b"\0",
    b"\xff",
    b"\xc3\x28",
    b"\xed\xa0\x80",
    b"\\ud800",
    b"\\u",
    b"\\u00",
    b"\xef\xbb\xbf",
    b"{\"eventVersion\":\"1.11\",",
    b"{ \"eventVersion\"",
    b"\"eventName\":\"AssumeRoot\",",
    b"\"Root\"",
    b"\\\"Root\\\"",
    b"{\"Records\":[",
    b"]}",
    b"\"Message\":\"{",
    b"{\"a\":\"",
    b"\"}}}}]}",
];

/// Breaks a text in one way.
pub(crate) fn damage(tape: &mut Tape<'_>, text: &mut Vec<u8>) {
    let at = tape.below(text.len() + 1);
    match tape.below(8) {
        0 | 1 => {
            let shard = tape.pick(&SHARDS);
            text.splice(at..at, shard.iter().copied());
        }
        2 => text.truncate(at),
        3 if at < text.len() => text[at] ^= 1 << tape.below(8),
        4 => {
            let end = (at + 1 + tape.below(40)).min(text.len());
            text.drain(at..end);
        }
        5 => {
            let end = (at + tape.below(600)).min(text.len());
            let copy = text[at..end].to_vec();
            let to = tape.below(text.len() + 1);
            text.splice(to..to, copy);
        }
        6 => {
            let deep = tape.pick(&[&b"["[..], b"{\"a\":", b"]", b"}", b"{"]);
            text.splice(at..at, deep.repeat(1 + tape.below(200)));
        }
        _ => text.rotate_left(at),
    }
}
