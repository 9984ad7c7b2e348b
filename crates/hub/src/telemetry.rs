//! What the hub says about itself: log lines on standard error, traces over OTLP where they are
//! wanted.

mod config;

use std::fmt;
use std::io::{self, IsTerminal as _};
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider, SpanData, SpanExporter};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, Registry};

pub(crate) use self::config::check_level;
use self::config::filter;
pub use self::config::{LogFormat, TelemetryConfig};

/// The variable whose directives go before those of the configuration.
pub const LEVEL_VARIABLE: &str = "ROOTWATCH_LOG";
/// Seconds that one export of traces, and the last one at the end, may take.
const EXPORT_SECS_MAX: u64 = 5;

/// Why telemetry cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TelemetryError {
    /// Directives that cannot be read.
    #[error("cannot read what to log ({text:?}): {reason}")]
    Level {
        /// The directives.
        text: String,
        /// What is wrong.
        reason: String,
    },
    /// The exporter of traces cannot be made.
    #[error("cannot send traces: {0}")]
    Exporter(String),
    /// Something else in this process takes log lines already.
    #[error("log lines go elsewhere already")]
    Taken,
}

/// Keeps telemetry going; [`Telemetry::finish`] sends what is left.
#[derive(Debug)]
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
    format: LogFormat,
}

/// Log lines go to standard error from now on, and spans to the receiver that is configured. Has
/// to be called within a Tokio runtime when there is one.
///
/// # Errors
/// Directives that cannot be read, a receiver's address that is none, or a second call.
pub fn start(config: &TelemetryConfig) -> Result<Telemetry, TelemetryError> {
    let text = match std::env::var(LEVEL_VARIABLE) {
        Ok(text) if !text.trim().is_empty() => text,
        _ => config.log_level.clone(),
    };
    let levels =
        filter(&text).map_err(|reason| TelemetryError::Level { text: text.clone(), reason })?;
    let is_terminal = io::stderr().is_terminal();
    let default = if is_terminal { LogFormat::Text } else { LogFormat::Json };
    let format = config.log_format.unwrap_or(default);
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match format {
        LogFormat::Text => {
            let has_color = is_terminal && std::env::var_os("NO_COLOR").is_none();
            let layer = tracing_subscriber::fmt::layer();
            layer.with_ansi(has_color).with_writer(io::stderr).with_filter(levels).boxed()
        }
        LogFormat::Json => {
            let layer = tracing_subscriber::fmt::layer().json().flatten_event(true);
            layer.with_writer(io::stderr).with_filter(levels).boxed()
        }
    };
    let traces = config.otlp_endpoint.as_deref().map(|url| provider(url, config)).transpose()?;
    let spans = traces.as_ref().map(spans);
    tracing_subscriber::registry()
        .with(lines)
        .with(spans)
        .try_init()
        .map_err(|_| TelemetryError::Taken)?;
    Ok(Telemetry { traces, format })
}

/// Spans of our own crates from `info` on; those of the libraries below would trace the tracer.
fn spans<S>(provider: &SdkTracerProvider) -> impl Layer<S> + use<S>
where
    S: tracing::Subscriber + for<'span> tracing_subscriber::registry::LookupSpan<'span>,
{
    let ours = tracing_subscriber::filter::filter_fn(|metadata| {
        *metadata.level() <= tracing::Level::INFO
            && (metadata.target().starts_with("rootwatch")
                || metadata.target().starts_with("tower_http"))
    });
    tracing_opentelemetry::layer().with_tracer(provider.tracer("rootwatch")).with_filter(ours)
}

fn provider(url: &str, config: &TelemetryConfig) -> Result<SdkTracerProvider, TelemetryError> {
    let fail = |error: &dyn fmt::Display| TelemetryError::Exporter(error.to_string());
    let client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(|error| fail(&error))?;
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_http_client(client)
        .with_endpoint(format!("{}/v1/traces", url.trim_end_matches('/')))
        .with_timeout(Duration::from_secs(EXPORT_SECS_MAX))
        .build()
        .map_err(|error| fail(&error))?;
    let runtime = tokio::runtime::Handle::try_current().map_err(|error| fail(&error))?;
    let resource = Resource::builder()
        .with_service_name("rootwatch")
        .with_attribute(opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(config.trace_ratio)));
    Ok(SdkTracerProvider::builder()
        .with_sampler(sampler)
        .with_resource(resource)
        .with_batch_exporter(OnRuntime { exporter: Arc::new(exporter), runtime })
        .build())
}

/// The batch processor exports from a thread of its own, where an asynchronous client finds no
/// runtime: hands its work to ours.
#[derive(Debug)]
struct OnRuntime {
    exporter: Arc<opentelemetry_otlp::SpanExporter>,
    runtime: tokio::runtime::Handle,
}

impl SpanExporter for OnRuntime {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let exporter = Arc::clone(&self.exporter);
        let task = self.runtime.spawn(async move { exporter.export(batch).await });
        task.await.unwrap_or_else(|error| Err(OTelSdkError::InternalFailure(error.to_string())))
    }

    fn set_resource(&mut self, resource: &Resource) {
        // Before the first export nobody else holds it.
        if let Some(exporter) = Arc::get_mut(&mut self.exporter) {
            exporter.set_resource(resource);
        }
    }
}

impl Telemetry {
    /// True when log lines are JSON objects.
    #[must_use]
    pub fn is_json(&self) -> bool {
        self.format == LogFormat::Json
    }

    /// Sends the spans that are left, for some seconds at most.
    pub async fn finish(self) {
        let Some(provider) = self.traces else { return };
        let limit = Duration::from_secs(EXPORT_SECS_MAX);
        // Blocks until the processor's thread is done.
        let ended =
            tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(limit)).await;
        if let Ok(Err(error)) = ended {
            tracing::warn!(%error, "the last traces were not sent");
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Bytes;
    use axum::http::HeaderMap;
    use axum::routing::post;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn spans_reach_a_receiver_before_the_end() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (arrived, mut arrivals) = tokio::sync::mpsc::unbounded_channel();
        let take = move |headers: HeaderMap, body: Bytes| async move {
            let kind = headers["content-type"].to_str().unwrap_or_default().to_owned();
            let _ = arrived.send((kind, body));
        };
        let app = axum::Router::new().route("/v1/traces", post(take));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let server = tokio::spawn(async move { axum::serve(listener, app).await });
        let config = TelemetryConfig::default();
        let provider = provider(&url, &config).expect("a provider");
        let subscriber = tracing_subscriber::registry().with(spans(&provider));
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::info_span!(target: "rootwatch_hub", "take records");
            let _entered = span.enter();
            let _other = tracing::info_span!(target: "hyper", "noise").entered();
        });
        Telemetry { traces: Some(provider), format: LogFormat::Json }.finish().await;
        let (kind, body) = arrivals.recv().await.expect("a request");
        assert_eq!(kind, "application/x-protobuf");
        let holds = |text: &str| body.windows(text.len()).any(|part| part == text.as_bytes());
        assert!(holds("take records") && holds("service.name") && !holds("noise"));
        server.abort();
    }
}
