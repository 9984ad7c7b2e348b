//! Bodies that are too large for one item are stored beside it, in parts.

use super::item::{BODY, Item, Key, PARTS, Val};

/// Maximum bytes of a body that is stored in its item; DynamoDB allows 400 KB for the whole item.
pub(super) const PART_BYTES_MAX: usize = 300 * 1024;

/// The collection of the parts of an item's body.
pub(super) fn parts_of(key: &Key) -> String {
    format!("B#{}#{}", key.pk, key.sk)
}

/// An item as it is put: with its body beside it, in parts, when that is too large.
pub(super) fn puts(key: Key, mut item: Item) -> Vec<(Key, Item)> {
    let fits = match item.0.get(BODY) {
        Some(Val::B(body)) => body.len() <= PART_BYTES_MAX,
        _ => true,
    };
    if fits {
        item.unset(PARTS);
        return vec![(key, item)];
    }
    let Some(Val::B(body)) = item.0.remove(BODY) else { return vec![(key, item)] };
    let of = parts_of(&key);
    let mut all: Vec<(Key, Item)> = body
        .chunks(PART_BYTES_MAX)
        .enumerate()
        .map(|(nth, part)| {
            (Key::new(&of, format!("{nth:06}")), Item::default().with(BODY, part.to_vec()))
        })
        .collect();
    item.set(PARTS, all.len() as i64);
    all.push((key, item));
    all
}

/// The keys of the parts of an item's body that are no more when it is put with fewer, or taken
/// away.
pub(super) fn parts_beyond(key: &Key, before: &Item, parts: i64) -> Vec<Key> {
    let of = parts_of(key);
    let had = before.number(PARTS).unwrap_or_default();
    (parts..had).map(|nth| Key::new(&of, format!("{nth:06}"))).collect()
}
