//! What tests may do to a store on DynamoDB that nothing else may.

use jiff::Timestamp;

use super::DynamoStore;
use super::table::Range;
use crate::StoreError;

impl DynamoStore {
    /// Fails every request after this many writes, as if the process had died.
    pub fn dies_after(&self, writes: u32) {
        self.table.crash_point.fail_after(writes);
    }

    /// Deletes the journals that were begun before `until` and that no commit names.
    ///
    /// # Errors
    /// When the table cannot be read or written.
    pub async fn clear_journals_of(&self, until: Timestamp) -> Result<(), StoreError> {
        self.delete_journals(until).await
    }

    /// The number of journals.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub async fn journals(&self) -> Result<usize, StoreError> {
        Ok(self.table.range(Range::all("J")).await?.len())
    }
}
