//! What is forwarded: the event patterns of the forwarding rules, as the one source of truth.
//!
//! Templates in `deploy/` hold the same patterns, since whoever deploys them has no Rust; a tidy
//! check compares them with these. A pattern here says what leaves an account, the [rules](crate::rules)
//! say what it means: patterns are therefore wider than rules, never narrower, and a test holds
//! both to each other.
//!
//! - No `detail-type` is asked for: AWS's documentation spells one of them in two ways, and a third
//!   must not blind us.
//! - `source` has to begin with `aws.`, which only AWS's own services can put. Without it anybody in
//!   an account could have look-alikes forwarded at our cost.
//! - Nothing names a partition, an account or a region.
//! - There is no `null`, which CloudFormation refuses anywhere in a template.
//! - The forwarding rules' state has to be [`STATE`], or EventBridge keeps read-only calls back.

/// Characters of an event pattern, without white space, that EventBridge takes in an account that
/// has asked for nothing: the quota "Event pattern size" of its user guide
/// (<https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-quota.html>). The API's reference
/// allows `PutRule` 4,096, which are had on request only.
pub const PATTERN_CHARACTERS_MAX: usize = 2_048;

/// The state of every forwarding rule, at the spoke and at the hub: with plain `ENABLED`, EventBridge
/// does not deliver read-only management events.
pub const STATE: &str = "ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS";

/// The source of synthetic events that test the way. AWS refuses sources that begin with `aws.` from
/// everybody else, so a drill has to have one of its own.
pub const DRILL_SOURCE: &str = "rootwatch.drill";

/// Root use in all its forms, and what usually only the root user does.
pub const ROOT_USE: Forwarding = Forwarding {
    id: "root-use",
    about: "Rootwatch: root use in all its forms",
    pattern: include_str!("forwarding/root-use.json"),
};

/// Changes to what records, delivers and alarms: trails, rules, topics, keys, stacks, logs, alarms.
pub const WATCHERS: Forwarding = Forwarding {
    id: "watchers",
    about: "Rootwatch: changes to what records, delivers and alarms in the account",
    pattern: include_str!("forwarding/watchers.json"),
};

/// Changes to what detects: Config, Access Analyzer, GuardDuty, Macie, Security Hub.
///
/// Apart from [`WATCHERS`] and [`LIFECYCLE`] because with either it passes [`PATTERN_CHARACTERS_MAX`].
pub const DETECTORS: Forwarding = Forwarding {
    id: "detectors",
    about: "Rootwatch: changes to what detects in the account",
    pattern: include_str!("forwarding/detectors.json"),
};

/// What becomes of accounts and of the organisation: closed, removed, contacts, central root access.
pub const LIFECYCLE: Forwarding = Forwarding {
    id: "lifecycle",
    about: "Rootwatch: changes to the account and the organization",
    pattern: include_str!("forwarding/lifecycle.json"),
};

/// Synthetic events that test the way from an account to those who are told.
pub const DRILL: Forwarding = Forwarding {
    id: "drill",
    about: "Rootwatch: drills, synthetic events that test the path",
    pattern: include_str!("forwarding/drill.json"),
};

/// Every forwarding rule.
pub const ALL: [Forwarding; 5] = [ROOT_USE, WATCHERS, DETECTORS, LIFECYCLE, DRILL];

/// What one forwarding rule lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forwarding {
    /// Part of the names of forwarding rules: `rootwatch-root-use`.
    pub id: &'static str,
    /// A line for people: the forwarding rule's description.
    pub about: &'static str,
    /// The event pattern, as JSON text for people. CloudFormation and Terraform send it without its
    /// white space, and so it is counted.
    pub pattern: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::{CONSOLE_ACTION, ROOT_ACCOUNT_ACTIONS, ROOT_SIGN_IN_ACTIONS};
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
    fn root_use_names_what_judge_takes_for_possible() {
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
