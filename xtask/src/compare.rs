//! `cargo xtask bench-compare`: is the other commit faster, and does it print the same?

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, bail};

use crate::run::{cargo, must, output_of, program, root};

pub(crate) const HELP: &str = "\
cargo xtask bench-compare A B --logs DIR [--runs N] [-- SCAN ARGUMENTS]

Builds the shipped program (profile `dist`) of two commits and lets them scan a folder of logs in turn: A B, B A, A B …
Prints the CPU time (user and system) of each, the ratio B/A pair by pair, and whether both print
the same. A commit is anything that git understands; `.` is the working tree. N is 7 unless told;
one pair before that is not counted. Arguments after `--` go to `rootwatch scan`.

Binaries are kept in target/bench-compare/ by commit.";

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
struct Asked<'a> {
    commits: [&'a str; 2],
    logs: &'a str,
    runs: usize,
    scan_args: Vec<&'a str>,
}

fn parse<'a>(words: &[&'a str]) -> anyhow::Result<Asked<'a>> {
    let mut commits = Vec::new();
    let (mut logs, mut runs, mut scan_args) = (None, 7, Vec::new());
    let mut words = words.iter().copied();
    while let Some(word) = words.next() {
        match word {
            "--logs" => logs = words.next(),
            "--runs" => {
                let number = words.next().and_then(|number| number.parse().ok());
                runs = number.filter(|runs| *runs > 0).context("`--runs` needs a number")?;
            }
            "--" => scan_args = words.by_ref().collect(),
            option if option.starts_with('-') => bail!("there is no option `{option}`"),
            commit => commits.push(commit),
        }
    }
    let commits = commits.try_into().ok().context("two commits are needed")?;
    let logs = logs.context("`--logs` needs a folder")?;
    Ok(Asked { commits, logs, runs, scan_args })
}

pub(crate) fn command(words: &[&str]) -> anyhow::Result<()> {
    let asked = parse(words)?;
    let logs = fs::canonicalize(asked.logs).with_context(|| asked.logs.to_owned())?;
    let folder = root().join("target/bench-compare");
    fs::create_dir_all(&folder)?;
    let mut programs = Vec::new();
    for (name, commit) in ["A", "B"].into_iter().zip(asked.commits) {
        let program = built(&folder, name, commit)?;
        println!("{name}: {commit} ({})", program.file_name().unwrap_or_default().display());
        programs.push(program);
    }
    let mut seconds = [Vec::new(), Vec::new()];
    let mut outputs: [Option<Vec<u8>>; 2] = [None, None];
    let mut steady = true;
    for run in 0..=asked.runs {
        let order = if run % 2 == 0 { [0, 1] } else { [1, 0] };
        for which in order {
            let (cpu, output) = scan(&programs[which], &logs, &asked.scan_args)?;
            if run > 0 {
                seconds[which].push(cpu);
            }
            steady &= outputs[which].as_ref().is_none_or(|before| *before == output);
            outputs[which] = Some(output);
        }
        if run > 0 {
            let (a, b) = (seconds[0][run - 1], seconds[1][run - 1]);
            println!("{run:>3}  A {a:8.3} s  B {b:8.3} s  B/A {:.4}", b / a);
        }
    }
    println!();
    let ratios = seconds[0].iter().zip(&seconds[1]).map(|(a, b)| b / a).collect();
    let [a, b] = seconds;
    for (name, numbers) in [("A, CPU s", a), ("B, CPU s", b), ("B/A", ratios)] {
        let [least, median, most] = spread(numbers);
        println!("{name:9} least {least:.4}  median {median:.4}  most {most:.4}");
    }
    if !steady {
        bail!("one program printed different things on the same logs");
    }
    let bytes = outputs[0].as_ref().map_or(0, Vec::len);
    if outputs[0] != outputs[1] {
        bail!("A and B print different things");
    }
    println!("both print the same {bytes} bytes");
    Ok(())
}

/// Least, median and most.
fn spread(mut numbers: Vec<f64>) -> [f64; 3] {
    numbers.sort_by(f64::total_cmp);
    let at = |index: usize| numbers.get(index).copied().unwrap_or(f64::NAN);
    let half = numbers.len() / 2;
    let median = if numbers.len() % 2 == 1 {
        at(half)
    } else {
        f64::midpoint(at(half.wrapping_sub(1)), at(half))
    };
    [at(0), median, at(numbers.len().wrapping_sub(1))]
}

/// The profile of the shipped program in a tree. Commits before `dist` ship `release`.
fn shipped_profile(place: &Path) -> anyhow::Result<&'static str> {
    let manifest = fs::read_to_string(place.join("Cargo.toml"))?;
    Ok(if manifest.contains("\n[profile.dist]\n") { "dist" } else { "release" })
}

/// The shipped program of a commit.
fn built(folder: &Path, name: &str, commit: &str) -> anyhow::Result<PathBuf> {
    let target = folder.join("build");
    let build = |place: &Path| -> anyhow::Result<PathBuf> {
        let profile = shipped_profile(place)?;
        let mut command =
            cargo(&["build", "--quiet", "--profile", profile, "--package", "rootwatch"]);
        command.current_dir(place).env("CARGO_TARGET_DIR", &target);
        must(command)?;
        let program = format!("rootwatch{}", std::env::consts::EXE_SUFFIX);
        Ok(target.join(profile).join(program))
    };
    if commit == "." {
        let program = folder.join(format!("rootwatch-working-tree-{name}"));
        fs::copy(build(&root())?, &program)?;
        return Ok(program);
    }
    let spec = format!("{commit}^{{commit}}");
    let hash = output_of(program("git", &["rev-parse", "--verify", &spec]))?;
    let hash = hash.trim();
    let kept = folder.join(format!("rootwatch-{hash}"));
    if kept.is_file() {
        return Ok(kept);
    }
    let tree = folder.join("tree");
    let place = tree.to_string_lossy().into_owned();
    // Left over from a run that was broken off.
    drop(program("git", &["worktree", "remove", "--force", &place]).stderr(Stdio::null()).status());
    must(program("git", &["worktree", "add", "--quiet", "--detach", &place, hash]))?;
    let result = build(&tree).and_then(|built| {
        fs::copy(built, &kept)?;
        Ok(())
    });
    must(program("git", &["worktree", "remove", "--force", &place]))?;
    result.map(|()| kept)
}

/// Scans, and gives CPU seconds and standard output.
fn scan(program: &Path, logs: &Path, args: &[&str]) -> anyhow::Result<(f64, Vec<u8>)> {
    let before = children_seconds()?;
    let output = std::process::Command::new(program)
        .args(["scan", "--quiet", "--format", "jsonl"])
        .args(args)
        .arg(logs)
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| program.display().to_string())?;
    let seconds = children_seconds()? - before;
    // 1 and 3 speak of the logs, not of the program.
    if !matches!(output.status.code(), Some(0 | 1 | 3)) {
        bail!("{} ended with {}", program.display(), output.status);
    }
    Ok((seconds, output.stdout))
}

/// User and system seconds of all programs that we waited for.
#[cfg(unix)]
#[allow(unsafe_code)]
fn children_seconds() -> io::Result<f64> {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the pointer is to a whole `rusage`, which the call fills in.
    let code = unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, usage.as_mut_ptr()) };
    if code != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: zeroed is a valid `rusage`, and so is what the call leaves.
    let usage = unsafe { usage.assume_init() };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    Ok(seconds(usage.ru_utime) + seconds(usage.ru_stime))
}

#[cfg(not(unix))]
fn children_seconds() -> io::Result<f64> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "CPU time is measured on Unix only"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_told_apart() {
        let asked = parse(&["main", ".", "--logs", "d", "--runs", "3", "--", "-j", "1"]);
        let wanted =
            Asked { commits: ["main", "."], logs: "d", runs: 3, scan_args: vec!["-j", "1"] };
        assert_eq!(asked.expect("sound"), wanted);
        for wrong in
            [&["a", "--logs", "d"][..], &["a", "b"], &["a", "b", "--logs", "d", "--runs", "0"]]
        {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(spread(vec![3.0, 1.0, 2.0]), [1.0, 2.0, 3.0]);
        assert_eq!(spread(vec![4.0, 1.0, 2.0, 3.0]), [1.0, 2.5, 4.0]);
    }
}
