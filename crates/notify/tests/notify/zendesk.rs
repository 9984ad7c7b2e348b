//! Zendesk: tickets that behave like theirs, and what there is in the end.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, put};
use rootwatch_core::alert::{AlertKind, Clock as _, CloseReason};
use rootwatch_core::delivery::Delivery;
use rootwatch_notify::channels::zendesk;
use rootwatch_notify::{Notifier, Sent};
use serde_json::{Value, json};

use crate::common::{Answer, Manual, Memory, Server, config, notifier, opened, status};
use crate::words::{alerts, rendered};

const NOW: &str = "2026-05-04T14:03:40Z";

#[derive(Debug, Default)]
struct Desk {
    tickets: Vec<Value>,
    comments: Vec<(u64, Value)>,
    keys: BTreeMap<String, u64>,
    /// The next so many creations are kept, and answered with 500.
    lost: usize,
}

type Shared = Arc<Mutex<Desk>>;

async fn list(
    State(desk): State<Shared>,
    Query(query): Query<BTreeMap<String, String>>,
) -> (StatusCode, String) {
    let desk = desk.lock().expect("the desk");
    let is_it = |one: &&Value| one["external_id"] == query["external_id"].as_str();
    let tickets: Vec<&Value> = desk.tickets.iter().filter(is_it).collect();
    (StatusCode::OK, json!({ "tickets": tickets }).to_string())
}

async fn create(
    State(desk): State<Shared>,
    headers: HeaderMap,
    body: String,
) -> (StatusCode, String) {
    // rootwatch@example.com/token:hush-hush
    let login = "Basic cm9vdHdhdGNoQGV4YW1wbGUuY29tL3Rva2VuOmh1c2gtaHVzaA==";
    assert_eq!(headers["authorization"], login);
    let key = headers["idempotency-key"].to_str().expect("a key").to_owned();
    let mut desk = desk.lock().expect("the desk");
    let mut ticket = serde_json::from_str::<Value>(&body).expect("JSON")["ticket"].clone();
    let next = desk.tickets.len() as u64 + 1;
    let id = *desk.keys.entry(key).or_insert(next);
    if id == next {
        ticket["id"] = json!(id);
        if ticket["status"].is_null() {
            ticket["status"] = json!("new");
        }
        desk.comments.push((id, ticket["comment"].clone()));
        desk.tickets.push(ticket);
    }
    if desk.lost > 0 {
        desk.lost -= 1;
        return (StatusCode::INTERNAL_SERVER_ERROR, "lost".to_owned());
    }
    (StatusCode::CREATED, json!({ "ticket": { "id": id } }).to_string())
}

async fn change(
    State(desk): State<Shared>,
    Path(file): Path<String>,
    body: String,
) -> (StatusCode, String) {
    let id: u64 = file.strip_suffix(".json").and_then(|id| id.parse().ok()).expect("an id");
    let mut desk = desk.lock().expect("the desk");
    let change = serde_json::from_str::<Value>(&body).expect("JSON")["ticket"].clone();
    let ticket = &mut desk.tickets[id as usize - 1];
    if ticket["status"] == "closed" {
        return (StatusCode::UNPROCESSABLE_ENTITY, "closed".to_owned());
    }
    for name in ["status", "priority"] {
        if !change[name].is_null() {
            ticket[name] = change[name].clone();
        }
    }
    desk.comments.push((id, change["comment"].clone()));
    (StatusCode::OK, json!({ "ticket": { "id": id } }).to_string())
}

async fn desk() -> (String, Shared) {
    let desk = Shared::default();
    let routes = Router::new()
        .route("/api/v2/tickets.json", get(list).post(create))
        .route("/api/v2/tickets/{file}", put(change))
        .with_state(Arc::clone(&desk));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, routes).await });
    (url, desk)
}

fn told_by(url: &str) -> Arc<Notifier> {
    let text = format!(
        r#"{{ "destination": {{ "a": {{ "channel": "zendesk", "url": "{url}",
            "email": "rootwatch@example.com", "api_token": "hush-hush", "tags": ["aws"],
            "timeout_secs": 1, "allow_private": true }} }} }}"#
    );
    notifier(&config(&text), &Manual::new(NOW))
}

fn of(kind: AlertKind, number: u32) -> Delivery {
    let mut alert = opened();
    alert.kind = kind;
    alert.id = format!("7K2-MPX.{number}");
    Delivery::new(alert, "a", Manual::new(NOW).now())
}

fn receipt(number: u64) -> Sent {
    Sent::Delivered { receipt: format!("ticket {number}") }
}

#[tokio::test]
async fn an_incident_is_one_ticket_from_its_beginning_to_its_end() {
    let (url, desk) = desk().await;
    let (notifier, outbox) = (told_by(&url), Memory::default());
    let from = rootwatch_core::finding::Severity::Medium;
    let kinds = [
        AlertKind::Opened,
        AlertKind::Escalated { from },
        AlertKind::Acknowledged { by: "anna".to_owned() },
        AlertKind::Closed { why: CloseReason::Quiet },
    ];
    for (number, kind) in (1..).zip(kinds) {
        assert_eq!(notifier.send(&of(kind, number), &outbox).await, receipt(1));
    }
    {
        let desk = desk.lock().expect("the desk");
        assert_eq!((desk.tickets.len(), desk.comments.len()), (1, 4));
        assert_eq!(desk.tickets[0]["status"], "solved");
        assert_eq!(desk.tickets[0]["tags"], json!(["rootwatch", "aws"]));
        assert!(desk.comments.iter().all(|(_, comment)| comment["public"] == false));
    }
    // A ticket that is solved goes on; one that is closed for good does not.
    assert_eq!(notifier.send(&of(AlertKind::Continued, 5), &outbox).await, receipt(1));
    desk.lock().expect("the desk").tickets[0]["status"] = json!("closed");
    assert_eq!(notifier.send(&of(AlertKind::Continued, 6), &outbox).await, receipt(2));
    assert_eq!(desk.lock().expect("the desk").tickets.len(), 2);
}

#[tokio::test]
async fn an_answer_that_was_lost_makes_no_second_ticket_and_no_comment() {
    let (url, desk) = desk().await;
    let outbox = Memory::default();
    desk.lock().expect("the desk").lost = 1;
    let first = of(AlertKind::Opened, 1);
    let sent = told_by(&url).send(&first, &outbox).await;
    assert!(matches!(sent, Sent::RetryAfter { .. }), "{sent:?}");
    assert_eq!(told_by(&url).send(&first, &outbox).await, receipt(1));
    let desk = desk.lock().expect("the desk");
    assert_eq!((desk.tickets.len(), desk.comments.len()), (1, 1));
}

#[tokio::test]
async fn answers_mean_what_they_mean() {
    for code in [400, 401, 403, 410, 413, 409, 429, 500, 503] {
        let server = Server::new(&[status(code)]).await;
        let url = server.url.replace("/hook/hush", "");
        let sent = told_by(&url).send(&of(AlertKind::Opened, 1), &Memory::default()).await;
        let is_right = match code {
            401 | 403 => matches!(sent, Sent::Misconfigured { .. }),
            409 | 429 | 500 | 503 => matches!(sent, Sent::RetryAfter { .. }),
            _ => matches!(sent, Sent::Rejected { .. }),
        };
        assert!(is_right, "{code}: {sent:?}");
        assert!(!format!("{sent:?}").contains("hush"), "{sent:?}");
    }
    // Nothing is found, and what would be created is refused.
    let found = Answer::Status(200, "", r#"{"tickets":[]}"#.to_owned());
    let server = Server::new(&[found, status(422)]).await;
    let url = server.url.replace("/hook/hush", "");
    let sent = told_by(&url).send(&of(AlertKind::Opened, 1), &Memory::default()).await;
    assert!(matches!(sent, Sent::Rejected { .. }), "{sent:?}");
    for answer in [Answer::Hang, Answer::Half, Answer::Close] {
        let server = Server::new(std::slice::from_ref(&answer)).await;
        let url = server.url.replace("/hook/hush", "");
        let sent = told_by(&url).send(&of(AlertKind::Opened, 1), &Memory::default()).await;
        assert!(matches!(sent, Sent::RetryAfter { .. }), "{answer:?}: {sent:?}");
    }
}

#[tokio::test]
async fn a_probe_knows_nobody_from_somebody() {
    for (body, is_fine) in
        [(r#"{"user":{"id":7}}"#, true), (r#"{"user":{"id":null,"name":"Anonymous user"}}"#, false)]
    {
        let server = Server::new(&[Answer::Status(200, "", body.to_owned())]).await;
        let url = server.url.replace("/hook/hush", "");
        let asked = told_by(&url).probe("a").await;
        assert_eq!(matches!(asked, Some(Sent::Delivered { .. })), is_fine, "{asked:?}");
    }
}

#[test]
fn texts_keep_their_limits_and_fill_nothing_in() {
    for (name, alert) in alerts() {
        let body: Value = serde_json::from_slice(&rendered("zendesk", &alert)).expect("JSON");
        let ticket = &body["ticket"];
        let subject = ticket["subject"].as_str().unwrap_or_default();
        assert!(subject.chars().count() <= zendesk::SUBJECT_CHARS_MAX, "{name}");
        let text = ticket["comment"]["body"].as_str().expect("a comment");
        assert!(text.chars().count() <= zendesk::COMMENT_CHARS_MAX, "{name}");
        assert!(!text.contains("{{") && !subject.contains("{{"), "{name}");
        assert_eq!(ticket["comment"]["public"], false, "{name}");
    }
}
