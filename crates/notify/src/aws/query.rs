//! Calls of SNS, which speaks the query protocol: a form goes out, XML comes back.

use url::form_urlencoded::Serializer;

/// The version of SNS's interface.
const SNS_VERSION: &str = "2010-03-31";
/// Letters of a message's group.
const GROUP_CHARS_MAX: usize = 128;

/// A form.
#[derive(Debug, Clone)]
pub(crate) struct Form(String);

impl Form {
    /// An action of SNS.
    pub(crate) fn sns(action: &str) -> Self {
        Self(String::new()).with("Action", action).with("Version", SNS_VERSION)
    }

    #[must_use]
    pub(crate) fn with(self, key: &str, value: &str) -> Self {
        let mut form = Serializer::for_suffix(self.0, 0);
        form.append_pair(key, value);
        Self(form.finish())
    }

    /// `MessageAttributes.entry.N`, N from 1.
    #[must_use]
    pub(crate) fn attributes(mut self, attributes: &[(&str, &str, String)]) -> Self {
        for (place, (name, kind, value)) in attributes.iter().enumerate() {
            let entry = format!("MessageAttributes.entry.{}", place + 1);
            self = self
                .with(&format!("{entry}.Name"), name)
                .with(&format!("{entry}.Value.DataType"), kind)
                .with(&format!("{entry}.Value.StringValue"), value);
        }
        self
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0.into_bytes()
    }
}

/// The pairs of a map in an answer, `<entry><key/><value/></entry>`, whatever their namespace.
pub(crate) fn pairs(xml: &str) -> Vec<(String, String)> {
    let Ok(document) = roxmltree::Document::parse(xml) else { return Vec::new() };
    let entries = document.descendants().filter(|node| node.has_tag_name_local("entry"));
    entries
        .map(|entry| {
            let text = |name: &str| {
                let found = entry.children().find(|node| node.has_tag_name_local(name));
                found.and_then(|node| node.text()).unwrap_or_default().to_owned()
            };
            (text("key"), text("value"))
        })
        .collect()
}

/// The members of a list in an answer, each with the texts of its elements.
pub(crate) fn members(xml: &str) -> Vec<Vec<(String, String)>> {
    let Ok(document) = roxmltree::Document::parse(xml) else { return Vec::new() };
    let members = document.descendants().filter(|node| node.has_tag_name_local("member"));
    members
        .map(|member| {
            let parts = member.children().filter(roxmltree::Node::is_element);
            parts
                .map(|part| {
                    let text = part.text().unwrap_or_default();
                    (part.tag_name().name().to_owned(), text.to_owned())
                })
                .collect()
        })
        .collect()
}

trait Local {
    fn has_tag_name_local(&self, name: &str) -> bool;
}

impl Local for roxmltree::Node<'_, '_> {
    fn has_tag_name_local(&self, name: &str) -> bool {
        self.is_element() && self.tag_name().name() == name
    }
}

/// The SHA-256 of a text, in 64 letters: where a vendor's alphabet or length is not ours.
pub(crate) fn hashed(text: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The group of a thread in a FIFO topic: itself, where the alphabet allows it.
pub(crate) fn group(thread: &str) -> String {
    let fits = (1..=GROUP_CHARS_MAX).contains(&thread.len())
        && thread.bytes().all(|byte| byte.is_ascii_graphic());
    if fits { thread.to_owned() } else { hashed(thread) }
}
