//! Ctrl-C during a scan of AWS: the first one ends the scan early, with the findings so far; the second
//! one ends the program.

use anyhow::Context as _;
use rootwatch_scan::aws::Interrupt;

use crate::report::Failed;

/// Exit code after a second Ctrl-C: 128 and the number of SIGINT.
const EXIT_INTERRUPTED: i32 = 130;

/// Installs the handler.
///
/// # Errors
/// The runtime that waits for the signal cannot be started.
pub(crate) fn on_ctrl_c() -> anyhow::Result<Interrupt> {
    let interrupt = Interrupt::default();
    let requested = interrupt.clone();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .context(Failed::to("handle Ctrl-C"))?;
    std::thread::spawn(move || {
        runtime.block_on(async move {
            // An error means that the system's own handling stays, which ends the program.
            while tokio::signal::ctrl_c().await.is_ok() {
                if requested.is_requested() {
                    std::process::exit(EXIT_INTERRUPTED);
                }
                requested.request();
            }
        });
    });
    Ok(interrupt)
}
