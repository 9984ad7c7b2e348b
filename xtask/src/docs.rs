//! `cargo xtask docs`: documentation that is generated from the code which obeys it.

mod markdown;
mod rules;
mod samples;

use std::fs;

use anyhow::{Context, bail};

use crate::run::{output_of, program, root, rootwatch_program};

pub(crate) const HELP: &str = "\
cargo xtask docs [--check]

Writes below docs/reference/: cli.md, config.md, channels.md, metrics.md, permissions.md and
rootwatch.schema.json from the program, rules/ from the rules; and the samples of output in README.md from real output.
--check writes nothing and fails with the names of the files that are stale.";

pub(crate) fn command(words: &[&str]) -> anyhow::Result<()> {
    match words {
        [] => write_all(),
        ["--check"] => check(),
        _ => bail!("unknown arguments: see `cargo xtask docs --help`"),
    }
}

/// The generated files, by their paths.
fn generated() -> anyhow::Result<Vec<(String, String)>> {
    let binary = rootwatch_program()?;
    let rootwatch = |words: &[&str]| output_of(program(&binary.to_string_lossy(), words));
    let reference = |name: &str| format!("docs/reference/{name}");
    let mut files = vec![
        (reference("cli.md"), rootwatch(&["reference", "cli"])?),
        (reference("config.md"), rootwatch(&["reference", "config"])?),
        (reference("channels.md"), rootwatch(&["reference", "channels"])?),
        (reference("metrics.md"), rootwatch(&["reference", "metrics"])?),
        (reference("permissions.md"), rootwatch(&["reference", "permissions"])?),
        (reference("rootwatch.schema.json"), rootwatch(&["config", "schema"])?),
    ];
    files.extend(rules::pages()?);
    let sample = |name: &str| match name {
        "scan" => {
            let table = ["scan", "fixtures/story", "--format", "table", "--width", "100"];
            samples::worst_incident(&rootwatch(&table)?)
        }
        "alert" => rootwatch(&["notify", "preview", "--channel", "log", "--incident", "opened"]),
        other => bail!("README.md asks for a sample `{other}` that nothing produces"),
    };
    let readme = fs::read_to_string(root().join("README.md")).context("cannot read README.md")?;
    let readme = readme.replace("\r\n", "\n");
    files.push(("README.md".to_owned(), samples::replaced(&readme, sample)?));
    Ok(files)
}

/// Pages of rules that no longer exist.
fn orphans(files: &[(String, String)]) -> anyhow::Result<Vec<String>> {
    let folder = root().join(rules::FOLDER);
    let mut orphans = Vec::new();
    let Ok(entries) = fs::read_dir(&folder) else { return Ok(orphans) };
    for entry in entries {
        let path = format!("{}/{}", rules::FOLDER, entry?.file_name().to_string_lossy());
        if !files.iter().any(|(known, _)| *known == path) {
            orphans.push(path);
        }
    }
    orphans.sort();
    Ok(orphans)
}

fn write_all() -> anyhow::Result<()> {
    let files = generated()?;
    for (path, text) in &files {
        let place = root().join(path);
        if fs::read_to_string(&place).is_ok_and(|old| old == *text) {
            continue;
        }
        if let Some(folder) = place.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&place, text).with_context(|| format!("cannot write {path}"))?;
        println!("{path} written");
    }
    for path in orphans(&files)? {
        fs::remove_file(root().join(&path)).with_context(|| format!("cannot delete {path}"))?;
        println!("{path} deleted");
    }
    println!("{} generated files are fresh", files.len());
    Ok(())
}

pub(crate) fn check() -> anyhow::Result<()> {
    let files = generated()?;
    let mut stale = orphans(&files)?;
    for (path, text) in files {
        // A checkout may have changed line ends.
        let old = fs::read_to_string(root().join(&path)).map(|old| old.replace("\r\n", "\n"));
        if !old.is_ok_and(|old| old == text) {
            stale.push(path);
        }
    }
    if !stale.is_empty() {
        bail!("stale: {} (write them with `cargo xtask docs`)", stale.join(", "));
    }
    Ok(())
}
