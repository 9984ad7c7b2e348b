//! The metric filter of the CIS AWS Foundations Benchmark for use of the root user.

/// The filter pattern, letter for letter as Security Hub's documentation of the control CloudWatch.1
/// prescribes it
/// (<https://docs.aws.amazon.com/securityhub/latest/userguide/cloudwatch-controls.html#cloudwatch-1>):
/// with anything more or less, the control fails. The templates in `deploy/alarm/` hold copies, and a
/// tidy check compares them.
///
/// It sees less than Rootwatch: neither `AssumeRoot` nor sessions that the root user issued.
pub const METRIC_FILTER: &str = "{$.userIdentity.type=\"Root\" && $.userIdentity.invokedBy NOT EXISTS \
                                 && $.eventType !=\"AwsServiceEvent\"}";
