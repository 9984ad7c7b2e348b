//! The configuration: read from file, environment and flags, checked, and described.
//!
//! The doc comments of [`Config`] are what users read: `docs/reference/config.md` and `rootwatch config
//! schema` are generated from them. [`load()`] merges file, environment and flags and reports all problems
//! at once; [`secrets`] resolves references to secrets.

mod channels;
mod check;
mod lambda;
mod load;
mod loaded;
mod problem;
mod reference;
pub mod rules;
pub mod secrets;
mod shape;
mod show;
mod tree;
mod types;
mod window;

pub use self::channels::channels_reference;
pub use self::lambda::LambdaConfig;
pub use self::load::{ConfigFile, Inputs, load};
pub use self::loaded::Loaded;
pub use self::problem::{Problem, Refused};
pub use self::reference::reference;
pub use self::show::show;
pub use self::tree::Provenance;
pub use self::types::{
    AccountConfig, Config, HubConfig, OrganizationConfig, RulesConfig, SourceConfig, schema,
};
pub use self::window::WindowConfig;
pub use crate::telemetry::{LogFormat, TelemetryConfig};
pub use rootwatch_web::{HttpConfig, Scope, SnsConfig, TokenConfig};
