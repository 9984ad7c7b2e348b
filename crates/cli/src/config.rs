//! `rootwatch config`: check, show and schema; and how every command finds its configuration.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rootwatch_hub::SystemClock;
use rootwatch_hub::config::{self, ConfigFile, Inputs, Loaded, Problem, Refused, secrets};

use crate::EXIT_USAGE;
use crate::args::{ConfigArgs, ConfigCommand};

/// The configuration file that is taken where none is named.
const DEFAULT_FILE: &str = "rootwatch.toml";
/// The variable that names the configuration file.
const FILE_VARIABLE: &str = "ROOTWATCH_CONFIG";

pub(crate) fn run(command: ConfigCommand) -> anyhow::Result<ExitCode> {
    match command {
        ConfigCommand::Check { config, no_secrets } => check(&config, no_secrets),
        ConfigCommand::Show { config } => {
            let loaded = load(&config, &[])?;
            io::stdout().write_all(config::show(&loaded).as_bytes())?;
            Ok(ExitCode::SUCCESS)
        }
        ConfigCommand::Schema => {
            let schema = serde_json::to_string_pretty(&config::schema())?;
            writeln!(io::stdout(), "{schema}")?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// The file that is meant: the flag's, the environment's, or the one that is here.
pub(crate) fn file(args: &ConfigArgs) -> Option<PathBuf> {
    let named = std::env::var_os(FILE_VARIABLE).filter(|name| !name.is_empty());
    args.config.clone().or(named.map(PathBuf::from)).or_else(|| {
        let default = Path::new(DEFAULT_FILE);
        default.exists().then(|| default.to_owned())
    })
}

/// The configuration in effect. Flags are the key, the flag's name and its value. What should be
/// mended is told on standard error.
pub(crate) fn load(
    args: &ConfigArgs,
    flags: &[(&str, &str, Option<&String>)],
) -> anyhow::Result<Loaded> {
    let loaded = config::load(&inputs(args, flags))?;
    say_warnings(&loaded.warnings);
    Ok(loaded)
}

fn inputs(args: &ConfigArgs, flags: &[(&str, &str, Option<&String>)]) -> Inputs {
    // A variable that is no UTF-8 is no key and no value of ours.
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let flags = flags
        .iter()
        .filter_map(|(key, flag, value)| {
            Some(((*key).to_owned(), (*flag).to_owned(), (*value)?.clone()))
        })
        .collect();
    Inputs { file: file(args).map(ConfigFile::Path), environment, flags }
}

fn say_warnings(warnings: &[Problem]) {
    let mut err = anstream::stderr();
    for warning in warnings {
        // Standard error may be closed; there is nobody left to tell.
        let _ = writeln!(err, "warning: {warning}");
    }
}

fn check(args: &ConfigArgs, no_secrets: bool) -> anyhow::Result<ExitCode> {
    let loaded = match config::load(&inputs(args, &[])) {
        Ok(loaded) => loaded,
        Err(refused) => return refuse(&refused),
    };
    let mut problems = loaded.warnings.clone();
    if !no_secrets {
        problems.extend(secrets::check(&loaded, std::sync::Arc::new(SystemClock)));
    }
    if problems.iter().any(|problem| !problem.is_warning) {
        return refuse(&Refused { problems });
    }
    say_warnings(&problems);
    let name = file(args)
        .map_or_else(|| "no file: the defaults".to_owned(), |file| file.display().to_string());
    let config = &loaded.config;
    let told: Vec<&str> = config.notify.destination.keys().map(String::as_str).collect();
    let watched = watched(&loaded).join(", ");
    writeln!(io::stdout(), "{name}: sound; watches {watched}; tells {}", told.join(", "))?;
    Ok(ExitCode::SUCCESS)
}

/// Where records come from, in words.
pub(crate) fn watched(loaded: &Loaded) -> Vec<String> {
    let source = &loaded.config.source;
    let mut names = vec!["http".to_owned()];
    if !source.sns.topics.is_empty() {
        names.push("sns".to_owned());
    }
    names.extend(source.sqs.iter().map(|one| format!("sqs:{}", one.name)));
    names.extend(source.directory.iter().map(|one| format!("directory:{}", one.name)));
    names
}

/// All that is wrong, a line each, on standard output: it is what was asked for.
fn refuse(refused: &Refused) -> anyhow::Result<ExitCode> {
    let mut out = io::stdout().lock();
    for problem in &refused.problems {
        let kind = if problem.is_warning { "warning" } else { "error" };
        writeln!(out, "{kind}: {problem}")?;
    }
    Ok(ExitCode::from(EXIT_USAGE))
}
