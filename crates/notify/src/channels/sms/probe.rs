//! What can be known of sending text messages without sending one.

use jiff::Timestamp;
use rootwatch_core::text;

use super::{Sms, masked};
use crate::Sent;
use crate::aws::query::{Form, members, pairs};
use crate::aws::{Failed, element};

/// Pages of a hundred numbers of the sandbox that are read; it holds ten.
const PAGES_MAX: usize = 2;

impl Sms {
    /// `None` where we are not allowed to look.
    async fn seen(&self, form: Form, now: Timestamp) -> Result<Option<String>, Failed> {
        match self.ask(form.into_bytes(), now).await {
            Ok(answer) => Ok(Some(answer)),
            Err(failed) if is_denied(&failed) => Ok(None),
            Err(failed) => Err(failed),
        }
    }

    /// Sandbox, numbers and limit.
    pub(super) async fn look(&self, now: Timestamp) -> Result<Sent, Failed> {
        let (mut told, mut faults, mut unseen) = (Vec::new(), Vec::new(), Vec::new());
        let status = self.seen(Form::sns("GetSMSSandboxAccountStatus"), now).await?;
        match status.as_deref().and_then(|answer| element(answer, "IsInSandbox")).as_deref() {
            Some("true") => {
                told.push("the account is in the SMS sandbox".to_owned());
                match self.verified(now).await? {
                    Some(verified) => {
                        for to in &self.config.to {
                            if !verified.contains(to) {
                                faults.push(format!("{} is not verified there", masked(to)));
                            }
                        }
                    }
                    None => unseen.push("its numbers"),
                }
            }
            Some(_) => told.push("the account is out of the SMS sandbox".to_owned()),
            None => unseen.push("the sandbox"),
        }
        for to in &self.config.to {
            let form = Form::sns("CheckIfPhoneNumberIsOptedOut").with("phoneNumber", to);
            let answer = self.seen(form, now).await?;
            match answer.as_deref().and_then(|answer| element(answer, "isOptedOut")).as_deref() {
                Some("true") => faults.push(format!("{} opted out", masked(to))),
                Some(_) => {}
                None if unseen.contains(&"who opted out") => {}
                None => unseen.push("who opted out"),
            }
        }
        let answer = self.seen(Form::sns("GetSMSAttributes"), now).await?;
        match answer {
            Some(answer) => {
                let found = pairs(&answer).into_iter().find(|(key, _)| key == "MonthlySpendLimit");
                let limit = found.map_or_else(|| "not set: 1".to_owned(), |(_, value)| value);
                told.push(format!("monthly limit in US dollars: {}", text::cap(&limit, 20)));
            }
            None => unseen.push("the spending limit"),
        }
        let is_blind = told.is_empty();
        if !unseen.is_empty() {
            told.push(format!("not allowed to look at {}", unseen.join(", ")));
        }
        let text = told.join("; ");
        Ok(if !faults.is_empty() {
            Sent::Misconfigured { error: format!("{}; {text}", faults.join("; ")) }
        } else if is_blind {
            Sent::Misconfigured { error: text }
        } else {
            Sent::Delivered { receipt: text }
        })
    }

    /// The numbers that are verified in the sandbox; `None` where we are not allowed to look.
    async fn verified(&self, now: Timestamp) -> Result<Option<Vec<String>>, Failed> {
        let (mut verified, mut token) = (Vec::new(), None::<String>);
        for _ in 0..PAGES_MAX {
            let mut form = Form::sns("ListSMSSandboxPhoneNumbers");
            if let Some(token) = &token {
                form = form.with("NextToken", token);
            }
            let Some(answer) = self.seen(form, now).await? else { return Ok(None) };
            for member in members(&answer) {
                let text = |name: &str| {
                    let found = member.iter().find(|(key, _)| key == name);
                    found.map(|(_, value)| value.clone()).unwrap_or_default()
                };
                if text("Status") == "Verified" {
                    verified.push(text("PhoneNumber"));
                }
            }
            token = element(&answer, "NextToken").filter(|token| !token.is_empty());
            if token.is_none() {
                break;
            }
        }
        Ok(Some(verified))
    }
}

/// Wrong keys are no question of what the probe may see.
fn is_denied(failed: &Failed) -> bool {
    matches!(
        failed.code.as_str(),
        "AuthorizationError" | "AccessDenied" | "AccessDeniedException" | "InvalidAction"
    )
}
