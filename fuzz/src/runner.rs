//! Fuzzing on stable Rust: the seeds, then changes to them, for a number of seconds or runs.
//!
//! The random numbers have a fixed seed, so that a failure can be repeated; how far a run gets depends
//! on the machine. Unlike libFuzzer it does not see branches, but it runs everywhere and in every test
//! run.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{fs, io, thread};

use crate::mutate::{INPUT_BYTES_MAX, Random, mutate};
use crate::{Target, Traits};

/// Seconds for one input before the run is aborted: ordinary ones take a millisecond.
const INPUT_SECS_MAX: u64 = 10;
/// Inputs that are kept because they had a new trait.
const POOL_MAX: usize = 2000;
/// How long a failing input is shrunk.
const SHRINK_TIME_MAX: Duration = Duration::from_secs(3);

/// How long to run: until either limit is reached.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Time.
    pub time: Duration,
    /// Inputs, not counting the seeds.
    pub inputs: u64,
}

/// The result of a run.
#[derive(Debug)]
pub struct Ran {
    /// Inputs, seeds included.
    pub inputs: u64,
    /// Seeds.
    pub seeds: usize,
    /// Different traits that inputs had.
    pub traits: usize,
    /// Wall time.
    pub elapsed: Duration,
    /// An input on which the target panicked, with its message.
    pub failure: Option<Failure>,
}

/// A failing input.
#[derive(Debug)]
pub struct Failure {
    /// The message of the panic.
    pub message: String,
    /// The input, shrunk as far as time allowed.
    pub input: Vec<u8>,
}

/// The seeds of a target, by name of their files.
///
/// # Errors
/// When the folder cannot be read.
pub fn seeds(target: &str) -> io::Result<Vec<(PathBuf, Vec<u8>)>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
    let mut paths = fs::read_dir(folder)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    paths.into_iter().map(|path| fs::read(&path).map(|bytes| (path, bytes))).collect()
}

/// Writes a failing input to `fuzz/artifacts/` and returns its path.
///
/// # Errors
/// When it cannot be written.
pub fn keep(target: &str, input: &[u8]) -> io::Result<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("artifacts").join(target);
    fs::create_dir_all(&folder)?;
    let mut hash = DefaultHasher::new();
    input.hash(&mut hash);
    let path = folder.join(format!("crash-{:016x}", hash.finish()));
    fs::write(&path, input)?;
    Ok(path)
}

/// Runs a target on its seeds and on changes to them; stops at the first failure.
///
/// # Errors
/// When the seeds cannot be read.
pub fn run(name: &str, target: Target, budget: Budget) -> io::Result<Ran> {
    let begin = Instant::now();
    let mut pool: Vec<Vec<u8>> = seeds(name)?.into_iter().map(|(_, bytes)| bytes).collect();
    if pool.is_empty() {
        return Err(io::Error::other(format!("no seeds for `{name}`")));
    }
    let seeds = pool.len();
    let mut ran = Ran { inputs: 0, seeds, traits: 0, elapsed: Duration::ZERO, failure: None };
    let mut known = HashSet::new();
    let watch = Watch::start(name);
    for seed in &pool {
        ran.inputs += 1;
        match watch.attempt(target, seed) {
            Ok(traits) => known.extend(traits.0),
            Err(message) => ran.failure = Some(shrink(&watch, target, seed, message)),
        }
    }
    let mut random = Random::new(0x5eed);
    let until = budget.inputs.saturating_add(seeds as u64);
    while ran.failure.is_none() && ran.inputs < until && begin.elapsed() < budget.time {
        let input = pick(&pool, seeds, &mut random);
        let other = pick(&pool, seeds, &mut random);
        let input = mutate(&pool[input], &pool[other], &mut random);
        ran.inputs += 1;
        match watch.attempt(target, &input) {
            Ok(traits) => {
                let before = known.len();
                known.extend(traits.0);
                if known.len() > before && pool.len() < POOL_MAX && input.len() < INPUT_BYTES_MAX {
                    pool.push(input);
                }
            }
            Err(message) => ran.failure = Some(shrink(&watch, target, &input, message)),
        }
    }
    ran.traits = known.len();
    ran.elapsed = begin.elapsed();
    Ok(ran)
}

/// An index into the pool: a seed half of the time.
fn pick(pool: &[Vec<u8>], seeds: usize, random: &mut Random) -> usize {
    if random.below(2) == 0 { random.below(seeds) } else { random.below(pool.len()) }
}

/// Removes pieces, large ones first, as long as the target still fails.
fn shrink(watch: &Watch, target: Target, input: &[u8], message: String) -> Failure {
    let begin = Instant::now();
    let mut failure = Failure { message, input: input.to_vec() };
    let mut piece = failure.input.len().next_power_of_two() / 2;
    while piece > 0 && begin.elapsed() < SHRINK_TIME_MAX {
        let mut at = 0;
        while at < failure.input.len() && begin.elapsed() < SHRINK_TIME_MAX {
            let mut less = failure.input.clone();
            less.drain(at..(at + piece).min(less.len()));
            match watch.attempt(target, &less) {
                Err(message) => failure = Failure { message, input: less },
                Ok(_) => at += piece,
            }
        }
        piece /= 2;
    }
    failure
}

/// Keeps and reports an input on which the target does not end.
struct Watch {
    now: Arc<Mutex<Now>>,
}

/// The input that runs, and since when.
type Now = Option<(Instant, Vec<u8>)>;

impl Watch {
    fn start(name: &str) -> Self {
        let now = Arc::new(Mutex::new(None::<(Instant, Vec<u8>)>));
        let (seen, name) = (Arc::downgrade(&now), name.to_owned());
        thread::spawn(move || {
            while let Some(now) = seen.upgrade() {
                let late = now.lock().unwrap_or_else(PoisonError::into_inner).as_ref().and_then(
                    |(since, input)| {
                        (since.elapsed().as_secs() >= INPUT_SECS_MAX).then(|| input.clone())
                    },
                );
                drop(now);
                if let Some(input) = late {
                    let place = keep(&name, &input).map(|path| path.display().to_string());
                    let place = place.unwrap_or_else(|error| error.to_string());
                    say(&format!("{name}: no end after {INPUT_SECS_MAX} s: {place}"));
                    std::process::exit(1);
                }
                thread::sleep(Duration::from_millis(200));
            }
        });
        Self { now }
    }

    /// Runs the target once; a panic becomes an error with its message.
    fn attempt(&self, target: Target, input: &[u8]) -> Result<Traits, String> {
        let set = |now| *self.now.lock().unwrap_or_else(PoisonError::into_inner) = now;
        set(Some((Instant::now(), input.to_vec())));
        let result = catch_unwind(AssertUnwindSafe(|| target(input)));
        set(None);
        result.map_err(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic").to_owned()
        })
    }
}

/// A line on standard error.
#[expect(clippy::print_stderr, reason = "this is a program for developers")]
pub fn say(line: &str) {
    eprintln!("{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Budget = Budget { time: Duration::from_secs(60), inputs: 3000 };

    #[test]
    fn a_target_that_holds_runs_to_the_end_of_its_budget() {
        let ran = run("decode", |bytes| Traits([bytes.len() as u64].into()), SHORT).expect("seeds");
        assert!(ran.failure.is_none());
        assert_eq!(ran.inputs, 3000 + ran.seeds as u64);
        assert!(ran.traits > ran.seeds);
    }

    #[test]
    fn a_target_that_fails_gives_a_small_input() {
        let target = |bytes: &[u8]| {
            assert!(!bytes.windows(4).any(|four| four == b"1e99"), "found it");
            Traits::default()
        };
        let failure = run("decode", target, SHORT).expect("seeds").failure.expect("a failure");
        assert_eq!(
            (failure.message.as_str(), failure.input.as_slice()),
            ("found it", &b"1e99"[..])
        );
    }
}
