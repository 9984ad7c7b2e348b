//! `rootwatch serve`: runs the hub until a signal shuts it down.

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
use crate::report::{EXIT_FAILED, Failed, print_error};
use crate::run::runtime;
use crate::{config, store};

pub(crate) fn run(args: &ServeArgs) -> anyhow::Result<ExitCode> {
    let flags = [
        ("hub.listen", "--listen", args.listen.as_ref()),
        ("store.path", "--store", args.store.as_ref()),
    ];
    let loaded = config::load(&args.config, &flags)?;
    store::reject_file_and_table(&loaded.config.store, args.store.as_ref())?;
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
        print_start(&loaded, &running, &telemetry);
        let ended = tokio::select! {
            () = signals.next() => Ok(()),
            ended = running.finished() => ended.context(Failed::to("continue")),
        };
        tracing::info!("shutting down");
        tokio::select! {
            () = running.shutdown() => {}
            () = signals.next() => {
                tracing::warn!("second signal: stopping at once; acknowledged records are on disk");
                std::process::exit(i32::from(EXIT_FAILED));
            }
        }
        telemetry.finish().await;
        Ok(match ended {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                print_error(&error);
                ExitCode::from(EXIT_FAILED)
            }
        })
    })
}

/// Starts a hub. An invalid configuration is an error of usage.
pub(crate) async fn start(parts: HubParts) -> anyhow::Result<RunningHub> {
    match Hub::start(parts).await {
        Ok(running) => Ok(running),
        Err(error) if error.is_configuration() => Err(error.into()),
        Err(error) => Err(error).context(Failed::to("start the hub")),
    }
}

/// Prints one line: address, sources and destinations.
fn print_start(loaded: &Loaded, running: &RunningHub, telemetry: &Telemetry) {
    let address = running.address();
    let sources = config::sources(loaded).join(", ");
    let destinations = config::destinations(loaded).join(", ");
    if telemetry.is_json() {
        tracing::info!(%address, sources, destinations, "listening on http://{address}");
    } else {
        // If standard error is closed, the line has no other reader.
        let version = env!("CARGO_PKG_VERSION");
        let _ = writeln!(
            anstream::stderr(),
            "rootwatch {version} listening on http://{address} (sources: {sources}; destinations: \
             {destinations})"
        );
    }
}

/// The signals that request a shutdown: SIGINT and SIGTERM, or Ctrl-C on other systems.
#[derive(Debug)]
pub(crate) struct Signals {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    /// Starts to listen; from now on these signals do not end the process by themselves.
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

    /// Waits for the next signal.
    pub(crate) async fn next(&mut self) {
        #[cfg(unix)]
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
        #[cfg(not(unix))]
        if tokio::signal::ctrl_c().await.is_err() {
            // No signal can arrive.
            std::future::pending::<()>().await;
        }
    }
}
