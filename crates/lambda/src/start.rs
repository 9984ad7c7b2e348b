//! Starts the function once per process: configuration, store, clients.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::bail;
use aws_config::SdkConfig;
use aws_config::environment::EnvironmentVariableCredentialsProvider;
use rootwatch_core::secret::SecretRef;
use rootwatch_hub::config::secrets::Resolver;
use rootwatch_hub::config::{ConfigFile, Inputs, Loaded, load, rules};
use rootwatch_hub::{Function, HubParts, SystemClock, telemetry};
use rootwatch_notify::{AwsAccess, standard_output};
use rootwatch_store::Store;
use rootwatch_store::dynamo::{DynamoOptions, DynamoStore};

/// Where the configuration is: `aws-ssm:NAME`, `aws-secret:ID`, or a file in the package. Without it, only
/// the environment is read.
const CONFIG: &str = "ROOTWATCH_CONFIG";

/// The variable in which Lambda passes the access key of the function's role.
const ACCESS_KEY: &str = "AWS_ACCESS_KEY_ID";

/// Assembles the function.
pub(crate) async fn function() -> anyhow::Result<Function> {
    // If a provider is already installed, it stays.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut sdk = rootwatch_aws::sdk_loader();
    // When Lambda passes credentials, other sources of them need not be set up.
    if std::env::var_os(ACCESS_KEY).is_some() {
        sdk = sdk.credentials_provider(EnvironmentVariableCredentialsProvider::new());
    }
    let sdk = sdk.load().await;
    let loaded = configuration(&sdk).await?;
    let _telemetry = telemetry::start(&loaded.config.telemetry)?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let parts = HubParts {
        store: store(&loaded, &sdk).await?,
        rules: rules::load(&loaded.config.rules.dir)?,
        clock: Arc::new(SystemClock),
        log: standard_output(),
        secrets: Arc::new(Resolver::new(&loaded.folder)),
        config: loaded.config,
    };
    Ok(Function::start(parts, &sdk).await?)
}

async fn configuration(sdk: &SdkConfig) -> anyhow::Result<Loaded> {
    let named = std::env::var(CONFIG).ok().filter(|text| !text.trim().is_empty());
    let file = match named {
        None => None,
        Some(name) => Some(match name.parse::<SecretRef>() {
            Ok(at @ (SecretRef::AwsSsm(_) | SecretRef::AwsSecret(_))) => {
                fetched(name, &at, sdk).await?
            }
            _ => ConfigFile::Path(PathBuf::from(name)),
        }),
    };
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    Ok(load(&Inputs { file, environment, flags: Vec::new() })?)
}

/// Fetches a configuration that is kept in AWS. Its problems are reported like those of a file.
async fn fetched(name: String, at: &SecretRef, sdk: &SdkConfig) -> anyhow::Result<ConfigFile> {
    let aws = AwsAccess::of(sdk.clone());
    let body = Resolver::new(&PathBuf::new()).fetch_one(at, &aws).await;
    let body = body.map_err(|why| anyhow::anyhow!("{CONFIG}: {name} {why}"))?;
    Ok(ConfigFile::Text { name, body })
}

async fn store(loaded: &Loaded, sdk: &SdkConfig) -> anyhow::Result<Arc<dyn Store>> {
    let Some(options) = DynamoOptions::of(&loaded.config.store) else {
        bail!(
            "`store.table` must name a DynamoDB table: a function has no disk of its own\nhint: set ROOTWATCH_STORE__TABLE"
        );
    };
    Ok(Arc::new(DynamoStore::open(sdk, &options).await?))
}
