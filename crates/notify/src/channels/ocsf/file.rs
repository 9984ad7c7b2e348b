//! A file of lines that is moved aside when it is full.

use std::fs::{File, OpenOptions, rename};
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Bytes that are looked through at once for the end of the last whole line.
const PIECE_BYTES: u64 = 64 << 10;

/// One at a time, whichever destination writes: two of them may name one file.
static WRITING: Mutex<()> = Mutex::new(());

/// Where lines go.
#[derive(Debug, Clone)]
pub(super) struct Lines {
    pub(super) path: PathBuf,
    /// Bytes of a file, unless one delivery alone has more.
    pub(super) bytes_max: u64,
    /// Files, the one that is written included.
    pub(super) files_max: u32,
}

impl Lines {
    /// Appends whole lines; they are on disk when it returns. What a crash left of a last line is
    /// taken away first: it was never acknowledged and comes again.
    ///
    /// # Errors
    /// What the file system said; nothing was added, or what was is taken away the next time.
    pub(super) fn append(&self, lines: &[u8]) -> io::Result<()> {
        let _alone = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
        let mut file = self.open()?;
        let mut length = mend(&mut file)?;
        if length > 0 && length + lines.len() as u64 > self.bytes_max {
            drop(file);
            self.turn()?;
            file = self.open()?;
            length = mend(&mut file)?;
        }
        let written = file.write_all(lines).and_then(|()| file.sync_data());
        if written.is_err() {
            // As good as it can be done: what stays is mended by the next.
            let _ = file.set_len(length);
        }
        if length == 0 {
            self.sync_folder()?;
        }
        written
    }

    /// Whether lines could be appended; adds none.
    pub(super) fn probe(&self) -> io::Result<()> {
        let _alone = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
        self.open().map(drop)
    }

    fn open(&self) -> io::Result<File> {
        OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&self.path)
    }

    /// `a.jsonl` becomes `a.jsonl.1`, that `a.jsonl.2`; the oldest is overwritten.
    fn turn(&self) -> io::Result<()> {
        let aside = |number: u32| {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        if self.files_max < 2 {
            return std::fs::remove_file(&self.path);
        }
        for number in (1..self.files_max - 1).rev() {
            match rename(aside(number), aside(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        rename(&self.path, aside(1))
    }

    fn sync_folder(&self) -> io::Result<()> {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }
}

/// Takes away what stands behind the last line break; answers with the length.
fn mend(file: &mut File) -> io::Result<u64> {
    let length = file.metadata()?.len();
    let mut end = length;
    let mut piece = Vec::new();
    while end > 0 {
        let begin = end.saturating_sub(PIECE_BYTES);
        piece.clear();
        file.seek(SeekFrom::Start(begin))?;
        Read::by_ref(file).take(end - begin).read_to_end(&mut piece)?;
        if let Some(place) = piece.iter().rposition(|byte| *byte == b'\n') {
            end = begin + place as u64 + 1;
            break;
        }
        end = begin;
    }
    if end < length {
        tracing::warn!(bytes = length - end, "a line that was not finished is taken away");
        file.set_len(end)?;
    }
    Ok(end)
}
