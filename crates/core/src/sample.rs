//! Findings for tests, written short: the one place that builds a [`Finding`] field by field.
//!
//! Built for this crate's own tests and, with the feature `testkit`, for those of the others.

use std::ops::{Deref, DerefMut};

use jiff::Timestamp;

use crate::finding::{
    Addendum, Finding, FindingKey, Mfa, NeedsRoot, Outcome, Reason, RootUse, SessionFacts, Severity,
};

/// A finding under construction: every method sets what its name says.
#[derive(Debug, Clone)]
pub struct Sample(pub Finding);

impl Deref for Sample {
    type Target = Finding;
    fn deref(&self) -> &Finding {
        &self.0
    }
}

impl DerefMut for Sample {
    fn deref_mut(&mut self) -> &mut Finding {
        &mut self.0
    }
}

/// `14:03:12` on the day of the example break-in, or a whole timestamp.
///
/// # Panics
/// When the text is neither.
#[must_use]
pub fn clock(text: &str) -> Timestamp {
    let whole = if text.contains('T') { text.to_owned() } else { format!("2026-05-04T{text}Z") };
    whole.parse().expect("a time")
}

/// A direct, low, successful call of the root user. The key follows from the arguments.
#[must_use]
pub fn call(account: &str, time: &str, name: &str) -> Sample {
    Sample(call_at(account, clock(time), name)).keyed(&format!("{account} {time} {name}"))
}

/// [`call`] with a timestamp.
#[must_use]
pub fn call_at(account: &str, time: Timestamp, name: &str) -> Finding {
    let key = format!("{account} {time} {name}");
    Finding {
        key: FindingKey(key.clone()),
        event_id: Some(format!("event of {key}")),
        event_time: Some(time),
        account_id: Some(account.to_owned()),
        recipient_account_id: Some(account.to_owned()),
        region: Some("us-east-1".to_owned()),
        event_source: None,
        event_name: Some(name.to_owned()),
        root_use: RootUse::Direct,
        severity: Severity::Low,
        rules: Vec::new(),
        title: format!("Root user called {name}"),
        did: name.to_owned(),
        reasons: vec![Reason::new("root_identity", "the root user itself called")],
        outcome: Outcome::Success,
        error_code: None,
        error_message: None,
        mfa: Mfa::NotStated,
        source_ip: None,
        user_agent: None,
        access_key_id: None,
        read_only: None,
        needs_root: NeedsRoot::Unknown,
        actor: None,
        target: None,
        shared_event_id: None,
        addendum: None,
        session: SessionFacts {
            principal_type: Some("Root".to_owned()),
            principal_arn: Some(format!("arn:aws:iam::{account}:root")),
            ..SessionFacts::default()
        },
    }
}

/// A console sign-in that failed.
#[must_use]
pub fn failed(account: &str, time: &str, address: &str) -> Sample {
    let mut one = call(account, time, "ConsoleLogin").from(address);
    one.key.0.push_str(address);
    one.outcome = Outcome::Failure;
    one.session.sign_in = true;
    one
}

/// A console sign-in that succeeded.
#[must_use]
pub fn signed_in(account: &str, time: &str, address: &str) -> Sample {
    let mut one = failed(account, time, address);
    one.outcome = Outcome::Success;
    one.severity(Severity::High)
}

/// An action on an account page, in a record that states no identity type.
#[must_use]
pub fn page(account: &str, time: &str, name: &str) -> Sample {
    let mut one = call(account, time, name);
    one.session = SessionFacts::default();
    one.used(RootUse::Possible)
}

/// A successful `AssumeRoot` call.
#[must_use]
pub fn assume_root(caller: &str, time: &str, target: &str, issued: &str) -> Sample {
    let mut one = call("111122223333", time, "AssumeRoot").issued(issued);
    one.key.0.push_str(target);
    one.key.0.push_str(caller);
    one.actor = Some(caller.to_owned());
    one.session.principal_type = Some("AssumedRole".to_owned());
    one.session.principal_arn = Some(caller.to_owned());
    one.session.target_account_id = Some(target.to_owned());
    one.session.task_policy = Some("IAMAuditRootUserCredentials".to_owned());
    one.used(RootUse::Privileged).severity(Severity::Informational)
}

/// A record without root use that a rule matched.
#[must_use]
pub fn watched(account: &str, time: &str, actor: &str) -> Sample {
    let mut one = call(account, time, "StopLogging").severity(Severity::High);
    one.key.0.push_str(actor);
    one.actor = Some(actor.to_owned());
    one.session.principal_type = Some("IAMUser".to_owned());
    one.session.principal_arn = Some(actor.to_owned());
    one.used(RootUse::No)
}

impl Sample {
    /// From this address.
    #[must_use]
    pub fn from(mut self, address: &str) -> Self {
        self.source_ip = Some(address.to_owned());
        self
    }

    /// Of this class of root use.
    #[must_use]
    pub fn used(mut self, root_use: RootUse) -> Self {
        self.root_use = root_use;
        self
    }

    /// Of this severity.
    #[must_use]
    pub fn severity(mut self, severity: Severity) -> Self {
        self.severity = severity;
        self
    }

    /// With one more reason.
    #[must_use]
    pub fn because(mut self, code: &'static str) -> Self {
        self.reasons.push(Reason::new(code, code.replace('_', " ")));
        self
    }

    /// In the session that began at this time.
    #[must_use]
    pub fn since(mut self, created: &str) -> Self {
        self.session.created_at = Some(clock(created));
        self
    }

    /// Signed with this access key; `AKIA…` is a long-term key.
    #[must_use]
    pub fn with_key(mut self, key: &str) -> Self {
        self.access_key_id = Some(key.to_owned());
        self.session.long_term_key = key.starts_with("AKIA");
        self
    }

    /// A call that issued this access key.
    #[must_use]
    pub fn issued(mut self, key: &str) -> Self {
        self.session.issued_key_id = Some(key.to_owned());
        self
    }

    /// A call that this AWS service made for the root user.
    #[must_use]
    pub fn by_service(mut self, service: &str) -> Self {
        self.session.invoked_by = Some(service.to_owned());
        self.source_ip = Some(service.to_owned());
        self.used(RootUse::OnBehalf).severity(Severity::Informational)
    }

    /// A call that was denied.
    #[must_use]
    pub fn denied(mut self) -> Self {
        self.outcome = Outcome::Failure;
        self.error_code = Some("AccessDenied".to_owned());
        self
    }

    /// One of the records of a call that concerns several accounts.
    #[must_use]
    pub fn shared(mut self, id: &str) -> Self {
        self.shared_event_id = Some(id.to_owned());
        self
    }

    /// A later record with an addendum; `original` is the event id that it corrects.
    #[must_use]
    pub fn late(mut self, reason: &str, original: Option<&str>) -> Self {
        self.addendum = Some(Addendum {
            reason: reason.to_owned(),
            original_event_id: original.map(str::to_owned),
            updated_fields: None,
        });
        self
    }

    /// With a key of its own, where two findings would share one.
    #[must_use]
    pub fn keyed(mut self, key: &str) -> Self {
        self.key = FindingKey(key.to_owned());
        self.event_id = Some(format!("event of {key}"));
        self
    }

    /// A call that only reads.
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.read_only = Some(true);
        self
    }
}
