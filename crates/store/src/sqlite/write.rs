//! Writes a batch as rows.

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::Timestamp;
use rootwatch_core::alert::NotifiedState;
use rootwatch_core::correlate::{Change, IncidentUpdate};
use rootwatch_core::delivery::Delivery;
use rootwatch_core::finding::is_client_address;
use rootwatch_core::finding::{Finding, FindingKey, Outcome, RootUse};
use rootwatch_core::incident::{Incident, IncidentId, IncidentState};
use rusqlite::{Connection, OptionalExtension, params};

use super::deliveries;
use crate::rows::{self, head, json, micros, micros_or_none};
use crate::{Batch, NOTE_BYTES_MAX, Resolution, StoreError};

/// An incident that a batch changes.
struct LoadedHead {
    /// Without findings.
    incident: Incident,
    /// Its accounts in the store; empty for an incident that opens.
    accounts: Vec<String>,
    /// The revision before; `None` for an incident that opens.
    revision: Option<u64>,
    findings_total: i64,
}

struct BatchWriter<'a> {
    connection: &'a Connection,
    heads: BTreeMap<IncidentId, LoadedHead>,
    received: &'a BTreeMap<FindingKey, Timestamp>,
    now: Timestamp,
    /// Incidents that the batch names: it takes findings from no other.
    named: HashSet<IncidentId>,
}

pub(super) fn commit(connection: &Connection, batch: &Batch) -> Result<(), StoreError> {
    for (id, revision) in &batch.expected {
        let mut ask = connection.prepare_cached("SELECT revision FROM incidents WHERE id = ?1")?;
        let found: Option<u64> = ask.query_row([&id.0], |row| row.get(0)).optional()?;
        if found != Some(*revision) {
            return Err(StoreError::Conflict { id: id.clone() });
        }
    }
    let now = batch.now.unwrap_or_else(Timestamp::now);
    let received = &batch.received;
    let named = batch.changes.iter().filter_map(named).cloned().collect();
    let mut writer = BatchWriter { connection, heads: BTreeMap::new(), received, now, named };
    for change in &batch.changes {
        writer.change(change).map_err(|error| match error {
            // Another writer merged or pruned it.
            StoreError::NotFound { name, .. } => StoreError::Conflict { id: IncidentId(name) },
            error => error,
        })?;
    }
    writer.finish()?;
    for (id, told) in &batch.notified {
        let mut put = connection.prepare_cached("UPDATE incidents SET told = ?2 WHERE id = ?1")?;
        put.execute(params![id.0, json(told)?])?;
    }
    for delivery in &batch.deliveries {
        deliveries::enqueue(connection, delivery)?;
    }
    for one in &batch.unverified {
        let mut put = connection.prepare_cached(
            "INSERT INTO unverified (key, received_at, body) VALUES (?1, ?2, ?3)
             ON CONFLICT (key) DO NOTHING",
        )?;
        put.execute(params![one.key.0, micros(one.received_at), json(one)?])?;
    }
    for (name, mark) in &batch.positions {
        let mut put = connection.prepare_cached(
            "INSERT INTO positions (name, mark) VALUES (?1, ?2)
             ON CONFLICT (name) DO UPDATE SET mark = excluded.mark",
        )?;
        put.execute([name, mark])?;
    }
    Ok(())
}

/// The incident that a change takes from or gives to.
fn named(change: &Change) -> Option<&IncidentId> {
    match change {
        Change::Opened(incident) => Some(&incident.id),
        Change::Grew(growth) => Some(&growth.id),
        Change::Joined { from, .. } => Some(from),
        _ => None,
    }
}

impl BatchWriter<'_> {
    fn change(&mut self, change: &Change) -> Result<(), StoreError> {
        match change {
            Change::Opened(incident) => self.open(incident),
            Change::Grew(growth) => match (&growth.redundant_to, &growth.added[..]) {
                (Some(echoed), [echo]) => self.echo(growth, echoed, echo),
                _ => self.grow(growth),
            },
            Change::Joined { into, from } => self.join(into, from),
            Change::Closed { id, .. } => {
                self.load(id)?.incident.state = IncidentState::Quiet;
                Ok(())
            }
            // Their effect is in the update before them, or they change nothing.
            _ => Ok(()),
        }
    }

    fn load(&mut self, id: &IncidentId) -> Result<&mut LoadedHead, StoreError> {
        if !self.heads.contains_key(id) {
            let mut ask = self.connection.prepare_cached(
                "SELECT head, revision, findings_total FROM incidents WHERE id = ?1",
            )?;
            let row = ask
                .query_row([&id.0], |row| {
                    Ok((row.get::<_, String>(0)?, row.get::<_, u64>(1)?, row.get::<_, i64>(2)?))
                })
                .optional()?;
            let Some((text, revision, findings_total)) = row else {
                return Err(StoreError::NotFound { what: "incident", name: id.0.clone() });
            };
            let incident: Incident = rows::from_json("an incident", &text)?;
            let accounts = incident.accounts.clone();
            let head = LoadedHead { incident, accounts, revision: Some(revision), findings_total };
            self.heads.insert(id.clone(), head);
        }
        match self.heads.get_mut(id) {
            Some(head) => Ok(head),
            None => Err(StoreError::NotFound { what: "incident", name: id.0.clone() }),
        }
    }

    fn open(&mut self, incident: &Incident) -> Result<(), StoreError> {
        let mut ask = self.connection.prepare_cached("SELECT 1 FROM incidents WHERE id = ?1")?;
        if self.heads.contains_key(&incident.id) || ask.exists([&incident.id.0])? {
            // Another writer opened it, or an old one that the hub does not remember has the
            // same short name.
            return Err(StoreError::Conflict { id: incident.id.clone() });
        }
        let incident_only = head(incident);
        let opened = LoadedHead {
            incident: incident_only,
            accounts: Vec::new(),
            revision: None,
            findings_total: 0,
        };
        self.heads.insert(incident.id.clone(), opened);
        let originals: HashMap<&FindingKey, &Finding> =
            incident.superseded.iter().map(|one| (&one.key, one)).collect();
        let mut shown = HashSet::new();
        for finding in &incident.findings {
            shown.insert(&finding.key);
            let original = originals.get(&finding.key).copied();
            self.put(&incident.id, finding, Some(finding), original, None)?;
        }
        for original in incident.superseded.iter().filter(|one| !shown.contains(&one.key)) {
            self.put(&incident.id, original, None, Some(original), None)?;
        }
        Ok(())
    }

    fn grow(&mut self, growth: &IncidentUpdate) -> Result<(), StoreError> {
        self.load(&growth.id)?;
        let originals: HashMap<&FindingKey, &Finding> =
            growth.superseded.iter().map(|one| (&one.key, one)).collect();
        let mut written = HashSet::new();
        for finding in growth.added.iter().chain(&growth.changed) {
            written.insert(&finding.key);
            let original = originals.get(&finding.key).copied();
            self.put(&growth.id, finding, Some(finding), original, None)?;
        }
        // Only the difference: findings whose classification within the incident changed.
        let before = self.with_original(&growth.id)?;
        for original in &growth.superseded {
            if written.contains(&original.key) {
                continue;
            }
            let is_hidden = growth.removed.contains(&original.key);
            if before.contains(&original.key) && !is_hidden {
                continue;
            }
            match self.shown_in(&growth.id, &original.key)? {
                Some(shown) if !is_hidden => {
                    self.put_original(&original.key, Some(original), Some(&shown))?;
                }
                _ => self.put(&growth.id, original, None, Some(original), None)?,
            }
        }
        for key in before.iter().filter(|key| !originals.contains_key(key)) {
            // Classified as on its own again, unless it has moved to another incident.
            if !written.contains(key) && !growth.removed.contains(key) {
                self.put_original(key, None, None)?;
            }
        }
        self.load(&growth.id)?.incident.head.clone_from(&growth.head);
        Ok(())
    }

    fn echo(
        &mut self,
        growth: &IncidentUpdate,
        echoed: &FindingKey,
        echo: &Finding,
    ) -> Result<(), StoreError> {
        let head = self.load(&growth.id)?;
        head.incident.last_at = growth.last_at;
        head.incident.state = growth.state;
        self.put(&growth.id, echo, Some(echo), None, Some(echoed))
    }

    fn join(&mut self, into: &IncidentId, from: &IncidentId) -> Result<(), StoreError> {
        let gone = self.load(from)?;
        let (total, was_there) = (gone.findings_total, gone.revision.is_some());
        self.load(into)?.findings_total += total;
        let mut put = self
            .connection
            .prepare_cached("UPDATE findings SET incident = ?2 WHERE incident = ?1")?;
        put.execute([&from.0, &into.0])?;
        self.heads.remove(from);
        if was_there {
            self.connection.execute("DELETE FROM incidents WHERE id = ?1", [&from.0])?;
            self.connection
                .execute("DELETE FROM incident_accounts WHERE incident = ?1", [&from.0])?;
        }
        Ok(())
    }

    /// Writes a finding's row. The redundant findings of one that moves from another incident move
    /// with it.
    fn put(
        &mut self,
        id: &IncidentId,
        finding: &Finding,
        shown: Option<&Finding>,
        original: Option<&Finding>,
        redundant_to: Option<&FindingKey>,
    ) -> Result<(), StoreError> {
        let row = FindingRow {
            key: &finding.key.0,
            incident: &id.0,
            finding,
            shown: shown.map(json).transpose()?,
            original: original.map(json).transpose()?,
            redundant_to: redundant_to.map(|key| key.0.as_str()),
            received_at: self.received.get(&finding.key).copied().unwrap_or(self.now),
        };
        // Most findings are new: inserting first saves a read.
        let before = if row.insert(self.connection)? {
            None
        } else {
            let mut ask = self.connection.prepare_cached(
                "SELECT incident, shown IS NOT NULL FROM findings WHERE key = ?1",
            )?;
            let before: (String, bool) =
                ask.query_row([row.key], |found| Ok((found.get(0)?, found.get(1)?)))?;
            if before.0 != id.0 && !self.named.contains(&IncidentId(before.0.clone())) {
                // Another writer saved this finding since.
                return Err(StoreError::Conflict { id: IncidentId(before.0) });
            }
            row.replace(self.connection)?;
            Some(before)
        };
        let is_shown = i64::from(shown.is_some());
        match before {
            None => {
                self.load(id)?.findings_total += is_shown;
                self.remember(finding)?;
            }
            Some((home, was_shown)) if home == id.0 => {
                self.load(id)?.findings_total += is_shown - i64::from(was_shown);
            }
            Some((home, was_shown)) => {
                let mut carry = self.connection.prepare_cached(
                    "UPDATE findings SET incident = ?2 WHERE echo_of = ?1 AND incident != ?2",
                )?;
                let echoes = carry.execute([&finding.key.0, &id.0])? as i64;
                self.load(id)?.findings_total += is_shown + echoes;
                // The other incident may have been deleted.
                match self.load(&IncidentId(home)) {
                    Ok(other) => other.findings_total -= i64::from(was_shown) + echoes,
                    Err(StoreError::NotFound { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// A hidden finding keeps its original, whatever the batch says: nothing else is left of it.
    fn put_original(
        &self,
        key: &FindingKey,
        original: Option<&Finding>,
        shown: Option<&str>,
    ) -> Result<(), StoreError> {
        let mut put = self.connection.prepare_cached(
            "UPDATE findings SET original = ?2, shown = coalesce(?3, shown)
             WHERE key = ?1 AND (?2 IS NOT NULL OR shown IS NOT NULL)",
        )?;
        put.execute(params![key.0, original.map(json).transpose()?, shown])?;
        Ok(())
    }

    /// Findings that their incident classifies differently from the finding on its own.
    fn with_original(&self, id: &IncidentId) -> Result<HashSet<FindingKey>, StoreError> {
        let mut ask = self.connection.prepare_cached(
            "SELECT key FROM findings WHERE incident = ?1 AND original IS NOT NULL",
        )?;
        let keys = ask.query_map([&id.0], |row| row.get(0).map(FindingKey))?;
        Ok(keys.collect::<Result<_, _>>()?)
    }

    fn shown_in(&self, id: &IncidentId, key: &FindingKey) -> Result<Option<String>, StoreError> {
        let mut ask = self
            .connection
            .prepare_cached("SELECT shown FROM findings WHERE key = ?1 AND incident = ?2")?;
        let shown = ask.query_row([&key.0, &id.0], |row| row.get::<_, Option<String>>(0));
        Ok(shown.optional()?.flatten())
    }

    /// Saves the history that rules refer to: see [`crate::LookBack`].
    fn remember(&self, finding: &Finding) -> Result<(), StoreError> {
        let account = finding.account_id.as_deref().unwrap_or_default();
        if let Some(key) = &finding.access_key_id {
            let mut put = self
                .connection
                .prepare_cached("INSERT OR IGNORE INTO past_keys (account, key) VALUES (?1, ?2)")?;
            put.execute([account, key])?;
        }
        if finding.root_use == RootUse::Direct
            && finding.outcome == Outcome::Success
            && let Some(address) = finding.source_ip.as_deref().filter(|ip| is_client_address(ip))
        {
            let mut put = self.connection.prepare_cached(
                "INSERT OR IGNORE INTO past_addresses (account, address) VALUES (?1, ?2)",
            )?;
            put.execute([account, address])?;
        }
        Ok(())
    }

    /// Writes each incident that was touched, once.
    fn finish(self) -> Result<(), StoreError> {
        for (id, head) in &self.heads {
            write_head(self.connection, head, self.now)?;
            let (before, after) = (&head.accounts, &head.incident.accounts);
            if before == after {
                continue;
            }
            let (old, new): (HashSet<&String>, HashSet<&String>) =
                (before.iter().collect(), after.iter().collect());
            for account in old.difference(&new) {
                let mut clear = self.connection.prepare_cached(
                    "DELETE FROM incident_accounts WHERE account = ?1 AND incident = ?2",
                )?;
                clear.execute([account, &id.0])?;
            }
            for account in new.difference(&old) {
                let mut put = self.connection.prepare_cached(
                    "INSERT OR IGNORE INTO incident_accounts (account, incident) VALUES (?1, ?2)",
                )?;
                put.execute([account, &id.0])?;
            }
        }
        Ok(())
    }
}

/// The row of a finding.
struct FindingRow<'a> {
    key: &'a str,
    incident: &'a str,
    finding: &'a Finding,
    /// See `schema.sql`.
    shown: Option<String>,
    original: Option<String>,
    redundant_to: Option<&'a str>,
    received_at: Timestamp,
}

impl FindingRow<'_> {
    /// Inserts the row; false if a row with its key exists.
    fn insert(&self, connection: &Connection) -> Result<bool, StoreError> {
        self.write(
            connection,
            "INSERT INTO findings (key, incident, at, account, root_use, severity, rules, shown,
                 original, echo_of, received_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
             ON CONFLICT (key) DO NOTHING",
        )
    }

    /// Writes over the row with this key, but for when it was received first.
    fn replace(&self, connection: &Connection) -> Result<bool, StoreError> {
        self.write(
            connection,
            "UPDATE findings SET incident = ?2, at = ?3, account = ?4, root_use = ?5,
                 severity = ?6, rules = ?7, shown = ?8, original = ?9, echo_of = ?10
             WHERE key = ?1 AND ?11 IS NOT NULL",
        )
    }

    fn write(&self, connection: &Connection, statement: &str) -> Result<bool, StoreError> {
        let finding = self.finding;
        // A rule's id has no space, so that ` id ` finds it and nothing else.
        let rules = format!(" {} ", finding.rules.join(" "));
        let written = connection.prepare_cached(statement)?.execute(params![
            self.key,
            self.incident,
            micros_or_none(finding.event_time),
            finding.account_id.as_deref().unwrap_or_default(),
            finding.root_use.name(),
            finding.severity as i64,
            rules,
            self.shown,
            self.original,
            self.redundant_to,
            micros(self.received_at),
        ])?;
        Ok(written == 1)
    }
}

fn write_head(
    connection: &Connection,
    head: &LoadedHead,
    now: Timestamp,
) -> Result<(), StoreError> {
    let incident = &head.incident;
    let mut put = connection.prepare_cached(
        "INSERT INTO incidents (id, revision, kind, state, severity, first_at, last_at, head, told,
             findings_total, changed_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
         ON CONFLICT (id) DO UPDATE SET revision = excluded.revision, kind = excluded.kind,
             state = excluded.state, severity = excluded.severity, first_at = excluded.first_at,
             last_at = excluded.last_at, head = excluded.head,
             findings_total = excluded.findings_total, changed_at = excluded.changed_at",
    )?;
    put.execute(params![
        incident.id.0,
        head.revision.map_or(1, |revision| revision + 1),
        rows::kind(incident.kind),
        rows::state(incident.state),
        incident.severity as i64,
        micros_or_none(incident.first_at),
        micros_or_none(incident.last_at),
        json(incident)?,
        json(&NotifiedState::default())?,
        head.findings_total,
        micros(now),
    ])?;
    Ok(())
}

pub(super) fn resolve(
    connection: &Connection,
    id: &IncidentId,
    resolution: &Resolution,
    told: Option<NotifiedState>,
    deliveries: &[Delivery],
) -> Result<(), StoreError> {
    let received = BTreeMap::new();
    let mut writer = BatchWriter {
        connection,
        heads: BTreeMap::new(),
        received: &received,
        now: resolution.at,
        named: HashSet::new(),
    };
    writer.load(id)?.incident.state = resolution.state;
    writer.finish()?;
    let mut resolution = resolution.clone();
    if let Some(note) = &mut resolution.note {
        let end = note.floor_char_boundary(NOTE_BYTES_MAX);
        note.truncate(end);
    }
    let mut put = connection.prepare_cached("UPDATE incidents SET handled = ?2 WHERE id = ?1")?;
    put.execute(params![id.0, json(&resolution)?])?;
    if let Some(told) = told {
        let mut put = connection.prepare_cached("UPDATE incidents SET told = ?2 WHERE id = ?1")?;
        put.execute(params![id.0, json(&told)?])?;
    }
    for delivery in deliveries {
        deliveries::enqueue(connection, delivery)?;
    }
    Ok(())
}

pub(super) fn mark_digested(
    connection: &Connection,
    ids: &[IncidentId],
    deliveries: &[Delivery],
) -> Result<(), StoreError> {
    for id in ids {
        let mut put =
            connection.prepare_cached("UPDATE incidents SET digested = 1 WHERE id = ?1")?;
        put.execute([&id.0])?;
    }
    for delivery in deliveries {
        deliveries::enqueue(connection, delivery)?;
    }
    Ok(())
}

pub(super) fn put_note(
    connection: &Connection,
    name: &str,
    value: Option<&str>,
) -> Result<(), StoreError> {
    match value {
        None => {
            let mut put = connection.prepare_cached("DELETE FROM notes WHERE name = ?1")?;
            put.execute([name])?;
        }
        Some(value) => {
            let mut put = connection.prepare_cached(
                "INSERT INTO notes (name, value, put_at) VALUES (?1, ?2, ?3)
                 ON CONFLICT (name) DO UPDATE SET value = excluded.value, put_at = excluded.put_at",
            )?;
            put.execute(params![name, value, micros(Timestamp::now())])?;
        }
    }
    Ok(())
}
