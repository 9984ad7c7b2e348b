//! The loop over the folders: what is new, is it settled, read it, remember it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use globset::GlobSet;
use rootwatch_scan::summary::Summary;
use tokio::time::Instant;

use super::config::DirectoryConfig;
use super::listing::{self, FolderId, Listed, Listing, Stands};
use super::seen::{Print, Seen, day_of};
use crate::sources::context::SourceContext;
use crate::sources::reading::{self, Reading, ReadingError, read_into};
use crate::sources::retry::{self, pause};
use rootwatch_engine::RecordSource;

/// Deepest nesting of folders.
const FOLDERS_DEEP_MAX: usize = 64;
/// Folders that are watched below one root; each costs a few hundred bytes of memory.
const FOLDERS_MAX: usize = 1_000_000;
/// A file that has not changed for so long is settled, and one that never settles is read as often.
const SETTLED_SECS: u64 = 60;
/// A folder's own time is coarse: what changed within so many seconds before a look may change
/// again without a new time.
const COARSE_SECS: u64 = 5;
/// The list of a group is folded when nothing changed in it for so long ...
const QUIET_SECS: u64 = 600;
/// ... and its newest file is older than this: CloudTrail may still deliver to yesterday's folder.
const OLD_SECS: u64 = 26 * 3600;
/// What was read without findings is remembered in the store after so many files at the latest.
const FILES_UNSAVED_MAX: usize = 256;
/// Seconds before a file that could not be read whole is tried again, first and at most.
const RETRY_SECS: u64 = 60;
const RETRY_SECS_MAX: u64 = 3600;
/// Paths that are remembered as told; beyond that, all are told again.
const TOLD_MAX: usize = 10_000;
/// A look may take one part in ten of the time.
const PAUSE_PER_LOOK: u32 = 9;

/// Begins the names of a source's positions in the store.
pub(super) fn position_prefix(source: &str) -> String {
    format!("directory:{source}:")
}

/// A folder as it was when it was listed last.
struct Folder {
    changed_at: Option<SystemTime>,
    listed_at: Instant,
    /// False while something in it is awaited, or its time cannot be trusted yet.
    settled: bool,
    folders: Vec<PathBuf>,
    /// Names of the groups of its files.
    groups: Vec<String>,
    /// In which look.
    visited: u64,
}

/// What was read of a group of files.
struct Group {
    seen: Seen,
    changed_at: Instant,
    /// In which look.
    visited: u64,
    /// Files read that the store does not know of.
    unsaved: usize,
}

/// A file that is not read (whole) yet.
struct Waiting {
    print: Print,
    since: Instant,
    /// Of failures: not before.
    retry_at: Option<Instant>,
    failures: u32,
    /// In which look it was there.
    visited: u64,
}

/// A file that is to be read now.
struct Ready {
    below: PathBuf,
    print: Print,
    group: String,
}

/// Why a look ended early.
enum Ended {
    /// The hub closes, or findings cannot be saved.
    NotSaved,
}

pub(super) struct Watch {
    config: DirectoryConfig,
    globs: Option<Arc<GlobSet>>,
    context: SourceContext,
    /// `directory:<name>`; also the name for health.
    record_source: RecordSource,
    folders: HashMap<PathBuf, Folder>,
    groups: HashMap<String, Group>,
    waiting: HashMap<PathBuf, Waiting>,
    /// What was told to be unreadable, so that it is told once.
    told: HashSet<PathBuf>,
    looks: u64,
}

impl Watch {
    pub(super) fn new(
        config: DirectoryConfig,
        globs: Option<GlobSet>,
        groups: HashMap<String, Seen>,
        context: SourceContext,
    ) -> Self {
        let changed_at = Instant::now();
        let group = |seen| Group { seen, changed_at, visited: 0, unsaved: 0 };
        Self {
            record_source: RecordSource::live(format!("directory:{}", config.name)),
            config,
            globs: globs.map(Arc::new),
            context,
            folders: HashMap::new(),
            groups: groups.into_iter().map(|(name, seen)| (name, group(seen))).collect(),
            waiting: HashMap::new(),
            told: HashSet::new(),
            looks: 0,
        }
    }

    /// Looks until the hub closes.
    pub(super) async fn run(mut self) {
        let mut shutdown = self.context.shutdown.clone();
        loop {
            let begin = Instant::now();
            // What cannot be saved is held for long, and then looked for again.
            let _ended = self.look().await;
            let took = begin.elapsed();
            let time = Duration::from_secs(self.config.poll_secs.into()).max(took * PAUSE_PER_LOOK);
            if !pause(time, &mut shutdown).await {
                return;
            }
        }
    }

    /// Goes through all folders once.
    async fn look(&mut self) -> Result<(), Ended> {
        self.looks += 1;
        let mut trouble = None;
        let mut left: Vec<(PathBuf, Vec<FolderId>)> = vec![(PathBuf::new(), Vec::new())];
        let mut is_complete = true;
        while let Some((below, above)) = left.pop() {
            if *self.context.shutdown.borrow() {
                return Err(Ended::NotSaved);
            }
            match self.visit(&below, &above).await? {
                Ok((id, folders)) => {
                    self.told.remove(&below);
                    let is_deep = above.len() + 1 >= FOLDERS_DEEP_MAX;
                    if is_deep && !folders.is_empty() {
                        let reason = format!("folders nest deeper than {FOLDERS_DEEP_MAX}");
                        self.tell(&below, &reason);
                        continue;
                    }
                    let mut above = above;
                    above.push(id);
                    // The first name is taken first.
                    let folders = folders.into_iter().rev();
                    left.extend(folders.map(|folder| (folder, above.clone())));
                }
                Err(reason) => {
                    is_complete = false;
                    self.tell(&below, &reason);
                    if below.as_os_str().is_empty() {
                        trouble = Some(format!("the folder cannot be read: {reason}"));
                    }
                }
            }
            if self.folders.len() > FOLDERS_MAX {
                trouble = Some(format!("there are more than {FOLDERS_MAX} folders"));
                is_complete = false;
                break;
            }
        }
        if is_complete {
            let looks = self.looks;
            self.folders.retain(|_, folder| folder.visited == looks);
            self.waiting.retain(|_, waiting| waiting.visited == looks);
            self.fold_unvisited().await?;
        }
        let (status, source) = (&self.context.status, &self.record_source.source);
        if let Some(reason) = trouble {
            if status.source_fails(source, &reason) {
                tracing::warn!(%source, "{reason}");
            }
        } else if status.source_works(source) {
            tracing::info!(%source, "watching");
        }
        Ok(())
    }

    /// Looks at one folder and reads what is new in it. Gives the folders in it, or says why it
    /// cannot be read.
    async fn visit(
        &mut self,
        below: &Path,
        above: &[FolderId],
    ) -> Result<Result<(FolderId, Vec<PathBuf>), String>, Ended> {
        let root = self.config.path.clone();
        let path = root.join(below);
        let stands = match blocking(move || listing::look(&path)).await {
            Ok(stands) => stands,
            Err(reason) => return Ok(Err(reason)),
        };
        if above.contains(&stands.id) {
            // A circle of links: everything in it is read on the way that does not go round.
            return Ok(Ok((stands.id, Vec::new())));
        }
        if let Some(folders) = self.unchanged(below, &stands) {
            return Ok(Ok((stands.id, folders)));
        }
        let (globs, owned) = (self.globs.clone(), below.to_owned());
        let listing = match blocking(move || listing::list(&root, &owned, globs.as_deref())).await {
            Ok(listing) => listing,
            Err(reason) => return Ok(Err(reason)),
        };
        let listed_at = Instant::now();
        for (name, reason) in &listing.bad {
            self.tell(&below.join(name), reason);
        }
        let (is_quiet, groups) = self.read_new(below, &listing).await?;
        let is_trusted = stands.changed_at.is_some_and(|at| is_older(at, COARSE_SECS));
        let folders: Vec<_> = listing.folders.iter().map(|name| below.join(name)).collect();
        self.folders.insert(
            below.to_owned(),
            Folder {
                changed_at: stands.changed_at,
                listed_at,
                settled: is_quiet && is_trusted,
                folders: folders.clone(),
                groups,
                visited: self.looks,
            },
        );
        Ok(Ok((stands.id, folders)))
    }

    /// The folders in it, if nothing can have changed in it but the size of old files.
    fn unchanged(&mut self, below: &Path, stands: &Stands) -> Option<Vec<PathBuf>> {
        let recheck = Duration::from_secs(self.config.recheck_secs.into());
        let folder = self.folders.get_mut(below)?;
        let is_unchanged = folder.settled
            && folder.changed_at == stands.changed_at
            && folder.listed_at.elapsed() < recheck;
        if !is_unchanged {
            return None;
        }
        folder.visited = self.looks;
        for name in &folder.groups {
            if let Some(group) = self.groups.get_mut(name) {
                group.visited = self.looks;
            }
        }
        Some(folder.folders.clone())
    }

    /// Reads a folder's new files. Says whether nothing in it is awaited any more, and the names of
    /// its groups.
    async fn read_new(
        &mut self,
        below: &Path,
        listing: &Listing,
    ) -> Result<(bool, Vec<String>), Ended> {
        let mut groups: BTreeMap<String, Vec<(&Listed, Print)>> = BTreeMap::new();
        for file in &listing.files {
            let path = below.join(&file.name);
            let print = Print::of(&path, file.size, file.changed_at);
            let group = group_of(below, &file.name.to_string_lossy());
            groups.entry(group).or_default().push((file, print));
        }
        let mut is_quiet = true;
        let names = groups.keys().cloned().collect();
        for (name, files) in groups {
            let prints: BTreeSet<Print> = files.iter().map(|(_, print)| *print).collect();
            let unseen = self.compare(&name, &prints);
            let mut is_all_read = true;
            for (file, print) in files.iter().filter(|(_, print)| unseen.contains(print)) {
                let path = below.join(&file.name);
                let ready = Ready { below: path, print: *print, group: name.clone() };
                if !self.is_due(&ready, file) {
                    is_all_read = false;
                } else {
                    is_all_read &= self.read(ready).await?;
                }
            }
            is_quiet &= is_all_read;
            let newest = files.iter().map(|(file, _)| file.changed_at).max();
            // What changed lately may grow, which does not show in the folder's own time.
            is_quiet &= newest.is_some_and(|at| is_older(at, self.config.recheck_secs.into()));
            let is_old = newest.is_some_and(|at| is_older(at, OLD_SECS));
            if is_all_read && is_old {
                self.fold(&name, &prints);
            }
            self.save(&name).await?;
        }
        Ok((is_quiet, names))
    }

    /// Which of a group's files were not read. Those that went are forgotten.
    fn compare(&mut self, name: &str, prints: &BTreeSet<Print>) -> BTreeSet<Print> {
        let looks = self.looks;
        let group = self.groups.entry(name.to_owned()).or_insert_with(|| Group {
            seen: Seen::default(),
            changed_at: Instant::now(),
            visited: looks,
            unsaved: 0,
        });
        group.visited = looks;
        if group.seen.is_all_of(prints) {
            return BTreeSet::new();
        }
        let known = match &group.seen {
            Seen::List(seen) => seen.intersection(prints).copied().collect(),
            Seen::Folded { .. } => BTreeSet::new(),
        };
        let unseen = prints.difference(&known).copied().collect();
        group.seen = Seen::List(known);
        group.changed_at = Instant::now();
        unseen
    }

    /// True when a file that is new or was not read whole is to be read now.
    fn is_due(&mut self, ready: &Ready, file: &Listed) -> bool {
        let now = Instant::now();
        let is_old = is_older(file.changed_at, SETTLED_SECS);
        let visited = self.looks;
        let fresh =
            Waiting { print: ready.print, since: now, retry_at: None, failures: 0, visited };
        match self.waiting.get_mut(&ready.below) {
            None if is_old => true,
            None => {
                self.waiting.insert(ready.below.clone(), fresh);
                false
            }
            Some(waiting) if waiting.print == ready.print => {
                waiting.visited = visited;
                waiting.retry_at.is_none_or(|at| at <= now)
            }
            Some(waiting) => {
                // It changed: it may be whole now, so earlier failures do not count.
                let is_restless = waiting.retry_at.is_none()
                    && waiting.since.elapsed() >= Duration::from_secs(SETTLED_SECS);
                let since = if waiting.retry_at.is_some() { now } else { waiting.since };
                *waiting = Waiting { since, ..fresh };
                is_restless || is_old
            }
        }
    }

    /// Reads one file. Says whether it counts as read.
    async fn read(&mut self, ready: Ready) -> Result<bool, Ended> {
        let Ready { below, print, group: name } = ready;
        let path = self.config.path.join(&below);
        let file = match blocking(move || File::open(path)).await {
            Ok(file) => file,
            Err(reason) => {
                self.fails(&below, print, &reason);
                return Ok(false);
            }
        };
        let position = format!("{}{name}", position_prefix(&self.config.name));
        let seen = self.groups.get(&name).map(|group| &group.seen);
        let mark = |summary: &Summary, broken: Option<&str>, findings: u64| {
            // Without findings there is no hurry: see `FILES_UNSAVED_MAX`.
            let is_read = findings > 0 && trouble(summary, broken).is_none();
            is_read
                .then(|| (position, seen.map(|seen| seen.with(print).mark()).unwrap_or_default()))
        };
        let text = below.to_string_lossy().into_owned();
        let reading = match read_into(file, text, &self.context, &self.record_source, mark).await {
            Ok(reading) => reading,
            Err(ReadingError::NotSaved(error)) => {
                tracing::info!(
                    source = %self.record_source.source, file = %below.display(), %error,
                    "a file is read again later",
                );
                return Err(Ended::NotSaved);
            }
            Err(error @ ReadingError::Failed { .. }) => {
                self.fails(&below, print, &error.to_string());
                return Ok(false);
            }
        };
        let Reading { summary, broken, findings } = reading;
        if let Some(reason) = trouble(&summary, broken.as_deref()) {
            self.fails(&below, print, &reason);
            return Ok(false);
        }
        if let Some(reason) = reading::damage(&summary) {
            tracing::warn!(
                source = %self.record_source.source, file = %below.display(), %reason,
                "not all records of a file could be read",
            );
        }
        tracing::debug!(
            source = %self.record_source.source, file = %below.display(), records = summary.records,
            findings, "a file was read",
        );
        self.waiting.remove(&below);
        self.told.remove(&below);
        let Some(group) = self.groups.get_mut(&name) else { return Ok(false) };
        group.seen.insert(print);
        group.changed_at = Instant::now();
        group.unsaved = if findings > 0 { 0 } else { group.unsaved + 1 };
        if group.unsaved >= FILES_UNSAVED_MAX {
            self.save(&name).await?;
        }
        Ok(true)
    }

    /// Tells once that a file cannot be read (whole), and when it is tried again.
    fn fails(&mut self, below: &Path, print: Print, reason: &str) {
        let now = Instant::now();
        let failures = match self.waiting.get(below) {
            Some(waiting) if waiting.print == print => waiting.failures + 1,
            _ => 1,
        };
        let secs = (RETRY_SECS << (failures - 1).min(16)).min(RETRY_SECS_MAX);
        let retry_at = Some(now + Duration::from_secs(secs));
        let waiting = Waiting { print, since: now, retry_at, failures, visited: self.looks };
        self.waiting.insert(below.to_owned(), waiting);
        self.tell(below, reason);
    }

    fn tell(&mut self, below: &Path, reason: &str) {
        if self.told.len() >= TOLD_MAX {
            self.told.clear();
        }
        if self.told.insert(below.to_owned()) {
            let path = self.config.path.join(below);
            tracing::warn!(
                source = %self.record_source.source, path = %path.display(), reason,
                "cannot be read (whole): it is tried again",
            );
            let source = self.record_source.source.clone();
            metrics::counter!("rootwatch_source_errors_total", "source" => source).increment(1);
        }
    }

    /// Folds a group of which all files are read, if it has been quiet.
    fn fold(&mut self, name: &str, prints: &BTreeSet<Print>) {
        let Some(group) = self.groups.get_mut(name) else { return };
        let is_quiet = group.changed_at.elapsed() >= Duration::from_secs(QUIET_SECS);
        if is_quiet && matches!(group.seen, Seen::List(_)) && group.seen.is_all_of(prints) {
            group.seen = group.seen.folded();
            group.unsaved += 1;
        }
    }

    /// Groups whose files are all gone cost as little as those that are quiet; if the files come
    /// back as they were, they are known.
    async fn fold_unvisited(&mut self) -> Result<(), Ended> {
        let looks = self.looks;
        let gone: Vec<String> = self
            .groups
            .iter()
            .filter(|(_, group)| {
                group.visited != looks
                    && matches!(group.seen, Seen::List(_))
                    && group.changed_at.elapsed() >= Duration::from_secs(QUIET_SECS)
            })
            .map(|(name, _)| name.clone())
            .collect();
        for name in gone {
            if let Some(group) = self.groups.get_mut(&name) {
                group.seen = group.seen.folded();
                group.unsaved += 1;
            }
            self.save(&name).await?;
        }
        Ok(())
    }

    /// Saves what was read of a group, if the store does not know it yet.
    async fn save(&mut self, name: &str) -> Result<(), Ended> {
        let Some(group) = self.groups.get_mut(name).filter(|group| group.unsaved > 0) else {
            return Ok(());
        };
        let position = format!("{}{name}", position_prefix(&self.config.name));
        let position = Some((position, group.seen.mark()));
        let mut shutdown = self.context.shutdown.clone();
        let intake = self.context.intake.as_ref();
        let saved =
            retry::take_detected(intake, &self.record_source, Vec::new(), position, &mut shutdown);
        match saved.await {
            Ok(_) => group.unsaved = 0,
            Err(_) => return Err(Ended::NotSaved),
        }
        Ok(())
    }
}

/// Why a file does not count as read: damage of the file itself, not of a record in it.
fn trouble(summary: &Summary, broken: Option<&str>) -> Option<String> {
    if let Some(reason) = broken {
        return Some(reason.to_owned());
    }
    let of_the_file = summary.skipped.iter().find(|skipped| skipped.place.is_none());
    of_the_file.map(|skipped| skipped.reason.clone())
}

/// A group's name: the folder, and the day if names state one.
fn group_of(below: &Path, file: &str) -> String {
    let folder = below.to_string_lossy();
    format!("{folder}:{}", day_of(file).unwrap_or_default())
}

/// True when a file's time lies so far back. A time to come is not old.
fn is_older(at: SystemTime, secs: u64) -> bool {
    SystemTime::now().duration_since(at).is_ok_and(|age| age >= Duration::from_secs(secs))
}

/// Asks the file system on a thread that may wait.
async fn blocking<T: Send + 'static>(
    ask: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, String> {
    match tokio::task::spawn_blocking(ask).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(error.to_string().to_lowercase()),
        Err(_) => Err("the look at it failed".to_owned()),
    }
}
