//! Signed calls of AWS services, without an SDK for each service.
//!
//! One [`Caller`] makes all of them: it finds credentials and the region as every AWS tool does
//! ([`AwsAccess`]), assumes a role if it is given one, picks the endpoint of the region's partition
//! ([`partition`]), signs the request (Signature Version 4) and reads the answer. A call that fails
//! is a [`CallError`], which says what the caller should do: retry, fix the permissions, give up
//! ([`codes`] has the table). The caller decides when to retry; nothing here waits.
//!
//! Three protocols are supported: Query (a [`Form`] goes out, [`xml`] comes back), JSON 1.1 and
//! REST-JSON.
//!
//! To call another service, add a constant to [`Service`].

mod access;
mod call;
mod caller;
pub mod codes;
mod error;
mod form;
mod http;
pub mod partition;
mod sign;
pub mod xml;

pub use self::access::{AwsAccess, sdk_loader};
pub use self::call::{Call, Service};
pub use self::caller::Caller;
pub use self::codes::Advice;
pub use self::error::CallError;
pub use self::form::Form;
pub use self::http::{Answer, tls_config};
