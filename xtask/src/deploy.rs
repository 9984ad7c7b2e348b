//! `deploy/check.py`: the templates and modules, by tools that are not ours.

use crate::run::{must, program, python, target};

/// Runs the checks; their tools are installed below `target/`, once.
pub(crate) fn check() -> anyhow::Result<()> {
    let folder = target()?.join("deploy-check");
    must(program(&python()?, &["deploy/check.py", &folder.to_string_lossy()]))
}
