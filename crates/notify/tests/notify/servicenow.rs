//! ServiceNow: a table that behaves like theirs, and what it holds in the end.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, patch, post};
use rootwatch_core::alert::{Alert, AlertKind, Clock as _, CloseReason};
use rootwatch_core::delivery::Delivery;
use rootwatch_notify::channels::servicenow;
use rootwatch_notify::{Notifier, Sent};
use serde_json::{Value, json};

use crate::common::{Answer, Manual, Memory, Server, config, notifier, opened, status};
use crate::words::{alerts, rendered};

const NOW: &str = "2026-05-04T14:03:40Z";

/// The table, how many tokens were given, and what goes wrong next.
#[derive(Debug, Default)]
struct Table {
    rows: Vec<BTreeMap<String, String>>,
    notes: Vec<String>,
    tokens: usize,
    /// The next so many creations are kept, and answered with 500.
    lost: usize,
    /// Tokens up to this one are refused.
    refused: usize,
}

type Shared = Arc<Mutex<Table>>;

fn is_welcome(table: &Table, headers: &HeaderMap) -> bool {
    let given = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or("");
    // rootwatch:hush-hush
    if given == "Basic cm9vdHdhdGNoOmh1c2gtaHVzaA==" {
        return true;
    }
    let number: Option<usize> =
        given.strip_prefix("Bearer token-").and_then(|number| number.parse().ok());
    number.is_some_and(|number| number > table.refused)
}

async fn token(State(table): State<Shared>, body: String) -> (StatusCode, String) {
    if !body.contains("grant_type=client_credentials") || !body.contains("client_secret=hush-hush")
    {
        return (StatusCode::UNAUTHORIZED, "{}".to_owned());
    }
    let mut table = table.lock().expect("the table");
    table.tokens += 1;
    let answer = json!({ "access_token": format!("token-{}", table.tokens), "expires_in": 1800 });
    (StatusCode::OK, answer.to_string())
}

async fn list(
    State(table): State<Shared>,
    headers: HeaderMap,
    Query(query): Query<BTreeMap<String, String>>,
) -> (StatusCode, String) {
    let table = table.lock().expect("the table");
    if !is_welcome(&table, &headers) {
        return (StatusCode::UNAUTHORIZED, "no".to_owned());
    }
    let asked = &query["sysparm_query"];
    let id = asked.strip_prefix("correlation_id=").and_then(|rest| rest.split('^').next());
    assert!(asked.ends_with("^stateNOT IN6,7,8"), "{asked}");
    let open = |row: &&BTreeMap<String, String>| {
        Some(row["correlation_id"].as_str()) == id && !["6", "7", "8"].contains(&&*row["state"])
    };
    let found: Vec<_> = table.rows.iter().filter(open).take(1).collect();
    (StatusCode::OK, json!({ "result": found }).to_string())
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

async fn create(
    State(table): State<Shared>,
    headers: HeaderMap,
    body: String,
) -> (StatusCode, String) {
    let mut table = table.lock().expect("the table");
    if !is_welcome(&table, &headers) {
        return (StatusCode::UNAUTHORIZED, "no".to_owned());
    }
    let body: BTreeMap<String, Value> = serde_json::from_str(&body).expect("JSON");
    let mut row: BTreeMap<String, String> =
        body.iter().map(|(name, value)| (name.clone(), text(value))).collect();
    let number = table.rows.len() + 1;
    row.insert("sys_id".to_owned(), format!("{number:032x}"));
    row.insert("number".to_owned(), format!("INC{number:07}"));
    row.insert("state".to_owned(), "1".to_owned());
    table.rows.push(row.clone());
    if table.lost > 0 {
        table.lost -= 1;
        return (StatusCode::INTERNAL_SERVER_ERROR, "lost".to_owned());
    }
    (StatusCode::CREATED, json!({ "result": row }).to_string())
}

async fn change(
    State(table): State<Shared>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: String,
) -> (StatusCode, String) {
    let mut table = table.lock().expect("the table");
    if !is_welcome(&table, &headers) {
        return (StatusCode::UNAUTHORIZED, "no".to_owned());
    }
    let body: BTreeMap<String, Value> = serde_json::from_str(&body).expect("JSON");
    table.notes.extend(body.get("work_notes").map(text));
    let Some(row) = table.rows.iter_mut().find(|row| row["sys_id"] == id) else {
        return (StatusCode::NOT_FOUND, "{}".to_owned());
    };
    row.extend(body.iter().map(|(name, value)| (name.clone(), text(value))));
    (StatusCode::OK, json!({ "result": row }).to_string())
}

async fn instance() -> (String, Shared) {
    let table = Shared::default();
    let routes = Router::new()
        .route("/oauth_token.do", post(token))
        .route("/api/now/table/incident", get(list).post(create))
        .route("/api/now/table/incident/{id}", patch(change))
        .with_state(Arc::clone(&table));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, routes).await });
    (url, table)
}

const BASIC: &str = r#""user": "rootwatch", "password": "hush-hush""#;
const OAUTH: &str = r#""client_id": "rootwatch", "client_secret": "hush-hush""#;

fn told_by(url: &str, login: &str) -> Arc<Notifier> {
    let text = format!(
        r#"{{ "destination": {{ "a": {{ "channel": "servicenow", "instance": "{url}", {login},
            "fields": {{ "assignment_group": "Cloud Security", "urgency": "2" }},
            "timeout_secs": 1, "allow_private": true }} }} }}"#
    );
    notifier(&config(&text), &Manual::new(NOW))
}

/// The number distinguishes alerts, as it does in the hub.
fn of(kind: AlertKind, number: u32) -> Delivery {
    let mut alert: Alert = opened();
    alert.kind = kind;
    alert.id = format!("7K2-MPX.{number}");
    Delivery::new(alert, "a", Manual::new(NOW).now())
}

fn is_delivered(sent: &Sent) -> bool {
    matches!(sent, Sent::Delivered { .. })
}

#[tokio::test]
async fn an_incident_of_ours_is_one_of_theirs_from_its_beginning_to_its_end() {
    let (url, table) = instance().await;
    let (notifier, outbox) = (told_by(&url, BASIC), Memory::default());
    let from = rootwatch_core::finding::Severity::Medium;
    let kinds = [
        AlertKind::Opened,
        AlertKind::Escalated { from },
        AlertKind::Acknowledged { by: "anna".to_owned() },
        AlertKind::Closed { why: CloseReason::Quiet },
    ];
    for (number, kind) in (1..).zip(kinds) {
        let sent = notifier.send(&of(kind, number), &outbox).await;
        assert_eq!(sent, Sent::Delivered { receipt: "INC0000001".to_owned() });
    }
    {
        let table = table.lock().expect("the table");
        assert_eq!(table.rows.len(), 1);
        let row = &table.rows[0];
        assert_eq!(row["assignment_group"], "Cloud Security");
        assert_eq!((&*row["state"], &*row["correlation_display"]), ("6", "Rootwatch"));
        assert!(!row["close_code"].is_empty() && !row["close_notes"].is_empty());
        assert_eq!(table.notes.len(), 3);
    }
    // It goes on after its end: a new one, for theirs is over.
    assert!(is_delivered(&notifier.send(&of(AlertKind::Continued, 5), &outbox).await));
    // Resolved by hand in between: the end finds nothing to resolve.
    table.lock().expect("the table").rows[1].insert("state".to_owned(), "7".to_owned());
    let sent =
        notifier.send(&of(AlertKind::Closed { why: CloseReason::Resolved }, 6), &outbox).await;
    assert!(is_delivered(&sent), "{sent:?}");
    assert_eq!(table.lock().expect("the table").rows.len(), 2);
}

#[tokio::test]
async fn an_answer_that_was_lost_makes_no_second_incident_and_no_note() {
    let (url, table) = instance().await;
    let outbox = Memory::default();
    table.lock().expect("the table").lost = 1;
    let first = of(AlertKind::Opened, 1);
    let sent = told_by(&url, BASIC).send(&first, &outbox).await;
    assert!(matches!(sent, Sent::RetryAfter { .. }), "{sent:?}");
    // After a restart.
    let notifier = told_by(&url, BASIC);
    assert!(is_delivered(&notifier.send(&first, &outbox).await));
    {
        let table = table.lock().expect("the table");
        assert_eq!((table.rows.len(), table.notes.len()), (1, 0));
    }
    assert!(is_delivered(&notifier.send(&of(AlertKind::Continued, 2), &outbox).await));
    let table = table.lock().expect("the table");
    assert_eq!((table.rows.len(), table.notes.len()), (1, 1));
}

#[tokio::test]
async fn a_token_is_asked_for_once_and_anew_when_it_ended_before_its_time() {
    let (url, table) = instance().await;
    let (notifier, outbox) = (told_by(&url, OAUTH), Memory::default());
    assert!(is_delivered(&notifier.send(&of(AlertKind::Opened, 1), &outbox).await));
    assert!(is_delivered(&notifier.send(&of(AlertKind::Continued, 2), &outbox).await));
    assert_eq!(table.lock().expect("the table").tokens, 1);
    table.lock().expect("the table").refused = 1;
    assert!(is_delivered(&notifier.send(&of(AlertKind::Continued, 3), &outbox).await));
    assert_eq!(table.lock().expect("the table").tokens, 2);
    table.lock().expect("the table").refused = 1_000;
    let sent = notifier.send(&of(AlertKind::Continued, 4), &outbox).await;
    assert!(matches!(sent, Sent::Misconfigured { .. }), "{sent:?}");
    let wrong = told_by(&url, r#""client_id": "rootwatch", "client_secret": "other-secret""#);
    let sent = wrong.send(&of(AlertKind::Continued, 5), &outbox).await;
    assert!(matches!(sent, Sent::Misconfigured { .. }), "{sent:?}");
    assert!(!format!("{sent:?}").contains("other-secret"));
}

#[tokio::test]
async fn a_test_pages_nobody_and_ends_by_itself() {
    let (url, table) = instance().await;
    let mut test = of(AlertKind::Test, 1);
    test.alert.incidents.clear();
    let sent = told_by(&url, BASIC).send(&test, &Memory::default()).await;
    assert!(is_delivered(&sent), "{sent:?}");
    let row = table.lock().expect("the table").rows[0].clone();
    // `fields` goes over our urgency, as it says.
    assert_eq!((&*row["impact"], &*row["state"]), ("3", "6"));
    assert!(row["short_description"].starts_with("TEST"), "{row:?}");
}

#[tokio::test]
async fn answers_mean_what_they_mean() {
    for code in [400, 401, 403, 410, 413, 429, 500, 503] {
        let server = Server::new(&[status(code)]).await;
        let url = server.url.replace("/hook/hush", "");
        let sent = told_by(&url, BASIC).send(&of(AlertKind::Opened, 1), &Memory::default()).await;
        let is_right = match code {
            401 | 403 => matches!(sent, Sent::Misconfigured { .. }),
            429 | 500 | 503 => matches!(sent, Sent::RetryAfter { .. }),
            _ => matches!(sent, Sent::Rejected { .. }),
        };
        assert!(is_right, "{code}: {sent:?}");
        assert!(!format!("{sent:?}").contains("hush"), "{sent:?}");
    }
    for answer in [
        Answer::Hang,
        Answer::Half,
        Answer::Close,
        // An instance that sleeps.
        Answer::Status(200, "", "<html>Your instance is hibernating</html>".to_owned()),
    ] {
        let server = Server::new(std::slice::from_ref(&answer)).await;
        let url = server.url.replace("/hook/hush", "");
        let sent = told_by(&url, BASIC).send(&of(AlertKind::Opened, 1), &Memory::default()).await;
        assert!(matches!(sent, Sent::RetryAfter { .. }), "{answer:?}: {sent:?}");
    }
}

#[test]
fn texts_keep_their_limits() {
    for (name, alert) in alerts() {
        let body: Value = serde_json::from_slice(&rendered("servicenow", &alert)).expect("JSON");
        for (field, chars_max) in [
            ("short_description", servicenow::SHORT_CHARS_MAX),
            ("description", servicenow::TEXT_CHARS_MAX),
            ("work_notes", servicenow::TEXT_CHARS_MAX),
        ] {
            let text = body[field].as_str().unwrap_or_default();
            assert!(text.chars().count() <= chars_max, "{name}: {field}");
            assert!(!text.contains("[code]"), "{name}");
        }
    }
}

#[test]
fn one_way_to_log_in_is_needed_and_not_two() {
    for (login, is_fine) in [
        (BASIC.to_owned(), true),
        (OAUTH.to_owned(), true),
        (format!("{BASIC}, {OAUTH}"), false),
        (r#""user": "rootwatch""#.to_owned(), false),
        (r#""user": "root:watch", "password": "hush""#.to_owned(), false),
    ] {
        let text = format!(
            r#"{{ "destination": {{ "a": {{ "channel": "servicenow",
                "instance": "https://example.service-now.com", {login} }} }} }}"#
        );
        assert_eq!(Notifier::check(&config(&text)).is_empty(), is_fine, "{login}");
    }
}
