//! The one thread that writes.

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::store_error;
use crate::StoreError;

/// Maximum number of writes in one transaction.
const GROUP_WRITES_MAX: usize = 256;
/// Maximum number of writes that wait for the writing thread; further callers wait to enqueue theirs.
const QUEUED_WRITES_MAX: usize = 4 * GROUP_WRITES_MAX;

/// Reports how the transaction ended; `None` if it is on disk.
type Finish = Box<dyn FnOnce(Option<StoreError>) + Send>;
/// Does its part of a transaction; returns whether that part succeeded, and how to report the result.
type WriteTask = Box<dyn FnOnce(&Connection) -> (bool, Finish) + Send>;

/// A handle to the writing thread, which ends when this is dropped and its tasks are done.
#[derive(Debug)]
pub(super) struct Writer {
    task: Option<mpsc::Sender<WriteTask>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(connection: Connection) -> Result<Self, StoreError> {
        let (task, queue) = mpsc::channel(QUEUED_WRITES_MAX);
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || run(&connection, queue))
            .map_err(|error| StoreError::Unavailable { reason: error.to_string() })?;
        Ok(Self { task: Some(task), thread: Some(thread) })
    }

    /// Does one write; it is on disk when this returns `Ok`, and left no trace when it does not.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        write: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let gone = || StoreError::Unavailable { reason: "the store is closed".to_owned() };
        let (answer, wait) = oneshot::channel();
        let task: WriteTask = Box::new(move |connection| {
            let result = write(connection);
            let stands = result.is_ok();
            let finish: Finish = Box::new(move |failed| {
                let result = match failed {
                    Some(error) if result.is_ok() => Err(error),
                    _ => result,
                };
                // The caller may have stopped waiting.
                let _ = answer.send(result);
            });
            (stands, finish)
        });
        self.task.as_ref().ok_or_else(gone)?.send(task).await.map_err(|_| gone())?;
        let not_begun = || StoreError::Unavailable {
            reason: "the transaction failed before this was written".to_owned(),
        };
        wait.await.map_err(|_| not_begun())?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.task = None;
        if let Some(thread) = self.thread.take() {
            // It has panicked or finished: either way it saves nothing more.
            let _ = thread.join();
        }
    }
}

fn run(connection: &Connection, mut queue: mpsc::Receiver<WriteTask>) {
    while let Some(first) = queue.blocking_recv() {
        let mut group = vec![first];
        while group.len() < GROUP_WRITES_MAX
            && let Ok(next) = queue.try_recv()
        {
            group.push(next);
        }
        together(connection, group);
    }
    // Move the write-ahead log into the database file, so that the file alone is a complete copy.
    if let Err(error) = connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)") {
        tracing::debug!(%error, "cannot checkpoint the write-ahead log on close");
    }
}

/// Does a group of writes in one transaction.
fn together(connection: &Connection, group: Vec<WriteTask>) {
    let mut failed =
        connection.execute_batch("BEGIN IMMEDIATE").err().map(|error| store_error(&error));
    let begun = failed.is_none();
    let mut finishes = Vec::with_capacity(group.len());
    for task in group {
        let save =
            if failed.is_none() { connection.execute_batch("SAVEPOINT one") } else { Ok(()) };
        if let Err(error) = save {
            failed = Some(store_error(&error));
        }
        if failed.is_some() {
            // The transaction has failed: report why, so that the caller retries.
            finishes.push(refuse(task));
            continue;
        }
        let (stands, finish) = task(connection);
        finishes.push(finish);
        if connection.is_autocommit() {
            // A full disk ends the whole transaction, not only this part of it.
            failed = Some(StoreError::Unavailable {
                reason: "the transaction was rolled back: the disk is full or cannot be written"
                    .to_owned(),
            });
            continue;
        }
        let end = if stands { "RELEASE one" } else { "ROLLBACK TO one; RELEASE one" };
        if let Err(error) = connection.execute_batch(end) {
            failed = Some(store_error(&error));
        }
    }
    if failed.is_none()
        && let Err(error) = connection.execute_batch("COMMIT")
    {
        failed = Some(store_error(&error));
    }
    if begun && failed.is_some() && !connection.is_autocommit() {
        // The caller gets the first error; this one adds nothing.
        let _ = connection.execute_batch("ROLLBACK");
    }
    for finish in finishes {
        finish(failed.as_ref().map(again));
    }
}

/// Ends a task that has not started: dropping it tells the caller that nothing was saved.
fn refuse(task: WriteTask) -> Finish {
    Box::new(move |_| drop(task))
}

/// A copy of the error for one more caller.
fn again(error: &StoreError) -> StoreError {
    match error {
        StoreError::Damaged { reason } => StoreError::Damaged { reason: reason.clone() },
        other => StoreError::Unavailable { reason: other.to_string() },
    }
}
