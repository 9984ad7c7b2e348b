//! The event patterns of the forwarding rules, which decide what a spoke forwards to the hub.
//!
//! Templates in `deploy/` contain copies of these patterns, and a tidy check compares them. A pattern
//! decides what leaves an account; the [rules](crate::rules) decide what it means. Patterns must
//! therefore be wider than rules, never narrower, and a test checks that.
//!
//! - No `detail-type` is constrained: AWS's documentation spells one of them in two ways, and a third
//!   must not go undetected.
//! - `source` has to begin with `aws.`, which only AWS's own services can send. Otherwise anybody in
//!   an account could have forged events forwarded.
//! - Nothing names a partition, an account or a region.
//! - No `null`: CloudFormation rejects it anywhere in a template.
//! - The forwarding rules' state has to be [`STATE`], or EventBridge does not deliver read-only calls.

/// Most characters of an event pattern, without white space, that EventBridge accepts in an account
/// with default quotas: the quota "Event pattern size" of its user guide
/// (<https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-quota.html>). The API's reference
/// allows 4,096 for `PutRule`, but only on request.
pub const PATTERN_CHARACTERS_MAX: usize = 2_048;

/// The state of every forwarding rule, at the spoke and at the hub: with plain `ENABLED`, EventBridge
/// does not deliver read-only management events.
pub const STATE: &str = "ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS";

/// The source of synthetic events that test the delivery. Only AWS may send sources that begin with
/// `aws.`, so a drill has its own.
pub const DRILL_SOURCE: &str = "rootwatch.drill";

/// Root use in all its forms, and actions that usually only the root user can take.
pub const ROOT_USE: Forwarding = Forwarding {
    id: "root-use",
    about: "Rootwatch: root use in all its forms",
    pattern: include_str!("forwarding/root-use.json"),
};

/// Changes to recording, delivery and alarms: trails, rules, topics, keys, stacks, logs, alarms.
pub const WATCHERS: Forwarding = Forwarding {
    id: "watchers",
    about: "Rootwatch: changes to what records, delivers and alarms in the account",
    pattern: include_str!("forwarding/watchers.json"),
};

/// Changes to detectors: Config, Access Analyzer, GuardDuty, Macie, Security Hub.
///
/// Separate from [`WATCHERS`] and [`LIFECYCLE`]: together with either it would exceed
/// [`PATTERN_CHARACTERS_MAX`].
pub const DETECTORS: Forwarding = Forwarding {
    id: "detectors",
    about: "Rootwatch: changes to what detects in the account",
    pattern: include_str!("forwarding/detectors.json"),
};

/// Changes to accounts and the organization: closed, removed, contacts, central root access.
pub const LIFECYCLE: Forwarding = Forwarding {
    id: "lifecycle",
    about: "Rootwatch: changes to the account and the organization",
    pattern: include_str!("forwarding/lifecycle.json"),
};

/// Synthetic events that test the path from an account to the people who get alerts.
pub const DRILL: Forwarding = Forwarding {
    id: "drill",
    about: "Rootwatch: drills, synthetic events that test the path",
    pattern: include_str!("forwarding/drill.json"),
};

/// Every forwarding rule.
pub const ALL: [Forwarding; 5] = [ROOT_USE, WATCHERS, DETECTORS, LIFECYCLE, DRILL];

/// One forwarding rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forwarding {
    /// Part of the names of forwarding rules: `rootwatch-root-use`.
    pub id: &'static str,
    /// A line for people: the forwarding rule's description.
    pub about: &'static str,
    /// The event pattern, as JSON text for people. CloudFormation and Terraform send it without its
    /// white space, and it is counted in that form.
    pub pattern: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::{CONSOLE_ACTION, ROOT_ACCOUNT_ACTIONS, ROOT_SIGN_IN_ACTIONS};
    use crate::pattern::EventPattern;

    #[test]
    fn every_pattern_is_valid_and_fits_into_the_quota() {
        for forwarding in ALL {
            EventPattern::parse(forwarding.pattern).expect(forwarding.id);
            let value: serde_json::Value = serde_json::from_str(forwarding.pattern).expect("JSON");
            // As CloudFormation and Terraform send it: compact.
            let characters = value.to_string().chars().count();
            assert!(
                characters <= PATTERN_CHARACTERS_MAX,
                "{}: {characters} characters",
                forwarding.id
            );
        }
    }

    #[test]
    fn no_pattern_names_a_partition_an_account_a_detail_type_or_null() {
        for forwarding in ALL {
            for word in
                ["arn:", "null", "aws-cn", "aws-us-gov", ".com.cn", "detail-type", "\"account\""]
            {
                assert!(!forwarding.pattern.contains(word), "{}: {word}", forwarding.id);
            }
        }
    }

    #[test]
    fn root_use_names_what_classify_calls_possible() {
        let value: serde_json::Value = serde_json::from_str(ROOT_USE.pattern).expect("JSON");
        let text = value.to_string();
        let names = ROOT_SIGN_IN_ACTIONS.iter().chain(&ROOT_ACCOUNT_ACTIONS);
        for name in names.chain([&CONSOLE_ACTION]) {
            assert!(text.contains(&format!("\"{name}\"")), "{name}");
        }
    }

    #[test]
    fn the_drill_has_its_source_and_only_that() {
        let pattern = EventPattern::parse(DRILL.pattern).expect("a pattern");
        let from = |source: &str| format!(r#"{{"source":"{source}","detail":{{}}}}"#);
        assert_eq!(pattern.matches(&from(DRILL_SOURCE)), Ok(true));
        assert_eq!(pattern.matches(&from("aws.signin")), Ok(false));
    }
}
