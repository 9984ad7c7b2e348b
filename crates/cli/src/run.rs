//! What commands that do I/O share: the asynchronous runtime and the TLS provider.

use anyhow::Context as _;

use crate::report::Failed;

/// Builds the asynchronous runtime and installs the TLS provider.
pub(crate) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    use_ring();
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context(Failed::to("start the runtime"))
}

/// Installs ring as the TLS provider of the process.
pub(crate) fn use_ring() {
    // An error means that a provider is installed already: keep it.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
