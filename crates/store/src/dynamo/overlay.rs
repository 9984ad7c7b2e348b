//! The table as it will be after a commit: items that were read, and changes to them.

use std::collections::{BTreeMap, HashMap};

use super::item::{BODY, Item, Key, Op, PARTS, Val};
use super::parts::{parts_beyond, puts};
use super::table::{Range, Table};
use crate::StoreError;

/// Items that were read and items to write, by key.
#[derive(Debug)]
pub(super) struct Overlay<'a> {
    table: &'a Table,
    /// Items as read; `None` if there is no item.
    base: HashMap<Key, Option<Item>>,
    /// Collections, or prefixes of them, that were read.
    ranges: HashMap<String, Vec<String>>,
    changes: BTreeMap<Key, Option<Item>>,
}

impl<'a> Overlay<'a> {
    pub(super) fn new(table: &'a Table) -> Self {
        Self { table, base: HashMap::new(), ranges: HashMap::new(), changes: BTreeMap::new() }
    }

    /// True if the item, or its absence, has been read.
    fn is_read(&self, key: &Key) -> bool {
        let read = |prefix: &String| key.sk.starts_with(prefix.as_str());
        self.base.contains_key(key)
            || self.ranges.get(&key.pk).is_some_and(|ranges| ranges.iter().any(read))
    }

    /// Reads a collection, or a prefix of it, unless it has been read.
    pub(super) async fn load(&mut self, pk: &str, prefix: &str) -> Result<(), StoreError> {
        let ranges = self.ranges.entry(pk.to_owned()).or_default();
        if ranges.iter().any(|read| prefix.starts_with(read.as_str())) {
            return Ok(());
        }
        for (key, item) in self.table.range(Range::prefix(pk, prefix)).await? {
            self.base.insert(key, Some(item));
        }
        ranges.push(prefix.to_owned());
        Ok(())
    }

    /// Reads these in one request, unless they have been read.
    pub(super) async fn fetch(
        &mut self,
        keys: impl IntoIterator<Item = Key>,
    ) -> Result<(), StoreError> {
        let mut wanted: Vec<Key> = keys.into_iter().filter(|key| !self.is_read(key)).collect();
        wanted.sort_unstable();
        wanted.dedup();
        if wanted.is_empty() {
            return Ok(());
        }
        let mut found = self.table.get(&wanted).await?;
        for key in wanted {
            let item = found.remove(&key);
            self.base.insert(key, item);
        }
        Ok(())
    }

    pub(super) async fn get(&mut self, key: &Key) -> Result<Option<Item>, StoreError> {
        if let Some(changed) = self.changes.get(key) {
            return Ok(changed.clone());
        }
        if !self.is_read(key) {
            let item = self.table.get_one(key).await?;
            self.base.insert(key.clone(), item);
        }
        Ok(self.base.get(key).cloned().flatten())
    }

    /// All items of a collection whose sort keys have this prefix, in order.
    pub(super) async fn collection(
        &mut self,
        pk: &str,
        prefix: &str,
    ) -> Result<Vec<(Key, Item)>, StoreError> {
        self.load(pk, prefix).await?;
        let is_in = |key: &Key| key.pk == pk && key.sk.starts_with(prefix);
        let mut all: BTreeMap<Key, Item> = BTreeMap::new();
        for (key, item) in &self.base {
            if let Some(item) = item.as_ref().filter(|_| is_in(key)) {
                all.insert(key.clone(), item.clone());
            }
        }
        for (key, item) in &self.changes {
            match item {
                Some(item) if is_in(key) => _ = all.insert(key.clone(), item.clone()),
                _ => _ = all.remove(key),
            }
        }
        Ok(all.into_iter().collect())
    }

    /// The read items among these.
    pub(super) fn read_of(&self, keys: impl Iterator<Item = Key>) -> HashMap<Key, Option<Item>> {
        keys.filter_map(|key| {
            let read = self.base.get(&key)?.clone();
            Some((key, read))
        })
        .collect()
    }

    pub(super) fn put(&mut self, key: Key, item: Item) {
        self.changes.insert(key, Some(item));
    }

    pub(super) fn delete(&mut self, key: Key) {
        self.changes.insert(key, None);
    }

    /// The steps from the read items to the changed ones.
    pub(super) fn ops(self) -> Vec<Op> {
        let mut ops = Vec::new();
        for (key, after) in self.changes {
            let before = self.base.get(&key);
            match after {
                Some(item) => {
                    if before.is_some_and(|before| before.as_ref() == Some(&item)) {
                        continue;
                    }
                    let puts = puts(key.clone(), item);
                    let parts = puts.len() as i64 - 1;
                    if let Some(Some(before)) = before {
                        ops.extend(parts_beyond(&key, before, parts).into_iter().map(Op::Delete));
                    }
                    ops.extend(puts.into_iter().map(|(key, item)| Op::Put(key, item)));
                }
                None => {
                    match before {
                        Some(None) => continue,
                        Some(Some(before)) => {
                            ops.extend(parts_beyond(&key, before, 0).into_iter().map(Op::Delete));
                        }
                        None => {}
                    }
                    ops.push(Op::Delete(key));
                }
            }
        }
        ops
    }
}

/// An item for comparison and for moving: without the number of parts of its body.
pub(super) fn moved(mut item: Item) -> Item {
    if matches!(item.0.get(BODY), Some(Val::B(_))) {
        item.unset(PARTS);
    }
    item
}
