//! Every `rootwatch` command that a hint, a help text or a message names is one that this program
//! understands.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser;
use clap::error::ErrorKind;

use crate::args::Cli;

/// All source files of the workspace.
fn sources() -> Vec<PathBuf> {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("..")];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() && !path.ends_with("tests") {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                files.push(path);
            }
        }
    }
    assert!(files.len() > 100, "{}", files.len());
    files
}

/// Commands between backticks in string literals; comments may name a command in part.
fn commands(source: &str) -> Vec<String> {
    let code = source.lines().filter(|line| !line.trim_start().starts_with("//"));
    // A string literal may continue on the next line after a backslash.
    let mut text = String::new();
    for line in code {
        match line.strip_suffix('\\') {
            Some(line) if text.ends_with('\n') => text.push_str(line.trim_start()),
            Some(line) => text.push_str(line),
            None => {
                text.push_str(line.trim_start());
                text.push('\n');
            }
        }
    }
    text.lines()
        .flat_map(|line| line.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>())
        .filter(|span| span.starts_with("rootwatch ") && !span.contains(['{', '"']))
        .collect()
}

#[test]
fn every_command_in_a_hint_parses() {
    let mut problems = Vec::new();
    let mut count = 0;
    for path in sources() {
        for command in commands(&fs::read_to_string(&path).expect("a source file")) {
            count += 1;
            let Err(error) = Cli::try_parse_from(command.split_whitespace()) else { continue };
            let is_name_of_group = matches!(
                error.kind(),
                ErrorKind::DisplayHelp | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
            );
            if !is_name_of_group {
                problems.push(format!("{}: `{command}`: {error}", path.display()));
            }
        }
    }
    assert!(count > 3, "only {count} commands were found");
    assert_eq!(problems, Vec::<String>::new());
}

#[test]
fn commands_are_found_across_lines() {
    let source = "let hint = \"make one with `rootwatch token \\\n    new NAME --scope read`\";\n\
                  // `rootwatch no`\nlet text = \"`rootwatch demo`\";\n";
    assert_eq!(commands(source), ["rootwatch token new NAME --scope read", "rootwatch demo"]);
}
