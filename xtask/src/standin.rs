//! The AWS stand-in that tests run against: installed below `target/` before they begin, so that a
//! registry that cannot be reached shows here and not in the middle of a test.

use anyhow::Context;

use crate::run::{is_there, must, program};

/// Installs the stand-in, if it is not there yet.
pub(crate) fn set_up() -> anyhow::Result<()> {
    let names = ["python3", "python", "py"];
    let asks = "import sys; sys.exit(sys.version_info < (3, 9))";
    let python = names.into_iter().find(|name| is_there(program(name, &["-c", asks])));
    let python = python.context("Python 3.9 or later is not there; the AWS stand-in needs it")?;
    let own = std::env::current_exe()?;
    // target/<profile>/xtask
    let target = own.ancestors().nth(2).context("this program is not in a target folder")?;
    let folder = target.join("aws-standin");
    must(program(python, &["fixtures/aws/set_up.py", &folder.to_string_lossy()]))
}
