//! Rules that could not be decided on a record: what its finding says of them.

use crate::finding::{Finding, RULES_UNDECIDED, Reason, RootUse};
use crate::rules::Ruleset;

/// Rules that the reason `rules_undecided` names one by one; the rest are counted.
pub const UNDECIDED_NAMED_MAX: usize = 5;

/// Says which rules could not be decided, by their indexes.
///
/// The finding is as severe as if they had matched: otherwise a record could be made to look
/// harmless by making it hard to match. Rules that need more than one record count only once those
/// records are known, so they raise nothing here.
pub(super) fn note(finding: &mut Finding, undecided: &[usize], rules: &Ruleset) {
    let undecided: Vec<_> = undecided.iter().map(|index| &rules.rules()[*index]).collect();
    if finding.root_use != RootUse::OnBehalf {
        let worst = undecided.iter().filter(|rule| !rule.is_deferred()).map(|rule| rule.severity);
        finding.severity = finding.severity.max(worst.max().unwrap_or_default());
    }
    let named: Vec<&str> =
        undecided.iter().take(UNDECIDED_NAMED_MAX).map(|rule| rule.id.as_str()).collect();
    let more = match undecided.len() - named.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    // The code stands in the text too: the lines of a scan give the texts of reasons only.
    let named = named.join(", ");
    let text = format!("{RULES_UNDECIDED}: {named}{more} (record too complex to match)");
    finding.reasons.push(Reason::new(RULES_UNDECIDED, text));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::{Item, Limits, decode_log};
    use crate::detect::{Detector, finalize};
    use crate::finding::Severity;
    use crate::pattern::EVENT_DEPTH_MAX;

    /// A call of PutEventSelectors whose selectors lie in one element, so that each has to be
    /// compared with each.
    fn record(identity: &str, selectors: &str) -> String {
        format!(
            r#"{{"eventVersion":"1.11","userIdentity":{identity},"eventTime":"2026-05-04T14:03:00Z",
            "eventSource":"cloudtrail.amazonaws.com","eventName":"PutEventSelectors",
            "awsRegion":"us-east-1","eventID":"e-1","eventType":"AwsApiCall","readOnly":false,
            "recipientAccountId":"222233334444",
            "requestParameters":{{"trailName":"org","eventSelectors":{selectors}}}}}"#
        )
    }

    fn too_many() -> String {
        let pair = r#"{"includeManagementEvents":true},{"readWriteType":"ReadOnly"}"#;
        format!("[[{}]]", [pair; 2_100].join(","))
    }

    const ROLE: &str = r#"{"type":"AssumedRole","accountId":"222233334444"}"#;
    const ROOT: &str = r#"{"type":"Root","accountId":"222233334444"}"#;

    fn findings(record: &str) -> Vec<Finding> {
        let rules = Ruleset::built_in();
        let mut detector = Detector::new(&rules);
        let mut detected = Vec::new();
        let limits = Limits { depth_max: 2 * EVENT_DEPTH_MAX, ..Limits::default() };
        decode_log(record.as_bytes(), &limits, &mut |_, item| match item {
            Item::Event(event) => detected.extend(detector.detect(&event)),
            other => panic!("{other:?}"),
        });
        finalize(detected, &rules).0
    }

    #[test]
    fn a_rule_that_cannot_be_decided_is_a_finding_although_no_other_matches() {
        let found = findings(&record(ROLE, &too_many()));
        let [finding] = &found[..] else { panic!("{} findings", found.len()) };
        assert_eq!((finding.root_use, finding.severity), (RootUse::No, Severity::High));
        assert!(finding.rules.is_empty());
        assert_eq!(
            finding.rules_undecided().expect("a reason").text,
            "rules_undecided: cloudtrail-selectors-narrowed (record too complex to match)"
        );
        let decided = r#"[{"includeManagementEvents":true,"readWriteType":"All"}]"#;
        assert!(findings(&record(ROLE, decided)).is_empty());
    }

    #[test]
    fn rules_that_were_decided_stand_beside_one_that_was_not() {
        let selectors = too_many();
        let narrowed = r#"{"includeManagementEvents":false},"#;
        let selectors = format!("[{narrowed}{}", &selectors[1..]);
        let found = findings(&record(ROLE, &selectors));
        assert_eq!(found[0].rules, ["cloudtrail-selectors-narrowed"], "one alternative matches");
        assert!(found[0].rules_undecided().is_none());

        let root = findings(&record(ROOT, &too_many()));
        assert_eq!((root[0].root_use, root[0].severity), (RootUse::Direct, Severity::High));
        assert!(root[0].rules_undecided().is_some());
        let codes: Vec<&str> = root[0].reasons.iter().map(|reason| &*reason.code).collect();
        assert!(codes.contains(&"not_root_task"), "the rest is scored as usual: {codes:?}");
    }

    #[test]
    fn an_event_nested_too_deep_leaves_all_rules_undecided_and_says_so() {
        let deep = format!("{}1{}", "[".repeat(EVENT_DEPTH_MAX), "]".repeat(EVENT_DEPTH_MAX));
        let found = findings(&record(ROLE, &deep));
        let reason = found[0].rules_undecided().expect("a reason");
        let more = Ruleset::built_in().rules().len() - UNDECIDED_NAMED_MAX;
        let end = format!(" and {more} more (record too complex to match)");
        assert!(reason.text.ends_with(&end), "{}", reason.text);
    }
}
