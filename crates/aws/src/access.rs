//! Credentials, region and endpoint, as AWS's own tools find them.

use std::sync::{Arc, OnceLock};

use aws_config::{BehaviorVersion, ConfigLoader, SdkConfig};
use aws_smithy_async::rt::sleep::{SharedAsyncSleep, TokioSleep};
use aws_smithy_async::time::{SharedTimeSource, SystemTimeSource};
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use tokio::sync::OnceCell;

use crate::http;

/// Begins to look for credentials, region and endpoint in the environment, the profile, and the role
/// of the container or instance. Finish with `.load().await`.
///
/// The SDK's own requests (for credentials, and those of its service clients) use rustls with ring.
#[must_use]
pub fn sdk_loader() -> ConfigLoader {
    let tls = Provider::Rustls(CryptoMode::Ring);
    let http = aws_smithy_http_client::Builder::new().tls_provider(tls).build_https();
    aws_config::defaults(BehaviorVersion::latest()).http_client(http)
}

/// Credentials, region, endpoint and HTTP client. Loaded once, at the first call, and shared by all
/// clones.
#[derive(Debug, Clone, Default)]
pub struct AwsAccess {
    sdk: Arc<OnceCell<SdkConfig>>,
    http: Arc<OnceLock<Result<reqwest::Client, String>>>,
}

impl AwsAccess {
    /// Uses an SDK configuration that is loaded already. A clock and a timer are added where it has
    /// none: assuming a role needs both.
    #[must_use]
    pub fn of(sdk: SdkConfig) -> Self {
        Self::default().with_sdk(sdk)
    }

    /// The same HTTP client with another SDK configuration; see [`AwsAccess::of`].
    #[must_use]
    pub fn with_sdk(&self, sdk: SdkConfig) -> Self {
        let (has_time, has_sleep) = (sdk.time_source().is_some(), sdk.sleep_impl().is_some());
        let mut sdk = sdk.into_builder();
        if !has_time {
            sdk.set_time_source(Some(SharedTimeSource::new(SystemTimeSource::new())));
        }
        if !has_sleep {
            sdk.set_sleep_impl(Some(SharedAsyncSleep::new(TokioSleep::new())));
        }
        let sdk = Arc::new(OnceCell::new_with(Some(sdk.build())));
        Self { sdk, http: Arc::clone(&self.http) }
    }

    /// The SDK configuration.
    pub async fn sdk(&self) -> &SdkConfig {
        self.sdk.get_or_init(|| sdk_loader().load()).await
    }

    /// The client for signed calls; the error is in words.
    pub(crate) fn http(&self) -> Result<&reqwest::Client, String> {
        self.http.get_or_init(http::client).as_ref().map_err(Clone::clone)
    }
}
