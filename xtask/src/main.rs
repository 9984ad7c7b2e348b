//! `cargo xtask`: what developers and the pipeline run.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is a program for developers")]

mod compare;
mod deploy;
mod docs;
mod fuzz;
mod package;
mod run;
mod standin;
mod test;
mod tidy;

use std::process::ExitCode;

const HELP: &str = "\
cargo xtask COMMAND

  test           everything that must hold: format, lints, conventions, docs, rules, tests, fuzzing
  tidy           the conventions that are tests
  docs           write what is generated below docs/
  fuzz           run the fuzz targets
  package        the Lambda function, as archives for both processors
  bench-compare  compare the CPU time of two commits

cargo xtask COMMAND --help says more.";

/// A command: takes the words after its name.
type Command = fn(&[&str]) -> anyhow::Result<()>;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let Some((command, rest)) = words.split_first() else {
        println!("{HELP}");
        return ExitCode::from(2);
    };
    let wants_help = rest.iter().take_while(|word| **word != "--").any(|word| is_help(word));
    let (help, run): (&str, Command) = match *command {
        "test" => (test::HELP, test::command),
        "tidy" => (tidy::HELP, tidy::command),
        "docs" => (docs::HELP, docs::command),
        "fuzz" => (fuzz::HELP, fuzz::command),
        "package" => (package::HELP, package::command),
        "bench-compare" => (compare::HELP, compare::command),
        word if is_help(word) => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        other => {
            eprintln!("error: there is no command `{other}`\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    if wants_help {
        println!("{help}");
        return ExitCode::SUCCESS;
    }
    match run(rest) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn is_help(word: &str) -> bool {
    matches!(word, "help" | "--help" | "-h")
}
