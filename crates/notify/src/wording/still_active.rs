//! What an incident leaves behind: credentials that were created and not deleted.

use rootwatch_core::finding::{Finding, Outcome};
use rootwatch_core::text;

/// Items that are named.
const NAMED_MAX: usize = 4;

/// Access keys, IAM users and sessions that these findings show created and not deleted. It knows no
/// more than the findings: a deletion that no record shows leaves its key in the list.
pub(super) fn still_active(findings: &[Finding]) -> Vec<String> {
    let created = findings.iter().filter(|finding| succeeded(finding));
    let mut items: Vec<String> = created
        .filter_map(|finding| {
            let key = finding.session.issued_key_id.as_deref();
            let target = finding.target.as_deref().filter(|target| !target.is_empty());
            match finding.event_name.as_deref()? {
                "CreateAccessKey" => {
                    let key = key.filter(|key| !is_deleted(findings, "DeleteAccessKey", key))?;
                    let key = text::cap(key, 40);
                    Some(match target {
                        Some(user) => format!("access key {key} of {}", text::cap(user, 40)),
                        None => format!("root access key {key}"),
                    })
                }
                "CreateUser" => {
                    let user = target.filter(|user| !is_deleted(findings, "DeleteUser", user))?;
                    Some(format!("IAM user {}", text::cap(user, 40)))
                }
                "GetFederationToken" | "GetSessionToken" => {
                    Some(format!("session with key {}", text::cap(key?, 40)))
                }
                _ => None,
            }
        })
        .collect();
    let more = items.len().saturating_sub(NAMED_MAX);
    items.truncate(NAMED_MAX);
    if more > 0 {
        items.push(format!("{more} more"));
    }
    items
}

/// True when a call of this name succeeded on the item. A target may name the user before the key.
fn is_deleted(findings: &[Finding], call: &str, item: &str) -> bool {
    findings.iter().filter(|finding| succeeded(finding)).any(|finding| {
        let target = finding.target.as_deref().unwrap_or_default();
        finding.event_name.as_deref() == Some(call)
            && (target == item || target.split(' ').any(|part| part == item))
    })
}

fn succeeded(finding: &Finding) -> bool {
    finding.outcome == Outcome::Success
}
