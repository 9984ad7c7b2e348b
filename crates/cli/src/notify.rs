//! `rootwatch notify`: sends a test alert, checks destinations, and prints what would be sent.
//!
//! `notify test` starts a temporary hub with its own store, with the destinations of the configuration
//! and none of its sources. So it works while another hub runs, needs no token, and leaves nothing in
//! that hub's store. `notify check` needs no store: it runs the connection check of each channel.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use jiff::Timestamp;
use rootwatch_core::alert::Alert;
use rootwatch_core::delivery::{Delivery, DeliveryState};
use rootwatch_core::rules::Ruleset;
use rootwatch_hub::HubParts;
use rootwatch_hub::SystemClock;
use rootwatch_hub::config::SourceConfig;
use rootwatch_hub::config::secrets::Resolver;
use rootwatch_notify::channels::ChannelConfig;
use rootwatch_notify::config::Common;
use rootwatch_notify::{
    AwsAccess, ConfigProblem, DestinationConfig, Notifier, NotifyConfig, Sent, preview, sample,
    standard_output,
};
use rootwatch_store::{Batch, DeliveryFilter, PageRequest, Store};
use tokio::task::JoinSet;

use crate::args::{ConfigArgs, NotifyCommand};
use crate::report::{EXIT_FAILED, Failed, Hint};
use crate::run::runtime;
use crate::{config, serve, store};

/// Longest wait for the first attempts: longer than one attempt may take.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// How often to check whether the attempts are finished.
const POLL_PAUSE: Duration = Duration::from_millis(20);

pub(crate) fn run(command: NotifyCommand) -> anyhow::Result<ExitCode> {
    match command {
        NotifyCommand::Test { destinations, all, config } => test(&destinations, all, &config),
        NotifyCommand::Check { destinations, all, config } => check(&destinations, all, &config),
        NotifyCommand::Preview { channel, destination, incident, config } => {
            let target = match (channel, destination) {
                (Some(channel), _) => PreviewTarget::Channel(channel),
                (None, name) => PreviewTarget::Destination(name.unwrap_or_default()),
            };
            show(&target, &incident, &config)
        }
    }
}

/// What to preview.
enum PreviewTarget {
    Channel(String),
    Destination(String),
}

/// Prints the bytes that would be sent.
fn show(target: &PreviewTarget, incident: &str, args: &ConfigArgs) -> anyhow::Result<ExitCode> {
    let (destination, config, url) = match target {
        PreviewTarget::Channel(name) => {
            let Some(channel) = ChannelConfig::example(name) else {
                return Err(Hint::error(
                    format!("unknown channel `{name}`"),
                    format!("channels: {}", ChannelConfig::NAMES.join(", ")),
                ));
            };
            let destination = DestinationConfig { common: Common::default(), channel };
            (destination, NotifyConfig::default(), None)
        }
        PreviewTarget::Destination(name) => {
            let loaded = config::load(args, &[])?;
            let notify = loaded.config.notify.clone();
            let Some(destination) = notify.destination.get(name).cloned() else {
                return Err(unknown(name, &notify, args));
            };
            (destination, notify, loaded.config.hub.public_url.clone())
        }
    };
    let alert = match sample::alert(incident).map_err(anyhow::Error::msg)? {
        Some(alert) => alert,
        None => of_file(incident)?,
    };
    let now = alert.decided_at;
    let name = match target {
        PreviewTarget::Channel(name) | PreviewTarget::Destination(name) => name,
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

/// The alert that the worst incident in a file would cause.
fn of_file(path: &str) -> anyhow::Result<Alert> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Hint::error(
                format!("`{path}` is not a sample and not a file"),
                format!("samples: {}", sample::NAMES.join(", ")),
            ));
        }
        Err(error) => return Err(error).with_context(|| Failed::to(format!("read {path}"))),
    };
    sample::of_records(&bytes).map_err(|fault| anyhow::anyhow!("{path}: {fault}"))
}

fn unknown(name: &str, config: &NotifyConfig, args: &ConfigArgs) -> anyhow::Error {
    let known: Vec<&str> = config.destination.keys().map(String::as_str).collect();
    let known = known.join(", ");
    // The usual cause is a forgotten --config.
    let source = match config::file(args) {
        Some(file) => format!("in {}", file.display()),
        None => "no configuration file found; defaults in use".to_owned(),
    };
    Hint::error(
        format!("unknown destination `{name}`"),
        format!("configured destinations: {known} ({source})"),
    )
}

/// The destinations that a command names, without duplicates.
fn selected(
    names: &[String],
    all: bool,
    config: &NotifyConfig,
    args: &ConfigArgs,
) -> anyhow::Result<Vec<String>> {
    if all {
        return Ok(config.destination.keys().cloned().collect());
    }
    let mut selected: Vec<String> = Vec::new();
    for name in names {
        if !config.destination.contains_key(name) {
            return Err(unknown(name, config, args));
        }
        if !selected.contains(name) {
            selected.push(name.clone());
        }
    }
    Ok(selected)
}

/// Runs the connection check of each destination, all at the same time, and prints one line each.
fn check(names: &[String], all: bool, args: &ConfigArgs) -> anyhow::Result<ExitCode> {
    let loaded = config::load(args, &[])?;
    let config = &loaded.config.notify;
    let selected = selected(names, all, config, args)?;
    let results: BTreeMap<String, Option<Sent>> = runtime()?.block_on(async {
        let aws = AwsAccess::default();
        let secrets = Resolver::new(&loaded.folder);
        secrets.fetch(config, &aws).await;
        let resolve = |at: &_| secrets.resolve(at);
        let notifier =
            Notifier::with_aws(config, &resolve, Arc::new(SystemClock), standard_output(), &aws)
                .map_err(invalid)?;
        let notifier = Arc::new(notifier);
        let mut checks = JoinSet::new();
        for name in selected.iter().cloned() {
            let notifier = Arc::clone(&notifier);
            checks.spawn(async move { (notifier.probe(&name).await, name) });
        }
        let results = checks.join_all().await;
        anyhow::Ok(results.into_iter().map(|(result, name)| (name, result)).collect())
    })?;
    let mut out = io::stdout().lock();
    let mut code = ExitCode::SUCCESS;
    for name in &selected {
        match results.get(name).and_then(Option::as_ref) {
            Some(Sent::Delivered { receipt }) => writeln!(out, "{name}: ok: {receipt}")?,
            failed => {
                let error = failed.and_then(Sent::error).unwrap_or("the check did not finish");
                writeln!(out, "{name}: failed: {error}")?;
                code = ExitCode::from(EXIT_FAILED);
            }
        }
    }
    Ok(code)
}

/// All errors in the configuration of destinations, as one error of usage.
fn invalid(problems: Vec<ConfigProblem>) -> anyhow::Error {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    anyhow::anyhow!("invalid configuration\n{}", lines.join("\n"))
}

fn test(names: &[String], all: bool, args: &ConfigArgs) -> anyhow::Result<ExitCode> {
    let loaded = config::load(args, &[])?;
    let selected = selected(names, all, &loaded.config.notify, args)?;
    let mut settings = loaded.config.clone();
    settings.hub.listen = ([127, 0, 0, 1], 0).into();
    settings.source = SourceConfig::default();
    let folder = tempfile::tempdir().context(Failed::to("create a temporary folder"))?;
    settings.store.path = folder.path().join("test.db");
    settings.store.table = None;
    runtime()?.block_on(async {
        let store: Arc<dyn Store> = store::open(&settings.store).await?;
        let now = Timestamp::now();
        let alert = sample::test("rootwatch notify test", now);
        let deliveries = selected.iter().map(|name| Delivery::new(alert.clone(), name, now));
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
        let deliveries = attempts(store.as_ref(), selected.len()).await;
        running.shutdown().await;
        print_results(&selected, &deliveries?)
    })
}

/// Waits for the first attempts and returns the deliveries.
async fn attempts(store: &dyn Store, count: usize) -> anyhow::Result<Vec<Delivery>> {
    let begin = Instant::now();
    loop {
        let page = PageRequest { items_max: rootwatch_store::PAGE_ITEMS_MAX, after: None };
        let listed = store.deliveries(&DeliveryFilter::default(), &page).await;
        let listed = listed.context(Failed::to("read the deliveries"))?;
        let is_tried = |one: &Delivery| {
            one.state != DeliveryState::Due || (one.attempts > 0 && one.last_error.is_some())
        };
        let tests = listed.items.into_iter().filter(|one| one.stands_in_for.is_none());
        let tests: Vec<Delivery> = tests.collect();
        if begin.elapsed() > WAIT_MAX || tests.iter().filter(|one| is_tried(one)).count() >= count {
            return Ok(tests);
        }
        tokio::time::sleep(POLL_PAUSE).await;
    }
}

/// Prints one line for each destination.
fn print_results(selected: &[String], deliveries: &[Delivery]) -> anyhow::Result<ExitCode> {
    let mut out = io::stdout().lock();
    let mut code = ExitCode::SUCCESS;
    for name in selected {
        let delivery = deliveries.iter().find(|one| &one.destination == name);
        match delivery {
            Some(one) if one.state == DeliveryState::Delivered => {
                writeln!(out, "{name}: delivered ({})", one.receipt.as_deref().unwrap_or("ok"))?;
            }
            other => {
                let error = other.and_then(|one| one.last_error.as_deref());
                let error = error.unwrap_or("no attempt finished in time");
                writeln!(out, "{name}: failed: {error}")?;
                code = ExitCode::from(EXIT_FAILED);
            }
        }
    }
    Ok(code)
}
