//! Forms of the Query protocol.

use url::form_urlencoded::Serializer;

/// Versions of the services' interfaces.
const EC2_VERSION: &str = "2016-11-15";
const SNS_VERSION: &str = "2010-03-31";
const STS_VERSION: &str = "2011-06-15";

/// The action of a call, its version and its parameters.
///
/// ```
/// use rootwatch_aws::Form;
///
/// let form = Form::sts("GetCallerIdentity");
/// assert_eq!(form.into_bytes(), b"Action=GetCallerIdentity&Version=2011-06-15");
/// ```
#[derive(Debug, Clone)]
pub struct Form(String);

impl Form {
    /// An action of EC2.
    #[must_use]
    pub fn ec2(action: &str) -> Self {
        Self::new(action, EC2_VERSION)
    }

    /// An action of SNS.
    #[must_use]
    pub fn sns(action: &str) -> Self {
        Self::new(action, SNS_VERSION)
    }

    /// An action of STS.
    #[must_use]
    pub fn sts(action: &str) -> Self {
        Self::new(action, STS_VERSION)
    }

    fn new(action: &str, version: &str) -> Self {
        Self(String::new()).with("Action", action).with("Version", version)
    }

    /// The same with one more parameter.
    #[must_use]
    pub fn with(self, key: &str, value: &str) -> Self {
        let mut form = Serializer::for_suffix(self.0, 0);
        form.append_pair(key, value);
        Self(form.finish())
    }

    /// Attributes of a message of SNS: `MessageAttributes.entry.N`, N from 1.
    #[must_use]
    pub fn attributes(mut self, attributes: &[(&str, &str, String)]) -> Self {
        for (place, (name, kind, value)) in attributes.iter().enumerate() {
            let entry = format!("MessageAttributes.entry.{}", place + 1);
            self = self
                .with(&format!("{entry}.Name"), name)
                .with(&format!("{entry}.Value.DataType"), kind)
                .with(&format!("{entry}.Value.StringValue"), value);
        }
        self
    }

    /// The body of the call.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.0.into_bytes()
    }
}
