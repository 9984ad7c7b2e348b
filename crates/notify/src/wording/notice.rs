//! Alerts about no incident: the digest, a test, and deliveries that fail or recover.

use rootwatch_core::alert::{Alert, AlertKind};
use rootwatch_core::text;
use serde_json::Value;

use super::headline::Headline;
use super::{COMPACT_COLUMNS_MAX, TEXT_COLUMNS_MAX, Wording, accounts, moment};

/// Incidents of a digest that are listed.
const DIGEST_MAX: usize = 20;

/// Words an alert that is about no incident.
pub(super) fn wording(alert: &Alert) -> Wording {
    let headline = Headline::of(alert);
    let empty = Wording {
        severity: alert.severity,
        label: headline.title.clone(),
        banner: None,
        compact: text::cap(&headline.compact, COMPACT_COLUMNS_MAX),
        title: headline.title,
        lead: String::new(),
        fresh: Vec::new(),
        prose: alert.note.as_deref().map(|note| text::cap(note, TEXT_COLUMNS_MAX)),
        why: Vec::new(),
        next: Vec::new(),
        timeline: Vec::new(),
        listed: Vec::new(),
        foot: moment(alert.decided_at),
        link: None,
        parts: None,
        json: Value::Null,
    };
    match &alert.kind {
        AlertKind::Digest => digest(alert, empty),
        AlertKind::DeliveryFailing { destination } => failing(destination, empty),
        AlertKind::DeliveryRecovered { .. } => recovered(empty),
        _ => test(empty),
    }
}

fn digest(alert: &Alert, empty: Wording) -> Wording {
    let total = alert.incidents.len() as u64 + alert.incidents_left_out;
    let title = format!("{} · {}", empty.title, text::count(total, "informational incident"));
    let mut listed: Vec<String> = alert
        .incidents
        .iter()
        .take(DIGEST_MAX)
        .map(|summary| {
            let when = summary.first_at.map(moment).unwrap_or_default();
            let what = text::cap(&summary.title, 90);
            format!("{when} · {what} · {} · {}", accounts(&summary.accounts), summary.id)
        })
        .collect();
    let more = total.saturating_sub(listed.len() as u64);
    if more > 0 {
        listed.push(format!("and {more} more"));
    }
    Wording {
        compact: text::cap(&title, COMPACT_COLUMNS_MAX),
        lead: "Informational root use since the last digest. No action needed.".to_owned(),
        title,
        prose: None,
        listed,
        foot: format!("Until {}", moment(alert.decided_at)),
        ..empty
    }
}

fn failing(destination: &str, empty: Wording) -> Wording {
    let destination = text::cap(destination, 60);
    Wording {
        label: text::severity(empty.severity).to_owned(),
        lead: format!(
            "Alerts to {destination} go to the next destination instead, if one is configured. All \
             of them stay in the hub."
        ),
        next: vec![
            "Check the hub for missed alerts: GET /v1/incidents?state=open.".to_owned(),
            format!(
                "Fix destination `{destination}` (its last error is above), then run `rootwatch \
                 notify test {destination}`."
            ),
        ],
        ..empty
    }
}

fn recovered(empty: Wording) -> Wording {
    Wording {
        label: "Recovered".to_owned(),
        lead:
            "Alerts that failed meanwhile went to the next destination, if one is configured. All \
               of them are in the hub."
                .to_owned(),
        ..empty
    }
}

fn test(empty: Wording) -> Wording {
    let banner = "TEST: nothing happened";
    Wording {
        label: "TEST".to_owned(),
        compact: text::cap(&format!("{banner}. {}", empty.compact), COMPACT_COLUMNS_MAX),
        banner: Some(banner.to_owned()),
        lead: "If you can read this, alerts reach you here.".to_owned(),
        ..empty
    }
}
