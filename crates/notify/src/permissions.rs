//! AWS permissions of the channels that call AWS.

use rootwatch_core::permissions::{Permissions, Statement};

const ASSUME_ROLE: Statement = Statement {
    sid: "AssumeChannelRole",
    actions: &["sts:AssumeRole"],
    resources: &["arn:aws:iam::ACCOUNT:role/NAME"],
    only: Some("if the destination has a `role`; then that role needs the other statements"),
};

/// What channels need to deliver messages, in the order of their names.
pub const PERMISSIONS: &[Permissions] = &[
    Permissions {
        part: "channel `email` with `ses`",
        statements: &[
            Statement {
                sid: "SendEmail",
                actions: &["ses:SendEmail"],
                resources: &["arn:aws:ses:REGION:ACCOUNT:identity/example.com"],
                only: None,
            },
            ASSUME_ROLE,
        ],
    },
    Permissions {
        part: "channel `eventbridge`",
        statements: &[
            Statement {
                sid: "PutEvents",
                actions: &["events:PutEvents"],
                resources: &["arn:aws:events:REGION:ACCOUNT:event-bus/BUS"],
                only: None,
            },
            ASSUME_ROLE,
        ],
    },
    Permissions {
        part: "channel `ocsf` with `s3`",
        statements: &[
            Statement {
                sid: "WriteObjects",
                actions: &["s3:PutObject"],
                resources: &["arn:aws:s3:::BUCKET/PREFIX/*"],
                only: None,
            },
            Statement {
                sid: "EncryptObjects",
                actions: &["kms:GenerateDataKey"],
                resources: &["arn:aws:kms:REGION:ACCOUNT:key/KEY"],
                only: Some("if the bucket encrypts with a KMS key"),
            },
            ASSUME_ROLE,
        ],
    },
    Permissions {
        part: "channel `securityhub`",
        statements: &[
            Statement {
                sid: "ImportFindings",
                actions: &["securityhub:BatchImportFindings", "securityhub:BatchUpdateFindings"],
                resources: &["*"],
                only: None,
            },
            ASSUME_ROLE,
        ],
    },
    Permissions {
        part: "channel `sms`",
        statements: &[
            Statement {
                sid: "SendMessages",
                actions: &["sns:Publish"],
                // A phone number has no ARN.
                resources: &["*"],
                only: None,
            },
            ASSUME_ROLE,
        ],
    },
    Permissions {
        part: "channel `sns`",
        statements: &[
            Statement {
                sid: "Publish",
                actions: &["sns:Publish"],
                resources: &["arn:aws:sns:REGION:ACCOUNT:TOPIC"],
                only: None,
            },
            Statement {
                sid: "PublishEncrypted",
                actions: &["kms:Decrypt", "kms:GenerateDataKey"],
                resources: &["arn:aws:kms:REGION:ACCOUNT:key/KEY"],
                only: Some("if the topic is encrypted with a customer managed key"),
            },
            ASSUME_ROLE,
        ],
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channels::ChannelConfig;

    #[test]
    fn every_channel_with_permissions_exists() {
        for permissions in PERMISSIONS {
            let name = permissions.part.split('`').nth(1).unwrap_or_default();
            assert!(ChannelConfig::NAMES.contains(&name), "{name}");
        }
    }
}
