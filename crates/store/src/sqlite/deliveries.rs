//! Deliveries: owed, leased, ended.

use std::collections::HashSet;

use jiff::Timestamp;
use rootwatch_core::alert::{Delivery, DeliveryId, DeliveryState};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};

use super::rows::{Cursor, from_json, items, json, micros, time};
use crate::{Attempt, DeliveryFilter, Page, PageRequest, StoreError};

const DELIVERY: &str = "id, destination, state, alert, created_at, due_at, leased_until, attempts, \
                        last_error, receipt, ended_at, stands_in_for, number";
/// Rows that are looked at for each one that may be leased: those of a thread whose turn is not
/// yet are passed over.
const LOOKED_AT_FACTOR: usize = 16;

pub(super) fn owe(connection: &Connection, delivery: &Delivery) -> Result<(), StoreError> {
    let mut put = connection.prepare_cached(
        "INSERT INTO deliveries (id, destination, thread, incident, state, alert, created_at,
             due_at, leased_until, attempts, last_error, receipt, ended_at, stands_in_for)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)
         ON CONFLICT (id) DO NOTHING",
    )?;
    put.execute(params![
        delivery.id.0,
        delivery.destination,
        delivery.alert.thread(),
        delivery.alert.incident().map(|incident| &incident.id.0),
        delivery.state.name(),
        json(&delivery.alert)?,
        micros(delivery.created_at),
        micros(delivery.due_at),
        delivery.leased_until.map(micros),
        delivery.attempts,
        delivery.last_error,
        delivery.receipt,
        delivery.ended_at.map(micros),
        delivery.stands_in_for.as_ref().map(|id| &id.0),
    ])?;
    Ok(())
}

fn read(row: &Row<'_>) -> Result<Delivery, StoreError> {
    let name: String = row.get(2)?;
    let state = DeliveryState::ALL.into_iter().find(|state| state.name() == name);
    let unknown = || StoreError::Damaged { reason: format!("a delivery is {name:?}") };
    let alert: String = row.get(3)?;
    let at = |place: usize| -> Result<Option<Timestamp>, StoreError> {
        row.get::<_, Option<i64>>(place)?.map(time).transpose()
    };
    Ok(Delivery {
        id: DeliveryId(row.get(0)?),
        destination: row.get(1)?,
        alert: from_json("an alert", &alert)?,
        state: state.ok_or_else(unknown)?,
        created_at: time(row.get(4)?)?,
        due_at: time(row.get(5)?)?,
        leased_until: at(6)?,
        attempts: row.get(7)?,
        last_error: row.get(8)?,
        receipt: row.get(9)?,
        ended_at: at(10)?,
        stands_in_for: row.get::<_, Option<String>>(11)?.map(DeliveryId),
    })
}

/// The conditions under which a delivery may be leased, but for its turn in its thread.
fn free(busy: &[String]) -> (String, Vec<Value>) {
    let places: Vec<String> = (0..busy.len()).map(|place| format!("?{}", place + 2)).collect();
    let text = format!(
        "state = 'due' AND due_at <= ?1 AND (leased_until IS NULL OR leased_until <= ?1)
         AND destination NOT IN ({})",
        places.join(", ")
    );
    (text, busy.iter().map(|name| Value::Text(name.clone())).collect())
}

pub(super) fn is_any_due(
    connection: &Connection,
    now: Timestamp,
    busy: &[String],
) -> Result<bool, StoreError> {
    let (free, busy) = free(busy);
    let mut ask =
        connection.prepare_cached(&format!("SELECT 1 FROM deliveries WHERE {free} LIMIT 1"))?;
    let mut values = vec![Value::Integer(micros(now))];
    values.extend(busy);
    Ok(ask.exists(params_from_iter(values))?)
}

pub(super) fn lease(
    connection: &Connection,
    now: Timestamp,
    until: Timestamp,
    max: usize,
    busy: &[String],
) -> Result<Vec<Delivery>, StoreError> {
    let (free, busy) = free(busy);
    let mut ask = connection.prepare_cached(&format!(
        "SELECT number, destination, thread FROM deliveries WHERE {free}
         ORDER BY due_at, number LIMIT {}",
        max.saturating_mul(LOOKED_AT_FACTOR)
    ))?;
    let mut values = vec![Value::Integer(micros(now))];
    values.extend(busy);
    let mut first = connection.prepare_cached(
        "SELECT min(number) FROM deliveries
         WHERE state = 'due' AND destination = ?1 AND thread = ?2",
    )?;
    let mut turns: Vec<i64> = Vec::new();
    let mut seen: HashSet<(String, String)> = HashSet::new();
    let mut rows = ask.query(params_from_iter(values))?;
    while let Some(row) = rows.next()? {
        if turns.len() == max {
            break;
        }
        let (number, destination, thread): (i64, String, String) =
            (row.get(0)?, row.get(1)?, row.get(2)?);
        if !seen.insert((destination.clone(), thread.clone())) {
            continue;
        }
        let oldest: Option<i64> = first.query_row([destination, thread], |row| row.get(0))?;
        let Some(oldest) = oldest else { continue };
        if oldest == number || is_free(connection, oldest, now)? {
            turns.push(oldest);
        }
    }
    drop(rows);
    let mut leased = Vec::with_capacity(turns.len());
    let mut put = connection.prepare_cached(&format!(
        "UPDATE deliveries SET leased_until = ?2, attempts = attempts + 1 WHERE number = ?1
         RETURNING {DELIVERY}"
    ))?;
    for number in turns {
        let mut rows = put.query(params![number, micros(until)])?;
        if let Some(row) = rows.next()? {
            leased.push(read(row)?);
        }
    }
    Ok(leased)
}

/// True when a delivery is due and nobody sends it.
fn is_free(connection: &Connection, number: i64, now: Timestamp) -> Result<bool, StoreError> {
    let mut ask = connection.prepare_cached(
        "SELECT 1 FROM deliveries WHERE number = ?1 AND due_at <= ?2
         AND (leased_until IS NULL OR leased_until <= ?2)",
    )?;
    Ok(ask.exists(params![number, micros(now)])?)
}

pub(super) fn attempted(
    connection: &Connection,
    id: &DeliveryId,
    attempt: &Attempt,
    now: Timestamp,
) -> Result<(), StoreError> {
    let changed = match attempt {
        Attempt::Delivered { receipt } => connection
            .prepare_cached(
                "UPDATE deliveries SET state = 'delivered', receipt = ?2, ended_at = ?3,
                     leased_until = NULL, last_error = NULL WHERE id = ?1 AND state = 'due'",
            )?
            .execute(params![id.0, receipt, micros(now)])?,
        Attempt::Again { at, error, not_begun } => connection
            .prepare_cached(
                "UPDATE deliveries SET due_at = ?2, last_error = ?3, leased_until = NULL,
                     attempts = max(attempts - ?4, 0) WHERE id = ?1 AND state = 'due'",
            )?
            .execute(params![id.0, micros(*at), error, i64::from(*not_begun)])?,
        Attempt::Failed { error, .. } => connection
            .prepare_cached(
                "UPDATE deliveries SET state = 'failed', last_error = ?2, ended_at = ?3,
                     leased_until = NULL WHERE id = ?1 AND state = 'due'",
            )?
            .execute(params![id.0, error, micros(now)])?,
    };
    if let Attempt::Failed { instead, .. } = attempt {
        for delivery in instead {
            owe(connection, delivery)?;
        }
    }
    if changed == 0 {
        let mut ask = connection.prepare_cached("SELECT 1 FROM deliveries WHERE id = ?1")?;
        if !ask.exists([&id.0])? {
            return Err(StoreError::NotFound { what: "delivery", name: id.0.clone() });
        }
        // It ended already: another one sent it after this one's lease ran out.
    }
    Ok(())
}

pub(super) fn next_due(connection: &Connection) -> Result<Option<Timestamp>, StoreError> {
    let due: Option<i64> = connection
        .prepare_cached(
            "SELECT min(max(due_at, coalesce(leased_until, due_at))) FROM deliveries
             WHERE state = 'due'",
        )?
        .query_row([], |row| row.get(0))
        .optional()?
        .flatten();
    due.map(time).transpose()
}

pub(super) fn list(
    connection: &Connection,
    filter: &DeliveryFilter,
    page: &PageRequest,
) -> Result<Page<Delivery>, StoreError> {
    let mut conditions: Vec<String> = Vec::new();
    let mut values: Vec<Value> = Vec::new();
    if !filter.states.is_empty() {
        let names: Vec<String> =
            filter.states.iter().map(|state| format!("'{}'", state.name())).collect();
        conditions.push(format!("state IN ({})", names.join(", ")));
    }
    for (column, value) in [
        ("destination", filter.destination.clone()),
        ("incident", filter.incident.as_ref().map(|id| id.0.clone())),
    ] {
        if let Some(value) = value {
            values.push(Value::Text(value));
            conditions.push(format!("{column} = ?{}", values.len()));
        }
    }
    if let Some(after) = &page.after {
        values.push(Value::Integer(Cursor::read(after)?.number));
        conditions.push(format!("number < ?{}", values.len()));
    }
    let sql = if conditions.is_empty() {
        String::new()
    } else {
        format!("WHERE {}", conditions.join(" AND "))
    };
    let items_max = items(page);
    let mut ask = connection.prepare(&format!(
        "SELECT {DELIVERY} FROM deliveries {sql} ORDER BY number DESC LIMIT {}",
        items_max + 1
    ))?;
    let mut rows = ask.query(params_from_iter(&values))?;
    let mut all: Vec<(i64, Delivery)> = Vec::new();
    while let Some(row) = rows.next()? {
        all.push((row.get(12)?, read(row)?));
    }
    let more = all.len() > items_max;
    all.truncate(items_max);
    let next = all.last().filter(|_| more).map(|(number, _)| Cursor::write(*number, "delivery"));
    Ok(Page { items: all.into_iter().map(|(_, delivery)| delivery).collect(), next })
}
