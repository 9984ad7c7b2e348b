//! Puts the story of `fixtures/story` into the program, so that the demo runs anywhere: the
//! records of its hour, one a line with the moment when it arrives, in the order of arrival.

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt::Write as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use serde_json::Value;

/// What of the day is played.
const FROM: &str = "2026-05-04T13:49:00Z";
const UNTIL: &str = "2026-05-04T14:35:00Z";
/// When a record that CloudTrail delivers late arrives: after the story's last call.
const LATE: &str = "2026-05-04T14:36:00Z";

fn main() -> Result<(), Box<dyn Error>> {
    let folder = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("../../fixtures/story/AWSLogs");
    println!("cargo::rerun-if-changed={}", folder.display());
    println!("cargo::rerun-if-changed=build.rs");
    let mut files = Vec::new();
    find(&folder, &mut files)?;
    // Files of one moment in the order of their names, so that the build can be repeated.
    files.sort_by_key(|path| path.file_name().map(ToOwned::to_owned));
    let mut records = Vec::new();
    let mut ids = BTreeSet::new();
    for path in files {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut text = String::new();
        flate2::read::MultiGzDecoder::new(fs::File::open(&path)?).read_to_string(&mut text)?;
        let log: Value = serde_json::from_str(&text)?;
        for record in log["Records"].as_array().into_iter().flatten() {
            let time = record["eventTime"].as_str().unwrap_or_default().to_owned();
            if !(FROM..UNTIL).contains(&time.as_str()) {
                continue;
            }
            let is_first = ids.insert(record["eventID"].to_string());
            let arrival = if record.get("addendum").is_some() {
                LATE.to_owned()
            } else if is_first {
                time
            } else {
                delivered(&name).unwrap_or(time)
            };
            records.push((arrival, record.to_string()));
        }
    }
    records.sort_by(|a, b| a.0.cmp(&b.0));
    let mut text = String::new();
    for (arrival, record) in records {
        writeln!(text, "{arrival} {record}")?;
    }
    fs::write(Path::new(&env::var("OUT_DIR")?).join("story.txt"), text)?;
    Ok(())
}

/// When a log file was delivered, by its name: `…_20260504T1420Z_…`.
fn delivered(name: &str) -> Option<String> {
    let mark = name.split('_').find(|part| part.len() == 14 && part.ends_with('Z'))?;
    let (date, time) = (mark.get(..8)?, mark.get(9..13)?);
    let (year, month, day) = (&date[..4], &date[4..6], &date[6..]);
    Some(format!("{year}-{month}-{day}T{}:{}:00Z", &time[..2], &time[2..]))
}

fn find(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            if path.file_name().is_none_or(|name| name != "CloudTrail-Digest") {
                find(&path, files)?;
            }
        } else if path.extension().is_some_and(|ending| ending == "gz") {
            files.push(path);
        }
    }
    Ok(())
}
