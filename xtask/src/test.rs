//! `cargo xtask test`: everything that must hold, and nothing left out in silence.

use std::time::Instant;

use anyhow::{Context, bail};

use crate::run::{cargo, is_there, must, program, python, rootwatch_program, shown, tee};
use crate::{deploy, docs, fuzz, package, standin, tidy};

pub(crate) const HELP: &str = "\
cargo xtask test [--fast]

Checks everything that must hold, and stops at the first thing that does not: format, conventions,
lints, generated docs, the rules' own tests, the story, benchmarks (that they compile), templates and
modules in deploy/, the AWS stand-in (that it can be installed), the function's package, API docs, a
short fuzz run, and all tests last, so that their results end the output. A test that is ignored or
filtered out counts as a failure. The last line reads `N passed, 0 failed`.

--fast leaves out the checks of deploy/, the API docs and the fuzz run.";

type Step = (&'static str, fn() -> anyhow::Result<()>);

const STEPS: [Step; 12] = [
    ("format", || must(cargo(&["fmt", "--all", "--check"]))),
    ("tidy", || tidy::command(&[])),
    ("lints", lints),
    ("generated docs", docs::check),
    ("rules", rules),
    ("story", story),
    ("benchmarks compile", || {
        must(cargo(&["bench", "--quiet", "--workspace", "--no-run", "--profile", "dev"]))
    }),
    ("deploy", deploy::check),
    ("aws stand-in", standin::set_up),
    ("package", || package::command(&["--arch", package::HOST, "--fast"])),
    ("api docs", api_docs),
    ("fuzz", || fuzz::run(&["--seconds", "20"])),
];

/// What `--fast` leaves out.
const SLOW: [&str; 3] = ["deploy", "api docs", "fuzz"];

pub(crate) fn command(words: &[&str]) -> anyhow::Result<()> {
    let fast = match words {
        [] => false,
        ["--fast"] => true,
        _ => bail!("unknown arguments: see `cargo xtask test --help`"),
    };
    let begin = Instant::now();
    components()?;
    let mut left_out = Vec::new();
    let mut done = Vec::new();
    for (name, run) in STEPS {
        if fast && SLOW.contains(&name) {
            left_out.push(name);
            continue;
        }
        step(name, run)?;
        done.push(name);
    }
    let mut tally = Tally::default();
    step("tests", || tests(&mut tally))?;
    done.push("tests");
    println!("\n== passed in {} s: {}", begin.elapsed().as_secs(), done.join(", "));
    if !left_out.is_empty() {
        println!("== left out by --fast: {}", left_out.join(", "));
    }
    println!("{} passed, 0 failed", tally.passed);
    Ok(())
}

fn step(name: &str, run: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let begin = Instant::now();
    println!("\n== {name}");
    run().with_context(|| format!("{name} FAILED"))?;
    println!("== {name}: ok, {:.1} s", begin.elapsed().as_secs_f64());
    Ok(())
}

/// Sees to it that rustfmt and clippy are there.
fn components() -> anyhow::Result<()> {
    for (component, word) in [("rustfmt", "fmt"), ("clippy", "clippy")] {
        if !is_there(cargo(&[word, "--version"])) {
            println!("== adding {component}");
            must(program("rustup", &["component", "add", component]))?;
        }
    }
    Ok(())
}

fn lints() -> anyhow::Result<()> {
    must(cargo(&["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}

fn api_docs() -> anyhow::Result<()> {
    let mut command =
        cargo(&["doc", "--quiet", "--workspace", "--no-deps", "--document-private-items"]);
    // Nothing is published: these pages are for us, and may link to what is private.
    command.env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private-intra-doc-links");
    must(command)
}

fn rules() -> anyhow::Result<()> {
    let command = program(&rootwatch_program()?.to_string_lossy(), &["rules", "test"]);
    let text = shown(&command);
    if !tee_prefixed(command)? {
        bail!("`{text}` failed");
    }
    Ok(())
}

/// With a word before each line: the closing line of these tests is not that of all.
fn tee_prefixed(mut command: std::process::Command) -> anyhow::Result<bool> {
    let output = command.stderr(std::process::Stdio::inherit()).output()?;
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        println!("rules: {line}");
    }
    Ok(output.status.success())
}

fn story() -> anyhow::Result<()> {
    must(program(&python()?, &["fixtures/make_story.py", "--check"]))
}

fn tests(tally: &mut Tally) -> anyhow::Result<()> {
    let succeeded = tee(cargo(&["test", "--workspace", "--no-fail-fast"]), |line| tally.add(line))?;
    let Tally { programs, passed, failed, ignored, filtered } = *tally;
    if !succeeded || failed > 0 {
        bail!("{passed} passed, {failed} failed");
    }
    if ignored + filtered > 0 {
        bail!("{ignored} tests ignored, {filtered} filtered out: every test must run");
    }
    if programs == 0 || passed == 0 {
        bail!("no tests were run");
    }
    Ok(())
}

/// Sums of cargo test's `test result:` lines.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    programs: u64,
    passed: u64,
    failed: u64,
    ignored: u64,
    filtered: u64,
}

impl Tally {
    fn add(&mut self, line: &str) {
        let Some(rest) = line.strip_prefix("test result: ") else { return };
        self.programs += 1;
        let parts = rest.split_once(". ").map_or(rest, |(_, counts)| counts).split("; ");
        for part in parts {
            let Some((number, name)) = part.split_once(' ') else { continue };
            let Ok(number) = number.parse::<u64>() else { continue };
            match name {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                "filtered out" => self.filtered += number,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_are_summed_and_others_are_not() {
        let mut tally = Tally::default();
        for line in [
            "running 3 tests",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.10s",
            "test result: FAILED. 4 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.10s",
            "the test result: ok. 3 passed",
            "5 passed; 0 failed",
        ] {
            tally.add(line);
        }
        let sum = Tally { programs: 2, passed: 7, failed: 1, ignored: 1, filtered: 2 };
        assert_eq!(tally, sum);
    }

    #[test]
    fn what_fast_leaves_out_are_steps() {
        for name in SLOW {
            assert!(STEPS.iter().any(|(step, _)| *step == name), "{name}");
        }
    }
}
