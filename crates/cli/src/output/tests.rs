//! Every form of the report, of the break-in, of a hostile story and of nothing.

use std::collections::BTreeSet;

use serde_json::Value;

use super::fixture::{self, Story};
use super::{Report, Style, csv, html, jsonl, ocsf, skipped, table, text};

/// A snapshot whose name does not depend on where this module is compiled.
macro_rules! snapshot {
    ($name:expr, $text:expr) => {
        insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true }, {
            insta::assert_snapshot!($name, $text);
        });
    };
}

fn styled(width: usize) -> Style {
    Style { width, ..Style::default() }
}

fn written(write: impl FnOnce(&mut Vec<u8>) -> std::io::Result<()>) -> String {
    let mut out = Vec::new();
    write(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn in_table(story: &Story, style: &Style) -> String {
    written(|out| table(out, &story.report(), style))
}

fn in_html(story: &Story) -> String {
    written(|out| html(out, &story.report(), &Style::default()))
}

fn lines(
    story: &Story,
    write: fn(&mut dyn std::io::Write, &Report<'_>) -> std::io::Result<()>,
) -> Vec<Value> {
    written(|out| write(out, &story.report()))
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn the_break_in_reads_well_at_every_width() {
    let story = fixture::example();
    for width in [100, 80, 60, 160] {
        let text = in_table(&story, &styled(width));
        for line in text.lines() {
            assert!(text::width(line) <= width, "{width}: {line}");
            assert_eq!(line.trim_end(), line);
        }
        for whole in [fixture::PAYMENTS, "203.0.113.77", "198.51.100.23", "GetFederationToken"] {
            assert!(text.contains(whole), "{width}: {whole} is cut");
        }
        snapshot!(format!("table_{width}"), text);
    }
}

#[test]
fn colour_changes_no_word() {
    let story = fixture::example();
    let plain = in_table(&story, &styled(100));
    let colored = in_table(&story, &Style { color: true, ..styled(100) });
    assert!(colored.contains("\u{1b}["));
    assert_eq!(anstream::adapter::strip_str(&colored).to_string(), plain);
}

#[test]
fn ascii_uses_ascii() {
    let text = in_table(&fixture::example(), &Style { ascii: true, ..styled(100) });
    assert!(text.is_ascii(), "{text}");
}

#[test]
fn other_time_zones_are_named() {
    let zone = jiff::tz::TimeZone::fixed(jiff::tz::offset(2));
    let style = Style { zone, zone_label: "+02".to_owned(), ..styled(100) };
    let text = in_table(&fixture::example(), &style);
    assert!(text.contains("2026-05-04 15:58 → 16:31 +02"));
}

#[test]
fn hostile_texts_do_nothing_on_a_terminal() {
    let story = fixture::hostile();
    for width in [40, 60, 80, 100, 160] {
        let text = in_table(&story, &styled(width));
        assert!(!text.chars().any(|letter| letter != '\n' && text::is_unseen(letter)));
        for line in text.lines() {
            assert!(text::width(line) <= width, "{width}: {line}");
        }
    }
    snapshot!("table_hostile", in_table(&story, &styled(100)));
    let text = written(|out| skipped(out, &story.summary, &styled(100)));
    assert!(!text.chars().any(|letter| letter != '\n' && text::is_unseen(letter)));
}

#[test]
fn nothing_found_claims_no_more_than_was_looked_at() {
    let mut story = fixture::empty();
    snapshot!("table_empty", in_table(&story, &styled(100)));
    story.summary.skipped_total = 2;
    let text = in_table(&story, &styled(100));
    assert!(text.contains("that could be read") && text.contains("not complete"), "{text}");
    story.summary.records = 0;
    assert!(in_table(&story, &styled(100)).starts_with("No records to look at"));
}

#[test]
fn a_long_timeline_keeps_what_matters() {
    let mut story = fixture::example();
    let incident = &mut story.incidents[2];
    let grave = incident.findings[32].clone();
    assert_eq!(grave.event_name.as_deref(), Some("CreateAccessKey"));
    for number in 0..300 {
        let mut noise =
            fixture::call(500 + number, fixture::PAYMENTS, "14:06:00", "ec2", "CreateTags");
        noise.did = format!("CreateTags {number}");
        incident.findings.insert(32, noise);
    }
    let text = in_table(&story, &styled(100));
    assert!(text.contains("created a root access key · CreateAccessKey"));
    assert!(text.contains("more calls, see --format jsonl"));
    assert!(text.lines().count() < 110, "{}", text.lines().count());
    let page = in_html(&story);
    assert!(page.contains("created a root access key · CreateAccessKey"));
    assert!(page.contains("more entries left out"));
}

#[test]
fn what_is_not_root_use_is_not_called_root_use() {
    let mut story = fixture::example();
    story.incidents.truncate(1);
    let incident = &mut story.incidents[0];
    incident.kind = rootwatch_core::incident::IncidentKind::RuleMatch;
    incident.title = "Management events were excluded from a trail".to_owned();
    incident.root_use = rootwatch_core::finding::RootUse::No;
    for finding in &mut incident.findings {
        finding.root_use = rootwatch_core::finding::RootUse::No;
        finding.session.sign_in = false;
        finding.actor = Some("arn:aws:iam::222233334444:user/ops".to_owned());
    }
    let text = in_table(&story, &styled(160));
    assert!(
        text.contains("by arn:aws:iam::222233334444:user/ops in us-east-1, not root use"),
        "{text}"
    );
    assert!(text.contains("Management events were excluded from a trail."), "{text}");
}

#[test]
fn what_could_not_be_read_is_named() {
    let story = fixture::example();
    snapshot!("skipped", written(|out| skipped(out, &story.summary, &styled(100))));
    assert_eq!(written(|out| skipped(out, &fixture::empty().summary, &styled(100))), "");
}

#[test]
fn jsonl_has_the_promised_fields_in_order() {
    let story = fixture::example();
    let text = written(|out| jsonl(out, &story.report()));
    assert_eq!(text.lines().count(), story.report().findings.len());
    let first: String = text.lines().take(3).collect::<Vec<_>>().join("\n");
    snapshot!("jsonl", first);
    for line in lines(&fixture::hostile(), jsonl) {
        assert_eq!(line.as_object().unwrap().len(), 21);
    }
    let text = written(|out| jsonl(out, &fixture::hostile().report()));
    assert!(!text.chars().any(|letter| letter != '\n' && text::is_unseen(letter)));
}

#[test]
fn csv_has_the_fields_of_jsonl_as_columns() {
    let story = fixture::example();
    let text = written(|out| csv(out, &story.report()));
    snapshot!("csv", text.lines().take(4).collect::<Vec<_>>().join("\n"));
    let mut reader = ::csv::Reader::from_reader(text.as_bytes());
    let json = written(|out| jsonl(out, &story.report()));
    let order: Vec<usize> = reader
        .headers()
        .unwrap()
        .iter()
        .map(|name| json.find(&format!("\"{name}\":")).unwrap())
        .collect();
    assert!(order.is_sorted());
    assert_eq!(reader.records().count(), json.lines().count());
}

#[test]
fn no_csv_cell_is_a_formula() {
    let text = written(|out| csv(out, &fixture::hostile().report()));
    let mut reader = ::csv::Reader::from_reader(text.as_bytes());
    for record in reader.records() {
        for cell in &record.unwrap() {
            assert!(!cell.starts_with(['=', '+', '-', '@']), "{cell}");
            assert!(!cell.chars().any(text::is_unseen), "{cell:?}");
        }
    }
}

fn schema() -> jsonschema::Validator {
    let text = include_str!("../../tests/schemas/ocsf-2004.schema.json");
    jsonschema::validator_for(&serde_json::from_str(text).unwrap()).unwrap()
}

#[test]
fn every_ocsf_line_follows_the_published_schema() {
    let validator = schema();
    let mut bare = fixture::example();
    for finding in bare.incidents.iter_mut().flat_map(|incident| &mut incident.findings) {
        finding.event_name = None;
        finding.event_time = None;
        finding.source_ip = None;
        finding.account_id = None;
        finding.region = None;
        finding.session = rootwatch_core::finding::SessionFacts::default();
        finding.rules.clear();
    }
    for story in [fixture::example(), fixture::hostile(), bare] {
        let lines = lines(&story, ocsf);
        assert!(!lines.is_empty());
        for line in lines {
            let errors: Vec<String> = validator
                .iter_errors(&line)
                .map(|error| format!("{} at {}", error, error.instance_path()))
                .collect();
            assert_eq!(errors, Vec::<String>::new(), "{line:#}");
        }
    }
    let login =
        lines(&fixture::example(), ocsf).into_iter().find(|line| line["severity_id"] == 5).unwrap();
    let version = format!("\"version\": \"{}\"", env!("CARGO_PKG_VERSION"));
    snapshot!("ocsf", format!("{login:#}").replace(&version, "\"version\": \"[product]\""));
}

#[test]
fn a_broken_ocsf_line_is_refused() {
    let validator = schema();
    let line = lines(&fixture::example(), ocsf).swap_remove(0);
    assert!(validator.is_valid(&line));
    type Break = fn(&mut Value);
    let broken: [(&str, Break); 10] = [
        ("a required attribute is missing", |line| {
            line.as_object_mut().unwrap().remove("metadata");
        }),
        ("an attribute is misspelt", |line| line["severty"] = 1.into()),
        ("a nested attribute is misspelt", |line| line["cloud"]["acount"] = "x".into()),
        ("a severity does not exist", |line| line["severity_id"] = 7.into()),
        ("the time is text", |line| line["time"] = "2026-05-04".into()),
        ("the class is another", |line| line["class_uid"] = 2001.into()),
        ("the type does not fit the activity", |line| line["type_uid"] = 200_402.into()),
        ("an address is none", |line| {
            line["evidences"][0]["src_endpoint"]["ip"] = "AWS Internal".into();
        }),
        ("an analytic has no type", |line| {
            let analytic = &mut line["finding_info"]["analytic"];
            analytic.as_object_mut().unwrap().remove("type_id");
        }),
        ("an endpoint says nothing", |line| {
            line["evidences"][0]["src_endpoint"] = Value::Object(serde_json::Map::new());
        }),
    ];
    for (what, break_it) in broken {
        let mut line = line.clone();
        break_it(&mut line);
        assert!(!validator.is_valid(&line), "{what}");
    }
}

/// Names of elements in order; `/name` for the end of one. Raw text of `style` is not looked into.
fn tags(html: &str) -> Vec<String> {
    let mut tags = Vec::new();
    let mut rest = html;
    while let Some(at) = rest.find('<') {
        rest = &rest[at + 1..];
        let end = rest.find('>').unwrap();
        let (tag, after) = rest.split_at(end);
        let name: String = tag.chars().take_while(|c| !c.is_whitespace()).collect();
        if !tag.ends_with('/') {
            tags.push(name.trim_end_matches('/').to_owned());
        }
        rest = after;
        if name == "style" {
            rest = &rest[rest.find("</style").unwrap()..];
        }
    }
    tags
}

#[test]
fn html_is_balanced_and_needs_nothing_from_elsewhere() {
    let void = ["!doctype", "meta", "br", "hr", "img", "input", "link"];
    for story in [fixture::example(), fixture::hostile(), fixture::empty()] {
        let page = in_html(&story);
        let mut open: Vec<String> = Vec::new();
        for tag in tags(&page) {
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(open.pop().as_deref(), Some(name));
            } else if !void.contains(&tag.as_str()) {
                open.push(tag);
            }
        }
        assert_eq!(open, Vec::<String>::new());
        for reference in ["src=\"", "href=\"http", "url(", "@import", "<link", "<iframe", "srcset"]
        {
            assert!(!page.contains(reference), "{reference}");
        }
        let csp = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; \
                   form-action 'none'";
        assert!(page.contains(csp));
        let ids: Vec<&str> =
            page.split(" id=\"").skip(1).map(|part| part.split('"').next().unwrap()).collect();
        assert_eq!(ids.len(), ids.iter().collect::<BTreeSet<_>>().len());
        for target in page.split("href=\"#").skip(1) {
            assert!(ids.contains(&target.split('"').next().unwrap()));
        }
        for label in page.split("labelledby=\"").skip(1) {
            for id in label.split('"').next().unwrap().split(' ') {
                assert!(ids.contains(&id), "{id}");
            }
        }
    }
}

#[test]
fn html_escapes_what_strangers_wrote() {
    let page = in_html(&fixture::hostile());
    let names: BTreeSet<String> = tags(&page).into_iter().collect();
    assert!(!names.contains("script") && !names.contains("img") && !names.contains("b<"));
    assert!(page.contains("&#60;script&#62;"));
    assert!(!page.chars().any(|letter| letter != '\n' && text::is_unseen(letter)));
}

#[test]
fn html_tells_the_story() {
    let page = in_html(&fixture::example());
    for text in [
        "prod-payments",
        "Root user signed in to the console without MFA",
        "Ask the custodians of this account",
        "created a root access key",
        "gzip ends early after 812 records",
        "<svg",
        "Every call",
    ] {
        assert!(page.contains(text), "{text}");
    }
    let page = in_html(&fixture::empty());
    assert!(page.contains("No root use in 1,314,242 records"));
}
