//! What was read of a folder, small enough for an archive of millions of files.
//!
//! A file is known by its *print*: a hash of its path below the watched folder, its size and the
//! time of its last change. Prints are kept in groups: the files of one folder, or, where many
//! days lie in one folder, those of one day as CloudTrail's names state it. A group in which files
//! still appear is a list of prints. When it has been quiet for a while and its files are old, the
//! list is folded into one hash and a number; if the folder then no longer agrees with it, the
//! group's files are read again, which is harmless. So an archive costs about a hundred bytes a
//! folder, in memory and in the store, whatever the number of its files.
//!
//! Inode numbers are no part of a print: network mounts give new ones after each mount, and
//! everything would be read again.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{Context, SHA256};

/// Bytes of a print. Among 2^20 files of one group, two collide with a chance below 2^-56.
const PRINT_BYTES: usize = 12;
/// Characters of a print in a mark.
const PRINT_CHARS: usize = PRINT_BYTES / 3 * 4;

/// A file as it was when it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Print([u8; PRINT_BYTES]);

impl Print {
    pub(super) fn of(path: &Path, size: u64, changed_at: SystemTime) -> Self {
        let path = path.as_os_str().as_encoded_bytes();
        let (sign, time) = match changed_at.duration_since(UNIX_EPOCH) {
            Ok(after) => (0_u8, after),
            Err(before) => (1, before.duration()),
        };
        let mut context = Context::new(&SHA256);
        context.update(&size.to_le_bytes());
        context.update(&[sign]);
        context.update(&time.as_nanos().to_le_bytes());
        context.update(path);
        Self::end(context)
    }

    fn end(context: Context) -> Self {
        let mut print = [0; PRINT_BYTES];
        print.copy_from_slice(&context.finish().as_ref()[..PRINT_BYTES]);
        Self(print)
    }
}

/// What was read of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    /// Each file.
    List(BTreeSet<Print>),
    /// All files together.
    Folded { files: u64, print: Print },
}

impl Default for Seen {
    fn default() -> Self {
        Self::List(BTreeSet::new())
    }
}

impl Seen {
    /// Reads a mark of the store; `None` when it is none of ours, as a newer version may write.
    pub(super) fn parse(mark: &str) -> Option<Self> {
        let (kind, rest) = mark.split_once(' ')?;
        let print = |text: &[u8]| {
            let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
            Some(Print(bytes.try_into().ok()?))
        };
        match kind {
            "list" => {
                let prints = rest.as_bytes().chunks(PRINT_CHARS).map(print);
                Some(Self::List(prints.collect::<Option<_>>()?))
            }
            "all" => {
                let (files, text) = rest.split_once(' ')?;
                Some(Self::Folded { files: files.parse().ok()?, print: print(text.as_bytes())? })
            }
            _ => None,
        }
    }

    /// The mark that stands for it in the store.
    pub(super) fn mark(&self) -> String {
        match self {
            Self::List(prints) => {
                let mut mark = String::with_capacity(5 + prints.len() * PRINT_CHARS);
                mark.push_str("list ");
                for Print(print) in prints {
                    URL_SAFE_NO_PAD.encode_string(print, &mut mark);
                }
                mark
            }
            Self::Folded { files, print: Print(print) } => {
                format!("all {files} {}", URL_SAFE_NO_PAD.encode(print))
            }
        }
    }

    /// The same and one file more.
    pub(super) fn with(&self, print: Print) -> Self {
        let mut with = self.clone();
        with.insert(print);
        with
    }

    /// One file more was read. In what is folded it begins a list: the others are read again.
    pub(super) fn insert(&mut self, print: Print) {
        if let Self::List(prints) = self {
            prints.insert(print);
        } else {
            *self = Self::List([print].into());
        }
    }

    /// One hash for all of a list; what is folded stays as it is.
    pub(super) fn folded(&self) -> Self {
        match self {
            Self::List(prints) => {
                let mut context = Context::new(&SHA256);
                for Print(print) in prints {
                    context.update(print);
                }
                Self::Folded { files: prints.len() as u64, print: Print::end(context) }
            }
            Self::Folded { .. } => self.clone(),
        }
    }

    /// True when exactly these files were read.
    pub(super) fn is_all_of(&self, listed: &BTreeSet<Print>) -> bool {
        match self {
            Self::List(prints) => prints == listed,
            Self::Folded { .. } => *self == Self::List(listed.clone()).folded(),
        }
    }
}

/// The day in the name of a delivered log file, `20260504`.
pub(super) fn day_of(name: &str) -> Option<&str> {
    let mut parts = name.split('_');
    let (_, kind, _, stamp) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let (day, _) = stamp.split_once('T')?;
    let is_day = day.len() == 8 && day.bytes().all(|byte| byte.is_ascii_digit());
    (kind == "CloudTrail" && is_day).then_some(day)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn print(name: &str, size: u64, secs: u64) -> Print {
        Print::of(Path::new(name), size, UNIX_EPOCH + Duration::from_secs(secs))
    }

    #[test]
    fn a_mark_reads_back_as_what_was_written_and_others_are_refused() {
        let list = Seen::List([print("a", 1, 2), print("b", 1, 2)].into());
        for seen in [Seen::default(), list.clone(), list.folded()] {
            assert_eq!(Seen::parse(&seen.mark()), Some(seen.clone()), "{}", seen.mark());
        }
        assert!(list.folded().mark().len() < 40);
        for other in ["", "list", "list abc", "all x AAAAAAAAAAAAAAAA", "v2 list "] {
            assert_eq!(Seen::parse(other), None, "{other}");
        }
    }

    #[test]
    fn folding_keeps_whether_all_was_read() {
        let all: BTreeSet<_> = [print("a", 1, 2), print("b", 1, 2)].into();
        let more: BTreeSet<_> = [print("a", 1, 2), print("b", 2, 2)].into();
        for seen in [Seen::List(all.clone()), Seen::List(all.clone()).folded()] {
            assert!(seen.is_all_of(&all));
            assert!(!seen.is_all_of(&more));
        }
    }

    #[test]
    fn path_size_and_time_all_count() {
        let one = print("a", 1, 2);
        for other in [print("b", 1, 2), print("a", 2, 2), print("a", 1, 3)] {
            assert_ne!(one, other);
        }
        assert_eq!(one, print("a", 1, 2));
    }

    #[test]
    fn the_day_is_that_of_a_delivered_name_only() {
        let name = "222233334444_CloudTrail_us-east-1_20260504T1405Z_Ab12.json.gz";
        assert_eq!(day_of(name), Some("20260504"));
        assert_eq!(day_of("events_CloudTrail_x_yT"), None);
        assert_eq!(day_of("events.json"), None);
    }
}
