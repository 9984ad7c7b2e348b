//! Reads rows.

use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;
use rootwatch_core::delivery::DeliveryState;
use rootwatch_core::finding::{Finding, FindingKey, Severity};
use rootwatch_core::incident::{Incident, IncidentId, RedundantCount, by_time};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};

use crate::rows::{
    self, Cursor, List, NO_TIME, from_json, items, micros, page_of, time, time_or_none,
};
use crate::{
    FindingFilter, IncidentFilter, LookBack, Page, PageRequest, Stats, StoreError, StoredFinding,
    StoredIncident, Unverified,
};

const INCIDENT: &str = "head, revision, told, findings_total, handled, changed_at, last_at, id";

pub(super) fn known(
    connection: &Connection,
    keys: &[FindingKey],
) -> Result<HashSet<FindingKey>, StoreError> {
    let mut ask = connection.prepare_cached("SELECT 1 FROM findings WHERE key = ?1")?;
    let mut known = HashSet::new();
    for key in keys {
        if ask.exists([&key.0])? {
            known.insert(key.clone());
        }
    }
    Ok(known)
}

/// The columns of [`INCIDENT`], unparsed.
struct Raw {
    head: String,
    revision: u64,
    notified: String,
    findings_total: u64,
    resolution: Option<String>,
    changed_at: i64,
    last_at: i64,
}

impl Raw {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            head: row.get(0)?,
            revision: row.get(1)?,
            notified: row.get(2)?,
            findings_total: row.get(3)?,
            resolution: row.get(4)?,
            changed_at: row.get(5)?,
            last_at: row.get(6)?,
        })
    }

    fn stored(self) -> Result<StoredIncident, StoreError> {
        Ok(StoredIncident {
            incident: from_json("an incident", &self.head)?,
            revision: self.revision,
            notified: from_json("a notified state", &self.notified)?,
            findings_total: self.findings_total,
            by: self.resolution.map(|text| from_json("a resolution", &text)).transpose()?,
            changed_at: time(self.changed_at)?,
        })
    }
}

/// Conditions of a statement, joined with AND.
#[derive(Default)]
struct Conditions {
    text: Vec<String>,
    values: Vec<Value>,
}

impl Conditions {
    fn add(&mut self, text: &str, value: impl Into<Value>) {
        self.values.push(value.into());
        self.text.push(text.replace('?', &format!("?{}", self.values.len())));
    }

    fn add_any(&mut self, column: &str, values: impl IntoIterator<Item = &'static str>) {
        let mut places = Vec::new();
        for value in values {
            self.values.push(Value::Text(value.to_owned()));
            places.push(format!("?{}", self.values.len()));
        }
        if !places.is_empty() {
            self.text.push(format!("{column} IN ({})", places.join(", ")));
        }
    }

    /// Only items after the last item of the page before, newest first.
    fn after(
        &mut self,
        list: List,
        page: &PageRequest,
        number: &str,
        name: &str,
    ) -> Result<(), StoreError> {
        let Some(after) = &page.after else { return Ok(()) };
        let cursor = Cursor::read(list, after)?;
        self.values.push(cursor.number.into());
        self.values.push(cursor.name.into());
        let last = self.values.len();
        self.text.push(format!("({number}, {name}) < (?{}, ?{last})", last - 1));
        Ok(())
    }

    fn sql(&self) -> String {
        if self.text.is_empty() {
            String::new()
        } else {
            format!("WHERE {}", self.text.join(" AND "))
        }
    }
}

pub(super) fn incidents_within(
    connection: &Connection,
    from: Timestamp,
    to: Timestamp,
    unended: bool,
) -> Result<Vec<StoredIncident>, StoreError> {
    // An incident overlaps the span when it ends after its begin and begins before its end; one
    // without times is found among those that have not ended.
    let or_unended = if unended { "OR state IN ('open', 'acknowledged')" } else { "" };
    let mut ask = connection.prepare(&format!(
        "SELECT {INCIDENT} FROM incidents WHERE (last_at >= ?1 AND first_at <= ?2) {or_unended}"
    ))?;
    let found = ask.query_map(params![micros(from), micros(to)], Raw::read)?;
    let mut incidents = Vec::new();
    for raw in found {
        let mut stored = raw?.stored()?;
        fill(connection, &mut stored.incident)?;
        incidents.push(stored);
    }
    Ok(incidents)
}

pub(super) fn incidents_of(
    connection: &Connection,
    ids: &[IncidentId],
) -> Result<Vec<StoredIncident>, StoreError> {
    let mut ask =
        connection.prepare_cached(&format!("SELECT {INCIDENT} FROM incidents WHERE id = ?1"))?;
    let mut incidents = Vec::new();
    let mut asked = HashSet::new();
    for id in ids.iter().filter(|id| asked.insert(*id)) {
        let Some(raw) = ask.query_row([&id.0], Raw::read).optional()? else { continue };
        let mut stored = raw.stored()?;
        fill(connection, &mut stored.incident)?;
        incidents.push(stored);
    }
    Ok(incidents)
}

/// Loads the findings of an incident for correlation: redundant ones are counted, not listed.
fn fill(connection: &Connection, incident: &mut Incident) -> Result<(), StoreError> {
    let mut ask = connection.prepare_cached(
        "SELECT shown, original FROM findings WHERE incident = ?1 AND echo_of IS NULL",
    )?;
    let mut rows = ask.query([&incident.id.0])?;
    while let Some(row) = rows.next()? {
        if let Some(shown) = row.get_ref(0)?.as_str_or_null().map_err(rusqlite::Error::from)? {
            incident.findings.push(from_json("a finding", shown)?);
        }
        if let Some(original) = row.get_ref(1)?.as_str_or_null().map_err(rusqlite::Error::from)? {
            incident.superseded.push(from_json("a finding", original)?);
        }
    }
    incident.findings.sort_by(by_time);
    incident.superseded.sort_by(|one: &Finding, other| one.key.cmp(&other.key));
    let mut ask = connection.prepare_cached(
        "SELECT echo_of, count(*), max(at) FROM findings
         WHERE incident = ?1 AND echo_of IS NOT NULL GROUP BY echo_of",
    )?;
    let mut rows = ask.query([&incident.id.0])?;
    while let Some(row) = rows.next()? {
        let echoes = RedundantCount { count: row.get(1)?, last_at: time_or_none(row.get(2)?) };
        incident.echoes.insert(FindingKey(row.get(0)?), echoes);
    }
    Ok(())
}

pub(super) fn look_back(
    connection: &Connection,
    matches_since: Timestamp,
    accounts: Option<&[String]>,
) -> Result<LookBack, StoreError> {
    let pairs = |table: &str| -> Result<Vec<(String, String)>, StoreError> {
        let mut ask = connection.prepare(table)?;
        let rows = ask.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    };
    let mut spoken = Vec::new();
    let mut ask = connection
        .prepare("SELECT account, rules, at FROM findings WHERE at >= ?1 AND rules != '  '")?;
    let mut rows = ask.query([micros(matches_since)])?;
    while let Some(row) = rows.next()? {
        let (account, rules): (String, String) = (row.get(0)?, row.get(1)?);
        let at = time(row.get(2)?)?;
        for rule in rules.split_whitespace() {
            spoken.push((account.clone(), rule.to_owned(), at));
        }
    }
    let mut past = LookBack {
        keys: pairs("SELECT account, key FROM past_keys")?,
        addresses: pairs("SELECT account, address FROM past_addresses")?,
        matches: spoken,
    };
    if let Some(accounts) = accounts {
        past.keys.retain(|(account, _)| accounts.contains(account));
        past.addresses.retain(|(account, _)| accounts.contains(account));
        past.matches.retain(|(account, _, _)| accounts.contains(account));
    }
    Ok(past)
}

pub(super) fn incident(
    connection: &Connection,
    id: &IncidentId,
    findings_max: usize,
) -> Result<StoredIncident, StoreError> {
    let mut ask =
        connection.prepare_cached(&format!("SELECT {INCIDENT} FROM incidents WHERE id = ?1"))?;
    let raw = ask.query_row([&id.0], Raw::read).optional()?;
    let missing = || StoreError::NotFound { what: "incident", name: id.0.clone() };
    let mut stored = raw.ok_or_else(missing)?.stored()?;
    // What states no time comes last.
    for times in ["at > ?3", "at = ?3"] {
        let mut ask = connection.prepare_cached(&format!(
            "SELECT shown FROM findings WHERE incident = ?1 AND {times} AND shown IS NOT NULL
             ORDER BY at, key LIMIT ?2"
        ))?;
        let room = findings_max.saturating_sub(stored.incident.findings.len());
        let room = i64::try_from(room).unwrap_or(i64::MAX);
        let mut rows = ask.query(params![id.0, room, NO_TIME])?;
        while let Some(row) = rows.next()? {
            let shown: String = row.get(0)?;
            stored.incident.findings.push(from_json("a finding", &shown)?);
        }
    }
    stored.incident.findings.sort_by(by_time);
    Ok(stored)
}

pub(super) fn incidents(
    connection: &Connection,
    filter: &IncidentFilter,
    page: &PageRequest,
) -> Result<Page<StoredIncident>, StoreError> {
    let mut conditions = Conditions::default();
    conditions.add_any("state", filter.states.iter().map(|state| rows::state(*state)));
    conditions.add_any("kind", filter.kinds.iter().map(|kind| rows::kind(*kind)));
    if let Some(severity) = filter.min_severity {
        conditions.add("severity >= ?", severity as i64);
    }
    if let Some(account) = &filter.account {
        conditions.add(
            "id IN (SELECT incident FROM incident_accounts WHERE account = ?)",
            account.clone(),
        );
    }
    if let Some(since) = filter.since {
        conditions.add("last_at >= ?", micros(since));
    }
    if let Some(until) = filter.until {
        conditions.add("first_at < ?", micros(until));
    }
    if filter.undigested {
        conditions.text.push("severity = 0 AND digested = 0".to_owned());
    }
    conditions.after(List::Incidents, page, "last_at", "id")?;
    let items_max = items(page);
    let mut ask = connection.prepare(&format!(
        "SELECT {INCIDENT} FROM incidents {} ORDER BY last_at DESC, id DESC LIMIT {}",
        conditions.sql(),
        items_max + 1
    ))?;
    let found = ask.query_map(params_from_iter(&conditions.values), Raw::read)?;
    let mut all: Vec<(i64, StoredIncident)> = Vec::new();
    for raw in found {
        let raw = raw?;
        all.push((raw.last_at, raw.stored()?));
    }
    Ok(page_of(List::Incidents, all, items_max, |stored| stored.incident.id.0.clone()))
}

pub(super) fn findings(
    connection: &Connection,
    filter: &FindingFilter,
    page: &PageRequest,
) -> Result<Page<StoredFinding>, StoreError> {
    let mut conditions = Conditions::default();
    conditions.text.push("shown IS NOT NULL".to_owned());
    if let Some(incident) = &filter.incident {
        conditions.add("incident = ?", incident.0.clone());
    }
    if let Some(account) = &filter.account {
        conditions.add("account = ?", account.clone());
    }
    conditions.add_any("root_use", filter.root_use.iter().map(|root_use| root_use.name()));
    if let Some(severity) = filter.min_severity {
        conditions.add("severity >= ?", severity as i64);
    }
    if let Some(rule) = &filter.rule {
        if rule.is_empty() || rule.contains(' ') {
            // No rule is called so; the text of all of them may contain it.
            conditions.text.push("FALSE".to_owned());
        }
        conditions.add("instr(rules, ?) > 0", format!(" {rule} "));
    }
    if let Some(since) = filter.since {
        conditions.add("at >= ?", micros(since));
    }
    if let Some(until) = filter.until {
        conditions.add("at < ?", micros(until));
    }
    conditions.after(List::Findings, page, "at", "key")?;
    let items_max = items(page);
    let mut ask = connection.prepare(&format!(
        "SELECT shown, incident, received_at, at FROM findings {}
         ORDER BY at DESC, key DESC LIMIT {}",
        conditions.sql(),
        items_max + 1
    ))?;
    let mut rows = ask.query(params_from_iter(&conditions.values))?;
    let mut all = Vec::new();
    while let Some(row) = rows.next()? {
        let shown: String = row.get(0)?;
        let finding = StoredFinding {
            finding: from_json("a finding", &shown)?,
            incident: IncidentId(row.get(1)?),
            received_at: time(row.get(2)?)?,
        };
        all.push((row.get(3)?, finding));
    }
    Ok(page_of(List::Findings, all, items_max, |stored| stored.finding.key.0.clone()))
}

pub(super) fn unverified(
    connection: &Connection,
    page: &PageRequest,
) -> Result<Page<Unverified>, StoreError> {
    let mut conditions = Conditions::default();
    conditions.after(List::Unverified, page, "received_at", "key")?;
    let items_max = items(page);
    let mut ask = connection.prepare(&format!(
        "SELECT body, received_at FROM unverified {} ORDER BY received_at DESC, key DESC LIMIT {}",
        conditions.sql(),
        items_max + 1
    ))?;
    let mut rows = ask.query(params_from_iter(&conditions.values))?;
    let mut all: Vec<(i64, Unverified)> = Vec::new();
    while let Some(row) = rows.next()? {
        let body: String = row.get(0)?;
        all.push((row.get(1)?, from_json("an unverified record", &body)?));
    }
    Ok(page_of(List::Unverified, all, items_max, |one| one.key.0.clone()))
}

pub(super) fn note(connection: &Connection, name: &str) -> Result<Option<String>, StoreError> {
    let mut ask = connection.prepare_cached("SELECT value FROM notes WHERE name = ?1")?;
    Ok(ask.query_row([name], |row| row.get(0)).optional()?)
}

pub(super) fn positions(
    connection: &Connection,
    prefix: &str,
) -> Result<Vec<(String, String)>, StoreError> {
    let mut ask = connection.prepare_cached(
        "SELECT name, mark FROM positions WHERE name >= ?1 AND substr(name, 1, ?2) = ?1 ORDER BY name",
    )?;
    let length = prefix.chars().count() as i64;
    let rows = ask.query_map(params![prefix, length], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn stats(connection: &Connection) -> Result<Stats, StoreError> {
    let count = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, u64>(0));
    let mut open_incidents = BTreeMap::new();
    let mut ask = connection.prepare_cached(
        "SELECT severity, count(*) FROM incidents WHERE state IN ('open', 'acknowledged')
         GROUP BY severity",
    )?;
    let mut rows = ask.query([])?;
    while let Some(row) = rows.next()? {
        let number: i64 = row.get(0)?;
        let severity = Severity::ALL.into_iter().find(|severity| *severity as i64 == number);
        open_incidents.insert(severity.unwrap_or_default(), row.get(1)?);
    }
    let mut deliveries = BTreeMap::new();
    let mut ask = connection.prepare_cached(
        "SELECT destination, state, count(*) FROM deliveries GROUP BY destination, state",
    )?;
    let mut rows = ask.query([])?;
    while let Some(row) = rows.next()? {
        let name: String = row.get(1)?;
        if let Some(state) = DeliveryState::ALL.into_iter().find(|state| state.name() == name) {
            deliveries.insert((row.get(0)?, state), row.get(2)?);
        }
    }
    let oldest: Option<i64> = connection
        .prepare_cached("SELECT min(created_at) FROM deliveries WHERE state = 'due'")?
        .query_row([], |row| row.get(0))?;
    Ok(Stats {
        open_incidents,
        deliveries,
        oldest_due: oldest.map(time).transpose()?,
        findings: count("SELECT count(*) FROM findings")?,
        unverified: count("SELECT count(*) FROM unverified")?,
    })
}
