//! `cargo bench -p rootwatch-scan`: scanning against decompression alone by libdeflate, on the same
//! files, in turn, in one process; then memory, and two other tools if they are installed.
//!
//! The archive is made here, the same each time. `ROOTWATCH_BENCH_MB` says how large (raw
//! megabytes, default 400), `ROOTWATCH_BENCH_LOGS` names a folder of log files to use instead,
//! `ROOTWATCH_BENCH_ROUNDS` how many rounds (default 7).

#![allow(missing_docs, clippy::print_stdout, clippy::unwrap_used)]

mod archive;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rootwatch_core::rules::Ruleset;
use rootwatch_scan::{Input, Progress, ScanOptions, decompress_only, scan};
use rustix::time::{ClockId, clock_gettime};

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, mode, folder, threads] = &arguments[..]
        && mode == "--peak-memory"
    {
        return print_peak_memory(Path::new(folder), threads.parse().unwrap());
    }
    let rounds = number("ROOTWATCH_BENCH_ROUNDS", 7);
    let made = tempfile::tempdir().unwrap();
    let logs = std::env::var_os("ROOTWATCH_BENCH_LOGS").map(PathBuf::from);
    let logs = logs.unwrap_or_else(|| {
        let folder = made.path().join("logs");
        archive::make(&folder, number("ROOTWATCH_BENCH_MB", 400) * 1_000_000);
        folder
    });
    let raw = decompress_only(inputs(&logs), 2);
    let (files, compressed) = rootwatch_scan::measure(inputs(&logs));
    println!(
        "{files} files, {:.1} MB compressed, {:.1} MB raw; {rounds} rounds, the ways in turn\n",
        compressed as f64 / 1e6,
        raw as f64 / 1e6
    );
    throughput(&logs, raw, rounds);
    memory(&logs, made.path());
    peers(&logs, raw);
}

fn inputs(folder: &Path) -> Vec<Input> {
    vec![Input::Path(folder.to_owned())]
}

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().map_or(default, |text| text.parse().expect("a number"))
}

/// CPU time of all threads of this process so far, and wall time.
fn clocks() -> (Duration, Instant) {
    let at = clock_gettime(ClockId::ProcessCPUTime);
    (Duration::new(at.tv_sec as u64, at.tv_nsec as u32), Instant::now())
}

/// Seconds of CPU and of wall time that `work` takes.
fn time(work: impl FnOnce()) -> (f64, f64) {
    let (cpu, wall) = clocks();
    work();
    (clocks().0.saturating_sub(cpu).as_secs_f64(), wall.elapsed().as_secs_f64())
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn throughput(logs: &Path, raw: u64, rounds: usize) {
    let built_in = Ruleset::built_in();
    let none = Ruleset::empty();
    let run = |rules: &Ruleset, threads: usize, rule_only: bool, prefilter: bool| {
        let options = ScanOptions { threads, rule_only, prefilter, ..ScanOptions::default() };
        let scanned = scan(inputs(logs), rules, &options, &Progress::default());
        (scanned.findings.len(), scanned.summary.records)
    };
    let mut walls = Vec::new();
    for threads in [1, 2] {
        let ways: [(&str, Box<dyn Fn() -> (usize, u64) + '_>); 4] = [
            ("decompression alone", Box::new(|| (0, decompress_only(inputs(logs), threads)))),
            ("scan, root use", Box::new(|| run(&none, threads, false, true))),
            ("scan, all rules", Box::new(|| run(&built_in, threads, true, true))),
            ("scan, no prefilter", Box::new(|| run(&built_in, threads, true, false))),
        ];
        let mut cpu = vec![Vec::new(); ways.len()];
        let mut wall = vec![Vec::new(); ways.len()];
        let mut ratio = vec![Vec::new(); ways.len()];
        let mut found = vec![0; ways.len()];
        for round in 0..=rounds {
            let mut alone = 0.0;
            for (index, (_, work)) in ways.iter().enumerate() {
                // The slow way is there to compare; once is enough.
                if index == 3 && round > 1 {
                    continue;
                }
                let (seconds, elapsed) = time(|| found[index] = work().0);
                if index == 0 {
                    alone = seconds;
                }
                // The first round warms the file cache.
                if round > 0 {
                    cpu[index].push(seconds);
                    wall[index].push(elapsed);
                    ratio[index].push(alone / seconds);
                }
            }
        }
        println!("{threads} thread{}", if threads == 1 { "" } else { "s" });
        println!(
            "{:22} {:>8} {:>8} {:>12} {:>30} {:>8} {:>9}",
            "",
            "cpu s",
            "wall s",
            "raw MB/cpu-s",
            "of decompression (min..max)",
            "of least",
            "findings"
        );
        let least = |values: &[f64]| values.iter().copied().fold(f64::INFINITY, f64::min);
        let alone = least(&cpu[0]);
        for (index, (name, _)) in ways.iter().enumerate() {
            let seconds = median(&mut cpu[index]);
            let of = median(&mut ratio[index]);
            // The ratio of the least times, which other work on the machine spoils least.
            let of_least = alone / least(&cpu[index]);
            println!(
                "{name:22} {seconds:8.3} {:8.3} {:12.0} {of:14.3} ({:.3}..{:.3}) {of_least:8.3} {:>9}",
                median(&mut wall[index]),
                raw as f64 / 1e6 / seconds,
                ratio[index][0],
                ratio[index][ratio[index].len() - 1],
                if index == 0 { String::new() } else { found[index].to_string() },
            );
        }
        walls.push(wall.iter_mut().map(|values| median(values)).collect::<Vec<_>>());
        println!();
    }
    for (index, name) in
        ["decompression alone", "scan, root use", "scan, all rules"].iter().enumerate()
    {
        println!(
            "{name:22} {:.2} times as fast with 2 threads (wall)",
            walls[0][index] / walls[1][index]
        );
    }
    println!();
}

/// Peak memory in processes of their own: the archive, ten times its files, and one large file.
fn memory(logs: &Path, scratch: &Path) {
    let ten = scratch.join("ten");
    for copy in 0..10 {
        link_all(logs, &ten.join(copy.to_string()));
    }
    let large = scratch.join("large.json");
    archive::make_one(&large, 500_000_000);
    let large_gz = scratch.join("large.json.gz");
    archive::compress(&large, &large_gz);
    println!("peak memory, 2 threads, all rules");
    for (name, path) in [
        ("the archive", logs),
        ("ten times the files", ten.as_path()),
        ("one log file of 500 MB", large.as_path()),
        ("the same, gzip", large_gz.as_path()),
    ] {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--peak-memory", path.to_str().unwrap(), "2"])
            .output()
            .unwrap();
        println!("{name:24} {}", String::from_utf8_lossy(&output.stdout).trim());
    }
    println!();
}

fn link_all(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            link_all(&entry.path(), &target);
        } else if std::fs::hard_link(entry.path(), &target).is_err() {
            std::os::unix::fs::symlink(entry.path().canonicalize().unwrap(), &target).unwrap();
        }
    }
}

fn print_peak_memory(folder: &Path, threads: usize) {
    let options = ScanOptions { threads, ..ScanOptions::default() };
    let rules = Ruleset::built_in();
    let scanned = scan(inputs(folder), &rules, &options, &Progress::default());
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("unknown");
    println!(
        "{} ({} files, {} records, {} findings)",
        peak.trim(),
        scanned.summary.files,
        scanned.summary.records,
        scanned.findings.len()
    );
}

/// The same question put to other tools, on the compact log files: which records have the root user
/// as their identity? CPU time is that of the whole process, ours too.
fn peers(logs: &Path, raw: u64) {
    let ours = format!(
        "{} --peak-memory {} 1",
        std::env::current_exe().unwrap().display(),
        logs.display()
    );
    let jq = format!(
        "find {} -name '*.json.gz' -print0 | xargs -0 zcat | jq -c 'if type == \"object\" and has(\"Records\") then .Records[] else . end | select(.userIdentity.type == \"Root\") | .eventID'",
        logs.display()
    );
    let duckdb = format!(
        "python3 -c \"import duckdb; duckdb.sql('SET threads=1'); print(len(duckdb.sql(\\\"\\\"\\\"SELECT r.eventID FROM (SELECT unnest(Records) AS r FROM read_json('{}/**/*.json.gz', columns={{Records: 'STRUCT(eventID VARCHAR, userIdentity STRUCT(type VARCHAR))[]'}}, maximum_object_size=67108864)) WHERE r.userIdentity.type = 'Root'\\\"\\\"\\\").fetchall()))\"",
        logs.display()
    );
    println!("other tools, whole processes");
    let Some(base) = shell_cpu(&ours) else { return };
    println!(
        "{:22} {base:8.2} cpu s {:8.0} raw MB/cpu-s",
        "scan, all rules",
        raw as f64 / 1e6 / base
    );
    for (name, command, check, install) in [
        ("jq", &jq, "jq --version", "apt-get install jq"),
        ("DuckDB, 1 thread", &duckdb, "python3 -c 'import duckdb'", "pip install duckdb"),
    ] {
        let is_there =
            Command::new("sh").args(["-c", check]).output().is_ok_and(|out| out.status.success());
        if !is_there {
            println!("{name:22} not installed, not measured: {install}");
            continue;
        }
        match shell_cpu(command) {
            Some(seconds) => println!(
                "{name:22} {seconds:8.2} cpu s {:8.0} raw MB/cpu-s {:8.1} times as much",
                raw as f64 / 1e6 / seconds,
                seconds / base
            ),
            None => println!("{name:22} failed"),
        }
    }
}

/// User and system seconds of a shell command and all that it starts, as the shell's `times` says.
fn shell_cpu(command: &str) -> Option<f64> {
    let script = format!("{command} >/dev/null || exit 1; times");
    let output = Command::new("bash").args(["-o", "pipefail", "-c", &script]).output().ok()?;
    if !output.status.success() {
        println!("{}", String::from_utf8_lossy(&output.stderr).trim());
        return None;
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let children = text.lines().nth(1)?;
    children
        .split_whitespace()
        .map(|part| {
            let (minutes, seconds) = part.split_once('m')?;
            let seconds: f64 = seconds.trim_end_matches('s').parse().ok()?;
            Some(minutes.parse::<f64>().ok()? * 60.0 + seconds)
        })
        .sum()
}
