//! AWS permissions of the sources in AWS.

use rootwatch_core::permissions::{Permissions, Statement};

const LIST: Statement = Statement {
    sid: "ListLogFiles",
    actions: &["s3:ListBucket"],
    resources: &["arn:aws:s3:::TRAIL-BUCKET"],
    only: None,
};

/// What scans of AWS need, by command.
pub const PERMISSIONS: &[Permissions] = &[
    Permissions {
        part: "`scan s3://TRAIL-BUCKET/PREFIX`",
        statements: &[
            LIST,
            Statement {
                sid: "ReadLogFiles",
                actions: &["s3:GetObject"],
                resources: &["arn:aws:s3:::TRAIL-BUCKET/*"],
                only: None,
            },
            Statement {
                sid: "DecryptLogFiles",
                actions: &["kms:Decrypt"],
                resources: &["arn:aws:kms:REGION:ACCOUNT:key/KEY"],
                only: Some("if the log files are encrypted with a KMS key"),
            },
        ],
    },
    Permissions {
        part: "`scan lookup://`",
        statements: &[Statement {
            sid: "ReadEventHistory",
            actions: &["cloudtrail:LookupEvents", "ec2:DescribeRegions"],
            resources: &["*"],
            only: None,
        }],
    },
    Permissions {
        part: "`--role-arn`, `--role-name`",
        statements: &[Statement {
            sid: "AssumeReaderRole",
            actions: &["sts:AssumeRole"],
            resources: &["arn:aws:iam::ACCOUNT:role/NAME"],
            only: None,
        }],
    },
    Permissions {
        part: "`scan --fan-out QUEUE_URL`",
        statements: &[
            LIST,
            Statement {
                sid: "QueueObjects",
                actions: &["sqs:SendMessage"],
                resources: &["arn:aws:sqs:REGION:HUB:rootwatch-history"],
                only: None,
            },
        ],
    },
    Permissions {
        part: "`scan status QUEUE_URL`",
        statements: &[Statement {
            sid: "ReadQueueDepth",
            actions: &["sqs:GetQueueAttributes", "sqs:GetQueueUrl"],
            resources: &[
                "arn:aws:sqs:REGION:HUB:rootwatch-history",
                "arn:aws:sqs:REGION:HUB:rootwatch-history-dead-letters",
            ],
            only: None,
        }],
    },
];
