//! Credentials, region and endpoints as AWS's own tools find them, and roles that are assumed.

use aws_config::sts::AssumeRoleProvider;
use aws_config::{Region, SdkConfig};
use aws_credential_types::provider::{ProvideCredentials as _, SharedCredentialsProvider};

use super::failure::{CloudError, chained};

/// The session name of assumed roles, as CloudTrail shows it.
const SESSION_NAME: &str = "rootwatch";
/// The region if none is configured. S3 answers there in which region a bucket is.
pub(super) const REGION_DEFAULT: &str = "us-east-1";

/// Roles to assume.
#[derive(Debug, Clone, Default)]
pub struct Roles {
    /// ARNs of roles.
    pub arns: Vec<String>,
    /// The external id that the roles' trust policies require.
    pub external_id: Option<String>,
}

/// The configuration from the environment, with a region in any case.
pub(super) async fn sdk() -> SdkConfig {
    let sdk = rootwatch_aws::sdk_loader().load().await;
    if sdk.region().is_some() {
        return sdk;
    }
    sdk.into_builder().region(Region::new(REGION_DEFAULT)).build()
}

/// The same with the credentials of a role.
pub(super) async fn as_role(sdk: &SdkConfig, arn: &str, external_id: Option<&str>) -> SdkConfig {
    let mut role = AssumeRoleProvider::builder(arn).session_name(SESSION_NAME).configure(sdk);
    if let Some(id) = external_id {
        role = role.external_id(id);
    }
    let provider = SharedCredentialsProvider::new(role.build().await);
    sdk.clone().into_builder().credentials_provider(provider).build()
}

/// Checks that there are credentials before anything is listed, so that wrong ones cause one error
/// instead of one for each object.
pub(super) async fn prove(sdk: &SdkConfig, role: Option<&str>) -> Result<(), CloudError> {
    let whose = role.map(|arn| format!(" of the role {arn}")).unwrap_or_default();
    let Some(provider) = sdk.credentials_provider() else {
        return Err(CloudError::Credentials { whose, reason: "none are set".to_owned() });
    };
    match provider.provide_credentials().await {
        Ok(_) => Ok(()),
        Err(error) => Err(CloudError::Credentials { whose, reason: chained(&error) }),
    }
}
