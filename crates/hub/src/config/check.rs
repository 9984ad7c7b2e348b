//! What types cannot say about a configuration, looked at without asking anybody outside.

use std::collections::HashSet;

use rootwatch_core::account::AccountId;
use rootwatch_web::Scope;

use super::problem::Problem;
use super::rules;
use super::tree::Node;
use super::types::Config;

/// Letters of a token's name at most.
const NAME_BYTES_MAX: usize = 64;

/// All faults and doubts, in the order of the keys.
pub(crate) fn check(config: &Config, tree: &Node) -> Vec<Problem> {
    let mut checker = Checker { tree, problems: Vec::new() };
    checker.hub(config);
    checker.tokens(config);
    checker.accounts(config);
    checker.windows(config);
    checker.sources(config);
    checker.rules(config);
    checker.telemetry(config);
    for problem in rootwatch_notify::Notifier::check(&config.notify) {
        checker.fault(&problem.key, problem.problem);
    }
    checker.problems
}

struct Checker<'a> {
    tree: &'a Node,
    problems: Vec<Problem>,
}

impl Checker<'_> {
    fn fault(&mut self, key: &str, message: impl Into<String>) {
        let place = self.tree.nearest(key).at.clone();
        self.problems.push(Problem::new(place, key, message));
    }

    fn hint(&mut self, hint: impl Into<String>) {
        if let Some(problem) = self.problems.last_mut() {
            problem.hint = Some(hint.into());
        }
    }

    fn doubt(&mut self, key: &str, message: impl Into<String>) {
        self.fault(key, message);
        if let Some(problem) = self.problems.last_mut() {
            problem.is_warning = true;
        }
    }

    fn hub(&mut self, config: &Config) {
        let hub = &config.hub;
        if !hub.listen.ip().is_loopback() && config.token.is_empty() {
            self.fault(
                "hub.listen",
                "accepts requests from other machines, but no [[token]] is configured",
            );
            self.hint(
                "create one with `rootwatch token new NAME --scope ingest`, or listen on 127.0.0.1",
            );
        }
        if let Some(text) = &hub.public_url {
            match url::Url::parse(text) {
                Ok(url) if !matches!(url.scheme(), "http" | "https") || !url.has_host() => {
                    self.fault("hub.public_url", "must begin with https:// or http://");
                }
                Ok(url) if !url.username().is_empty() || url.password().is_some() => {
                    self.fault("hub.public_url", "must not hold a user name or password");
                }
                Ok(url) if url.query().is_some() || url.fragment().is_some() => {
                    self.fault("hub.public_url", "must not hold `?` or `#`");
                }
                Ok(_) => {}
                Err(error) => self.fault("hub.public_url", format!("is not a URL: {error}")),
            }
        }
        if hub.queue_bytes_max < hub.body_bytes_max {
            self.fault("hub.queue_bytes_max", "must be at least `hub.body_bytes_max`");
        }
        if let Some(id) = &hub.organization.id {
            let rest = id.strip_prefix("o-").unwrap_or_default();
            let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
            if !(10..=32).contains(&rest.len()) || !rest.bytes().all(is_plain) {
                let message = "must be `o-` and 10 to 32 lowercase letters and digits";
                self.fault("hub.organization.id", message);
            }
        }
        let mut seen = HashSet::new();
        for (index, id) in hub.organization.accounts.iter().enumerate() {
            let key = format!("hub.organization.accounts[{index}]");
            self.account_id(&key, id);
            if !seen.insert(id) {
                self.doubt(&key, "is listed twice");
            }
        }
    }

    fn account_id(&mut self, key: &str, id: &str) {
        if !AccountId::is_valid(id) {
            self.fault(key, "must be an account id of 12 digits");
        }
    }

    fn tokens(&mut self, config: &Config) {
        let (mut names, mut hashes) = (HashSet::new(), HashSet::new());
        for (index, token) in config.token.iter().enumerate() {
            let at = |key: &str| format!("token[{index}].{key}");
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            if token.name.is_empty()
                || token.name.len() > NAME_BYTES_MAX
                || !token.name.bytes().all(is_plain)
            {
                let message =
                    format!("must be 1 to {NAME_BYTES_MAX} letters, digits, `-`, `_` and `.`");
                self.fault(&at("name"), message);
            }
            if !names.insert(&token.name) {
                self.fault(&at("name"), "is also the name of another token");
            }
            let is_hash = token.sha256.len() == 64
                && token.sha256.bytes().all(|byte| byte.is_ascii_hexdigit());
            if !is_hash {
                self.fault(&at("sha256"), "must be 64 hexadecimal digits");
                self.hint("`rootwatch token new NAME --scope ingest` prints a token and its hash");
            } else if !hashes.insert(token.sha256.to_ascii_lowercase()) {
                self.fault(&at("sha256"), "is also the hash of another token");
            }
            if token.scopes.is_empty() {
                self.fault(&at("scopes"), "is empty: the token permits nothing");
                self.hint("scopes are `ingest`, `read` and `write`");
            }
        }
        if !config.token.is_empty()
            && !config.token.iter().any(|token| token.scopes.contains(&Scope::Ingest))
            && config.source.sqs.is_empty()
            && config.source.directory.is_empty()
            && config.source.sns.topics.is_empty()
        {
            self.doubt("token", "no token has the scope `ingest`, and there is no other source");
        }
    }

    fn accounts(&mut self, config: &Config) {
        let mut seen = HashSet::new();
        for (index, account) in config.account.iter().enumerate() {
            let key = format!("account[{index}].id");
            self.account_id(&key, &account.id);
            if !seen.insert(&account.id) {
                self.fault(&key, "is also the id of another [[account]]");
            }
        }
    }

    fn windows(&mut self, config: &Config) {
        let mut seen = HashSet::new();
        for (index, window) in config.window.iter().enumerate() {
            if let Err((key, fault)) = window.read() {
                self.fault(&format!("window[{index}].{key}"), &fault);
            }
            for (place, id) in window.accounts.iter().enumerate() {
                self.account_id(&format!("window[{index}].accounts[{place}]"), id);
            }
            if !seen.insert(&window.name) {
                self.fault(
                    &format!("window[{index}].name"),
                    "is also the name of another [[window]]",
                );
            }
        }
    }

    fn sources(&mut self, config: &Config) {
        let source = &config.source;
        for (index, topic) in source.sns.topics.iter().enumerate() {
            let parts: Vec<&str> = topic.split(':').collect();
            let is_topic = parts.len() == 6
                && parts[0] == "arn"
                && parts[1].starts_with("aws")
                && parts[2] == "sns"
                && !parts[3].is_empty()
                && AccountId::is_valid(parts[4])
                && !parts[5].is_empty();
            if !is_topic {
                let key = format!("source.sns.topics[{index}]");
                self.fault(&key, "must be the ARN of an SNS topic");
                self.hint("such as arn:aws:sns:eu-west-1:111122223333:root-events");
            }
        }
        let mut names = HashSet::new();
        for (index, sqs) in source.sqs.iter().enumerate() {
            let key = format!("source.sqs[{index}]");
            if let Err(message) = sqs.check() {
                self.setting(&key, &message);
            }
            if !names.insert(&sqs.name) {
                self.fault(&format!("{key}.name"), "is also the name of another SQS source");
            }
        }
        let mut names = HashSet::new();
        for (index, directory) in source.directory.iter().enumerate() {
            let key = format!("source.directory[{index}]");
            if let Err(message) = directory.check() {
                self.setting(&key, &message);
            } else if !directory.path.is_dir() {
                let message = if directory.path.exists() {
                    "is not a folder"
                } else {
                    "does not exist yet: the hub checks again until it does"
                };
                self.doubt(&format!("{key}.path"), message);
            }
            if !names.insert(&directory.name) {
                self.fault(&format!("{key}.name"), "is also the name of another folder source");
            }
        }
    }

    /// A source's own words, which begin with the setting's name.
    fn setting(&mut self, key: &str, message: &str) {
        match message.split_once(' ') {
            Some((setting, rest)) => self.fault(&format!("{key}.{setting}"), rest),
            None => self.fault(key, message),
        }
    }

    fn rules(&mut self, config: &Config) {
        for (index, folder) in config.rules.dir.iter().enumerate() {
            if let Err(error) = rules::read(folder) {
                self.fault(&format!("rules.dir[{index}]"), format!("cannot be used: {error}"));
            }
        }
        if !self.problems.iter().any(|problem| problem.key.starts_with("rules."))
            && let Err(error) = rules::load(&config.rules.dir)
        {
            self.fault("rules.dir", format!("cannot be used: {error}"));
        }
    }

    fn telemetry(&mut self, config: &Config) {
        let telemetry = &config.telemetry;
        if let Err(error) = crate::telemetry::check_level(&telemetry.log_level) {
            self.fault("telemetry.log_level", format!("cannot be used: {error}"));
            self.hint("such as `info`, or `info,rootwatch_engine=debug`");
        }
        if let Some(text) = &telemetry.otlp_endpoint {
            match url::Url::parse(text) {
                Ok(url) if !matches!(url.scheme(), "http" | "https") || !url.has_host() => {
                    let message = "must begin with https:// or http://";
                    self.fault("telemetry.otlp_endpoint", message);
                }
                Ok(_) => {}
                Err(error) => {
                    self.fault("telemetry.otlp_endpoint", format!("is not a URL: {error}"));
                }
            }
        }
    }
}
