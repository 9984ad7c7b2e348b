//! Deliveries: pending, leased, ended.

use jiff::Timestamp;
use rootwatch_core::delivery::{Delivery, DeliveryId, DeliveryState};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};

use crate::rows::{Cursor, List, from_json, items, json, micros, page_of, time};
use crate::{DeliveryFilter, Page, PageRequest, StoreError};
use rootwatch_core::attempt::Attempt;

const DELIVERY: &str = "id, destination, state, alert, created_at, due_at, leased_until, attempts, \
                        last_error, receipt, ended_at, stands_in_for, number";

/// Enqueues a delivery behind the pending ones of its thread and destination.
pub(super) fn enqueue(connection: &Connection, delivery: &Delivery) -> Result<(), StoreError> {
    let mut put = connection.prepare_cached(
        "INSERT INTO deliveries (id, destination, thread, incident, state, alert, created_at,
             due_at, leased_until, attempts, last_error, receipt, ended_at, stands_in_for,
             ready_at, in_turn)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14,
             max(?8, coalesce(?9, ?8)),
             ?5 = 'due' AND NOT EXISTS (SELECT 1 FROM deliveries
                 WHERE state = 'due' AND destination = ?2 AND thread = ?3))
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

/// The destinations with pending deliveries: one step in the index for each, however many
/// deliveries it has.
fn destinations(connection: &Connection) -> Result<Vec<String>, StoreError> {
    let mut ask = connection.prepare_cached(DESTINATION)?;
    let mut all: Vec<String> = Vec::new();
    loop {
        let last = all.last().map_or("", String::as_str);
        let next: Option<String> = ask.query_row([last], |row| row.get(0))?;
        match next {
            Some(next) => all.push(next),
            None => return Ok(all),
        }
    }
}

/// The first after another.
const DESTINATION: &str =
    "SELECT min(destination) FROM deliveries WHERE in_turn = 1 AND destination > ?1";

/// The deliveries that may be leased, as times and numbers: the oldest first.
fn ready(
    connection: &Connection,
    now: Timestamp,
    max: usize,
    busy: &[String],
) -> Result<Vec<(i64, i64)>, StoreError> {
    let mut ask = connection.prepare_cached(READY)?;
    let limit = i64::try_from(max).unwrap_or(i64::MAX);
    let mut all: Vec<(i64, i64)> = Vec::new();
    for destination in destinations(connection)? {
        if busy.contains(&destination) {
            continue;
        }
        let mut rows = ask.query(params![destination, micros(now), limit])?;
        while let Some(row) = rows.next()? {
            all.push((row.get(0)?, row.get(1)?));
        }
    }
    all.sort_unstable();
    all.truncate(max);
    Ok(all)
}

/// Of one destination.
const READY: &str = "SELECT ready_at, number FROM deliveries
     WHERE in_turn = 1 AND destination = ?1 AND ready_at <= ?2
     ORDER BY ready_at, number LIMIT ?3";

pub(super) fn is_any_ready(
    connection: &Connection,
    now: Timestamp,
    busy: &[String],
) -> Result<bool, StoreError> {
    Ok(!ready(connection, now, 1, busy)?.is_empty())
}

pub(super) fn lease(
    connection: &Connection,
    now: Timestamp,
    until: Timestamp,
    max: usize,
    busy: &[String],
) -> Result<Vec<Delivery>, StoreError> {
    let mut put = connection.prepare_cached(&format!(
        "UPDATE deliveries SET leased_until = ?2, ready_at = max(due_at, ?2),
             attempts = attempts + 1
         WHERE number = ?1 RETURNING {DELIVERY}"
    ))?;
    let mut leased = Vec::new();
    for (_, number) in ready(connection, now, max, busy)? {
        let mut rows = put.query(params![number, micros(until)])?;
        while let Some(row) = rows.next()? {
            leased.push(read(row)?);
        }
    }
    Ok(leased)
}

pub(super) fn record_attempt(
    connection: &Connection,
    id: &DeliveryId,
    attempt: &Attempt,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let mut readies = false;
    let changed = match attempt {
        Attempt::Delivered { receipt } => {
            let ended = end(connection, id, DeliveryState::Delivered, Some(receipt), None, now)?;
            readies = ended.is_some_and(|more| more);
            ended.is_some()
        }
        Attempt::Again { at, error, not_begun } => {
            let mut put = connection.prepare_cached(
                "UPDATE deliveries SET due_at = ?2, ready_at = ?2, last_error = ?3,
                     leased_until = NULL, attempts = max(attempts - ?4, 0)
                 WHERE id = ?1 AND state = 'due'",
            )?;
            put.execute(params![id.0, micros(*at), error, i64::from(*not_begun)])? > 0
        }
        Attempt::Failed { error, instead } => {
            let ended = end(connection, id, DeliveryState::Failed, None, Some(error), now)?;
            // If another worker delivered it meanwhile, nothing replaces it.
            for delivery in instead.iter().filter(|_| ended.is_some()) {
                enqueue(connection, delivery)?;
            }
            readies = ended.is_some_and(|more| more || !instead.is_empty());
            ended.is_some()
        }
    };
    if !changed {
        let mut ask = connection.prepare_cached("SELECT 1 FROM deliveries WHERE id = ?1")?;
        if !ask.exists([&id.0])? {
            return Err(StoreError::NotFound { what: "delivery", name: id.0.clone() });
        }
        // It has ended: another worker sent it after this worker's lease expired.
    }
    Ok(readies)
}

/// Ends a delivery and makes the next of its thread ready. Returns whether there is one; `None` if
/// the delivery had ended before.
fn end(
    connection: &Connection,
    id: &DeliveryId,
    state: DeliveryState,
    receipt: Option<&str>,
    error: Option<&str>,
    now: Timestamp,
) -> Result<Option<bool>, StoreError> {
    let mut put = connection.prepare_cached(
        "UPDATE deliveries SET state = ?2, receipt = ?3, last_error = ?4, ended_at = ?5,
             leased_until = NULL, in_turn = 0
         WHERE id = ?1 AND state = 'due' RETURNING destination, thread",
    )?;
    let ended = params![id.0, state.name(), receipt, error, micros(now)];
    let of = put.query_row(ended, |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    let Some((destination, thread)): Option<(String, String)> = of else { return Ok(None) };
    let mut next = connection.prepare_cached(NEXT_IN_LINE)?;
    Ok(Some(next.execute([destination, thread])? > 0))
}

/// Makes the oldest pending delivery of a thread ready.
const NEXT_IN_LINE: &str = "UPDATE deliveries SET in_turn = 1
     WHERE number = (SELECT min(number) FROM deliveries
         WHERE state = 'due' AND destination = ?1 AND thread = ?2)";

pub(super) fn next_due(connection: &Connection) -> Result<Option<Timestamp>, StoreError> {
    let mut ask = connection.prepare_cached(NEXT)?;
    let mut next: Option<i64> = None;
    for destination in destinations(connection)? {
        let ready: Option<i64> = ask.query_row([destination], |row| row.get(0))?;
        next = next.into_iter().chain(ready).min();
    }
    next.map(time).transpose()
}

/// Of one destination.
const NEXT: &str = "SELECT min(ready_at) FROM deliveries WHERE in_turn = 1 AND destination = ?1";

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
        values.push(Value::Integer(Cursor::read(List::Deliveries, after)?.number));
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
    Ok(page_of(List::Deliveries, all, items_max, |_| "delivery".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ended_costs_a_lease_nothing() {
        let connection = Connection::open_in_memory().expect("a database");
        connection.execute_batch(include_str!("schema.sql")).expect("a schema");
        connection
            .execute_batch(
                "WITH RECURSIVE nth(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM nth WHERE n < 100000)
                 INSERT INTO deliveries (id, destination, thread, incident, state, alert,
                     created_at, due_at, attempts, ended_at, in_turn, ready_at)
                 SELECT 'Z' || n, 'chat', 'X', 'X', 'delivered', '{}', 0, 0, 1, 1, 0, 0 FROM nth;
                 ANALYZE;",
            )
            .expect("many ended ones");
        for sql in [DESTINATION, READY, NEXT, NEXT_IN_LINE] {
            let mut ask = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).expect("sql");
            let plan = ask.raw_query().mapped(|row| row.get::<_, String>(3));
            let plan: Vec<String> = plan.collect::<Result<_, _>>().expect("a plan");
            let plan = plan.join("; ");
            assert!(plan.contains("SEARCH deliveries USING"), "{sql}: {plan}");
            assert!(!plan.contains("SCAN") && !plan.contains("TEMP"), "{sql}: {plan}");
        }
    }
}
