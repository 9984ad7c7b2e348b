//! The AWS stand-in that tests run against: installed below `target/` before they begin, so that a
//! registry that cannot be reached shows here and not in the middle of a test.

use crate::run::{must, program, python, target};

/// Installs the stand-in, if it is not there yet.
pub(crate) fn set_up() -> anyhow::Result<()> {
    let folder = target()?.join("aws-standin");
    must(program(&python()?, &["fixtures/aws/set_up.py", &folder.to_string_lossy()]))
}
