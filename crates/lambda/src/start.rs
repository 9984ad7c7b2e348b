//! From nothing to a function that can be called: configuration, store, clients, once.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use aws_config::SdkConfig;
use aws_config::environment::EnvironmentVariableCredentialsProvider;
use rootwatch_core::secret::SecretRef;
use rootwatch_hub::config::secrets::Resolver;
use rootwatch_hub::config::{Inputs, Loaded, load, rules};
use rootwatch_hub::{Function, Parts, SystemClock, telemetry};
use rootwatch_notify::{AwsAccess, standard_output};
use rootwatch_store::Store;
use rootwatch_store::dynamo::{DynamoOptions, DynamoStore};

/// Where the configuration is: `aws-ssm:NAME`, `aws-secret:ID`, or a file of the package. Without it,
/// the environment alone says all.
const CONFIG: &str = "ROOTWATCH_CONFIG";

/// The variable in which Lambda gives the access key of the function's role.
const ACCESS_KEY: &str = "AWS_ACCESS_KEY_ID";

/// Puts the function together.
pub(crate) async fn function() -> anyhow::Result<Function> {
    // Whoever was first has made the choice.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut sdk = rootwatch_aws::sdk_loader();
    // Where Lambda itself gives credentials, nothing else has to be looked for, nor made ready.
    if std::env::var_os(ACCESS_KEY).is_some() {
        sdk = sdk.credentials_provider(EnvironmentVariableCredentialsProvider::new());
    }
    let sdk = sdk.load().await;
    let loaded = configuration(&sdk).await?;
    let _telemetry = telemetry::start(&loaded.config.telemetry)?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let parts = Parts {
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
    let file = match named.as_deref().map(str::parse::<SecretRef>) {
        None => None,
        Some(Ok(SecretRef::AwsSsm(_) | SecretRef::AwsSecret(_))) => Some(fetched(sdk).await?),
        Some(_) => named.map(PathBuf::from),
    };
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    Ok(load(&Inputs { file, environment, flags: Vec::new() })?)
}

/// The configuration that is kept in AWS, as a file: it is read, and its errors are told, as any
/// other.
async fn fetched(sdk: &SdkConfig) -> anyhow::Result<PathBuf> {
    let named = std::env::var(CONFIG)?;
    let at: SecretRef = named.parse().map_err(|error| anyhow::anyhow!("{CONFIG}: {error}"))?;
    let aws = AwsAccess::of(sdk.clone());
    let text = Resolver::new(&PathBuf::new()).fetch_one(&at, &aws).await;
    let text = text.map_err(|why| anyhow::anyhow!("{CONFIG}: {named} {why}"))?;
    // The one folder of a function that can be written to, and that nobody else sees.
    let path = std::env::temp_dir().join("rootwatch.toml");
    std::fs::write(&path, text.expose()).context("cannot keep the configuration")?;
    Ok(path)
}

async fn store(loaded: &Loaded, sdk: &SdkConfig) -> anyhow::Result<Arc<dyn Store>> {
    let Some(options) = DynamoOptions::of(&loaded.config.store) else {
        bail!(
            "`store.table` has to name a table of DynamoDB: a function has no disk to keep things \
             on\nhint: set ROOTWATCH_STORE__TABLE"
        );
    };
    Ok(Arc::new(DynamoStore::open(sdk, &options).await?))
}
