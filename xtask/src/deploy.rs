//! `deploy/check.py`: the templates and modules, by tools that are not ours.

use anyhow::Context;

use crate::run::{is_there, must, program};

/// Runs the checks; their tools are installed below `target/`, once.
pub(crate) fn check() -> anyhow::Result<()> {
    let names = ["python3", "python", "py"];
    let asks = "import sys; sys.exit(sys.version_info < (3, 9))";
    let python = names.into_iter().find(|name| is_there(program(name, &["-c", asks])));
    let python = python.context("Python 3.9 or later is not there; deploy/check.py needs it")?;
    let own = std::env::current_exe()?;
    // target/<profile>/xtask
    let target = own.ancestors().nth(2).context("this program is not in a target folder")?;
    let folder = target.join("deploy-check");
    must(program(python, &["deploy/check.py", &folder.to_string_lossy()]))
}
