//! `POST /v1/events`: receives records of any shape.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use rootwatch_engine::{IntakeOutcome, RecordSource};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::auth::Sender;
use crate::body::read_body;
use crate::metrics;
use crate::problem::{Problem, refusal};
use crate::state::AppState;

pub(crate) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(post_events))
}

/// What became of the records of a request. All that is saved is on disk.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Taken {
    /// Findings that are new.
    saved: u64,
    /// Findings that were there already.
    known: u64,
    /// Records that are no findings: no root use, and no rule speaks.
    no_finding: u64,
    /// Records that are not trusted: kept apart, part of no incident.
    unverified: u64,
    /// Drills, for which a test alert is owed: at most one a minute for an account and region.
    drills: u64,
    /// Objects that hold no API record.
    passed_over: u64,
    /// What could not be decoded.
    skipped: u64,
    /// Each record, in the order of the request.
    #[schema(value_type = Vec<TakenRecord>)]
    records: Vec<IntakeOutcome>,
}

/// What became of one record.
#[derive(Debug, Serialize, ToSchema)]
#[allow(dead_code, reason = "describes the JSON of an outcome")]
struct TakenRecord {
    /// `saved`, `known`, `no_finding`, `unverified`, `drill`, `passed_over` or `skipped`.
    outcome: String,
    /// The incident that holds it, where it is saved.
    incident: Option<String>,
    /// Why it is not trusted, or could not be decoded.
    reason: Option<String>,
    /// The account from which a drill came.
    account: Option<String>,
    /// The region from which a drill came.
    region: Option<String>,
    /// What was passed over.
    what: Option<String>,
    /// Number of a skipped record in the text, from 1; 0 where none had begun.
    record: Option<u64>,
    /// Byte offset of a skipped record in the (inflated) text.
    offset: Option<u64>,
}

impl Taken {
    pub(crate) fn of(records: Vec<IntakeOutcome>) -> Self {
        let mut taken = Self {
            saved: 0,
            known: 0,
            no_finding: 0,
            unverified: 0,
            drills: 0,
            passed_over: 0,
            skipped: 0,
            records: Vec::new(),
        };
        for record in &records {
            *match record {
                IntakeOutcome::Saved { .. } => &mut taken.saved,
                IntakeOutcome::Known => &mut taken.known,
                IntakeOutcome::NoFinding => &mut taken.no_finding,
                IntakeOutcome::Unverified { .. } => &mut taken.unverified,
                IntakeOutcome::Drill { .. } => &mut taken.drills,
                IntakeOutcome::PassedOver { .. } => &mut taken.passed_over,
                IntakeOutcome::Skipped { .. } => &mut taken.skipped,
            } += 1;
        }
        taken.records = records;
        taken
    }
}

/// Sends records: one EventBridge event or CloudTrail record, an array of them, a CloudTrail log
/// file, or JSON Lines; gzip or not.
///
/// The answer says what became of each record, in their order. With 200 everything that is called
/// saved is on disk; with any other status nothing of the request was kept, and it can be sent
/// again. Sending twice is harmless.
///
/// A request that is one event with the source `rootwatch.drill` and nothing else is a drill: it
/// raises a test alert that names the account and region of its envelope.
#[utoipa::path(
    post,
    path = "/v1/events",
    tag = "events",
    request_body(content = String, content_type = "application/json", description = "Records"),
    responses(
        (status = 200, description = "Saved", body = Taken),
        (status = 400, description = "Nothing in it can be decoded", body = Problem),
        (status = 401, description = "No token", body = Problem),
        (status = 403, description = "A token for something else", body = Problem),
        (status = 413, description = "Too large, as sent or inflated", body = Problem),
        (status = 415, description = "An encoding that is not understood", body = Problem),
        (status = 429, description = "Too often; Retry-After says when to come again", body = Problem),
        (status = 503, description = "Not now; Retry-After says when to come again", body = Problem),
    ),
    security(("token" = []), ("api_key" = [])),
)]
async fn post_events(
    State(app): State<AppState>,
    Sender(caller): Sender,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Taken>, Problem> {
    encoding(&headers)?;
    let bytes_max = app.engine.body_bytes_max();
    let (body, permit) = read_body("http", &app.engine, &headers, body, bytes_max).await?;
    let source = RecordSource::live(format!("http:{}", caller.name));
    let outcomes = app
        .engine
        .take_with_permit(&source, body, permit)
        .await
        .map_err(|error| refusal("http", error))?;
    Ok(Json(Taken::of(something(outcomes)?)))
}

/// Refuses an unknown content encoding. Gzip is detected by its first bytes.
fn encoding(headers: &HeaderMap) -> Result<(), Problem> {
    let Some(stated) = headers.get(header::CONTENT_ENCODING) else { return Ok(()) };
    let is_known = ["gzip", "x-gzip", "identity"]
        .iter()
        .any(|known| stated.as_bytes().eq_ignore_ascii_case(known.as_bytes()));
    if is_known {
        return Ok(());
    }
    metrics::refused("http", "encoding");
    let detail = "unsupported content encoding; only gzip is supported";
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail))
}

/// Refuses a request if nothing in it could be decoded, with the first place and reason.
pub(crate) fn something(outcomes: Vec<IntakeOutcome>) -> Result<Vec<IntakeOutcome>, Problem> {
    if outcomes.iter().any(|outcome| !matches!(outcome, IntakeOutcome::Skipped { .. })) {
        return Ok(outcomes);
    }
    let Some(IntakeOutcome::Skipped { reason, record, offset }) = outcomes.first() else {
        // `[]`, or a log file without records.
        return Ok(outcomes);
    };
    metrics::refused("http", "undecodable");
    let place = match record {
        0 => format!("at byte {offset}"),
        record => format!("in record {record} at byte {offset}"),
    };
    Err(Problem::new(StatusCode::BAD_REQUEST, format!("{reason} ({place})")))
}
