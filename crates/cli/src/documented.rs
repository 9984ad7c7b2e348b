//! Every `rootwatch` command that a hand-written page shows is one that this program understands.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{CommandFactory, Parser};

use crate::args::Cli;

/// Generated pages: they print the program's own help.
const GENERATED: [&str; 4] = ["cli.md", "config.md", "channels.md", "rules"];

fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut pages = Vec::new();
    let mut folders = vec![root.join("docs"), root.join("deploy")];
    let files = fs::read_dir(&root).expect("the root").map(|entry| entry.expect("an entry").path());
    pages.extend(files.filter(|path| path.extension().is_some_and(|end| end == "md")));
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let is_generated = folder.ends_with("reference") && GENERATED.contains(&name.as_str());
            if is_generated {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "md") {
                pages.push(path);
            }
        }
    }
    assert!(pages.len() > 20, "{pages:?}");
    pages
}

/// The arguments of each `rootwatch` command in a page: in code blocks, and between backticks.
/// `true` marks those between backticks, which may leave arguments out.
fn commands(page: &str) -> Vec<(Vec<String>, bool)> {
    let mut found = Vec::new();
    let mut in_block = false;
    let mut line = String::new();
    for raw in page.lines() {
        if raw.trim_start().starts_with("```") {
            in_block = !in_block;
            line.clear();
        } else if in_block {
            // A command may take more than one line.
            line.push_str(raw);
            if line.ends_with('\\') {
                line.pop();
                continue;
            }
            found.extend(of_line(&line).into_iter().map(|args| (args, false)));
            line.clear();
        } else {
            let spans = raw.split('`').skip(1).step_by(2);
            let spans = spans.filter(|span| span.starts_with("rootwatch "));
            found.extend(spans.flat_map(of_line).map(|args| (args, true)));
        }
    }
    found
}

/// The arguments of each `rootwatch` command in a line of a shell.
fn of_line(line: &str) -> Vec<Vec<String>> {
    let line = line.trim().trim_start_matches("$ ");
    let mut commands = vec![Vec::new()];
    for word in words(line) {
        if matches!(word.as_str(), "|" | "&&" | ";") {
            commands.push(Vec::new());
        } else if let Some(command) = commands.last_mut() {
            command.push(word);
        }
    }
    commands.into_iter().filter_map(arguments).collect()
}

fn arguments(mut words: Vec<String>) -> Option<Vec<String>> {
    if let Some(at) = words.iter().position(|word| word == ">") {
        words.truncate(at);
    }
    let program = words.first()?;
    let start = if program == "rootwatch" || program.ends_with("=/usr/local/bin/rootwatch") {
        1
    } else if program == "cargo" && words.get(1)? == "run" && !words.contains(&"xtask".to_owned()) {
        words.iter().position(|word| word == "--")? + 1
    } else {
        return None;
    };
    Some(words.split_off(start))
}

/// Splits a line as a shell does, up to a comment.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, ';') => {
                words.extend(word.take());
                words.push(";".to_owned());
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[test]
fn commands_are_found_in_blocks_and_between_backticks() {
    let page = "Run `rootwatch scan -` or `rootwatch.toml`.\n```console\n$ rootwatch scan 'a b' \\\n  --since 1d # why\n\
                cat x | rootwatch scan - > out; cargo run --release -- demo\naws s3 ls\n```\nrootwatch no\n";
    let found: Vec<String> =
        commands(page).iter().map(|(args, may)| format!("{} {may}", args.join(","))).collect();
    assert_eq!(found, ["scan,- true", "scan,a b,--since,1d false", "scan,- false", "demo false"]);
}

#[test]
fn every_documented_command_parses() {
    let mut problems = Vec::new();
    let mut count = 0;
    for path in pages() {
        let page = fs::read_to_string(&path).expect("a page");
        for (args, may_be_short) in commands(&page) {
            count += 1;
            let words = std::iter::once("rootwatch").chain(args.iter().map(String::as_str));
            let Err(error) = Cli::try_parse_from(words) else { continue };
            let is_fine = match error.kind() {
                clap::error::ErrorKind::DisplayHelp | clap::error::ErrorKind::DisplayVersion => {
                    true
                }
                // `rootwatch scan` between backticks names a command.
                clap::error::ErrorKind::MissingRequiredArgument
                | clap::error::ErrorKind::MissingSubcommand
                | clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => may_be_short,
                clap::error::ErrorKind::InvalidValue => {
                    may_be_short && args.last().is_some_and(|last| last.starts_with("--"))
                }
                _ => false,
            };
            if !is_fine {
                problems.push(format!("{}: rootwatch {}\n{error}", path.display(), args.join(" ")));
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(count > 50, "only {count} commands were found");
    Cli::command().debug_assert();
}
