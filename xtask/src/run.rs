//! Running other programs from the root of the repository.

use std::env;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    // What cargo says now; the binary may have been built for another copy.
    let own = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let own = own.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).to_owned());
    own.parent().map_or_else(|| PathBuf::from("."), Path::to_owned)
}

/// The folder of what is built.
pub(crate) fn target() -> anyhow::Result<PathBuf> {
    let own = env::current_exe()?;
    // target/<profile>/xtask
    let target = own.ancestors().nth(2).context("this program is not in a target folder")?;
    Ok(target.to_owned())
}

/// Builds `rootwatch` for tests, and returns its path. It is built with a test of the whole workspace:
/// any other selection gives dependencies other features, and compiles most of them once more.
pub(crate) fn rootwatch_program() -> anyhow::Result<PathBuf> {
    must(cargo(&["test", "--quiet", "--no-run", "--workspace", "--test", "cli"]))?;
    let name = format!("rootwatch{}", env::consts::EXE_SUFFIX);
    Ok(target()?.join("debug").join(name))
}

/// The name of a Python that is new enough for what we run.
pub(crate) fn python() -> anyhow::Result<String> {
    let asks = "import sys; sys.exit(sys.version_info < (3, 9))";
    let names = ["python3", "python", "py"];
    let found = names.into_iter().find(|name| is_there(program(name, &["-c", asks])));
    found.map(str::to_owned).context("Python 3.9 or later is not there")
}

/// A program to be run at the root.
pub(crate) fn program(name: &str, args: &[&str]) -> Command {
    let mut command = Command::new(name);
    command.args(args).current_dir(root());
    // Set for this program by `cargo run`; another cargo would take them for its own.
    for name in ["CARGO_MANIFEST_DIR", "CARGO_MANIFEST_PATH"] {
        command.env_remove(name);
    }
    command
}

/// The cargo that runs us.
pub(crate) fn cargo(args: &[&str]) -> Command {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    program(&cargo.to_string_lossy(), args)
}

/// As one would type it.
pub(crate) fn shown(command: &Command) -> String {
    let name = Path::new(command.get_program()).file_stem().unwrap_or_default();
    let words = std::iter::once(name).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Runs a program with its output in sight.
pub(crate) fn must(mut command: Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("cannot run `{}`", shown(&command)))?;
    if !status.success() {
        bail!("`{}` failed ({status})", shown(&command));
    }
    Ok(())
}

/// Runs a program with its output in sight, and hands on each line of its standard output as well.
/// Says whether it succeeded.
pub(crate) fn tee(mut command: Command, mut line: impl FnMut(&str)) -> anyhow::Result<bool> {
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run `{}`", shown(&command)))?;
    if let Some(out) = child.stdout.take() {
        for text in BufReader::new(out).split(b'\n') {
            let text = text?;
            let text = String::from_utf8_lossy(&text);
            println!("{text}");
            line(text.trim_end());
        }
    }
    std::io::stdout().flush()?;
    Ok(child.wait()?.success())
}

/// A program's standard output.
pub(crate) fn output_of(mut command: Command) -> anyhow::Result<String> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run `{}`", shown(&command)))?;
    if !output.status.success() {
        bail!("`{}` failed ({})", shown(&command), output.status);
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// True when the program can be run at all.
pub(crate) fn is_there(mut command: Command) -> bool {
    command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
