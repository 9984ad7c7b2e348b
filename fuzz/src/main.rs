//! `rootwatch-fuzz [--seconds N] [--inputs N] [TARGET…]`: fuzzing on stable Rust.
//! `cargo xtask fuzz` builds it with every check on and runs it.

#![allow(clippy::print_stdout, reason = "this is a program for developers")]

use std::process::ExitCode;
use std::time::Duration;

use rootwatch_fuzz::runner::{Budget, keep, run, say};
use rootwatch_fuzz::{TARGETS, Target};

fn main() -> ExitCode {
    match arguments().and_then(|(targets, budget)| fuzz(&targets, budget)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            say(&format!("error: {message}"));
            ExitCode::FAILURE
        }
    }
}

fn arguments() -> Result<(Vec<(&'static str, Target)>, Budget), String> {
    let mut budget = Budget { time: Duration::from_secs(20), inputs: u64::MAX };
    let mut targets = Vec::new();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || {
            let number = words.next().and_then(|number| number.parse::<u64>().ok());
            number.ok_or_else(|| format!("`{word}` needs a number"))
        };
        match word.as_str() {
            "--seconds" => budget.time = Duration::from_secs(number()?),
            "--inputs" => {
                budget = Budget { inputs: number()?, time: Duration::from_secs(24 * 3600) };
            }
            name => {
                let target = TARGETS.iter().find(|(known, _)| *known == name);
                targets.push(*target.ok_or_else(|| format!("unknown target `{name}`"))?);
            }
        }
    }
    Ok((if targets.is_empty() { TARGETS.to_vec() } else { targets }, budget))
}

fn fuzz(targets: &[(&'static str, Target)], budget: Budget) -> Result<(), String> {
    let mut failed = Vec::new();
    for (name, target) in targets {
        std::panic::set_hook(Box::new(|_| {}));
        let ran = run(name, *target, budget).map_err(|error| format!("{name}: {error}"))?;
        drop(std::panic::take_hook());
        let seconds = ran.elapsed.as_secs_f64();
        println!(
            "{name}: {} executions ({} seeds, {} traits) in {seconds:.1} s",
            ran.inputs, ran.seeds, ran.traits
        );
        if let Some(failure) = ran.failure {
            let path = keep(name, &failure.input).map_err(|error| error.to_string())?;
            println!("{name}: FAILED: {}\n  input: {}", failure.message, path.display());
            println!("  once it is fixed, keep the input in fuzz/seeds/{name}/");
            failed.push(*name);
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(format!("failed: {}", failed.join(", "))) }
}
