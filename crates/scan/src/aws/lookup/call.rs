//! The calls of a lookup: who am I, which regions are enabled, which events.

use aws_config::SdkConfig;
use jiff::Timestamp;
use rootwatch_aws::partition::{Partition, region_fault};
use rootwatch_aws::xml::{element, elements};
use rootwatch_aws::{Advice, AwsAccess, Call, CallError, Caller, Form, Service};
use serde_json::Value;

/// Bytes of an answer: fifty events of 256 KiB, and what is around them.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Makes the calls of a lookup with one set of credentials.
#[derive(Debug)]
pub(super) struct LookupCaller {
    access: AwsAccess,
    caller: Caller,
}

impl LookupCaller {
    pub(super) fn new(sdk: SdkConfig) -> Self {
        Self::with_access(AwsAccess::of(sdk))
    }

    /// The same with the credentials of another account.
    pub(super) fn with_sdk(&self, sdk: SdkConfig) -> Self {
        Self::with_access(self.access.with_sdk(sdk))
    }

    fn with_access(access: AwsAccess) -> Self {
        let caller = Caller::new(access.clone()).with_answer_bytes_max(ANSWER_BYTES_MAX);
        Self { access, caller }
    }

    /// The account, and the partition that its ARN names.
    pub(super) async fn identity(&self) -> Result<(String, &'static str), CallError> {
        let xml = self.query(Service::STS, Form::sts("GetCallerIdentity")).await?;
        let Some(account) = element(&xml, "Account") else {
            return Err(CallError::new(Advice::GiveUp, "STS names no account"));
        };
        let arn = element(&xml, "Arn").unwrap_or_default();
        Ok((account, Partition::of_arn(&arn).map_or("aws", |partition| partition.id)))
    }

    /// The regions that are enabled. EC2 is asked, not the account API: `ec2:DescribeRegions` is part
    /// of every read-only policy, and answers in each partition.
    pub(super) async fn regions(&self) -> Result<Vec<String>, CallError> {
        let xml = self.query(Service::EC2, Form::ec2("DescribeRegions")).await?;
        let regions = regions_of(&xml);
        if regions.is_empty() {
            return Err(CallError::new(Advice::GiveUp, "EC2 names no region"));
        }
        Ok(regions)
    }

    async fn query(&self, service: Service, form: Form) -> Result<String, CallError> {
        let call = Call::query(service, form.into_bytes());
        Ok(self.caller.call(&call, Timestamp::now()).await?.text())
    }

    /// One page of events. Not made again with new credentials, since that would exceed the rate that
    /// CloudTrail allows: the next one has them.
    pub(super) async fn lookup(&self, region: &str, query: &Value) -> Result<Vec<u8>, CallError> {
        let target = "com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101.LookupEvents";
        let call = Call::json(Service::CLOUD_TRAIL, target, query.to_string().into_bytes());
        let caller = self.caller.in_region(region);
        Ok(caller.call_once(&call, Timestamp::now()).await?.body)
    }
}

/// Regions of an answer of EC2; what is not a region's name is left out.
fn regions_of(xml: &str) -> Vec<String> {
    let mut regions = elements(xml, "regionName");
    regions.retain(|region| region_fault(region).is_none());
    regions.sort();
    regions.dedup();
    regions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_regions_are_read_from_the_answer() {
        let xml = "<DescribeRegionsResponse><regionInfo><item><regionName>us-east-1</regionName>\
            <regionEndpoint>ec2.us-east-1.amazonaws.com</regionEndpoint></item><item><regionName>\
            eu-west-1</regionName></item><item><regionName>evil.test/</regionName></item></regionInfo>\
            </DescribeRegionsResponse>";
        assert_eq!(regions_of(xml), ["eu-west-1", "us-east-1"]);
    }
}
