//! The store in DynamoDB, with credentials, region and endpoint as the AWS SDK finds them.

use aws_config::{BehaviorVersion, SdkConfig};
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use rootwatch_store::dynamo::{DynamoOptions, DynamoStore};
use rootwatch_store::{StoreConfig, StoreError};

/// Opens the table that the configuration names; `None` when it names a file.
///
/// # Errors
/// When the table is not there, cannot be read, or is of another version.
pub async fn open_table(config: &StoreConfig) -> Result<Option<DynamoStore>, StoreError> {
    let Some(options) = DynamoOptions::of(config) else { return Ok(None) };
    DynamoStore::open(&sdk().await?, &options).await.map(Some)
}

/// Makes the table of this name; false when it is there already.
///
/// # Errors
/// When it cannot be made.
pub async fn create_table(name: &str) -> Result<bool, StoreError> {
    DynamoStore::create_table(&sdk().await?, name).await
}

async fn sdk() -> Result<SdkConfig, StoreError> {
    let provider = Provider::Rustls(CryptoMode::Ring);
    let http = aws_smithy_http_client::Builder::new().tls_provider(provider).build_https();
    let sdk = aws_config::defaults(BehaviorVersion::latest()).http_client(http).load().await;
    if sdk.region().is_none() {
        return Err(StoreError::Unavailable {
            reason: "no AWS region is set: set AWS_REGION, or a region in the AWS profile"
                .to_owned(),
        });
    }
    Ok(sdk)
}
