//! What stands in a folder now.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::Path;
use std::time::SystemTime;

use globset::GlobSet;
use rootwatch_scan::objects::holds_no_records;

/// Names a folder for good, whatever path leads to it.
#[cfg(unix)]
pub(super) type FolderId = (u64, u64);
#[cfg(not(unix))]
pub(super) type FolderId = std::path::PathBuf;

#[cfg(unix)]
fn folder_id(_: &Path, metadata: &fs::Metadata) -> FolderId {
    use std::os::unix::fs::MetadataExt;
    (metadata.dev(), metadata.ino())
}

#[cfg(not(unix))]
fn folder_id(path: &Path, _: &fs::Metadata) -> FolderId {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// A folder as it is now.
#[derive(Debug)]
pub(super) struct Stands {
    pub(super) id: FolderId,
    /// When something in it appeared, went or was renamed last.
    pub(super) changed_at: Option<SystemTime>,
}

/// Looks at a folder without listing it.
pub(super) fn look(path: &Path) -> io::Result<Stands> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    Ok(Stands { id: folder_id(path, &metadata), changed_at: metadata.modified().ok() })
}

/// A file in a folder.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) name: OsString,
    pub(super) size: u64,
    pub(super) changed_at: SystemTime,
}

/// A folder's content.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Names of folders, in order.
    pub(super) folders: Vec<OsString>,
    /// Wanted files, in the order of their names.
    pub(super) files: Vec<Listed>,
    /// Entries that cannot be looked at, with the reason.
    pub(super) bad: Vec<(OsString, String)>,
}

/// Lists a folder. Links are followed. What cannot hold records, and what the globs do not want, is
/// left out; so is what is neither file nor folder: opening a pipe could wait for ever.
pub(super) fn list(root: &Path, below: &Path, globs: Option<&GlobSet>) -> io::Result<Listing> {
    let mut listing = Listing::default();
    let folder = root.join(below);
    for entry in fs::read_dir(&folder)? {
        let name = entry?.file_name();
        let metadata = match fs::metadata(folder.join(&name)) {
            Ok(metadata) => metadata,
            // Gone since it was listed, or a link to nowhere.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                listing.bad.push((name, error.to_string()));
                continue;
            }
        };
        if metadata.is_dir() {
            listing.folders.push(name);
            continue;
        }
        let is_wanted = metadata.is_file()
            && !holds_no_records(&name.to_string_lossy())
            && globs.is_none_or(|globs| globs.is_match(below.join(&name)));
        if is_wanted {
            match metadata.modified() {
                Ok(changed_at) => {
                    listing.files.push(Listed { name, size: metadata.len(), changed_at });
                }
                Err(error) => listing.bad.push((name, error.to_string())),
            }
        }
    }
    listing.folders.sort_unstable();
    listing.files.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(listing)
}
