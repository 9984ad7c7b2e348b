//! Secrets, and references to where they are stored.
//!
//! Neither prints the secret. Resolving a reference is I/O and happens elsewhere.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _};

/// Printed instead of a secret.
const MASK: &str = "***";

/// A secret in memory: a token, a signing key, a secret URL. Prints `***`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret(String);

impl Secret {
    /// Makes this text a secret.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for use only; never show or log it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

/// Where a secret is stored, as written in a configuration.
///
/// In text: `env:NAME`, `file:PATH`, `aws-secret:ID`, `aws-ssm:NAME`, or the secret itself. A
/// secret that begins with one of these prefixes has to be stored in one of these places. Prints the
/// reference, and `***` for the secret itself.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum SecretRef {
    /// The environment variable of this name.
    Env(String),
    /// The file at this path; white space at its end is not part of the secret.
    File(String),
    /// The secret of this name or ARN in AWS Secrets Manager.
    AwsSecret(String),
    /// The parameter of this name in AWS Systems Manager.
    AwsSsm(String),
    /// The secret itself.
    Plain(Secret),
}

/// Why a text is not a reference to a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SecretRefError {
    /// There is no text.
    #[error("a secret is empty")]
    Empty,
    /// A prefix without a name.
    #[error("`{prefix}` is not followed by a name")]
    Unnamed {
        /// `env:`, `file:` …
        prefix: &'static str,
    },
    /// A NUL or line break in a name or path.
    #[error("the name after `{prefix}` contains a control character")]
    Control {
        /// `env:`, `file:` …
        prefix: &'static str,
    },
}

impl std::str::FromStr for SecretRef {
    type Err = SecretRefError;

    fn from_str(text: &str) -> Result<Self, SecretRefError> {
        const PLACES: [(&str, fn(String) -> SecretRef); 4] = [
            ("env:", SecretRef::Env),
            ("file:", SecretRef::File),
            ("aws-secret:", SecretRef::AwsSecret),
            ("aws-ssm:", SecretRef::AwsSsm),
        ];
        for (prefix, place) in PLACES {
            let Some(name) = text.strip_prefix(prefix) else { continue };
            if name.trim().is_empty() {
                return Err(SecretRefError::Unnamed { prefix });
            }
            if name.chars().any(char::is_control) {
                return Err(SecretRefError::Control { prefix });
            }
            return Ok(place(name.to_owned()));
        }
        if text.is_empty() {
            return Err(SecretRefError::Empty);
        }
        Ok(Self::Plain(Secret::new(text)))
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{path}"),
            Self::AwsSecret(id) => write!(f, "aws-secret:{id}"),
            Self::AwsSsm(name) => write!(f, "aws-ssm:{name}"),
            Self::Plain(secret) => secret.fmt(f),
        }
    }
}

impl fmt::Debug for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<'de> Deserialize<'de> for SecretRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The parser's own message would quote the value.
        let text = String::deserialize(deserializer)
            .map_err(|_| D::Error::custom("a secret has to be a text"))?;
        text.parse().map_err(D::Error::custom)
    }
}

impl serde::Serialize for SecretRef {
    /// Serializes as it prints: the secret itself is masked.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<SecretRef, SecretRefError> {
        text.parse()
    }

    #[test]
    fn references_are_recognized_by_their_prefix_and_print_as_written() {
        let cases = [
            ("env:SLACK_URL", SecretRef::Env("SLACK_URL".into())),
            ("file:/run/secrets/slack", SecretRef::File("/run/secrets/slack".into())),
            ("aws-secret:hub/slack", SecretRef::AwsSecret("hub/slack".into())),
            ("aws-ssm:/hub/slack", SecretRef::AwsSsm("/hub/slack".into())),
        ];
        for (text, wanted) in cases {
            let reference = parsed(text).expect("a reference");
            assert_eq!(reference, wanted);
            assert_eq!(format!("{reference} {reference:?}"), format!("{text} {text}"));
        }
    }

    #[test]
    fn a_plain_secret_is_never_printed() {
        let reference = parsed("https://hooks.example.com/T0/B0/hush").expect("a secret");
        let SecretRef::Plain(secret) = &reference else { panic!("{reference}") };
        assert_eq!(secret.expose(), "https://hooks.example.com/T0/B0/hush");
        let shown = format!("{reference} {reference:?} {secret} {secret:?}");
        assert_eq!(shown, "*** *** *** ***");
        assert_eq!(serde_json::to_string(&reference).expect("text"), "\"***\"");
    }

    #[test]
    fn a_prefix_without_a_name_is_refused() {
        assert_eq!(parsed(""), Err(SecretRefError::Empty));
        assert_eq!(parsed("env: "), Err(SecretRefError::Unnamed { prefix: "env:" }));
        assert_eq!(parsed("file:a\nb"), Err(SecretRefError::Control { prefix: "file:" }));
    }

    #[test]
    fn a_secret_of_another_type_is_refused_without_showing_it() {
        let error = serde_json::from_str::<SecretRef>("4711").expect_err("a number");
        assert!(!error.to_string().contains("4711"), "{error}");
        assert!(serde_json::from_str::<SecretRef>("\"env:A\"").is_ok());
    }
}
