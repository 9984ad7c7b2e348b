//! What AWS's own tools find: credentials, region, endpoints; and roles that are assumed with them.

use aws_config::sts::AssumeRoleProvider;
use aws_config::{Region, SdkConfig};
use aws_credential_types::provider::{ProvideCredentials as _, SharedCredentialsProvider};

use super::failure::{CloudError, chained};

/// The name of our sessions of an assumed role: what CloudTrail shows.
const SESSION_NAME: &str = "rootwatch";
/// Where a call goes when nobody says: S3 says from there where a bucket is.
pub(super) const REGION_DEFAULT: &str = "us-east-1";

/// Roles to assume.
#[derive(Debug, Clone, Default)]
pub struct Roles {
    /// ARNs of roles.
    pub arns: Vec<String>,
    /// What the roles' trust policies may ask for.
    pub external_id: Option<String>,
}

/// What the environment says. A region is always set afterwards.
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

/// Credentials can be had: found out before anything is listed, so that wrong ones are one error and
/// not one for each object.
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
