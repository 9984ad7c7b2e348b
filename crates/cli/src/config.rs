//! `rootwatch config`: check, show and schema. Also finds and loads the configuration for all commands.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rootwatch_hub::SystemClock;
use rootwatch_hub::config::{self, ConfigFile, Inputs, Loaded, Problem, Refused, secrets};

use crate::args::{ConfigArgs, ConfigCommand};
use crate::report::EXIT_USAGE;

/// The configuration file to use if none is named.
const DEFAULT_FILE: &str = "rootwatch.toml";
/// The environment variable that names the configuration file.
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

/// The configuration file: from the flag, the environment, or the working directory.
pub(crate) fn file(args: &ConfigArgs) -> Option<PathBuf> {
    let named = std::env::var_os(FILE_VARIABLE).filter(|name| !name.is_empty());
    args.config.clone().or(named.map(PathBuf::from)).or_else(|| {
        let default = Path::new(DEFAULT_FILE);
        default.exists().then(|| default.to_owned())
    })
}

/// Loads the effective configuration and prints warnings. `flags` are key, name of the flag and value.
pub(crate) fn load(
    args: &ConfigArgs,
    flags: &[(&str, &str, Option<&String>)],
) -> anyhow::Result<Loaded> {
    let loaded = config::load(&inputs(args, flags))?;
    print_warnings(&loaded.warnings);
    Ok(loaded)
}

fn inputs(args: &ConfigArgs, flags: &[(&str, &str, Option<&String>)]) -> Inputs {
    // Keys of the configuration are UTF-8. A value that is not is kept with replacement characters, so
    // that it is reported and not ignored.
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
        })
        .collect();
    let flags = flags
        .iter()
        .filter_map(|(key, flag, value)| {
            Some(((*key).to_owned(), (*flag).to_owned(), (*value)?.clone()))
        })
        .collect();
    Inputs { file: file(args).map(ConfigFile::Path), environment, flags }
}

fn print_warnings(warnings: &[Problem]) {
    let mut err = anstream::stderr();
    for warning in warnings {
        // If standard error is closed, warnings cannot be reported anywhere else.
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
    print_warnings(&problems);
    let name = file(args).map_or_else(
        || "no configuration file found, using defaults".to_owned(),
        |file| file.display().to_string(),
    );
    let sources = sources(&loaded).join(", ");
    let destinations = destinations(&loaded).join(", ");
    writeln!(io::stdout(), "{name}: valid (sources: {sources}; destinations: {destinations})")?;
    Ok(ExitCode::SUCCESS)
}

/// The names of the destinations.
pub(crate) fn destinations(loaded: &Loaded) -> Vec<&str> {
    loaded.config.notify.destination.keys().map(String::as_str).collect()
}

/// The names of the sources.
pub(crate) fn sources(loaded: &Loaded) -> Vec<String> {
    let source = &loaded.config.source;
    let mut names = vec!["http".to_owned()];
    if !source.sns.topics.is_empty() {
        names.push("sns".to_owned());
    }
    names.extend(source.sqs.iter().map(|one| format!("sqs:{}", one.name)));
    names.extend(source.directory.iter().map(|one| format!("directory:{}", one.name)));
    names
}

/// Prints all problems to standard error, one per line.
fn refuse(refused: &Refused) -> anyhow::Result<ExitCode> {
    let mut err = anstream::stderr();
    for problem in &refused.problems {
        let kind = if problem.is_warning { "warning" } else { "error" };
        writeln!(err, "{kind}: {problem}")?;
    }
    Ok(ExitCode::from(EXIT_USAGE))
}
