//! AWS permissions that a part of the program needs.
//!
//! Each crate that calls AWS states them in its module `permissions`; the reference for users is
//! made of these statements, and `cargo xtask tidy` compares them with the calls in the source.

use std::fmt::Write as _;

/// What one part of the program needs in order to call AWS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permissions {
    /// The command, configuration key or channel, as Markdown: `` `scan lookup://` ``.
    pub part: &'static str,
    /// What it calls.
    pub statements: &'static [Statement],
}

/// One statement of an IAM policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statement {
    /// The statement's id in the policy.
    pub sid: &'static str,
    /// IAM actions: `s3:GetObject`.
    pub actions: &'static [&'static str],
    /// ARNs, with names in capitals for users to replace.
    pub resources: &'static [&'static str],
    /// When the statement is needed, if not always: "if the topic is encrypted".
    pub only: Option<&'static str>,
}

impl Permissions {
    /// The IAM policy that grants all statements, as JSON in the order that AWS's own pages use.
    #[must_use]
    pub fn policy(&self) -> String {
        let mut text = String::from("{\n  \"Version\": \"2012-10-17\",\n  \"Statement\": [");
        for (index, statement) in self.statements.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let _ = write!(
                text,
                "{comma}\n    {{\n      \"Sid\": \"{}\",\n      \"Effect\": \"Allow\",\n      \
                 \"Action\": {},\n      \"Resource\": {}\n    }}",
                statement.sid,
                list(statement.actions),
                list(statement.resources),
            );
        }
        text.push_str("\n  ]\n}");
        text
    }
}

/// A JSON list on one line. The items are our own constants and need no escaping.
fn list(items: &[&str]) -> String {
    format!("[\"{}\"]", items.join("\", \""))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_policy_is_json_and_holds_every_statement() {
        const READ: Statement = Statement {
            sid: "Read",
            actions: &["s3:GetObject", "s3:ListBucket"],
            resources: &["arn:aws:s3:::BUCKET/*"],
            only: Some("never"),
        };
        let permissions = Permissions { part: "`scan`", statements: &[READ, READ] };
        let policy: Value = serde_json::from_str(&permissions.policy()).expect("JSON");
        let one = json!({ "Sid": "Read", "Effect": "Allow",
                          "Action": ["s3:GetObject", "s3:ListBucket"],
                          "Resource": ["arn:aws:s3:::BUCKET/*"] });
        assert_eq!(policy, json!({ "Version": "2012-10-17", "Statement": [one, one] }));
    }
}
