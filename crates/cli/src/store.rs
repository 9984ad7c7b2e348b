//! `rootwatch store`: creates, backs up, checks and prunes the store.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use jiff::{SignedDuration, Timestamp};
use rootwatch_hub::telemetry;
use rootwatch_store::dynamo::DynamoStore;
use rootwatch_store::sqlite::{SqliteOptions, SqliteStore};
use rootwatch_store::{Store, StoreConfig};

use crate::args::{StoreArgs, StoreCommand};
use crate::config;
use crate::report::{EXIT_FAILED, Failed, Hint};
use crate::run::runtime;
use crate::since::TimeArg;
use rootwatch_core::text;

pub(crate) fn run(command: StoreCommand) -> anyhow::Result<ExitCode> {
    match command {
        StoreCommand::Init { store } => init(&store),
        StoreCommand::Backup { file, store } => backup(&file, &store),
        StoreCommand::Check { store } => check(&store),
        StoreCommand::Prune { before, retention_days, store } => {
            prune(before.as_ref(), retention_days, &store)
        }
    }
}

/// Opens the store of a hub; creates the database file if it does not exist.
pub(crate) async fn open(config: &StoreConfig) -> anyhow::Result<Arc<dyn Store>> {
    if let Some(table) = open_table(config).await? {
        return Ok(Arc::new(table));
    }
    let store = SqliteStore::open(&SqliteOptions::of(config))
        .context(Failed::to(format!("open the store {}", config.path.display())))?;
    Ok(Arc::new(store))
}

async fn open_table(config: &StoreConfig) -> anyhow::Result<Option<DynamoStore>> {
    let table = rootwatch_hub::open_table(config).await;
    table.context(Failed::to(format!("open the store {}", place(config))))
}

/// Names the store: its file or its table.
fn place(config: &StoreConfig) -> String {
    match &config.table {
        Some(table) => format!("DynamoDB table {table}"),
        None => config.path.display().to_string(),
    }
}

/// Rejects `--store` together with `store.table`.
pub(crate) fn reject_file_and_table(
    config: &StoreConfig,
    file: Option<&String>,
) -> anyhow::Result<()> {
    match (&config.table, file) {
        (Some(table), Some(_)) => Err(Hint::error(
            format!("--store names a file, but the configuration uses the DynamoDB table {table}"),
            "omit --store, or remove `store.table` from the configuration",
        )),
        _ => Ok(()),
    }
}

/// Opens the store, which must exist.
fn open_existing(config: &StoreConfig) -> anyhow::Result<Arc<SqliteStore>> {
    if !config.path.is_file() {
        return Err(Hint::error(
            format!("there is no store at {}", config.path.display()),
            "give its path with --store PATH, or its configuration with --config FILE",
        ));
    }
    let store = SqliteStore::open_beside(&SqliteOptions::of(config))
        .context(Failed::to(format!("open the store {}", config.path.display())))?;
    Ok(Arc::new(store))
}

fn load(args: &StoreArgs) -> anyhow::Result<rootwatch_hub::config::Loaded> {
    let loaded = config::load(&args.config, &[("store.path", "--store", args.store.as_ref())])?;
    reject_file_and_table(&loaded.config.store, args.store.as_ref())?;
    Ok(loaded)
}

fn init(args: &StoreArgs) -> anyhow::Result<ExitCode> {
    let loaded = load(args)?;
    let config = &loaded.config.store;
    let place = place(config);
    runtime()?.block_on(async {
        let is_new = match &config.table {
            Some(table) => {
                let made = rootwatch_hub::create_table(table).await;
                made.context(Failed::to(format!("create the {place}")))?
            }
            None => !config.path.is_file(),
        };
        // Opening it shows whether it can be used.
        open(config).await?;
        let word = if is_new { "created" } else { "exists already" };
        writeln!(io::stdout(), "{place}: {word}")?;
        Ok(ExitCode::SUCCESS)
    })
}

fn backup(file: &Path, args: &StoreArgs) -> anyhow::Result<ExitCode> {
    let loaded = load(args)?;
    if let Some(table) = &loaded.config.store.table {
        return Err(Hint::error(
            format!("cannot back up the DynamoDB table {table} to a file"),
            "enable point-in-time recovery for the table, or use AWS Backup",
        ));
    }
    if file.exists() {
        return Err(Hint::error(
            format!("{} exists already", file.display()),
            "a backup does not overwrite files; give a new path",
        ));
    }
    runtime()?.block_on(async {
        let store = open_existing(&loaded.config.store)?;
        store
            .backup(file, false)
            .context(Failed::to(format!("back up the store to {}", file.display())))?;
        let bytes = std::fs::metadata(file).map_or(0, |metadata| metadata.len());
        writeln!(io::stdout(), "{}: {bytes} bytes", file.display())?;
        Ok(ExitCode::SUCCESS)
    })
}

fn check(args: &StoreArgs) -> anyhow::Result<ExitCode> {
    let loaded = load(args)?;
    runtime()?.block_on(async {
        let config = &loaded.config.store;
        let place = place(config);
        let (store, problems): (Arc<dyn Store>, _) = match open_table(config).await? {
            Some(table) => {
                let problems = table.check().await.context(Failed::to("check the store"))?;
                (Arc::new(table), problems)
            }
            None => {
                let store = open_existing(config)?;
                let problems = store.check().context(Failed::to("check the store"))?;
                (store, problems)
            }
        };
        let mut out = io::stdout().lock();
        for problem in &problems {
            writeln!(out, "{place}: {problem}")?;
        }
        if !problems.is_empty() {
            return Ok(ExitCode::from(EXIT_FAILED));
        }
        let standing = store.stats().await.context(Failed::to("count what is stored"))?;
        let open: u64 = standing.open_incidents.values().sum();
        writeln!(
            out,
            "{place}: no problem found; {}, {} open, {} unverified",
            text::count(standing.findings, "finding"),
            text::count(open, "incident"),
            standing.unverified,
        )?;
        Ok(ExitCode::SUCCESS)
    })
}

fn prune(
    before: Option<&TimeArg>,
    retention_days: Option<u32>,
    args: &StoreArgs,
) -> anyhow::Result<ExitCode> {
    let loaded = load(args)?;
    let now = Timestamp::now();
    let days_ago = |days: u32| now.checked_sub(SignedDuration::from_hours(24 * i64::from(days)));
    let before = match before {
        Some(time) => time.at(now),
        None => days_ago(retention_days.unwrap_or(loaded.config.store.retention_days))?,
    };
    runtime()?.block_on(async {
        let telemetry = telemetry::start(&loaded.config.telemetry)?;
        let config = &loaded.config.store;
        let store: Arc<dyn Store> = match open_table(config).await? {
            Some(table) => Arc::new(table),
            None => open_existing(config)?,
        };
        let pruned = store.prune(before).await.context(Failed::to("prune the store"))?;
        tracing::info!(
            %before,
            incidents = pruned.incidents,
            findings = pruned.findings,
            deliveries = pruned.deliveries,
            unverified = pruned.unverified,
            "pruned"
        );
        writeln!(
            io::stdout(),
            "{}: deleted what ended before {before}: {} with {}, {}, {} unverified",
            place(config),
            text::count(pruned.incidents, "incident"),
            text::count(pruned.findings, "finding"),
            text::count(pruned.deliveries, "delivery"),
            pruned.unverified,
        )?;
        telemetry.finish().await;
        Ok(ExitCode::SUCCESS)
    })
}
