//! Where records come from without being sent: SQS queues (with the S3 objects of which they
//! speak) and watched folders.
//!
//! A source hands what it has to an [`Intake`] and acknowledges (deletes the message, remembers
//! the file) only when that says that it is on disk. Until then the sender still has it, and a
//! repeat costs nothing.

mod context;
mod directory;
mod reading;
mod retry;
mod s3;
mod sdk;
mod sqs;

use tokio::task::JoinHandle;

pub use self::context::{EngineIntake, Intake, SourceContext, SourceError};
pub use self::directory::DirectoryConfig;
pub(crate) use self::s3::Objects;
pub(crate) use self::sdk::s3_client;
pub(crate) use self::sqs::{MessageHandler, MessageResult};
pub use self::sqs::{SqsConfig, start_with as start_sqs_with};

/// Starts the configured sources. Each runs until `shutdown` is true, and its tasks end by
/// themselves then: what is in hand is finished or given back.
///
/// Only the configuration and the store are looked at here. A queue that cannot be reached, or a
/// folder that is not there, is reported by [`Status`](rootwatch_engine::status::Status) and tried again.
///
/// # Errors
/// When a setting is wrong or the store cannot be read.
pub async fn start(
    sqs: &[SqsConfig],
    directories: &[DirectoryConfig],
    context: &SourceContext,
) -> Result<Vec<JoinHandle<()>>, SourceError> {
    check(sqs, directories)?;
    let mut tasks = Vec::new();
    for config in sqs {
        tasks.extend(sqs::start(config.clone(), context.clone()).await?);
    }
    for config in directories {
        tasks.push(directory::start(config.clone(), context.clone()).await?);
    }
    Ok(tasks)
}

/// Checks the settings of all sources, offline.
///
/// # Errors
/// The first that is wrong.
pub fn check(sqs: &[SqsConfig], directories: &[DirectoryConfig]) -> Result<(), SourceError> {
    let names = |kind, mut names: Vec<&str>| {
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(SourceError::Twice { kind, name: pair[0].to_owned() }),
            None => Ok(()),
        }
    };
    names("sqs", sqs.iter().map(|config| config.name.as_str()).collect())?;
    names("directory", directories.iter().map(|config| config.name.as_str()).collect())?;
    for config in sqs {
        config.check().map_err(|reason| setting(&config.name, reason))?;
    }
    for config in directories {
        config.check().map_err(|reason| setting(&config.name, reason))?;
    }
    Ok(())
}

fn setting(name: &str, reason: String) -> SourceError {
    SourceError::Setting { name: name.to_owned(), reason }
}
