//! One file on one machine.
//!
//! Write-ahead log, `synchronous=FULL`: a commit that was acknowledged survives a crash of the process
//! and of the machine. One thread writes. It takes all waiting writes and saves them in one
//! transaction, each in a savepoint of its own, so that they share one flush of the disk and still
//! fail separately. Readers have their own connections and never wait for the writer.

mod deliveries;
mod maintenance;
mod read;
mod write;
mod writer;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use rootwatch_core::alert::NotifiedState;
use rootwatch_core::attempt::Attempt;
use rootwatch_core::delivery::{Delivery, DeliveryId};
use rootwatch_core::finding::FindingKey;
use rootwatch_core::incident::IncidentId;
use rusqlite::{Connection, OpenFlags};

use crate::{
    Batch, Decisions, DeliveryFilter, FindingFilter, IncidentFilter, Lists, LookBack, Maintenance,
    Notes, Outbox, Page, PageRequest, Pruned, Resolution, Stats, StoreConfig, StoreError,
    StoredFinding, StoredIncident, Unverified,
};
use writer::Writer;

/// The application id of our files: "Root" in ASCII.
const APPLICATION_ID: i32 = 0x526f_6f74;
/// The migrations of the schema; a database has version N when the first N were applied.
const MIGRATIONS: [&str; 1] = [include_str!("schema.sql")];
/// Maximum number of idle read connections.
const READERS_KEPT: usize = 4;
/// Bytes of a database page.
const PAGE_BYTES: u64 = 4096;

/// How to open a database.
#[derive(Debug, Clone)]
pub struct SqliteOptions {
    /// The file.
    pub path: PathBuf,
    /// How long to wait while another program holds the lock.
    pub busy_timeout: Duration,
    /// Maximum number of pages of 4,096 bytes; `None` for no limit but the disk.
    pub pages_max: Option<u64>,
}

impl SqliteOptions {
    /// This file, with defaults.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), busy_timeout: Duration::from_secs(5), pages_max: None }
    }

    /// As configured.
    #[must_use]
    pub fn of(config: &StoreConfig) -> Self {
        Self {
            path: config.path.clone(),
            busy_timeout: Duration::from_secs(u64::from(config.busy_timeout_secs)),
            pages_max: config.size_bytes_max.map(|bytes| bytes / PAGE_BYTES),
        }
    }
}

/// A store in a SQLite file.
#[derive(Debug)]
pub struct SqliteStore {
    options: SqliteOptions,
    writer: Writer,
    readers: Arc<Mutex<Vec<Connection>>>,
    /// Held while the store is open, so that one hub works on it.
    _lock: Option<std::fs::File>,
}

impl SqliteStore {
    /// Opens the database, creates or migrates it, and checks that it is consistent. Blocks.
    ///
    /// # Errors
    /// When another hub has it open, it is damaged, of a newer version, or cannot be written.
    pub fn open(options: &SqliteOptions) -> Result<Self, StoreError> {
        let lock = lock(&options.path)?;
        private(&options.path)?;
        let mut connection = connect(options, true)?;
        migrate(&mut connection)?;
        Self::open_with(options, connection, Some(lock))
    }

    /// Opens a database beside a hub that may have it open: for backups, checks and pruning.
    /// Blocks.
    ///
    /// # Errors
    /// When it does not exist, is damaged, of another version, or cannot be read.
    pub fn open_beside(options: &SqliteOptions) -> Result<Self, StoreError> {
        if !options.path.exists() {
            let name = options.path.display().to_string();
            return Err(StoreError::NotFound { what: "database", name });
        }
        let connection = connect(options, true)?;
        let version = version(&connection)?;
        if version != MIGRATIONS.len() {
            return Err(StoreError::Damaged {
                reason: format!(
                    "it is of version {version}, this program works on version {}: start the hub \
                     once, which brings it up to date",
                    MIGRATIONS.len()
                ),
            });
        }
        Self::open_with(options, connection, None)
    }

    fn open_with(
        options: &SqliteOptions,
        connection: Connection,
        lock: Option<std::fs::File>,
    ) -> Result<Self, StoreError> {
        let sound: String = connection
            .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
            .map_err(|error| store_error(&error))?;
        if sound != "ok" {
            return Err(StoreError::Damaged { reason: sound });
        }
        let writer = Writer::start(connection)?;
        Ok(Self { options: options.clone(), writer, readers: Arc::default(), _lock: lock })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.options.path
    }

    /// Runs a read on a thread where it may block.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let readers = Arc::clone(&self.readers);
        let options = self.options.clone();
        let task = tokio::task::spawn_blocking(move || {
            let kept = readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let connection = kept.map_or_else(|| connect(&options, false), Ok)?;
            // One snapshot for all queries of a read.
            connection.execute_batch("BEGIN").map_err(|error| store_error(&error))?;
            let result = read(&connection);
            let ended = connection.execute_batch("COMMIT");
            let mut readers = readers.lock().unwrap_or_else(PoisonError::into_inner);
            if ended.is_ok() && readers.len() < READERS_KEPT {
                readers.push(connection);
            }
            result
        });
        task.await.map_err(|error| StoreError::Unavailable { reason: error.to_string() })?
    }
}

/// One hub for each file: a lock beside it, which ends with the process that holds it.
fn lock(path: &Path) -> Result<std::fs::File, StoreError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let unavailable = |reason: String| StoreError::Unavailable { reason };
    let file = private_options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&name)
        .map_err(|error| unavailable(format!("{}: {error}", Path::new(&name).display())))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => {
            Err(unavailable(format!("another hub has {} open", path.display())))
        }
        Err(std::fs::TryLockError::Error(error)) => Err(unavailable(error.to_string())),
    }
}

fn connect(options: &SqliteOptions, writes: bool) -> Result<Connection, StoreError> {
    let mut flags = OpenFlags::SQLITE_OPEN_NO_MUTEX;
    flags |=
        if writes { OpenFlags::SQLITE_OPEN_READ_WRITE } else { OpenFlags::SQLITE_OPEN_READ_ONLY };
    let fail = |error: rusqlite::Error| store_error(&error);
    let connection = Connection::open_with_flags(&options.path, flags).map_err(fail)?;
    connection.busy_timeout(options.busy_timeout).map_err(fail)?;
    connection.set_prepared_statement_cache_capacity(64);
    if writes {
        // Before anything is written to a file that may belong to another program.
        version(&connection)?;
        connection
            .execute_batch(
                "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;
                 PRAGMA wal_autocheckpoint=16000; PRAGMA cache_size=-65536;",
            )
            .map_err(fail)?;
        if let Some(pages) = options.pages_max {
            connection
                .query_row(&format!("PRAGMA max_page_count={pages}"), [], |_| Ok(()))
                .map_err(fail)?;
        }
    } else {
        connection.execute_batch("PRAGMA query_only=ON; PRAGMA cache_size=-4000;").map_err(fail)?;
    }
    Ok(connection)
}

/// Options that create files which only their owner can read.
fn private_options() -> std::fs::OpenOptions {
    let mut options = std::fs::OpenOptions::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    options
}

/// Creates a missing file so that only its owner can read it.
fn private(path: &Path) -> Result<(), StoreError> {
    let made = private_options().write(true).create_new(true).open(path);
    let made = made.and_then(|_| sync_folder(path));
    match made {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(StoreError::Unavailable { reason: format!("{}: {error}", path.display()) })
        }
        _ => Ok(()),
    }
}

/// Makes the name of a file survive a crash of the machine.
fn sync_folder(path: &Path) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if cfg!(unix) {
        std::fs::File::open(folder.unwrap_or(Path::new(".")))
            .and_then(|folder| folder.sync_all())?;
    }
    Ok(())
}

/// How many migrations were applied; writes nothing.
fn version(connection: &Connection) -> Result<usize, StoreError> {
    let number = |sql: &str| {
        connection
            .query_row(sql, [], |row| row.get::<_, i64>(0))
            .map_err(|error| store_error(&error))
    };
    let version = number("PRAGMA user_version")?;
    let application = number("PRAGMA application_id")?;
    let is_new = number("SELECT count(*) FROM sqlite_schema")? == 0;
    if application != i64::from(APPLICATION_ID) && !(is_new && application == 0 && version == 0) {
        return Err(StoreError::Damaged {
            reason: "this is a database of another program".to_owned(),
        });
    }
    let done = usize::try_from(version).unwrap_or(usize::MAX);
    if done > MIGRATIONS.len() {
        return Err(StoreError::Damaged {
            reason: format!(
                "it is of version {version}, made by a newer program; this one knows {}: start \
                 that one, or restore a backup",
                MIGRATIONS.len()
            ),
        });
    }
    Ok(done)
}

fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    let fail = |error: rusqlite::Error| store_error(&error);
    let done = version(connection)?;
    for (place, migration) in MIGRATIONS.iter().enumerate().skip(done) {
        let transaction = connection.transaction().map_err(fail)?;
        transaction.execute_batch(migration).map_err(fail)?;
        transaction
            .execute_batch(&format!(
                "PRAGMA user_version={}; PRAGMA application_id={APPLICATION_ID};",
                place + 1
            ))
            .map_err(fail)?;
        transaction.commit().map_err(fail)?;
    }
    Ok(())
}

/// Converts an error of SQLite.
fn store_error(error: &rusqlite::Error) -> StoreError {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    let reason = error.to_string();
    match error.sqlite_error_code() {
        Some(DatabaseCorrupt | NotADatabase) => StoreError::Damaged { reason },
        _ => StoreError::Unavailable { reason },
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        store_error(&error)
    }
}

#[async_trait]
impl Decisions for SqliteStore {
    async fn commit(&self, batch: Batch) -> Result<(), StoreError> {
        self.writer.write(move |connection| write::commit(connection, &batch)).await
    }

    async fn known(&self, keys: &[FindingKey]) -> Result<HashSet<FindingKey>, StoreError> {
        if keys.is_empty() {
            return Ok(HashSet::new());
        }
        let keys = keys.to_vec();
        self.read(move |connection| read::known(connection, &keys)).await
    }

    async fn incidents_within(
        &self,
        from: Timestamp,
        to: Timestamp,
        unended: bool,
    ) -> Result<Vec<StoredIncident>, StoreError> {
        self.read(move |connection| read::incidents_within(connection, from, to, unended)).await
    }

    async fn incidents_of(&self, ids: &[IncidentId]) -> Result<Vec<StoredIncident>, StoreError> {
        let ids = ids.to_vec();
        self.read(move |connection| read::incidents_of(connection, &ids)).await
    }

    async fn look_back(
        &self,
        matches_since: Timestamp,
        accounts: Option<&[String]>,
    ) -> Result<LookBack, StoreError> {
        let accounts = accounts.map(<[String]>::to_vec);
        self.read(move |connection| read::look_back(connection, matches_since, accounts.as_deref()))
            .await
    }

    async fn positions(&self, prefix: &str) -> Result<Vec<(String, String)>, StoreError> {
        let prefix = prefix.to_owned();
        self.read(move |connection| read::positions(connection, &prefix)).await
    }

    async fn resolve(
        &self,
        id: &IncidentId,
        resolution: &Resolution,
        told: Option<NotifiedState>,
        deliveries: Vec<Delivery>,
    ) -> Result<StoredIncident, StoreError> {
        let (id, resolution) = (id.clone(), resolution.clone());
        let work = move |connection: &Connection| {
            write::resolve(connection, &id, &resolution, told, &deliveries)?;
            read::incident(connection, &id, 0)
        };
        self.writer.write(work).await
    }

    async fn mark_digested(
        &self,
        ids: &[IncidentId],
        deliveries: Vec<Delivery>,
    ) -> Result<(), StoreError> {
        let ids = ids.to_vec();
        self.writer
            .write(move |connection| write::mark_digested(connection, &ids, &deliveries))
            .await
    }
}

#[async_trait]
impl Notes for SqliteStore {
    async fn put_note(&self, name: &str, value: Option<&str>) -> Result<(), StoreError> {
        let (name, value) = (name.to_owned(), value.map(str::to_owned));
        self.writer
            .write(move |connection| write::put_note(connection, &name, value.as_deref()))
            .await
    }

    async fn note(&self, name: &str) -> Result<Option<String>, StoreError> {
        let name = name.to_owned();
        self.read(move |connection| read::note(connection, &name)).await
    }
}

#[async_trait]
impl Outbox for SqliteStore {
    async fn lease(
        &self,
        now: Timestamp,
        until: Timestamp,
        max: usize,
        busy: &[String],
    ) -> Result<Vec<Delivery>, StoreError> {
        let busy = busy.to_vec();
        // Usually nothing is due, and a read costs no flush of the disk.
        let asked = busy.clone();
        let any =
            self.read(move |connection| deliveries::is_any_ready(connection, now, &asked)).await?;
        if !any {
            return Ok(Vec::new());
        }
        self.writer
            .write(move |connection| deliveries::lease(connection, now, until, max, &busy))
            .await
    }

    async fn record_attempt(
        &self,
        id: &DeliveryId,
        attempt: Attempt,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let id = id.clone();
        self.writer
            .write(move |connection| deliveries::record_attempt(connection, &id, &attempt, now))
            .await
    }

    async fn next_due(&self) -> Result<Option<Timestamp>, StoreError> {
        self.read(deliveries::next_due).await
    }
}

#[async_trait]
impl Lists for SqliteStore {
    async fn incident(
        &self,
        id: &IncidentId,
        findings_max: usize,
    ) -> Result<StoredIncident, StoreError> {
        let id = id.clone();
        self.read(move |connection| read::incident(connection, &id, findings_max)).await
    }

    async fn incidents(
        &self,
        filter: &IncidentFilter,
        page: &PageRequest,
    ) -> Result<Page<StoredIncident>, StoreError> {
        let (filter, page) = (filter.clone(), page.clone());
        self.read(move |connection| read::incidents(connection, &filter, &page)).await
    }

    async fn findings(
        &self,
        filter: &FindingFilter,
        page: &PageRequest,
    ) -> Result<Page<StoredFinding>, StoreError> {
        let (filter, page) = (filter.clone(), page.clone());
        self.read(move |connection| read::findings(connection, &filter, &page)).await
    }

    async fn deliveries(
        &self,
        filter: &DeliveryFilter,
        page: &PageRequest,
    ) -> Result<Page<Delivery>, StoreError> {
        let (filter, page) = (filter.clone(), page.clone());
        self.read(move |connection| deliveries::list(connection, &filter, &page)).await
    }

    async fn unverified(&self, page: &PageRequest) -> Result<Page<Unverified>, StoreError> {
        let page = page.clone();
        self.read(move |connection| read::unverified(connection, &page)).await
    }
}

#[async_trait]
impl Maintenance for SqliteStore {
    async fn stats(&self) -> Result<Stats, StoreError> {
        self.read(read::stats).await
    }

    async fn prune(&self, before: Timestamp) -> Result<Pruned, StoreError> {
        let mut all = Pruned::default();
        // In slices, so that no other write waits long.
        loop {
            let (pruned, more) =
                self.writer.write(move |connection| maintenance::prune(connection, before)).await?;
            all.incidents += pruned.incidents;
            all.findings += pruned.findings;
            all.deliveries += pruned.deliveries;
            all.unverified += pruned.unverified;
            if !more {
                break;
            }
        }
        if all != Pruned::default() {
            tracing::info!(
                %before,
                incidents = all.incidents,
                findings = all.findings,
                deliveries = all.deliveries,
                unverified = all.unverified,
                "pruned ended items"
            );
        }
        Ok(all)
    }

    async fn ping(&self) -> Result<(), StoreError> {
        let now = Timestamp::now().to_string();
        self.put_note("ping", Some(&now)).await?;
        self.note("ping").await.map(drop)
    }
}
