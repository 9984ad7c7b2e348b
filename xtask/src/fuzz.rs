//! `cargo xtask fuzz`.

use anyhow::bail;

use crate::run::{cargo, is_there, must, program, root};

pub(crate) const HELP: &str = "\
cargo xtask fuzz [--seconds N] [--inputs N] [--libfuzzer] [TARGET…]

Gives the fuzz targets (decode, inflate, pattern, scan) their seeds and changes to them, for so many
seconds each (20 unless told). The inputs come in the same order everywhere; with --inputs their
number is fixed as well. A failing input is written to fuzz/artifacts/. Needs nothing but stable Rust.

--libfuzzer uses cargo-fuzz instead, which sees every branch. It needs
  rustup toolchain install nightly
  cargo install cargo-fuzz";

const TARGETS: [&str; 4] = ["decode", "inflate", "pattern", "scan"];

pub(crate) fn command(words: &[&str]) -> anyhow::Result<()> {
    let Some(at) = words.iter().position(|word| *word == "--libfuzzer") else {
        return run(words);
    };
    let mut words = words.to_vec();
    words.remove(at);
    libfuzzer(&words)
}

/// The runner on stable Rust.
pub(crate) fn run(words: &[&str]) -> anyhow::Result<()> {
    let mut args = vec![
        "run",
        "--quiet",
        "--profile",
        "fuzz",
        "--package",
        "rootwatch-fuzz",
        "--bin",
        "rootwatch-fuzz",
        "--",
    ];
    args.extend(words);
    must(cargo(&args))
}

fn libfuzzer(words: &[&str]) -> anyhow::Result<()> {
    let mut seconds = "20";
    let mut targets = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match *word {
            "--seconds" => match words.next() {
                Some(number) if number.parse::<u32>().is_ok() => seconds = number,
                _ => bail!("`--seconds` needs a number"),
            },
            name if TARGETS.contains(&name) => targets.push(name),
            other => bail!("there is no target or option `{other}` with --libfuzzer"),
        }
    }
    if targets.is_empty() {
        targets.extend(TARGETS);
    }
    let nightly = |args: &[&str]| {
        let mut command = program("rustup", &["run", "nightly", "cargo", "fuzz"]);
        command.args(args).env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO");
        command
    };
    if !is_there(nightly(&["--version"])) {
        bail!("nightly Rust with cargo-fuzz is not there: see `cargo xtask fuzz --help`");
    }
    for target in targets {
        let corpus = format!("fuzz/corpus/{target}");
        std::fs::create_dir_all(root().join(&corpus))?;
        let seeds = format!("fuzz/seeds/{target}");
        let time = format!("-max_total_time={seconds}");
        must(nightly(&["run", "--features", "libfuzzer", target, &corpus, &seeds, "--", &time]))?;
    }
    Ok(())
}
