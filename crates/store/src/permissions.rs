//! AWS permissions of the DynamoDB store.

use rootwatch_core::permissions::{Permissions, Statement};

const TABLE: &str = "arn:aws:dynamodb:REGION:ACCOUNT:table/rootwatch";
const INDEX: &str = "arn:aws:dynamodb:REGION:ACCOUNT:table/rootwatch/index/*";

/// What the store needs, by command and key.
pub const PERMISSIONS: &[Permissions] = &[
    Permissions {
        part: "`store.table`: the hub over a DynamoDB table",
        statements: &[Statement {
            sid: "UseTable",
            // Transactions have no action of their own.
            actions: &[
                "dynamodb:BatchGetItem",
                "dynamodb:ConditionCheckItem",
                "dynamodb:DeleteItem",
                "dynamodb:GetItem",
                "dynamodb:PutItem",
                "dynamodb:Query",
                "dynamodb:UpdateItem",
            ],
            resources: &[TABLE, INDEX],
            only: None,
        }],
    },
    Permissions {
        part: "`store init`",
        statements: &[Statement {
            sid: "CreateTable",
            actions: &[
                "dynamodb:CreateTable",
                "dynamodb:DescribeTable",
                "dynamodb:UpdateTimeToLive",
            ],
            resources: &[TABLE],
            only: None,
        }],
    },
    Permissions {
        part: "`store check`, in addition to `store.table`",
        statements: &[Statement {
            sid: "ReadWholeTable",
            actions: &["dynamodb:Scan"],
            resources: &[TABLE],
            only: None,
        }],
    },
];
