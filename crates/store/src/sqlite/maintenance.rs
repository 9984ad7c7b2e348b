//! Backups, checks and pruning.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, params};

use super::{SqliteStore, connect, store_error};
use crate::maintenance::EXPIRING_NOTES;
use crate::rows::micros;
use crate::{Pruned, StoreError};

/// Maximum number of incidents that one transaction prunes.
const SLICE_INCIDENTS: usize = 50;
/// Maximum number of rows of each kind that one transaction prunes; findings may exceed it by those of
/// one incident.
const SLICE_ROWS: usize = 2_000;
/// Pages that a backup copies at a time, and how long it lets others work in between.
const BACKUP_PAGES: i32 = 1_000;
const BACKUP_PAUSE: Duration = Duration::from_millis(5);

/// Prunes a slice; returns whether there may be more.
pub(super) fn prune(
    connection: &Connection,
    before: Timestamp,
) -> Result<(Pruned, bool), StoreError> {
    let before = micros(before);
    let mut pruned = Pruned::default();
    let ended: Vec<String> = {
        let mut ask = connection.prepare_cached(
            "SELECT id FROM incidents WHERE state IN ('quiet', 'resolved')
             AND last_at < ?1 AND changed_at < ?1 LIMIT ?2",
        )?;
        let ids = ask.query_map(params![before, SLICE_INCIDENTS as i64], |row| row.get(0))?;
        ids.collect::<Result<_, _>>()?
    };
    for id in &ended {
        if pruned.findings >= SLICE_ROWS as u64 {
            break;
        }
        pruned.findings +=
            connection.execute("DELETE FROM findings WHERE incident = ?1", [id])? as u64;
        connection.execute("DELETE FROM incident_accounts WHERE incident = ?1", [id])?;
        pruned.incidents += connection.execute("DELETE FROM incidents WHERE id = ?1", [id])? as u64;
    }
    let slice = |sql: &str| -> Result<u64, StoreError> {
        Ok(connection.execute(sql, params![before, SLICE_ROWS as i64])? as u64)
    };
    pruned.deliveries = slice(
        "DELETE FROM deliveries WHERE number IN
             (SELECT number FROM deliveries WHERE state != 'due' AND ended_at < ?1 LIMIT ?2)",
    )?;
    pruned.unverified = slice(
        "DELETE FROM unverified WHERE number IN
             (SELECT number FROM unverified WHERE received_at < ?1 LIMIT ?2)",
    )?;
    let mut more = ended.len() == SLICE_INCIDENTS
        || pruned.incidents < ended.len() as u64
        || [pruned.deliveries, pruned.unverified].contains(&(SLICE_ROWS as u64));
    for begin in EXPIRING_NOTES {
        let notes = connection.execute(
            "DELETE FROM notes WHERE name IN (SELECT name FROM notes WHERE name >= ?3
                 AND substr(name, 1, length(?3)) = ?3 AND put_at < ?1 LIMIT ?2)",
            params![before, SLICE_ROWS as i64, begin],
        )?;
        more |= notes == SLICE_ROWS;
    }
    Ok((pruned, more))
}

impl SqliteStore {
    /// Copies the database while it is in use, and checks that the copy is consistent. The copy
    /// appears under its name when it is complete. Blocks.
    ///
    /// # Errors
    /// When the file exists (unless `replace`), cannot be written, or is damaged.
    pub fn backup(&self, to: &Path, replace: bool) -> Result<(), StoreError> {
        let unavailable = |reason: String| StoreError::Unavailable { reason };
        if to.exists() && !replace {
            return Err(unavailable(format!("{} is there already", to.display())));
        }
        let mut part = to.as_os_str().to_owned();
        part.push(".part");
        let part = Path::new(&part);
        let io = |error: std::io::Error| unavailable(format!("{}: {error}", to.display()));
        match std::fs::remove_file(part) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io(error)),
            _ => {}
        }
        let copied = self.copy(part).and_then(|()| {
            std::fs::File::open(part).and_then(|file| file.sync_all()).map_err(io)?;
            std::fs::rename(part, to).map_err(io)?;
            super::sync_folder(to).map_err(io)
        });
        if copied.is_err() {
            // The caller gets the first error; a leftover `.part` file is deleted by the next backup.
            let _ = std::fs::remove_file(part);
        }
        copied
    }

    fn copy(&self, to: &Path) -> Result<(), StoreError> {
        super::private(to)?;
        let source = connect(&self.options, false)?;
        // One snapshot: a copy that followed the writer would start again with each write.
        source.execute_batch("BEGIN; SELECT count(*) FROM sqlite_schema;")?;
        let mut copy = Connection::open(to)?;
        let backup = rusqlite::backup::Backup::new(&source, &mut copy)?;
        backup.run_to_completion(BACKUP_PAGES, BACKUP_PAUSE, None)?;
        drop(backup);
        // A copy is one file.
        copy.execute_batch("PRAGMA journal_mode=DELETE")?;
        let sound: String = copy.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if sound != "ok" {
            return Err(StoreError::Damaged { reason: sound });
        }
        copy.close().map_err(|(_, error)| store_error(&error))
    }

    /// Checks the file and compares its tables with each other. Blocks; reads all of it.
    ///
    /// # Errors
    /// When it cannot be read at all.
    pub fn check(&self) -> Result<Vec<String>, StoreError> {
        let connection = connect(&self.options, false)?;
        let mut problems = Vec::new();
        let mut ask = connection.prepare("PRAGMA integrity_check(100)")?;
        let lines = ask.query_map([], |row| row.get::<_, String>(0))?;
        for line in lines {
            let line = line?;
            if line != "ok" {
                problems.push(line);
            }
        }
        for (sql, problem) in CHECKS {
            let mut ask = connection.prepare(sql)?;
            let rows = ask.query_map([], |row| row.get::<_, String>(0))?;
            for row in rows {
                problems.push(format!("{problem}: {}", row?));
            }
        }
        Ok(problems)
    }

    /// Bytes of the database file, without the write-ahead log.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn size_bytes(&self) -> std::io::Result<u64> {
        std::fs::metadata(self.path()).map(|metadata| metadata.len())
    }
}

/// Queries whose rows are problems, and what each problem is.
const CHECKS: [(&str, &str); 9] = [
    (
        "SELECT DISTINCT incident FROM findings WHERE incident NOT IN (SELECT id FROM incidents)
         LIMIT 100",
        "findings of an incident that is not there",
    ),
    (
        "SELECT id FROM incidents WHERE kind != 'telling'
         AND id NOT IN (SELECT incident FROM findings) LIMIT 100",
        "an incident without findings",
    ),
    (
        "SELECT id FROM incidents WHERE findings_total !=
         (SELECT count(*) FROM findings WHERE incident = id AND shown IS NOT NULL) LIMIT 100",
        "an incident that miscounts its findings",
    ),
    (
        "SELECT id FROM incidents WHERE json_extract(head, '$.state') != state
         OR json_extract(head, '$.id') != id LIMIT 100",
        "an incident whose columns differ from it",
    ),
    (
        "SELECT id FROM deliveries WHERE state != 'due'
         AND (leased_until IS NOT NULL OR ended_at IS NULL) LIMIT 100",
        "a delivery that ended and does not look so",
    ),
    (
        "SELECT id FROM deliveries AS one WHERE in_turn != (state = 'due' AND number =
         (SELECT min(number) FROM deliveries AS other WHERE other.state = 'due'
          AND other.destination = one.destination AND other.thread = one.thread)) LIMIT 100",
        "a delivery that is out of its turn",
    ),
    (
        "SELECT id FROM deliveries WHERE state = 'due'
         AND ready_at != max(due_at, coalesce(leased_until, due_at)) LIMIT 100",
        "a delivery that would be sent at another time",
    ),
    (
        "SELECT key FROM findings WHERE shown IS NULL AND original IS NULL LIMIT 100",
        "a finding without content",
    ),
    (
        "SELECT key FROM findings AS one WHERE echo_of IS NOT NULL AND NOT EXISTS
         (SELECT 1 FROM findings AS other WHERE other.key = one.echo_of
          AND other.incident = one.incident AND other.echo_of IS NULL) LIMIT 100",
        "a finding that echoes none of its incident",
    ),
];
