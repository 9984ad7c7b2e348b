//! The store in DynamoDB, with credentials, region and endpoint as the AWS SDK finds them.

use aws_config::SdkConfig;
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
    let sdk = rootwatch_aws::sdk_loader().load().await;
    if sdk.region().is_none() {
        return Err(StoreError::Unavailable {
            reason: "no AWS region is set: set AWS_REGION, or a region in the AWS profile"
                .to_owned(),
        });
    }
    Ok(sdk)
}
