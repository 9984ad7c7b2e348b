//! The wall clock of the program, which a test can set while it runs.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use jiff::SignedDuration;

/// A clock that programs started with [`Clock::lend`] read in place of the machine's.
#[derive(Debug)]
pub(crate) struct Clock {
    library: PathBuf,
    path: PathBuf,
    file: std::fs::File,
}

impl Clock {
    /// A clock that says what the machine's says.
    pub(crate) fn new(folder: &Path) -> Self {
        let library = folder.join("clock.so");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/crash/clock.c");
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
            .arg(&library)
            .arg(source)
            .output()
            .expect("a C compiler");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        let path = folder.join("clock");
        let file = std::fs::File::create(&path).expect("a temporary folder");
        let clock = Self { library, path, file };
        clock.set(SignedDuration::ZERO);
        clock
    }

    /// From now on the clock is ahead of the machine's by so much, to the second.
    pub(crate) fn set(&self, ahead: SignedDuration) {
        self.file.write_all_at(&ahead.as_secs().to_ne_bytes(), 0).expect("a temporary folder");
    }

    /// Gives a program that is about to start this clock.
    pub(crate) fn lend(&self, command: &mut Command) {
        command.env("LD_PRELOAD", &self.library).env("ROOTWATCH_TEST_CLOCK", &self.path);
    }
}
