//! `rootwatch demo`: plays a made-up break-in through a temporary hub.
//!
//! The records arrive through the HTTP API, as from AWS; only the clock is simulated. It stands still
//! between two steps and jumps with each step, so that ages, leases and the closing of quiet incidents
//! are those of that day at any speed.

mod clock;
mod story;

use std::io::{self, IsTerminal as _, Write};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::{SignedDuration, Timestamp};
use rootwatch_core::alert::AlertKind;
use rootwatch_core::rules::Ruleset;
use rootwatch_hub::config::secrets::Resolver;
use rootwatch_hub::config::{AccountConfig, Config, Scope, TelemetryConfig, TokenConfig};
use rootwatch_hub::telemetry;
use rootwatch_hub::{HubParts, RunningHub};
use rootwatch_store::{DeliveryFilter, PageRequest, Store};

use self::clock::StoryClock;
use self::story::Step;
use crate::args::{DemoArgs, Speed};
use crate::report::Failed;
use crate::run::runtime;
use crate::{serve, store, token};
use rootwatch_core::text;

/// Longest wait for the alerts of one step, and for the hub's periodic work.
const WAIT_MAX: Duration = Duration::from_secs(15);
/// How often to check whether all alerts are delivered.
const ASK_EVERY: Duration = Duration::from_millis(5);
/// Seconds without a finding after which an incident is over.
const QUIET_SECS: u32 = 3_600;

/// The log filter: the clock jumps on purpose here.
const LOG_LEVEL: &str = "warn,rootwatch_engine::schedule=error";

/// The accounts of the break-in.
const ACCOUNTS: [(&str, &str, &str); 3] = [
    ("111122223333", "example-management", "root"),
    ("222233334444", "prod-payments", "production"),
    ("333344445555", "sandbox-ml", "sandbox"),
];

pub(crate) fn run(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    let folder = tempfile::tempdir().context(Failed::to("create a temporary folder"))?;
    let (secret, sha256) = token::create()?;
    let steps = story::steps()?;
    let mut settings = settings(sha256)?;
    settings.store.path = folder.path().join("demo.db");
    runtime()?.block_on(async {
        let mut signals = serve::Signals::listen()?;
        let quiet = TelemetryConfig { log_level: LOG_LEVEL.to_owned(), ..Default::default() };
        let telemetry = telemetry::start(&quiet)?;
        let clock = Arc::new(StoryClock::at(story::start()?));
        let bar = bar(steps.len());
        let parts = HubParts {
            store: store::open(&settings.store).await?,
            rules: Ruleset::built_in(),
            clock: Arc::clone(&clock) as _,
            log: Arc::new(Mutex::new(AboveBar { bar: bar.clone(), out: io::stdout() })),
            secrets: Arc::new(Resolver::new(folder.path())),
            config: settings,
        };
        let running = serve::start(parts).await?;
        let stage = Stage { running: &running, clock: &clock, bar: &bar, secret: &secret };
        let played = tokio::select! {
            played = stage.play(&steps, args.speed) => played.map(|()| true),
            () = signals.next() => Ok(false),
        };
        bar.finish_and_clear();
        if matches!(played, Ok(true)) {
            stage.print_end(folder.path(), args.once).await?;
            if !args.once {
                signals.next().await;
            }
        }
        running.shutdown().await;
        telemetry.finish().await;
        played.map(|_| ExitCode::SUCCESS)
    })
}

/// The configuration of the temporary hub.
fn settings(sha256: String) -> anyhow::Result<Config> {
    let mut config = Config::default();
    config.hub.listen = ([127, 0, 0, 1], 0).into();
    config.hub.quiet_after_secs = QUIET_SECS;
    config.source.http.requests_per_second_max = 10_000;
    config.token.push(TokenConfig {
        name: "demo".to_owned(),
        sha256,
        scopes: vec![Scope::Ingest, Scope::Read, Scope::Write],
    });
    config.account = ACCOUNTS
        .iter()
        .map(|(id, name, unit)| AccountConfig {
            id: (*id).to_owned(),
            name: Some((*name).to_owned()),
            unit: Some((*unit).to_owned()),
        })
        .collect();
    let log = serde_json::json!({ "channel": "log", "format": "text" });
    config.notify.destination.insert("log".to_owned(), serde_json::from_value(log)?);
    Ok(config)
}

/// The progress bar, on a terminal.
fn bar(steps: usize) -> ProgressBar {
    let is_shown = io::stderr().is_terminal() && io::stdout().is_terminal();
    let target = if is_shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(steps as u64), target);
    if let Ok(style) = ProgressStyle::with_template("{msg}  {bar:40}  Ctrl-C ends") {
        bar.set_style(style);
    }
    bar
}

/// Writes alerts above the progress bar.
#[derive(Debug)]
struct AboveBar {
    bar: ProgressBar,
    out: io::Stdout,
}

impl Write for AboveBar {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bar.suspend(|| self.out.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// The hub with its clock and its output.
struct Stage<'a> {
    running: &'a RunningHub,
    clock: &'a StoryClock,
    bar: &'a ProgressBar,
    secret: &'a str,
}

impl Stage<'_> {
    /// Plays all steps, then an hour without records, then the next morning's digest.
    async fn play(&self, steps: &[Step], speed: Speed) -> anyhow::Result<()> {
        let records: usize = steps.iter().map(|step| step.records.len()).sum();
        self.say(&format!(
            "The break-in at Example Corp, 2026-05-04 (times are UTC of that day).\n\
             {} of three accounts are posted to a hub on http://{}.\n",
            text::count(records as u64, "CloudTrail record"),
            self.running.address(),
        ))?;
        let client = reqwest::Client::builder()
            .no_proxy()
            .timeout(WAIT_MAX)
            .build()
            .context(Failed::to("create an HTTP client"))?;
        for step in steps {
            let begin = Instant::now();
            self.clock.jump(step.at);
            self.bar.inc(1);
            self.bar.set_message(step.at.strftime("%H:%M UTC").to_string());
            if !step.records.is_empty() {
                self.send(&client, step).await.context(Failed::to("send records to the hub"))?;
                self.until(async |store| Ok(store.next_due().await?.is_none())).await?;
            }
            if let Speed::Times(times) = speed {
                let pause = Duration::from_secs_f64(story::STEP_SECS as f64 / times);
                tokio::time::sleep(pause.saturating_sub(begin.elapsed())).await;
            }
        }
        let Some(last) = steps.last() else { return Ok(()) };
        let hour = SignedDuration::from_secs(i64::from(QUIET_SECS) + story::STEP_SECS);
        self.clock.jump(last.at.saturating_add(hour)?);
        self.bar.set_message("one hour without records");
        let is_quiet = async |store: &dyn Store| {
            let standing = store.stats().await?;
            Ok(standing.open_incidents.values().sum::<u64>() == 0
                && store.next_due().await?.is_none())
        };
        self.until(is_quiet).await?;
        self.clock.jump(story::morning()?);
        self.bar.set_message("the next morning");
        let is_digested = async |store: &dyn Store| {
            let (filter, page) = (DeliveryFilter::default(), PageRequest::default());
            let listed = store.deliveries(&filter, &page).await?;
            let mut ended = listed.items.iter().filter(|one| one.ended_at.is_some());
            Ok(ended.any(|one| one.alert.kind == AlertKind::Digest))
        };
        self.until(is_digested).await
    }

    async fn send(&self, client: &reqwest::Client, step: &Step) -> anyhow::Result<()> {
        let answer = client
            .post(format!("http://{}/v1/events", self.running.address()))
            .bearer_auth(self.secret)
            .header("content-type", "application/json")
            .body(format!("{{\"Records\":[{}]}}", step.records.join(",")))
            .send()
            .await?;
        answer.error_for_status()?;
        Ok(())
    }

    /// Waits until a condition holds in the store. After [`WAIT_MAX`] the demo continues anyway: a slow
    /// machine shows some alerts later.
    async fn until(
        &self,
        is_so: impl AsyncFn(&dyn Store) -> Result<bool, rootwatch_store::StoreError>,
    ) -> anyhow::Result<()> {
        let store = self.running.store();
        let begin = Instant::now();
        while begin.elapsed() < WAIT_MAX {
            if is_so(store.as_ref()).await.context(Failed::to("read the store"))? {
                return Ok(());
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
        Ok(())
    }

    fn say(&self, text: &str) -> anyhow::Result<()> {
        self.bar.suspend(|| writeln!(io::stdout(), "{text}"))?;
        Ok(())
    }

    /// Prints the totals and how to query the hub.
    async fn print_end(&self, folder: &std::path::Path, once: bool) -> anyhow::Result<()> {
        let page = PageRequest { items_max: rootwatch_store::PAGE_ITEMS_MAX, after: None };
        let store = self.running.store();
        let incidents = store.incidents(&Default::default(), &page).await?.items.len();
        let alerts = store.deliveries(&DeliveryFilter::default(), &page).await?.items.len();
        self.say(&format!(
            "\nDemo finished: {}, {}.",
            text::count(incidents as u64, "incident"),
            text::count(alerts as u64, "alert"),
        ))?;
        if once {
            return Ok(());
        }
        let (address, secret) = (self.running.address(), self.secret);
        self.say(&format!(
            "The hub is still running; its clock shows the next morning. Query it from another \
             terminal:\n\n  \
             TOKEN={secret}\n  \
             curl -H \"Authorization: Bearer $TOKEN\" http://{address}/v1/incidents\n  \
             curl -H \"Authorization: Bearer $TOKEN\" http://{address}/metrics\n\n\
             Ctrl-C stops it and deletes its store ({}).",
            folder.display()
        ))
    }
}

/// Parses a time of the break-in.
pub(crate) fn moment(text: &str) -> anyhow::Result<Timestamp> {
    text.parse().with_context(|| format!("{text} is not a time"))
}
