//! Texts, numbers and times as people read them, the same in every output: on a terminal, in a page,
//! in a message.
//!
//! Everything that is shown to somebody goes through [`visible`] or [`cap`] first: user agents, names
//! and error texts come from whoever used the credentials.

mod agent;
mod escape;
mod format;
mod layout;

pub use self::agent::agent;
pub use self::escape::{is_unseen, visible};
pub use self::format::{
    bytes, capital, clock, count, date, distinct, duration, list, plural, relative, rfc3339,
    sentence, service, severity, span, thousands, time_range,
};
pub use self::layout::{TEXT_COLUMNS_MAX, cap, pad, width, wrap};
