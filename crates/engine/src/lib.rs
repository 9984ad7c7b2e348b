//! Everything that the service decides: which records to trust, which incident a finding belongs to,
//! whom to notify, and when an incident ends. It saves what it decides and never sends anything itself.

mod batch;
pub mod clock;
mod command;
pub mod drill;
mod engine;
mod handle;
pub mod intake;
mod maintenance;
mod memory;
pub mod metrics;
mod operator;
mod outbox;
mod outcome;
mod permit;
mod schedule;
mod settings;
pub mod shutdown;
pub mod status;

pub use engine::{BATCH_RECORDS_MAX, Engine};
pub use handle::EngineHandle;
pub use intake::Trust;
pub use outbox::StoreOutbox;
pub use outcome::{IngestError, IntakeOutcome, RecordSource};
pub use permit::MemoryPermit;
pub use settings::{EngineParts, EngineSettings};
