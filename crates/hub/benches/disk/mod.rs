//! The disk's flush: counted, and made to take as long as that of another disk.
//!
//! SQLite calls the C library's `fdatasync` or `fsync`. Those of this program stand before the
//! library's: they ask the kernel for the same, then wait for what is left of the time.

#![allow(unsafe_code, reason = "C functions that SQLite calls; in this bench alone")]

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

static FLUSH_MICROS_MIN: AtomicU64 = AtomicU64::new(0);
static FLUSHES: AtomicU64 = AtomicU64::new(0);

/// From now on a flush takes at least so long.
pub(crate) fn set_flush(at_least: Duration) {
    FLUSH_MICROS_MIN.store(at_least.as_micros() as u64, Ordering::Relaxed);
}

/// How many flushes there were.
pub(crate) fn flushes() -> u64 {
    FLUSHES.load(Ordering::Relaxed)
}

/// How long a flush of a page takes in a folder: the mean of many.
pub(crate) fn flush_takes(folder: &Path) -> io::Result<Duration> {
    const TIMES: u32 = 100;
    let mut file = File::create(folder.join("flush"))?;
    let mut took = Duration::ZERO;
    for _ in 0..TIMES {
        file.write_all(&[7; 4096])?;
        let begin = Instant::now();
        file.sync_data()?;
        took += begin.elapsed();
    }
    Ok(took / TIMES)
}

fn flush(what: impl Fn() -> rustix::io::Result<()>) -> i32 {
    FLUSHES.fetch_add(1, Ordering::Relaxed);
    let begin = Instant::now();
    let done = what();
    let at_least = Duration::from_micros(FLUSH_MICROS_MIN.load(Ordering::Relaxed));
    std::thread::sleep(at_least.saturating_sub(begin.elapsed()));
    if done.is_ok() { 0 } else { -1 }
}

/// As the C library's.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn fdatasync(file: i32) -> i32 {
    // SAFETY: whoever calls this has the file open for as long.
    flush(|| rustix::fs::fdatasync(unsafe { BorrowedFd::borrow_raw(file) }))
}

/// As the C library's.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn fsync(file: i32) -> i32 {
    // SAFETY: as above.
    flush(|| rustix::fs::fsync(unsafe { BorrowedFd::borrow_raw(file) }))
}
