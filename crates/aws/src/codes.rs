//! What each error code of AWS asks its caller to do.
//!
//! One table for all services: a code means the same wherever it is used. A code that is not here is
//! decided by the HTTP status ([`rootwatch_core::retry::status_class`]).

use rootwatch_core::retry::{StatusClass, status_class};

/// What the caller of a failed call should do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Advice {
    /// Retry after a pause.
    Retry,
    /// Retry at once with new credentials: these have expired.
    RenewCredentials,
    /// Correct the machine's clock; a retry succeeds after that.
    FixClock,
    /// Replace the credentials: AWS does not accept these.
    FixCredentials,
    /// Change a policy, or enable the service: the credentials are accepted, the call is not allowed.
    FixPermissions,
    /// Change the configuration of this program.
    FixConfiguration,
    /// Give up: the same call fails again.
    GiveUp,
}

impl Advice {
    /// True if the same call may succeed later without a change of configuration.
    #[must_use]
    pub fn is_retry(self) -> bool {
        matches!(self, Self::Retry | Self::RenewCredentials | Self::FixClock)
    }
}

/// A row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CodeAdvice {
    /// AWS's error code.
    pub code: &'static str,
    /// What to do.
    pub advice: Advice,
    /// The document that says so.
    pub source: &'static str,
}

/// Common errors of all services.
const COMMON: &str = "https://docs.aws.amazon.com/IAM/latest/APIReference/CommonErrors.html";
const STS: &str = "https://docs.aws.amazon.com/STS/latest/APIReference/CommonErrors.html";
/// The lists of throttling and transient errors that AWS's SDKs share.
const SDK: &str = "https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html";
const CLOUD_TRAIL: &str =
    "https://docs.aws.amazon.com/awscloudtrail/latest/APIReference/API_LookupEvents.html";
const DYNAMO: &str =
    "https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.Errors.html";
const DYNAMO_TRANSACTION: &str =
    "https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html";
const EC2: &str = "https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html";
const EVENT_BRIDGE: &str =
    "https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEvents.html";
const KMS: &str = "https://docs.aws.amazon.com/kms/latest/APIReference/API_DescribeKey.html";
const S3: &str = "https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html";
const SECRETS_MANAGER: &str =
    "https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html";
const SECURITY_HUB: &str =
    "https://docs.aws.amazon.com/securityhub/1.0/APIReference/API_BatchImportFindings.html";
const SES: &str = "https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_SendEmail.html";
const SNS: &str = "https://docs.aws.amazon.com/sns/latest/api/API_Publish.html";
const SQS: &str =
    "https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ReceiveMessage.html";
const SSM: &str =
    "https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_GetParameter.html";

const fn row(code: &'static str, advice: Advice, source: &'static str) -> CodeAdvice {
    CodeAdvice { code, advice, source }
}

/// The table, in the order of codes.
pub const CODES: &[CodeAdvice] = &[
    row("AccessDenied", Advice::FixPermissions, S3),
    row("AccessDeniedException", Advice::FixPermissions, COMMON),
    row("AllAccessDisabled", Advice::FixPermissions, S3),
    row("AuthFailure", Advice::FixCredentials, EC2),
    row("AuthorizationError", Advice::FixPermissions, SNS),
    row("BandwidthLimitExceeded", Advice::Retry, SDK),
    row("DependencyTimeoutException", Advice::Retry, KMS),
    row("EC2ThrottledException", Advice::Retry, SDK),
    row("ExpiredToken", Advice::RenewCredentials, S3),
    row("ExpiredTokenException", Advice::RenewCredentials, COMMON),
    row("IncompleteSignature", Advice::FixCredentials, COMMON),
    row("InternalError", Advice::Retry, S3),
    row("InternalException", Advice::Retry, EVENT_BRIDGE),
    row("InternalFailure", Advice::Retry, COMMON),
    row("InternalServerError", Advice::Retry, DYNAMO),
    row("InternalServiceError", Advice::Retry, SECRETS_MANAGER),
    row("InvalidAccessException", Advice::FixPermissions, SECURITY_HUB),
    row("InvalidAccessKeyId", Advice::FixCredentials, S3),
    row("InvalidBucketName", Advice::GiveUp, S3),
    row("InvalidClientTokenId", Advice::FixCredentials, STS),
    row("InvalidNextTokenException", Advice::GiveUp, CLOUD_TRAIL),
    row("InvalidObjectState", Advice::GiveUp, S3),
    row("InvalidRange", Advice::GiveUp, S3),
    row("InvalidSignatureException", Advice::FixCredentials, DYNAMO),
    row("InvalidToken", Advice::FixCredentials, S3),
    row("KMSInternalException", Advice::Retry, KMS),
    row("KMSThrottling", Advice::Retry, SNS),
    row("KMSThrottlingException", Advice::Retry, SNS),
    row("KeyTooLongError", Advice::GiveUp, S3),
    row("KmsThrottled", Advice::Retry, SQS),
    row("LimitExceededException", Advice::Retry, SDK),
    row("MissingAuthenticationToken", Advice::FixCredentials, STS),
    row("MissingAuthenticationTokenException", Advice::FixCredentials, DYNAMO),
    row("NoSuchBucket", Advice::GiveUp, S3),
    row("NoSuchKey", Advice::GiveUp, S3),
    row("NotAuthorized", Advice::FixPermissions, COMMON),
    row("NotFound", Advice::GiveUp, SNS),
    row("OperationAborted", Advice::Retry, S3),
    row("OptInRequired", Advice::FixPermissions, COMMON),
    row("OverLimit", Advice::Retry, SQS),
    row("ParameterNotFound", Advice::GiveUp, SSM),
    row("PriorRequestNotComplete", Advice::Retry, SDK),
    row("ProvisionedThroughputExceeded", Advice::Retry, DYNAMO_TRANSACTION),
    row("ProvisionedThroughputExceededException", Advice::Retry, DYNAMO),
    row("RequestExpired", Advice::RenewCredentials, COMMON),
    row("RequestLimitExceeded", Advice::Retry, EC2),
    row("RequestThrottled", Advice::Retry, SDK),
    row("RequestThrottledException", Advice::Retry, SDK),
    row("RequestTimeTooSkewed", Advice::FixClock, S3),
    row("RequestTimeout", Advice::Retry, S3),
    row("RequestTimeoutException", Advice::Retry, COMMON),
    row("ResourceNotFoundException", Advice::GiveUp, SECRETS_MANAGER),
    row("ServiceUnavailable", Advice::Retry, COMMON),
    row("ServiceUnavailableException", Advice::Retry, COMMON),
    row("SignatureDoesNotMatch", Advice::FixCredentials, S3),
    row("SlowDown", Advice::Retry, S3),
    row("Throttled", Advice::Retry, SNS),
    row("ThrottledException", Advice::Retry, SDK),
    row("Throttling", Advice::Retry, SDK),
    row("ThrottlingError", Advice::Retry, DYNAMO_TRANSACTION),
    row("ThrottlingException", Advice::Retry, COMMON),
    row("TokenRefreshRequired", Advice::RenewCredentials, S3),
    row("TooManyRequestsException", Advice::Retry, SES),
    row("TransactionConflict", Advice::Retry, DYNAMO_TRANSACTION),
    row("TransactionConflictException", Advice::Retry, DYNAMO),
    row("TransactionInProgressException", Advice::Retry, DYNAMO_TRANSACTION),
    row("UnauthorizedOperation", Advice::FixPermissions, EC2),
    row("UnrecognizedClientException", Advice::FixCredentials, COMMON),
];

/// What a code asks to do; `None` for one that is not in the table.
///
/// ```
/// use rootwatch_aws::codes::{Advice, advice};
///
/// assert_eq!(advice("SlowDown"), Some(Advice::Retry));
/// assert_eq!(advice("NoSuchBucket"), Some(Advice::GiveUp));
/// assert_eq!(advice("SomethingNew"), None);
/// ```
#[must_use]
pub fn advice(code: &str) -> Option<Advice> {
    let place = CODES.binary_search_by(|row| row.code.cmp(code)).ok()?;
    Some(CODES[place].advice)
}

/// What a failed answer asks to do. A status that asks for a retry wins, then the code decides, then
/// the status.
///
/// ```
/// use rootwatch_aws::codes::{Advice, advice_for};
///
/// assert_eq!(advice_for(400, "ThrottlingException"), Advice::Retry);
/// assert_eq!(advice_for(503, "SomethingNew"), Advice::Retry);
/// assert_eq!(advice_for(403, ""), Advice::FixPermissions);
/// assert_eq!(advice_for(400, "SomethingNew"), Advice::GiveUp);
/// ```
#[must_use]
pub fn advice_for(status: u16, code: &str) -> Advice {
    match (advice(code), status_class(status)) {
        (Some(advice @ (Advice::FixClock | Advice::RenewCredentials)), _) => advice,
        (_, StatusClass::Retry) => Advice::Retry,
        (Some(advice), _) => advice,
        (None, StatusClass::Denied) => Advice::FixPermissions,
        (None, StatusClass::Success | StatusClass::Refused) => Advice::GiveUp,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order_without_repeats() {
        assert!(CODES.windows(2).all(|two| two[0].code < two[1].code));
    }

    #[test]
    fn every_code_has_one_advice_and_a_source() {
        let lines = CODES.iter().map(|row| {
            assert!(row.source.starts_with("https://docs.aws.amazon.com/"), "{row:?}");
            format!("{}: {:?}", row.code, row.advice)
        });
        insta::assert_snapshot!(lines.collect::<Vec<_>>().join("\n"));
    }
}
