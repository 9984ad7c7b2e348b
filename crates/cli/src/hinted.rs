//! Every `rootwatch` command that a hint, a help text or a message names is one that this program
//! understands.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{CommandFactory, Parser};

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
            } else if path.extension().is_some_and(|end| end == "rs")
                && !path.ends_with("hinted.rs")
            {
                files.push(path);
            }
        }
    }
    assert!(files.len() > 100, "{}", files.len());
    files
}

/// True for the bare name of a command, without any arguments: `rootwatch notify test`.
fn is_name(command: &str) -> bool {
    let cli = Cli::command();
    let mut words = command.split_whitespace().skip(1);
    words.try_fold(&cli, |command, word| command.find_subcommand(word)).is_some()
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
            let command = command.split_whitespace().collect::<Vec<_>>().join(" ");
            count += 1;
            let Err(error) = Cli::try_parse_from(command.split_whitespace()) else { continue };
            if !is_name(&command) {
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

#[test]
fn a_name_without_arguments_need_not_be_a_whole_command() {
    assert!(is_name("rootwatch notify test") && is_name("rootwatch token"));
    assert!(!is_name("rootwatch token new NAME") && !is_name("rootwatch no"));
}
