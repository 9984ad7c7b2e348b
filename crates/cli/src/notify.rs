//! `rootwatch notify test`: a test alert the way that real ones go; and `rootwatch notify preview`:
//! what would be sent.
//!
//! A hub of its own is started on a store in a temporary folder, with this configuration's
//! destinations and none of its sources: so the test also works beside a hub that runs, needs no
//! token of it, and leaves nothing in its store.

use std::io::{self, IsTerminal as _, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use jiff::Timestamp;
use rootwatch_core::alert::{Alert, Delivery, DeliveryState};
use rootwatch_core::rules::Ruleset;
use rootwatch_hub::HubParts;
use rootwatch_hub::SystemClock;
use rootwatch_hub::config::SourceConfig;
use rootwatch_hub::config::secrets::Resolver;
use rootwatch_notify::channels::ChannelConfig;
use rootwatch_notify::config::Common;
use rootwatch_notify::{DestinationConfig, NotifyConfig, preview, sample, standard_output};
use rootwatch_store::{Batch, DeliveryFilter, PageRequest, Store};

use crate::args::{ConfigArgs, NotifyCommand};
use crate::{EXIT_FAILED, Failed, Hint, config, runtime, serve, store};

/// How long the first attempts may take altogether: longer than one may.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// How often the store is asked what became of them.
const ASK_EVERY: Duration = Duration::from_millis(20);

pub(crate) fn run(command: NotifyCommand) -> anyhow::Result<ExitCode> {
    match command {
        NotifyCommand::Test { destinations, all, config } => test(&destinations, all, &config),
        NotifyCommand::Preview { channel, destination, incident, config } => {
            let of = match (channel, destination) {
                (Some(channel), _) => Of::Channel(channel),
                (None, name) => Of::Destination(name.unwrap_or_default()),
            };
            show(&of, &incident, &config)
        }
    }
}

/// What is previewed.
enum Of {
    Channel(String),
    Destination(String),
}

/// Prints what would be sent.
fn show(of: &Of, incident: &str, args: &ConfigArgs) -> anyhow::Result<ExitCode> {
    let (destination, config, url) = match of {
        Of::Channel(name) => {
            let Some(channel) = ChannelConfig::example(name) else {
                return Err(Hint::error(
                    format!("there is no channel `{name}`"),
                    format!("known are {}", ChannelConfig::NAMES.join(", ")),
                ));
            };
            let destination = DestinationConfig { common: Common::default(), channel };
            (destination, NotifyConfig::default(), None)
        }
        Of::Destination(name) => {
            let loaded = config::load(args, &[])?;
            let notify = loaded.config.notify.clone();
            let Some(destination) = notify.destination.get(name).cloned() else {
                let known: Vec<&str> = notify.destination.keys().map(String::as_str).collect();
                return Err(unknown(name, &known));
            };
            (destination, notify, loaded.config.hub.public_url.clone())
        }
    };
    let alert = match sample::alert(incident).map_err(anyhow::Error::msg)? {
        Some(alert) => alert,
        None => of_file(incident)?,
    };
    let now = alert.decided_at;
    let name = match of {
        Of::Channel(name) | Of::Destination(name) => name,
    };
    let delivery = Delivery::new(alert, name, now);
    let url = url.as_ref().map(ToString::to_string);
    let bytes = preview(&destination, &config, url.as_deref(), &delivery, now);
    let mut out = io::stdout().lock();
    out.write_all(&bytes)?;
    if io::stdout().is_terminal() && !bytes.ends_with(b"\n") {
        writeln!(out)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The alert that the worst incident in a file would open.
fn of_file(path: &str) -> anyhow::Result<Alert> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Hint::error(
                format!("`{path}` is neither a sample nor a file"),
                format!("samples are {}", sample::NAMES.join(", ")),
            ));
        }
        Err(error) => return Err(error).with_context(|| Failed::to(format!("read {path}"))),
    };
    sample::of_records(&bytes).map_err(|fault| anyhow::anyhow!("{path}: {fault}"))
}

fn unknown(name: &str, known: &[&str]) -> anyhow::Error {
    Hint::error(
        format!("there is no destination `{name}`"),
        format!("known are {}", known.join(", ")),
    )
}

fn test(destinations: &[String], all: bool, args: &ConfigArgs) -> anyhow::Result<ExitCode> {
    let loaded = config::load(args, &[])?;
    let known: Vec<&str> = loaded.config.notify.destination.keys().map(String::as_str).collect();
    let mut wanted: Vec<String> = Vec::new();
    for name in if all { known.clone() } else { destinations.iter().map(String::as_str).collect() }
    {
        if !known.contains(&name) {
            return Err(unknown(name, &known));
        }
        if !wanted.iter().any(|one| one == name) {
            wanted.push(name.to_owned());
        }
    }
    let mut settings = loaded.config.clone();
    settings.hub.listen = ([127, 0, 0, 1], 0).into();
    settings.source = SourceConfig::default();
    let folder = tempfile::tempdir().context(Failed::to("make a temporary folder"))?;
    settings.store.path = folder.path().join("test.db");
    settings.store.table = None;
    // A failed test is said here, and to nobody else.
    runtime()?.block_on(async {
        let store: Arc<dyn Store> = store::open(&settings.store).await?;
        let now = Timestamp::now();
        let alert = sample::test("rootwatch notify test", now);
        let deliveries = wanted.iter().map(|name| Delivery::new(alert.clone(), name, now));
        let batch = Batch { deliveries: deliveries.collect(), now: Some(now), ..Batch::default() };
        store.commit(batch).await.context(Failed::to("save the test alert"))?;
        let running = serve::start(HubParts {
            config: settings,
            store: Arc::clone(&store),
            rules: Ruleset::built_in(),
            clock: Arc::new(SystemClock),
            log: standard_output(),
            secrets: Arc::new(Resolver::new(&loaded.folder)),
        })
        .await?;
        let came = attempts(store.as_ref(), wanted.len()).await;
        running.shutdown().await;
        tell(&wanted, &came?)
    })
}

/// What became of the first attempts.
async fn attempts(store: &dyn Store, count: usize) -> anyhow::Result<Vec<Delivery>> {
    let begin = Instant::now();
    loop {
        let page = PageRequest { items_max: rootwatch_store::PAGE_ITEMS_MAX, after: None };
        let listed = store.deliveries(&DeliveryFilter::default(), &page).await;
        let listed = listed.context(Failed::to("ask what became of the test"))?;
        let is_tried = |one: &Delivery| {
            one.state != DeliveryState::Due || (one.attempts > 0 && one.last_error.is_some())
        };
        let tests = listed.items.into_iter().filter(|one| one.stands_in_for.is_none());
        let tests: Vec<Delivery> = tests.collect();
        if begin.elapsed() > WAIT_MAX || tests.iter().filter(|one| is_tried(one)).count() >= count {
            return Ok(tests);
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

/// A line for each destination.
fn tell(wanted: &[String], came: &[Delivery]) -> anyhow::Result<ExitCode> {
    let mut out = io::stdout().lock();
    let mut code = ExitCode::SUCCESS;
    for name in wanted {
        let delivery = came.iter().find(|one| &one.destination == name);
        match delivery {
            Some(one) if one.state == DeliveryState::Delivered => {
                writeln!(out, "{name}: delivered ({})", one.receipt.as_deref().unwrap_or("ok"))?;
            }
            other => {
                let error = other.and_then(|one| one.last_error.as_deref());
                let error = error.unwrap_or("no attempt ended in time");
                writeln!(out, "{name}: failed: {error}")?;
                code = ExitCode::from(EXIT_FAILED);
            }
        }
    }
    Ok(code)
}
