//! Account ids: the one place that knows their form.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The id of an AWS account: twelve digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AccountId(String);

/// Why a text is not an account id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an account id of 12 digits")]
pub struct AccountIdError {
    /// The text.
    text: String,
}

impl AccountId {
    /// True for twelve digits. Records are read leniently and keep what they state; whatever is
    /// parsed, configured or put into a request is checked.
    ///
    /// ```
    /// use rootwatch_core::account::AccountId;
    /// assert!(AccountId::is_valid("111122223333"));
    /// assert!(!AccountId::is_valid("1111-2222-3333"));
    /// ```
    #[must_use]
    #[inline]
    pub fn is_valid(text: &str) -> bool {
        text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
    }

    /// The account in `222233334444` or `arn:aws:iam::222233334444:root`.
    #[must_use]
    pub fn in_principal(principal: &str) -> Option<Self> {
        let id = principal.split(':').find(|part| Self::is_valid(part))?;
        Some(Self(id.to_owned()))
    }

    /// The twelve digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AccountId {
    type Err = AccountIdError;

    fn from_str(text: &str) -> Result<Self, AccountIdError> {
        Self::try_from(text.to_owned())
    }
}

impl TryFrom<String> for AccountId {
    type Error = AccountIdError;

    fn try_from(text: String) -> Result<Self, AccountIdError> {
        if Self::is_valid(&text) { Ok(Self(text)) } else { Err(AccountIdError { text }) }
    }
}

impl From<AccountId> for String {
    fn from(id: AccountId) -> Self {
        id.0
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twelve_digits_are_an_account_id_and_nothing_else_is() {
        assert_eq!(
            "111122223333".parse::<AccountId>().map(String::from),
            Ok("111122223333".into())
        );
        for text in
            ["", "11112222333", "1111222233334", "1111-2222-333", "11112222333x", "１１１１"]
        {
            assert!(text.parse::<AccountId>().is_err(), "{text}");
            assert!(serde_json::from_value::<AccountId>(text.into()).is_err(), "{text}");
        }
        let error = "prod".parse::<AccountId>().expect_err("not an id");
        assert_eq!(error.to_string(), "`prod` is not an account id of 12 digits");
    }

    #[test]
    fn a_principal_names_its_account() {
        let found = |text: &str| AccountId::in_principal(text).map(String::from);
        assert_eq!(found("222233334444").as_deref(), Some("222233334444"));
        assert_eq!(found("arn:aws:iam::222233334444:root").as_deref(), Some("222233334444"));
        assert_eq!(found("arn:aws:iam::aws:policy/X"), None);
    }
}
