//! AWS permissions of the hub's sources and of references to secrets, and the page for users.

use std::fmt::Write as _;

use rootwatch_core::permissions::{Permissions, Statement};

/// What the hub itself calls; its store and its channels have lists of their own.
pub const PERMISSIONS: &[Permissions] = &[
    Permissions {
        part: "`[[source.sqs]]`",
        statements: &[
            Statement {
                sid: "ReadQueue",
                actions: &[
                    "sqs:ChangeMessageVisibility",
                    "sqs:DeleteMessage",
                    "sqs:GetQueueAttributes",
                    "sqs:ReceiveMessage",
                ],
                resources: &["arn:aws:sqs:REGION:ACCOUNT:QUEUE"],
                only: None,
            },
            Statement {
                sid: "ReadLogFiles",
                actions: &["s3:GetObject"],
                resources: &["arn:aws:s3:::TRAIL-BUCKET/*"],
                only: Some("if messages notify of log files in S3"),
            },
            Statement {
                sid: "Decrypt",
                actions: &["kms:Decrypt"],
                resources: &["arn:aws:kms:REGION:ACCOUNT:key/KEY"],
                only: Some("if the queue or the log files are encrypted with a KMS key"),
            },
        ],
    },
    Permissions {
        part: "secrets: `aws-secret:` and `aws-ssm:` references",
        statements: &[
            Statement {
                sid: "ReadSecrets",
                actions: &["secretsmanager:GetSecretValue"],
                resources: &["arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME-??????"],
                only: Some("for `aws-secret:`"),
            },
            Statement {
                sid: "ReadParameters",
                actions: &["ssm:GetParameter"],
                resources: &["arn:aws:ssm:REGION:ACCOUNT:parameter/NAME"],
                only: Some("for `aws-ssm:`"),
            },
            Statement {
                sid: "DecryptSecrets",
                actions: &["kms:Decrypt"],
                resources: &["arn:aws:kms:REGION:ACCOUNT:key/KEY"],
                only: Some("if they are encrypted with a customer managed key"),
            },
        ],
    },
];

/// `docs/reference/permissions.md`. `commands` are what scans need.
#[must_use]
pub fn permissions_reference(commands: &[Permissions]) -> String {
    let mut text = String::from(
        "# IAM permissions\n\n\
         Generated from the program (`cargo xtask docs`); do not edit.\n\n\
         Replace names in capitals. Credentials are found the way every AWS tool finds them: \
         environment, profile, container or instance role. Other partitions have other ARNs \
         (`arn:aws-us-gov:`, `arn:aws-cn:`). The function on AWS needs nothing from this page: its \
         role is part of the hub's templates.\n",
    );
    let hub = [PERMISSIONS, rootwatch_store::permissions::PERMISSIONS].concat();
    let channels = rootwatch_notify::permissions::PERMISSIONS;
    for (title, parts) in [("Commands", commands), ("The hub", &hub), ("Channels", channels)] {
        let _ = writeln!(text, "\n## {title}");
        for permissions in parts {
            section(&mut text, permissions);
        }
    }
    text.push_str("\nChannels that are not listed call no AWS API.\n");
    text
}

fn section(text: &mut String, permissions: &Permissions) {
    let _ = writeln!(text, "\n### {}\n", permissions.part);
    let _ = writeln!(text, "```json\n{}\n```", permissions.policy());
    let mut conditions = permissions
        .statements
        .iter()
        .filter_map(|statement| Some((statement.sid, statement.only?)))
        .peekable();
    if conditions.peek().is_some() {
        text.push('\n');
    }
    for (sid, only) in conditions {
        let _ = writeln!(text, "- `{sid}`: only {only}.");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_a_policy_for_every_part() {
        let page = permissions_reference(&[]);
        let parts = [
            PERMISSIONS,
            rootwatch_store::permissions::PERMISSIONS,
            rootwatch_notify::permissions::PERMISSIONS,
        ];
        for permissions in parts.concat() {
            assert!(
                page.contains(&format!("\n### {}\n", permissions.part)),
                "{}",
                permissions.part
            );
        }
        assert!(page.contains("- `PublishEncrypted`: only if the topic is encrypted"), "{page}");
    }
}
