//! Partitions of AWS: which domain a region's services are in, and how ARNs name it.

use rootwatch_core::account::AccountId;

/// Bytes of a region's name.
const REGION_BYTES_MAX: usize = 32;
/// Bytes of the ARN of a role.
const ROLE_ARN_BYTES_MAX: usize = 2_048;

/// A partition: a group of regions with accounts, credentials and domains of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partition {
    /// The name in ARNs: `aws-us-gov`.
    pub id: &'static str,
    /// How its regions' names begin; empty for `aws`, to which all others belong.
    pub region_prefix: &'static str,
    /// The domain of its services: `amazonaws.com`.
    pub domain: &'static str,
}

/// All partitions; the first is the one of every region that none of the others has.
///
/// Source: `partitions.json`, which AWS publishes with its SDKs (`regionRegex`, `dnsSuffix`).
pub const PARTITIONS: [Partition; 8] = [
    Partition { id: "aws", region_prefix: "", domain: "amazonaws.com" },
    Partition { id: "aws-cn", region_prefix: "cn-", domain: "amazonaws.com.cn" },
    Partition { id: "aws-us-gov", region_prefix: "us-gov-", domain: "amazonaws.com" },
    Partition { id: "aws-eusc", region_prefix: "eusc-", domain: "amazonaws.eu" },
    Partition { id: "aws-iso", region_prefix: "us-iso-", domain: "c2s.ic.gov" },
    Partition { id: "aws-iso-b", region_prefix: "us-isob-", domain: "sc2s.sgov.gov" },
    Partition { id: "aws-iso-e", region_prefix: "eu-isoe-", domain: "cloud.adc-e.uk" },
    Partition { id: "aws-iso-f", region_prefix: "us-isof-", domain: "csp.hci.ic.gov" },
];

impl Partition {
    /// The partition of a region.
    #[must_use]
    pub fn of_region(region: &str) -> Self {
        let [commercial, others @ ..] = PARTITIONS;
        let found = others.into_iter().find(|one| region.starts_with(one.region_prefix));
        found.unwrap_or(commercial)
    }

    /// The partition that an ARN names; `None` for what is not an ARN of a known partition.
    #[must_use]
    pub fn of_arn(arn: &str) -> Option<Self> {
        let id = arn.strip_prefix("arn:")?.split(':').next()?;
        PARTITIONS.into_iter().find(|one| one.id == id)
    }
}

/// The partition of a region, as ARNs write it.
#[must_use]
pub fn partition(region: &str) -> &'static str {
    Partition::of_region(region).id
}

/// What is wrong with a region; it becomes a part of a host's name.
#[must_use]
pub fn region_fault(region: &str) -> Option<String> {
    let is_right = region.len() <= REGION_BYTES_MAX
        && region.starts_with(|letter: char| letter.is_ascii_lowercase())
        && region.ends_with(|letter: char| letter.is_ascii_digit())
        && region.contains('-')
        && region.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    (!is_right).then(|| "not an AWS region: write one like `eu-west-1`".to_owned())
}

/// What is wrong with the ARN of a role.
#[must_use]
pub fn role_fault(role: &str) -> Option<String> {
    let parts: Vec<&str> = role.splitn(6, ':').collect();
    let is_right = role.len() <= ROLE_ARN_BYTES_MAX
        && matches!(parts[..], ["arn", partition, "iam", "", account, name]
            if partition.starts_with("aws") && is_account(account) && name.len() > 5 && name.starts_with("role/"));
    (!is_right).then(|| {
        "not the ARN of a role: write one like `arn:aws:iam::123456789012:role/name`".to_owned()
    })
}

/// True for the id of an account.
#[must_use]
pub fn is_account(text: &str) -> bool {
    AccountId::is_valid(text)
}

/// The parts of an ARN: partition, region, account and the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arn<'a> {
    /// `aws`, `aws-cn` …
    pub partition: &'a str,
    /// Empty for global resources.
    pub region: &'a str,
    /// Empty for some resources.
    pub account: &'a str,
    /// What follows the account.
    pub rest: &'a str,
}

impl<'a> Arn<'a> {
    /// Reads an ARN of this service; `None` for anything else.
    #[must_use]
    pub fn of(service: &str, text: &'a str) -> Option<Self> {
        let parts: Vec<&str> = text.splitn(6, ':').collect();
        let ["arn", partition, name, region, account, rest] = parts[..] else { return None };
        let is_right = partition.starts_with("aws") && name == service && !rest.is_empty();
        let is_printable = text.bytes().all(|byte| byte.is_ascii_graphic());
        (is_right && is_printable).then_some(Self { partition, region, account, rest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_change_the_host_is_not_a_region_and_not_a_role() {
        for region in ["eu-west-1", "us-gov-east-1", "ap-southeast-5", "eusc-de-east-1"] {
            assert_eq!(region_fault(region), None, "{region}");
        }
        for region in
            ["", "evil.test/", "eu-west-1.evil.test", "EU-WEST-1", "-1", "eu west-1", "a1"]
        {
            assert!(region_fault(region).is_some(), "{region}");
        }
        assert_eq!(role_fault("arn:aws:iam::123456789012:role/path/name"), None);
        for role in
            ["role/name", "arn:aws:iam::12345678901:role/a", "arn:aws:iam::123456789012:user/a"]
        {
            assert!(role_fault(role).is_some(), "{role}");
        }
        assert_eq!(
            Arn::of("sns", "arn:aws:sns:eu-west-1:123456789012:a").map(|a| a.rest),
            Some("a")
        );
        assert_eq!(Arn::of("sns", "arn:aws:sqs:eu-west-1:123456789012:a"), None);
    }

    #[test]
    fn a_partition_follows_from_a_region_and_from_an_arn() {
        let regions = [
            ("eu-west-1", "aws"),
            ("cn-north-1", "aws-cn"),
            ("us-gov-west-1", "aws-us-gov"),
            ("eusc-de-east-1", "aws-eusc"),
            ("us-iso-east-1", "aws-iso"),
            ("us-isob-east-1", "aws-iso-b"),
            ("eu-isoe-west-1", "aws-iso-e"),
            ("us-isof-south-1", "aws-iso-f"),
        ];
        for (region, id) in regions {
            assert_eq!(partition(region), id);
            let arn = format!("arn:{id}:sns:{region}:123456789012:a");
            assert_eq!(Partition::of_arn(&arn), Some(Partition::of_region(region)));
        }
        assert_eq!(Partition::of_arn("arn:aws-nowhere:sns:a-1:123456789012:a"), None);
        assert_eq!(Partition::of_arn("hub/slack"), None);
    }
}
