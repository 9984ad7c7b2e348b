//! IAM permissions that crates declare, compared with the calls in their sources and with the role
//! of the function in the hub's template.

use std::collections::BTreeSet;

use super::source::{Token, tokens};
use super::tree::Tree;

/// Calls of AWS's SDK by the methods that make them, and what each needs.
const SDK_CALLS: [(&str, &str, &[&str]); 18] = [
    ("store", "batch_get_item", &["dynamodb:BatchGetItem"]),
    ("store", "create_table", &["dynamodb:CreateTable"]),
    ("store", "delete_item", &["dynamodb:DeleteItem"]),
    ("store", "describe_table", &["dynamodb:DescribeTable"]),
    ("store", "get_item", &["dynamodb:GetItem"]),
    ("store", "put_item", &["dynamodb:PutItem"]),
    ("store", "query", &["dynamodb:Query"]),
    ("store", "scan", &["dynamodb:Scan"]),
    (
        "store",
        "transact_write_items",
        &["dynamodb:ConditionCheckItem", "dynamodb:UpdateItem", "dynamodb:PutItem"],
    ),
    ("store", "update_time_to_live", &["dynamodb:UpdateTimeToLive"]),
    ("", "change_message_visibility_batch", &["sqs:ChangeMessageVisibility"]),
    ("", "delete_message_batch", &["sqs:DeleteMessage"]),
    ("", "get_object", &["s3:GetObject"]),
    ("", "get_queue_attributes", &["sqs:GetQueueAttributes"]),
    ("", "get_queue_url", &["sqs:GetQueueUrl"]),
    ("", "head_bucket", &["s3:ListBucket"]),
    ("", "list_objects_v2", &["s3:ListBucket"]),
    ("", "receive_message", &["sqs:ReceiveMessage"]),
];
/// Services of AWS, as IAM names them.
const SERVICES: [&str; 13] = [
    "cloudtrail:",
    "dynamodb:",
    "ec2:",
    "events:",
    "kms:",
    "s3:",
    "secretsmanager:",
    "securityhub:",
    "ses:",
    "sns:",
    "sqs:",
    "ssm:",
    "sts:",
];
const TEMPLATE: &str = "deploy/hub/rootwatch-hub.yaml";
/// Granted to the function for what is not part of a crate's declaration: its own queue and log,
/// and questions about the topic.
const OF_THE_FUNCTION: [&str; 5] = [
    "sqs:SendMessage",
    "sns:GetTopicAttributes",
    "sns:ListSubscriptionsByTopic",
    "kms:DescribeKey",
    "kms:GetKeyPolicy",
];

/// Each call of AWS's SDK is declared by its crate; the function's role grants what the crates
/// declare and nothing else.
pub(super) fn permissions(tree: &Tree) -> Vec<String> {
    let mut problems = Vec::new();
    for (path, text) in tree.texts("crates/", ".rs").filter(|(path, _)| path.contains("/src/")) {
        let name = path.split('/').nth(1).unwrap_or_default();
        let declared = declared(tree, name);
        let tokens = tokens(text);
        for window in tokens.windows(4) {
            let [dot, Token::Word(method), open, close] = window else { continue };
            if !(dot.is(".") && open.is("(") && close.is(")")) {
                continue;
            }
            let calls = SDK_CALLS
                .iter()
                .filter(|(owner, call, _)| call == method && (owner.is_empty() || *owner == name));
            for action in calls.flat_map(|(_, _, actions)| *actions) {
                if !declared.contains(*action) {
                    problems.push(format!(
                        "{path} calls `{method}`, but crates/{name}/src/permissions.rs does not \
                         declare `{action}`"
                    ));
                }
            }
        }
    }
    let Some(template) = tree.text(TEMPLATE) else { return problems };
    let all: BTreeSet<String> = ["store", "notify", "hub"]
        .into_iter()
        .flat_map(|name| self::declared(tree, name))
        .collect();
    for action in granted(template) {
        if !all.contains(&action) && !OF_THE_FUNCTION.contains(&action.as_str()) {
            problems.push(format!(
                "{TEMPLATE} grants the function `{action}`, which no crate declares"
            ));
        }
    }
    problems
}

/// The actions that a crate's `permissions.rs` names.
fn declared(tree: &Tree, name: &str) -> BTreeSet<String> {
    let text = tree.text(&format!("crates/{name}/src/permissions.rs")).unwrap_or_default();
    let actions = tokens(text).into_iter().filter_map(|token| match token {
        Token::Text(text) if is_action(text) => Some(text.to_owned()),
        _ => None,
    });
    actions.collect()
}

/// The actions that the role of the function grants.
fn granted(template: &str) -> BTreeSet<String> {
    let role = template.split("\n  FunctionRole:\n").nth(1).unwrap_or_default();
    let end = role
        .match_indices('\n')
        .find(|(at, _)| {
            role[at + 1..].starts_with("  ") && !role[at + 3..].starts_with([' ', '#', '\n'])
        })
        .map_or(role.len(), |(at, _)| at);
    let words = role[..end].split(|c: char| c.is_whitespace() || "[],\"'".contains(c));
    words.filter(|word| is_action(word)).map(str::to_owned).collect()
}

fn is_action(word: &str) -> bool {
    SERVICES.iter().any(|service| {
        word.strip_prefix(service).is_some_and(|action| {
            action.starts_with(|c: char| c.is_ascii_uppercase())
                && action.chars().all(|c| c.is_ascii_alphanumeric())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DECLARED: &str = "const A: &[&str] = &[\"s3:GetObject\", \"sqs:DeleteMessage\"];";

    fn problems(path: &str, text: &str) -> Vec<String> {
        permissions(&Tree::of(vec![("crates/hub/src/permissions.rs", DECLARED), (path, text)]))
    }

    #[test]
    fn a_call_that_is_not_declared_is_found() {
        let none = Vec::<String>::new();
        assert_eq!(problems("crates/hub/src/a.rs", "client.get_object().bucket(b)"), none);
        assert_eq!(problems("crates/hub/src/a.rs", "map.query()"), none);
        assert_eq!(problems("crates/hub/src/a.rs", "// client.get_queue_url()"), none);
        assert_eq!(problems("crates/hub/src/a.rs", "client.get_queue_url().send()").len(), 1);
        assert_eq!(problems("crates/scan/src/a.rs", "client.get_object()").len(), 1);
        assert_eq!(problems("crates/store/src/a.rs", "client\n.query()").len(), 1);
    }

    #[test]
    fn a_right_of_the_function_that_nothing_uses_is_found() {
        let role = |action: &str| {
            format!(
                "  FunctionRole:\n    Action: [{action}]\n\n  Function:\n    Action: s3:PutObject\n"
            )
        };
        let template = |action: &str| format!("Resources:\n{}", role(action));
        assert_eq!(problems(TEMPLATE, &template("s3:GetObject")), Vec::<String>::new());
        assert_eq!(problems(TEMPLATE, &template("s3:DeleteObject")).len(), 1);
    }
}
