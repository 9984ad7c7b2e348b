//! A watched folder: for log files that somebody else brings, and hubs without access to AWS.
//!
//! It is looked at again and again. Notifications of the file system (inotify and its like) would
//! be quicker, but they do not come from network mounts, are lost when there are too many, and say
//! nothing of what happened while the hub was down; all of that would need the looking anyway.
//! A folder in which nothing appeared or went is not listed again until `recheck_secs` are over, so
//! that a look at an archive costs one question for each folder.
//!
//! A file is read when it is settled: its size and time stayed as they were since the look before,
//! or for a minute; a file that never settles is read each minute. It is read whole when it has
//! grown: what was read before is known. A file that ends early or cannot be read is told once,
//! what it had is saved, and it is tried again with growing pauses, at once when it changes. A
//! damaged record in a file that is otherwise whole is told, and the file counts as read.
//!
//! A renamed file is read again, which is harmless: its records are known. What tells a file apart
//! from its name (the inode number) does not hold on network mounts.

mod config;
mod listing;
mod seen;
mod watch;

use std::collections::HashMap;

use tokio::task::JoinHandle;

pub use self::config::DirectoryConfig;
use self::seen::Seen;
use self::watch::Watch;
use crate::sources::context::{SourceContext, SourceError};

/// Starts to watch a folder, from where the store says that it was left.
pub(super) async fn start(
    config: DirectoryConfig,
    context: SourceContext,
) -> Result<JoinHandle<()>, SourceError> {
    let globs = config
        .globs()
        .map_err(|reason| SourceError::Setting { name: config.name.clone(), reason })?;
    let prefix = watch::position_prefix(&config.name);
    let positions = context
        .intake
        .positions(&prefix)
        .await
        .map_err(|source| SourceError::Store { name: config.name.clone(), source })?;
    let mut groups = HashMap::new();
    for (name, mark) in positions {
        let Some(group) = name.strip_prefix(&prefix) else { continue };
        match Seen::parse(&mark) {
            Some(seen) => {
                groups.insert(group.to_owned(), seen);
            }
            None => tracing::warn!(
                source = %config.name, group,
                "what was read of a folder is not understood: it is read again",
            ),
        }
    }
    Ok(tokio::spawn(Watch::new(config, globs, groups, context).run()))
}
