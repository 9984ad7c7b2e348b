//! `cargo xtask package`: the function, as archives that AWS Lambda takes.
//!
//! zig is the C compiler and linker: it brings a C library of any version for both processors, so that
//! what is built here runs on Amazon Linux 2023 whatever this machine has. It and its cargo command
//! come from PyPI, into a folder below `target/`.

use std::fs;
use std::io::{Cursor, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use crate::run::{cargo, must, output_of, program, python, root, target};

pub(crate) const HELP: &str = "\
cargo xtask package [--arch arm64|x86_64|all] [--fast]

Builds the Lambda function and packs it: target/package/rootwatch-lambda-ARCH.zip, by default for both
processors. --fast builds it with the profile `release` instead of `function` and writes it to
target/package-fast/: larger, compiled in a fraction of the time. The tests run it; do not deploy it. Looks that it is built for the processor, and that it needs no glibc newer than that of
Amazon Linux 2023 (the runtime `provided.al2023`), which is 2.34.";

/// The glibc of Amazon Linux 2023. Source: Amazon Linux 2023 user guide, \"GCC, glibc, and binutils\".
const GLIBC: (u32, u32) = (2, 34);
/// What builds for another machine than this, pinned.
const TOOLS: [&str; 2] = ["cargo-zigbuild==0.24.1", "ziglang==0.17.1"];
/// The name that Lambda runs.
const PROGRAM: &str = "bootstrap";
/// How the shipped function is built: see the profile in Cargo.toml.
const PROFILE: &str = "function";
/// How `--fast` builds it.
const FAST_PROFILE: &str = "release";
/// Bytes that an unpacked function may have. Source: Lambda quotas.
const UNPACKED_BYTES_MAX: u64 = 250 << 20;

/// This machine's processor, as Lambda calls it: what the tests run.
pub(crate) const HOST: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "x86_64" };

/// A processor that Lambda has.
struct Arch {
    /// As Lambda calls it.
    name: &'static str,
    target: &'static str,
    /// `e_machine` of its programs (ELF specification).
    machine: u16,
}

const ARCHS: [Arch; 2] = [
    Arch { name: "arm64", target: "aarch64-unknown-linux-gnu", machine: 183 },
    Arch { name: "x86_64", target: "x86_64-unknown-linux-gnu", machine: 62 },
];

pub(crate) fn command(words: &[&str]) -> anyhow::Result<()> {
    let (profile, words) = match words {
        [others @ .., "--fast"] => (FAST_PROFILE, others),
        all => (PROFILE, all),
    };
    let wanted = match words {
        [] | ["--arch", "all"] => None,
        ["--arch", name] if ARCHS.iter().any(|arch| arch.name == *name) => Some(*name),
        _ => bail!("unknown arguments: see `cargo xtask package --help`"),
    };
    let tools = tools()?;
    for arch in ARCHS.iter().filter(|arch| wanted.is_none_or(|wanted| wanted == arch.name)) {
        let path = build(arch, profile, &tools)?;
        println!("{}", path.display());
    }
    Ok(())
}

/// Installs what builds, and gives the folder of its programs.
fn tools() -> anyhow::Result<PathBuf> {
    let folder = target()?.join("package-tools");
    let programs = folder.join(if cfg!(windows) { "Scripts" } else { "bin" });
    let note = folder.join("installed.txt");
    let wanted = TOOLS.join("\n");
    if fs::read_to_string(&note).is_ok_and(|there| there == wanted) {
        return Ok(programs);
    }
    println!("== installing {}", TOOLS.join(", "));
    must(program(&python()?, &["-m", "venv", "--clear", &folder.to_string_lossy()]))?;
    let pip = programs.join("pip");
    let mut install = program(&pip.to_string_lossy(), &["install", "--quiet"]);
    install.args(TOOLS);
    must(install)?;
    fs::write(note, wanted)?;
    Ok(programs)
}

fn build(arch: &Arch, profile: &str, tools: &Path) -> anyhow::Result<PathBuf> {
    let installed = output_of(program("rustup", &["target", "list", "--installed"]))?;
    if !installed.lines().any(|line| line == arch.target) {
        must(program("rustup", &["target", "add", arch.target]))?;
    }
    let (major, minor) = GLIBC;
    let triple = format!("{}.{major}.{minor}", arch.target);
    let mut zigbuild =
        cargo(&["zigbuild", "--profile", profile, "--locked", "--package", "rootwatch-lambda"]);
    zigbuild.args(["--target", &triple]);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let all = [tools.to_owned()].into_iter().chain(std::env::split_paths(&path));
    zigbuild.env("PATH", std::env::join_paths(all)?);
    must(zigbuild)?;
    let built = target()?.join(arch.target).join(profile).join(PROGRAM);
    let bytes = fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
    check(&bytes, arch)?;

    let folder = target()?.join(if profile == PROFILE { "package" } else { "package-fast" });
    fs::create_dir_all(&folder)?;
    let path = folder.join(format!("rootwatch-lambda-{}.zip", arch.name));
    fs::write(&path, pack(&bytes)?)?;
    let size = |bytes: u64| bytes as f64 / 1e6;
    println!(
        "== {}: {:.1} MB, {:.1} MB packed, glibc {} at most",
        arch.name,
        size(bytes.len() as u64),
        size(fs::metadata(&path)?.len()),
        glibc(&bytes)
            .map_or_else(|| "none".to_owned(), |(major, minor)| format!("{major}.{minor}")),
    );
    Ok(path)
}

/// The program would start on Lambda.
fn check(bytes: &[u8], arch: &Arch) -> anyhow::Result<()> {
    ensure!(bytes.starts_with(b"\x7fELF\x02\x01"), "this is no program of 64 bits for Linux");
    let machine = u16::from_le_bytes([bytes[18], bytes[19]]);
    ensure!(machine == arch.machine, "this is a program for machine {machine}, not {}", arch.name);
    ensure!(bytes.len() as u64 <= UNPACKED_BYTES_MAX, "the program is too large for Lambda");
    if let Some(needs) = glibc(bytes) {
        ensure!(
            needs <= GLIBC,
            "this needs glibc {}.{}, which Lambda does not have",
            needs.0,
            needs.1
        );
    }
    Ok(())
}

/// The newest glibc of which a program asks for something: versions stand in its table of strings.
fn glibc(bytes: &[u8]) -> Option<(u32, u32)> {
    const BEGIN: &[u8] = b"\0GLIBC_";
    let mut newest = None;
    for place in 0..bytes.len().saturating_sub(BEGIN.len()) {
        if !bytes[place..].starts_with(BEGIN) {
            continue;
        }
        let rest = &bytes[place + BEGIN.len()..];
        let end = rest.iter().position(|byte| *byte == 0).unwrap_or(0);
        let text = std::str::from_utf8(&rest[..end]).unwrap_or_default();
        let mut parts = text.split('.').map(str::parse::<u32>);
        if let (Some(Ok(major)), Some(Ok(minor))) = (parts.next(), parts.next()) {
            newest = newest.max(Some((major, minor)));
        }
    }
    newest
}

/// The same program gives the same archive.
fn pack(bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .compression_level(Some(9))
        .last_modified_time(DateTime::default())
        .unix_permissions(0o755);
    zip.start_file(PROGRAM, options)?;
    zip.write_all(bytes)?;
    let license = SimpleFileOptions::default().last_modified_time(DateTime::default());
    zip.start_file("LICENSE", license.unix_permissions(0o644))?;
    zip.write_all(&fs::read(root().join("LICENSE"))?)?;
    Ok(zip.finish()?.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elf(machine: u16, strings: &[u8]) -> Vec<u8> {
        let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
        bytes.resize(18, 0);
        bytes.extend(machine.to_le_bytes());
        bytes.resize(64, 0);
        bytes.extend(strings);
        bytes
    }

    #[test]
    fn a_program_that_lambda_cannot_start_is_refused() {
        let [arm, intel] = &ARCHS;
        let sound = elf(183, b"\0GLIBC_2.17\0GLIBC_2.34\0GLIBC_PRIVATE\0GLIBC_2.4\0");
        assert_eq!(glibc(&sound), Some((2, 34)));
        assert!(check(&sound, arm).is_ok());
        assert!(check(&sound, intel).is_err());
        assert!(check(&elf(183, b"\0GLIBC_2.35\0"), arm).is_err());
        assert!(check(b"\x7fELF\x01\x01", arm).is_err());
    }

    #[test]
    fn packed_twice_it_is_the_same_and_may_be_run() {
        let once = pack(b"program").expect("an archive");
        assert_eq!(once, pack(b"program").expect("an archive"));
        let mut zip = zip::ZipArchive::new(Cursor::new(once)).expect("an archive");
        let file = zip.by_name(PROGRAM).expect("the program");
        assert_eq!(file.unix_mode().map(|mode| mode & 0o777), Some(0o755));
    }
}
