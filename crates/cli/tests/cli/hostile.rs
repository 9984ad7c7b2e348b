//! A folder of everything that goes wrong: each thing is named on standard error, costs itself and
//! nothing else, and makes the exit code 3.

use std::fs;
use std::io::Write;
use std::path::Path;

use crate::{gzip, log, path, record, run, run_with, zst};

/// A name, what is in the file, what standard error says of it, and the findings that it has.
struct Case {
    name: &'static str,
    bytes: Vec<u8>,
    said: &'static str,
    ids: &'static [&'static str],
}

fn case(
    name: &'static str,
    bytes: impl Into<Vec<u8>>,
    said: &'static str,
    ids: &'static [&'static str],
) -> Case {
    Case { name, bytes: bytes.into(), said, ids }
}

/// Letters that do not compress well, the same every time.
fn noise(length: usize) -> String {
    let mut state = 9_u64;
    let letter = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        char::from(b'a' + u8::try_from((state >> 33) % 26).expect("26 letters"))
    };
    (0..length).map(letter).collect()
}

/// Scans a folder of these files and of a sound one, and compares all three answers.
fn check(cases: &[Case]) {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    fs::write(at("sound.json"), log(&["sound"])).expect("a file");
    for case in cases {
        fs::write(at(case.name), &case.bytes).expect("a file");
    }
    let told = run(&["scan", path(folder.path())]);
    let mut expected: Vec<&str> = cases.iter().flat_map(|case| case.ids).copied().collect();
    expected.push("sound");
    expected.sort_unstable();
    assert_eq!(told.ids(), expected, "{}", told.err);
    assert_eq!(told.code, 3, "{}", told.err);
    assert!(!told.err.contains("sound.json"), "{}", told.err);
    for case in cases {
        let reasons = said_of(&told.err, &at(case.name));
        assert!(reasons.contains(case.said), "{}: {reasons:?} in\n{}", case.name, told.err);
    }
    let files = if cases.len() == 1 { "file" } else { "files" };
    let count = format!("{} {files} could not be read whole (exit code 3)", cases.len());
    assert!(told.err.contains(&count), "{count}: {}", told.err);
}

/// The lines below a path on standard error, joined.
fn said_of(err: &str, path: &Path) -> String {
    let path = path.to_str().expect("UTF-8");
    let reasons: Vec<&str> = err
        .lines()
        .skip_while(|line| line.trim() != path)
        .skip(1)
        .take_while(|line| line.starts_with("    "))
        .map(str::trim)
        .collect();
    reasons.join(" ")
}

#[test]
fn damaged_packing_keeps_what_comes_before_the_damage() {
    let filler = |id: &str| record(id).replace("ListBuckets", &noise(400));
    let many: Vec<String> = (0..300).map(|_| filler("cut-later").replace("Root", "User")).collect();
    let long = format!("{{\"Records\":[{},{}]}}", record("cut-first"), many.join(","));
    let packed = gzip(long.as_bytes());
    let whole_zst = zst(long.replace("cut-first", "zst-first").as_bytes());
    let mut wrong_sum = gzip(log(&["crc-1", "crc-2"]).as_bytes());
    let at = wrong_sum.len() - 8;
    wrong_sum[at] ^= 1;
    let mut torn = gzip(noise(4000).as_bytes());
    torn[100..140].fill(0xff);
    check(&[
        case("cut.json.gz", &packed[..packed.len() / 2], "gzip ends early", &["cut-first"]),
        case("cut.json.zst", &whole_zst[..whole_zst.len() - 9], "zstd", &["zst-first"]),
        case("crc.json.gz", wrong_sum, "gzip checksum does not match", &["crc-1", "crc-2"]),
        case(
            "junk-after.json.gz",
            [gzip(log(&["junk-after"]).as_bytes()), b"and then some".to_vec()].concat(),
            "gzip is followed by something else",
            &["junk-after"],
        ),
        case("torn.json.gz", torn, "gzip", &[]),
        case("only-head.json.gz", &packed[..12], "gzip ends early", &[]),
        case(
            "two-members-cut.gz",
            {
                let one = gzip(format!("{{\"Records\":[{},", record("member-1")).as_bytes());
                let two = gzip(format!("{}]}}", record("member-2")).as_bytes());
                [&one[..], &two[..20]].concat()
            },
            "gzip ends early",
            &["member-1"],
        ),
    ]);
}

#[test]
fn a_small_file_that_grows_without_end_is_stopped() {
    // 320 MiB of spaces in 320 KiB.
    let mut spaces = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    spaces.write_all(&vec![b' '; 16 << 20]).expect("memory");
    let spaces = spaces.finish().expect("memory");
    assert!(spaces.len() < 20 << 10, "{}", spaces.len());
    check(&[case(
        "bomb.json.gz",
        [gzip(record("before-the-bomb").as_bytes()), spaces.repeat(20)].concat(),
        "decompresses to more than 200 times its size",
        &["before-the-bomb"],
    )]);
}

#[test]
fn the_bound_of_a_file_is_the_users_to_set() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("large.json.gz");
    let lines = format!("{}\n", record("first")) + &" ".repeat(30 << 20);
    fs::write(&file, gzip(lines.as_bytes())).expect("a file");
    let told = run(&["scan", path(&file), "--file-bytes-max", "1048576"]);
    assert_eq!((told.code, told.ids()), (3, vec!["first".to_owned()]));
    let reasons = said_of(&told.err, &file);
    assert!(
        reasons.contains("decompresses to more than 1048576 bytes after 1 record"),
        "{reasons}"
    );
    let told = run(&["scan", path(&file)]);
    assert_eq!((told.code, told.err.as_str()), (0, ""));
}

#[test]
fn what_is_no_log_file_is_named_and_the_records_in_it_are_still_found() {
    let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
    let large = format!(
        r#"{{"Records":[{},{{"eventName":"Put","eventSource":"x","a":"{}"}},{}]}}"#,
        record("before-large"),
        "x".repeat(5 << 20),
        record("after-large")
    );
    let utf16: Vec<u8> =
        log(&["utf16"]).encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>();
    let random: Vec<u8> = noise(4000).bytes().map(|byte| byte.wrapping_mul(37)).collect();
    let latin1 = record("latin-1").replace("ListBuckets", "Caf\u{e9}");
    let latin1: Vec<u8> = latin1.chars().map(|c| u8::try_from(u32::from(c)).expect("it")).collect();
    let not_utf8 = [
        format!("{{\"Records\":[{},", record("before-bytes")).into_bytes(),
        br#"{"eventName":"Get","eventSource":"x","a":""#.to_vec(),
        b"\xc3\x28\xff".to_vec(),
        format!("\"}},{}]}}", record("after-bytes")).into_bytes(),
    ]
    .concat();
    let line = format!("{}\n{}\n", "x".repeat(4 << 20), record("after-the-line"));
    check(&[
        case("garbage.json", "this is no JSON at all", "not JSON", &[]),
        case("garbage.json.gz", &random[..], "not JSON", &[]),
        case("random.bin", &random[7..], "not JSON", &[]),
        case("zeros.json", vec![0; 5000], "not JSON", &[]),
        case("empty.json", "", "the text is empty", &[]),
        case("blank.json", " \n\n ", "the text is empty", &[]),
        case("brace.json", "{", "the text ends inside a record", &[]),
        case("brackets.json", deep(100_000), "", &[]),
        case(
            "deep.json",
            format!(
                "{{\"Records\":[{{\"eventName\":\"X\",\"a\":{}}},{}]}}",
                deep(100_000),
                record("after-deep")
            ),
            "nested deeper than 128 levels",
            &["after-deep"],
        ),
        case("large.json", large, "larger than the limit", &["after-large", "before-large"]),
        case("utf-16.json", [b"\xff\xfe".to_vec(), utf16].concat(), "UTF-16", &[]),
        case("latin-1.json", latin1, "invalid UTF-8", &[]),
        case("bytes.json", not_utf8, "invalid UTF-8", &["after-bytes", "before-bytes"]),
        case(
            "mixed-list.json",
            format!("[1, \"x\", null, [], {}, true]", record("in-a-mixed-list")),
            "expected a JSON object",
            &["in-a-mixed-list"],
        ),
        case(
            "broken-record.json",
            log(&["before-broken", "broken", "after-broken"]).replace("\"broken\",", "broken,"),
            "record 2, byte ",
            &["after-broken", "before-broken"],
        ),
        case("long-line.json", line, "not JSON", &["after-the-line"]),
        case(
            "cut-list.json",
            log(&["in-a-cut-list", "never"]).split("\"never\"").next().expect("a part"),
            "the text ends inside a record",
            &["in-a-cut-list"],
        ),
        case(
            "open-list.json",
            log(&["in-an-open-list"]).replace("]}", ""),
            "the text ends before the list of records does",
            &["in-an-open-list"],
        ),
        case(
            "unclosed.json",
            format!(
                "{{\"Records\":[{{\"eventVersion\":\"1\",\"x\":{{,{}]}}",
                record("after-unclosed")
            ),
            "not closed before the next one begins",
            &["after-unclosed"],
        ),
    ]);
}

#[cfg(unix)]
#[test]
fn links_pipes_sockets_and_folders_with_odd_names_do_not_stop_or_hold_the_scan() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;

    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    fs::create_dir_all(at("looks-like-a-file.json.gz")).expect("a folder");
    fs::write(at("looks-like-a-file.json.gz/a.json"), log(&["in-an-odd-folder"])).expect("a file");
    symlink("..", at("looks-like-a-file.json.gz/loop")).expect("a link");
    symlink("nowhere", at("dangling.json")).expect("a link");
    symlink("self.json", at("self.json")).expect("a link");
    fs::write(at("target"), log(&["by-a-link"])).expect("a file");
    let _socket = UnixListener::bind(at("socket.json")).expect("a socket");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        at("pipe.json"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .expect("a pipe");
    fs::write(at("closed.json"), log(&["closed"])).expect("a file");
    fs::set_permissions(at("closed.json"), fs::Permissions::from_mode(0o0)).expect("permissions");

    let told = run_past_a_pipe(&["scan", path(folder.path())], &at("pipe.json"));
    assert_eq!(told.code, 3, "{}", told.err);
    let mut expected = vec!["by-a-link", "in-an-odd-folder"];
    for (name, said) in [
        ("looks-like-a-file.json.gz/loop", "the folder contains itself by a symbolic link"),
        ("dangling.json", "no such file or folder"),
        ("self.json", "symbolic links form a circle"),
        ("socket.json", "not a regular file"),
        ("pipe.json", "not a regular file"),
    ] {
        assert_eq!(said_of(&told.err, &at(name)), said, "{name}: {}", told.err);
    }
    // The superuser may read everything.
    if fs::File::open(at("closed.json")).is_ok() {
        expected.insert(1, "closed");
    } else {
        assert_eq!(said_of(&told.err, &at("closed.json")), "permission denied");
    }
    assert_eq!(told.ids(), expected);
}

/// Runs the program; if it waits for the pipe, it is let go and the test fails.
#[cfg(unix)]
fn run_past_a_pipe(args: &[&str], pipe: &Path) -> crate::Ran {
    const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);
    std::thread::scope(|scope| {
        let (sender, receiver) = std::sync::mpsc::channel();
        scope.spawn(move || drop(sender.send(run(args))));
        receiver.recv_timeout(PATIENCE).unwrap_or_else(|_| {
            // Whoever opens the other end and leaves gives the reader an end of file.
            drop(fs::OpenOptions::new().write(true).open(pipe));
            panic!("the scan waits for a pipe");
        })
    })
}

#[test]
fn more_files_than_are_listed_are_still_counted() {
    let folder = tempfile::tempdir().expect("a folder");
    for number in 0..230 {
        fs::write(folder.path().join(format!("{number:03}.json")), "{").expect("a file");
    }
    let told = run(&["scan", path(folder.path())]);
    assert_eq!((told.code, told.out.as_str()), (3, ""));
    assert!(told.err.contains("230 files could not be read whole"), "{}", told.err);
    assert!(told.err.contains("more file"), "{}", told.err);
    let quiet = run(&["scan", "--quiet", path(folder.path())]);
    assert_eq!((quiet.code, quiet.err.as_str()), (3, ""));
}

#[test]
fn a_record_on_which_a_rule_cannot_be_decided_is_a_finding_and_exits_with_3() {
    // No selector has both values and all lie in one element: each is compared with each.
    let pair = r#"{"includeManagementEvents":true},{"readWriteType":"ReadOnly"}"#;
    let selectors = format!("[[{}]]", [pair; 2_100].join(","));
    let narrowed = record("hard").replace("\"Root\"", "\"AssumedRole\"").replace(
        r#""eventSource":"s3.amazonaws.com","eventName":"ListBuckets""#,
        &format!(
            r#""eventSource":"cloudtrail.amazonaws.com","eventName":"PutEventSelectors","requestParameters":{{"eventSelectors":{selectors}}}"#
        ),
    );
    let text = format!("{{\"Records\":[{},{narrowed}]}}", record("easy"));
    let scanned = run_with(&["scan", "--format", "jsonl", "-"], text.as_bytes());
    let mut ids = scanned.ids();
    ids.sort_unstable();
    assert_eq!(ids, ["easy", "hard"], "{}", scanned.err);
    assert_eq!(scanned.code, 3, "{}", scanned.err);
    let said = "rules_undecided: cloudtrail-selectors-narrowed (record too complex to match)";
    assert!(scanned.err.contains("record 2"), "{}", scanned.err);
    assert!(scanned.err.contains(said), "{}", scanned.err);
    let lines = scanned.lines();
    let hard = lines.iter().find(|line| line["event_id"] == "hard").expect("the finding");
    assert_eq!(hard["reasons"], serde_json::json!([said]));
    assert_eq!(hard["severity"], "high");
}
