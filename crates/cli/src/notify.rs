//! `rootwatch notify test`: a test alert the way that real ones go.
//!
//! A hub of its own is started on a store in a temporary folder, with this configuration's
//! destinations and none of its sources: so the test also works beside a hub that runs, needs no
//! token of it, and leaves nothing in its store.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use jiff::Timestamp;
use rootwatch_core::alert::{Delivery, DeliveryState};
use rootwatch_core::rules::Ruleset;
use rootwatch_hub::clock::SystemClock;
use rootwatch_hub::config::SourceConfig;
use rootwatch_hub::config::secrets::Resolver;
use rootwatch_hub::hub::Parts;
use rootwatch_hub::telling::test_alert;
use rootwatch_notify::standard_output;
use rootwatch_store::{Batch, DeliveryFilter, PageRequest, Store};

use crate::args::NotifyCommand;
use crate::{EXIT_FAILED, Failed, Hint, config, runtime, serve, store};

/// How long the first attempts may take altogether: longer than one may.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// How often the store is asked what became of them.
const ASK_EVERY: Duration = Duration::from_millis(20);

pub(crate) fn run(command: NotifyCommand) -> anyhow::Result<ExitCode> {
    let NotifyCommand::Test { destinations, all, config: args } = command;
    let loaded = config::load(&args, &[])?;
    let known: Vec<&String> = loaded.config.notify.destination.keys().collect();
    let mut wanted = Vec::new();
    for name in if all { known.iter().map(|name| (*name).clone()).collect() } else { destinations }
    {
        if !known.contains(&&name) {
            let known: Vec<&str> = known.iter().map(|name| name.as_str()).collect();
            return Err(Hint::error(
                format!("there is no destination `{name}`"),
                format!("known are {}", known.join(", ")),
            ));
        }
        if !wanted.contains(&name) {
            wanted.push(name);
        }
    }
    let mut settings = loaded.config.clone();
    settings.hub.listen = ([127, 0, 0, 1], 0).into();
    settings.source = SourceConfig::default();
    let folder = tempfile::tempdir().context(Failed::to("make a temporary folder"))?;
    settings.store.path = folder.path().join("test.db");
    // A failed test is said here, and to nobody else.
    runtime()?.block_on(async {
        let store: Arc<dyn Store> = store::open(&settings.store)?;
        let now = Timestamp::now();
        let alert = test_alert("rootwatch notify test", now);
        let deliveries = wanted.iter().map(|name| Delivery::new(alert.clone(), name, now));
        let batch = Batch { deliveries: deliveries.collect(), now: Some(now), ..Batch::default() };
        store.commit(batch).await.context(Failed::to("save the test alert"))?;
        let running = serve::start(Parts {
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
