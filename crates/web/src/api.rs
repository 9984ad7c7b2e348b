//! The API: lists of incidents, findings and deliveries; acknowledging and resolving incidents.

use std::str::FromStr;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use rootwatch_core::delivery::{DeliveryId, DeliveryState};
use rootwatch_core::finding::{RootUse, Severity};
use rootwatch_core::incident::{IncidentId, IncidentKind, IncidentState};
use rootwatch_store::{
    DeliveryFilter, FindingFilter, IncidentFilter, NOTE_BYTES_MAX, PAGE_ITEMS_MAX, PageRequest,
    Resolution,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::auth::{Reader, Writer};
use crate::body::{SMALL_BODY_BYTES_MAX, read_body};
use crate::metrics;
use crate::problem::Problem;
use crate::state::AppState;
use crate::types::{
    DeliveryItem, FindingItem, IncidentItem, PageOf, UnverifiedItem, incident_state_name,
};

pub(crate) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(incidents))
        .routes(routes!(incident))
        .routes(routes!(incident_findings))
        .routes(routes!(acknowledge))
        .routes(routes!(resolve))
        .routes(routes!(findings))
        .routes(routes!(deliveries))
        .routes(routes!(notify_test))
        .routes(routes!(unverified))
}

/// The parameters of a request. Each is taken once; the rest is unknown.
struct Query(Vec<(String, String)>);

impl Query {
    fn parse(text: Option<&str>) -> Self {
        let pairs = url::form_urlencoded::parse(text.unwrap_or_default().as_bytes());
        Self(pairs.map(|(name, value)| (name.into_owned(), value.into_owned())).collect())
    }

    fn all(&mut self, name: &str) -> Vec<String> {
        let mut values = Vec::new();
        self.0.retain(|(found, value)| {
            let is_it = found == name;
            if is_it {
                values.extend(value.split(',').map(str::to_owned));
            }
            !is_it
        });
        values
    }

    fn one(&mut self, name: &'static str) -> Result<Option<String>, Problem> {
        let mut values = Vec::new();
        self.0.retain(|(found, value)| {
            let is_it = found == name;
            if is_it {
                values.push(value.clone());
            }
            !is_it
        });
        if values.len() > 1 {
            return Err(bad(format!("`{name}` is given {} times; give it once", values.len())));
        }
        Ok(values.pop())
    }

    fn time(&mut self, name: &'static str) -> Result<Option<Timestamp>, Problem> {
        let text = self.one(name)?;
        text.map(|text| {
            Timestamp::from_str(&text)
                .map_err(|_| bad(format!("`{name}` must be a time such as 2026-05-04T14:03:00Z")))
        })
        .transpose()
    }

    /// Kinds of incidents, by today's names or those of version 0.1.
    fn kinds(&mut self) -> Result<Vec<IncidentKind>, Problem> {
        let find = |value: String| {
            IncidentKind::from_name(&value).ok_or_else(|| {
                bad(format!(
                    "`kind` is one of {}",
                    IncidentKind::ALL.map(IncidentKind::name).join(", ")
                ))
            })
        };
        self.all("kind").into_iter().map(find).collect()
    }

    fn named<T: Copy>(
        &mut self,
        name: &'static str,
        known: &[(&'static str, T)],
    ) -> Result<Vec<T>, Problem> {
        let values = self.all(name);
        let find = |value: String| {
            let found = known.iter().find(|(known, _)| *known == value);
            found.map(|(_, value)| *value).ok_or_else(|| {
                let names: Vec<&str> = known.iter().map(|(known, _)| *known).collect();
                bad(format!("`{name}` must be one of {}", names.join(", ")))
            })
        };
        values.into_iter().map(find).collect()
    }

    fn page(&mut self) -> Result<PageRequest, Problem> {
        let items_max = match self.one("limit")? {
            None => PageRequest::default().items_max,
            Some(text) => text
                .parse()
                .ok()
                .filter(|limit| (1..=PAGE_ITEMS_MAX).contains(limit))
                .ok_or_else(|| bad(format!("`limit` must be between 1 and {PAGE_ITEMS_MAX}")))?,
        };
        Ok(PageRequest { items_max, after: self.one("after")? })
    }

    /// Refuses unknown parameters: a misspelled filter would return too much and look right.
    fn end(self, known: &[&str]) -> Result<(), Problem> {
        let Some((name, _)) = self.0.first() else { return Ok(()) };
        let nearest = known
            .iter()
            .map(|known| (strsim::jaro_winkler(known, name), known))
            .filter(|(likeness, _)| *likeness > 0.7)
            .max_by(|one, other| one.0.total_cmp(&other.0));
        let short: String = name.chars().take(64).collect();
        Err(bad(match nearest {
            Some((_, nearest)) => format!("there is no filter {short:?}; is it `{nearest}`?"),
            None => format!("there is no filter {short:?}; there are {}", known.join(", ")),
        }))
    }
}

fn bad(detail: String) -> Problem {
    metrics::refused("api", "bad_request");
    Problem::new(StatusCode::BAD_REQUEST, detail)
}

fn severities() -> Vec<(&'static str, Severity)> {
    Severity::ALL.into_iter().map(|severity| (severity.name(), severity)).collect()
}

const STATES: [IncidentState; 4] = [
    IncidentState::Open,
    IncidentState::Quiet,
    IncidentState::Acknowledged,
    IncidentState::Resolved,
];

/// Items of a page, and where it begins.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "describes parameters that are read by hand, for better errors")]
struct PageParams {
    /// Items at most, 1 to 500; 50 by default.
    limit: Option<usize>,
    /// `next` of the page before.
    after: Option<String>,
}

/// Which incidents.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "describes parameters that are read by hand, for better errors")]
struct IncidentParams {
    /// `open`, `quiet`, `acknowledged`, `resolved`; several with commas.
    state: Option<String>,
    /// `session`, `privileged`, `spray`, `rule_match`, `delivery_outage`; several with commas.
    kind: Option<String>,
    /// From this severity on.
    min_severity: Option<String>,
    /// Incidents that concern this account.
    account: Option<String>,
    /// Last finding at or after (RFC 3339).
    since: Option<String>,
    /// First finding before (RFC 3339).
    until: Option<String>,
}

/// Which findings.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "describes parameters that are read by hand, for better errors")]
struct FindingParams {
    /// Account of the root user.
    account: Option<String>,
    /// `direct`, `privileged`, `derived`, `on_behalf`, `possible`, `no`; several with commas.
    root_use: Option<String>,
    /// From this severity on.
    min_severity: Option<String>,
    /// Findings in which this rule speaks.
    rule: Option<String>,
    /// At or after (RFC 3339).
    since: Option<String>,
    /// Before (RFC 3339).
    until: Option<String>,
}

/// Which deliveries.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "describes parameters that are read by hand, for better errors")]
struct DeliveryParams {
    /// `due`, `delivered`, `failed`; several with commas.
    state: Option<String>,
    /// To this destination.
    destination: Option<String>,
    /// About this incident.
    incident: Option<String>,
}

/// List incidents
#[utoipa::path(
    get, path = "/v1/incidents", tag = "incidents", params(IncidentParams, PageParams),
    responses(
        (status = 200, description = "Newest first", body = PageOf<IncidentItem>),
        (status = 400, description = "A filter is wrong", body = Problem),
    ),
    security(("token" = [])),
)]
async fn incidents(
    _: Reader,
    State(app): State<AppState>,
    RawQuery(query): RawQuery,
) -> Result<Json<PageOf<IncidentItem>>, Problem> {
    let mut query = Query::parse(query.as_deref());
    let page = query.page()?;
    let filter = IncidentFilter {
        states: query.named("state", &STATES.map(|one| (incident_state_name(one), one)))?,
        kinds: query.kinds()?,
        min_severity: query.named("min_severity", &severities())?.pop(),
        account: query.one("account")?,
        since: query.time("since")?,
        until: query.time("until")?,
        undigested: false,
    };
    query.end(&["state", "kind", "min_severity", "account", "since", "until", "limit", "after"])?;
    let page = app.store.incidents(&filter, &page).await?;
    let items = page.items.iter().map(IncidentItem::from).collect();
    Ok(Json(PageOf { items, next: page.next }))
}

/// Show an incident
#[utoipa::path(
    get, path = "/v1/incidents/{id}", tag = "incidents", params(("id" = String, Path, description = "Such as 7K2-MPX")),
    responses(
        (status = 200, description = "The incident", body = IncidentItem),
        (status = 404, description = "There is none", body = Problem),
    ),
    security(("token" = [])),
)]
async fn incident(
    _: Reader,
    State(app): State<AppState>,
    Path(id): Path<String>,
) -> Result<Json<IncidentItem>, Problem> {
    let stored = app.store.incident(&IncidentId(id), 0).await?;
    Ok(Json(IncidentItem::from(&stored)))
}

/// List the findings of an incident
#[utoipa::path(
    get, path = "/v1/incidents/{id}/findings", tag = "incidents",
    params(("id" = String, Path, description = "Such as 7K2-MPX"), PageParams),
    responses(
        (status = 200, description = "Newest first", body = PageOf<FindingItem>),
        (status = 404, description = "There is no such incident", body = Problem),
    ),
    security(("token" = [])),
)]
async fn incident_findings(
    _: Reader,
    State(app): State<AppState>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<PageOf<FindingItem>>, Problem> {
    let mut query = Query::parse(query.as_deref());
    let page = query.page()?;
    query.end(&["limit", "after"])?;
    let id = IncidentId(id);
    app.store.incident(&id, 0).await?;
    let filter = FindingFilter { incident: Some(id), ..FindingFilter::default() };
    let page = app.store.findings(&filter, &page).await?;
    let items = page.items.iter().map(FindingItem::from).collect();
    Ok(Json(PageOf { items, next: page.next }))
}

/// Why an incident is acknowledged or resolved.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct HandleBody {
    /// In your words; at most 2,048 bytes.
    note: Option<String>,
}

async fn handle(
    app: AppState,
    Writer(caller): Writer,
    id: String,
    headers: HeaderMap,
    body: Body,
    state: IncidentState,
) -> Result<Json<IncidentItem>, Problem> {
    let (body, _permit) =
        read_body("api", &app.engine, &headers, body, SMALL_BODY_BYTES_MAX).await?;
    let HandleBody { note } = if body.is_empty() {
        HandleBody::default()
    } else {
        serde_json::from_slice(&body)
            .map_err(|error| bad(format!("the body is not `{{\"note\": \"…\"}}`: {error}")))?
    };
    if note.as_ref().is_some_and(|note| note.len() > NOTE_BYTES_MAX) {
        return Err(bad(format!("the note is longer than {NOTE_BYTES_MAX} bytes")));
    }
    let id = IncidentId(id);
    let before = app.store.incident(&id, 0).await?;
    let is_over = matches!(before.incident.state, IncidentState::Quiet | IncidentState::Resolved);
    if state == IncidentState::Acknowledged && is_over {
        metrics::refused("api", "over");
        let detail = "the incident has ended; it opens again with the next finding";
        return Err(Problem::new(StatusCode::CONFLICT, detail));
    }
    let by = caller.name.to_string();
    let handled = Resolution { state, by, at: app.clock.now(), note };
    let stored = app.engine.handle(id, handled).await?;
    Ok(Json(IncidentItem::from(&stored)))
}

/// Acknowledge an incident
///
/// Somebody looks after it. It stays so when it grows, and is told again when it becomes worse.
#[utoipa::path(
    post, path = "/v1/incidents/{id}/acknowledge", tag = "incidents",
    params(("id" = String, Path, description = "Such as 7K2-MPX")),
    request_body(content = HandleBody, description = "May be empty"),
    responses(
        (status = 200, description = "The incident", body = IncidentItem),
        (status = 404, description = "There is none", body = Problem),
        (status = 409, description = "It is over", body = Problem),
    ),
    security(("token" = [])),
)]
async fn acknowledge(
    State(app): State<AppState>,
    caller: Writer,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<IncidentItem>, Problem> {
    handle(app, caller, id, headers, body, IncidentState::Acknowledged).await
}

/// Resolve an incident
///
/// Somebody says that it is over. It opens again when more comes.
#[utoipa::path(
    post, path = "/v1/incidents/{id}/resolve", tag = "incidents",
    params(("id" = String, Path, description = "Such as 7K2-MPX")),
    request_body(content = HandleBody, description = "May be empty"),
    responses(
        (status = 200, description = "The incident", body = IncidentItem),
        (status = 404, description = "There is none", body = Problem),
    ),
    security(("token" = [])),
)]
async fn resolve(
    State(app): State<AppState>,
    caller: Writer,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<IncidentItem>, Problem> {
    handle(app, caller, id, headers, body, IncidentState::Resolved).await
}

/// Which destination is tested.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct TestBody {
    /// The destination's name; all of them by default.
    destination: Option<String>,
}

/// A test alert that is owed from now on.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Tested {
    /// Its deliveries, by id: `/v1/deliveries` says what becomes of them.
    deliveries: Vec<String>,
}

/// Send a test alert
///
/// It goes the same way as a real one.
#[utoipa::path(
    post, path = "/v1/notify/test", tag = "deliveries",
    request_body(content = TestBody, description = "May be empty"),
    responses(
        (status = 202, description = "Owed from now on", body = Tested),
        (status = 404, description = "There is no such destination", body = Problem),
    ),
    security(("token" = [])),
)]
async fn notify_test(
    State(app): State<AppState>,
    Writer(caller): Writer,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Tested>), Problem> {
    let (body, _permit) =
        read_body("api", &app.engine, &headers, body, SMALL_BODY_BYTES_MAX).await?;
    let TestBody { destination } = if body.is_empty() {
        TestBody::default()
    } else {
        serde_json::from_slice(&body).map_err(|error| {
            bad(format!("the body is not `{{\"destination\": \"…\"}}`: {error}"))
        })?
    };
    let alert = rootwatch_notify::sample::test(&caller.name, app.clock.now());
    let id = alert.id.clone();
    let to = app.engine.raise(alert, destination).await?;
    if to.is_empty() {
        return Err(Problem::new(StatusCode::NOT_FOUND, "no such destination"));
    }
    let deliveries = to.iter().map(|name| DeliveryId::of(&id, name).0).collect();
    Ok((StatusCode::ACCEPTED, Json(Tested { deliveries })))
}

/// List findings
#[utoipa::path(
    get, path = "/v1/findings", tag = "findings", params(FindingParams, PageParams),
    responses(
        (status = 200, description = "Newest first", body = PageOf<FindingItem>),
        (status = 400, description = "A filter is wrong", body = Problem),
    ),
    security(("token" = [])),
)]
async fn findings(
    _: Reader,
    State(app): State<AppState>,
    RawQuery(query): RawQuery,
) -> Result<Json<PageOf<FindingItem>>, Problem> {
    let mut query = Query::parse(query.as_deref());
    let page = query.page()?;
    let filter = FindingFilter {
        incident: None,
        account: query.one("account")?,
        root_use: query.named("root_use", &RootUse::ALL.map(|one| (one.name(), one)))?,
        min_severity: query.named("min_severity", &severities())?.pop(),
        rule: query.one("rule")?,
        since: query.time("since")?,
        until: query.time("until")?,
    };
    query.end(&[
        "account",
        "root_use",
        "min_severity",
        "rule",
        "since",
        "until",
        "limit",
        "after",
    ])?;
    let page = app.store.findings(&filter, &page).await?;
    let items = page.items.iter().map(FindingItem::from).collect();
    Ok(Json(PageOf { items, next: page.next }))
}

/// List deliveries
#[utoipa::path(
    get, path = "/v1/deliveries", tag = "deliveries", params(DeliveryParams, PageParams),
    responses(
        (status = 200, description = "Newest first", body = PageOf<DeliveryItem>),
        (status = 400, description = "A filter is wrong", body = Problem),
    ),
    security(("token" = [])),
)]
async fn deliveries(
    _: Reader,
    State(app): State<AppState>,
    RawQuery(query): RawQuery,
) -> Result<Json<PageOf<DeliveryItem>>, Problem> {
    let mut query = Query::parse(query.as_deref());
    let page = query.page()?;
    let filter = DeliveryFilter {
        states: query.named("state", &DeliveryState::ALL.map(|one| (one.name(), one)))?,
        destination: query.one("destination")?,
        incident: query.one("incident")?.map(IncidentId),
    };
    query.end(&["state", "destination", "incident", "limit", "after"])?;
    let page = app.store.deliveries(&filter, &page).await?;
    let items = page.items.iter().map(DeliveryItem::from).collect();
    Ok(Json(PageOf { items, next: page.next }))
}

/// List records that were not trusted
#[utoipa::path(
    get, path = "/v1/unverified", tag = "findings", params(PageParams),
    responses(
        (status = 200, description = "Newest first", body = PageOf<UnverifiedItem>),
        (status = 400, description = "A filter is wrong", body = Problem),
    ),
    security(("token" = [])),
)]
async fn unverified(
    _: Reader,
    State(app): State<AppState>,
    RawQuery(query): RawQuery,
) -> Result<Json<PageOf<UnverifiedItem>>, Problem> {
    let mut query = Query::parse(query.as_deref());
    let page = query.page()?;
    query.end(&["limit", "after"])?;
    let page = app.store.unverified(&page).await?;
    let items = page.items.iter().map(UnverifiedItem::from).collect();
    Ok(Json(PageOf { items, next: page.next }))
}
