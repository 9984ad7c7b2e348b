//! `rootwatch serve`: the hub, until a signal ends it.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use rootwatch_hub::SystemClock;
use rootwatch_hub::config::secrets::Resolver;
use rootwatch_hub::config::{Loaded, rules};
use rootwatch_hub::telemetry::{self, Telemetry};
use rootwatch_hub::{Hub, HubParts, RunningHub};
use rootwatch_notify::standard_output;

use crate::args::ServeArgs;
use crate::{EXIT_FAILED, Failed, config, runtime, say_error, store};

pub(crate) fn run(args: &ServeArgs) -> anyhow::Result<ExitCode> {
    let flags = [
        ("hub.listen", "--listen", args.listen.as_ref()),
        ("store.path", "--store", args.store.as_ref()),
    ];
    let loaded = config::load(&args.config, &flags)?;
    store::one_is_meant(&loaded.config.store, args.store.as_ref())?;
    let rules = rules::load(&loaded.config.rules.dir)?;
    runtime()?.block_on(async {
        let mut signals = Signals::listen()?;
        let telemetry = telemetry::start(&loaded.config.telemetry)?;
        let resolver = Resolver::new(&loaded.folder);
        let parts = HubParts {
            config: loaded.config.clone(),
            store: store::open(&loaded.config.store).await?,
            rules,
            clock: Arc::new(SystemClock),
            log: standard_output(),
            secrets: Arc::new(resolver),
        };
        let mut running = start(parts).await?;
        say_start(&loaded, &running, &telemetry);
        let ended = tokio::select! {
            () = signals.next() => Ok(()),
            ended = running.finished() => ended.context(Failed::to("go on")),
        };
        tracing::info!("ending");
        tokio::select! {
            () = running.shutdown() => {}
            () = signals.next() => {
                tracing::warn!("ended at once; what was acknowledged is on disk");
                std::process::exit(i32::from(EXIT_FAILED));
            }
        }
        telemetry.finish().await;
        Ok(match ended {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                say_error(&error);
                ExitCode::from(EXIT_FAILED)
            }
        })
    })
}

/// Starts a hub. What the configuration is to blame for is an error of usage.
pub(crate) async fn start(parts: HubParts) -> anyhow::Result<RunningHub> {
    match Hub::start(parts).await {
        Ok(running) => Ok(running),
        Err(error) if error.is_configuration() => Err(error.into()),
        Err(error) => Err(error).context(Failed::to("start the hub")),
    }
}

/// One line: where the hub is, what it watches, whom it tells.
fn say_start(loaded: &Loaded, running: &RunningHub, telemetry: &Telemetry) {
    let address = running.address();
    let watched = config::watched(loaded).join(", ");
    let told: Vec<&str> = loaded.config.notify.destination.keys().map(String::as_str).collect();
    let told = told.join(", ");
    if telemetry.is_json() {
        tracing::info!(%address, watches = watched, tells = told, "listening on http://{address}");
    } else {
        // Standard error may be closed; there is nobody left to tell.
        let version = env!("CARGO_PKG_VERSION");
        let _ = writeln!(
            anstream::stderr(),
            "rootwatch {version} is listening on http://{address}, watches {watched}, tells {told}"
        );
    }
}

/// The signals that ask a program to end: SIGINT and SIGTERM, or Ctrl-C elsewhere.
#[derive(Debug)]
pub(crate) struct Signals {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    /// From now on these signals end nothing by themselves.
    pub(crate) fn listen() -> anyhow::Result<Self> {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            let listen = |kind| signal(kind).context(Failed::to("listen to signals"));
            Ok(Self {
                interrupt: listen(SignalKind::interrupt())?,
                terminate: listen(SignalKind::terminate())?,
            })
        }
        #[cfg(not(unix))]
        Ok(Self {})
    }

    /// Waits for the next of them.
    pub(crate) async fn next(&mut self) {
        #[cfg(unix)]
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
        #[cfg(not(unix))]
        if tokio::signal::ctrl_c().await.is_err() {
            // Nobody can ask.
            std::future::pending::<()>().await;
        }
    }
}
