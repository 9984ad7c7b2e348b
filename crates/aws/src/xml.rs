//! Texts in the XML of the Query protocol's answers. Namespaces are ignored; what is not XML holds
//! nothing.

/// The text of the first element of this name.
#[must_use]
pub fn element(xml: &str, name: &str) -> Option<String> {
    elements(xml, name).into_iter().next()
}

/// The texts of all elements of this name.
#[must_use]
pub fn elements(xml: &str, name: &str) -> Vec<String> {
    let Ok(document) = roxmltree::Document::parse(xml) else { return Vec::new() };
    let found = document.descendants().filter(|node| node.has_tag_name_local(name));
    found.filter_map(|node| node.text()).map(|text| text.trim().to_owned()).collect()
}

/// The pairs of a map: `<entry><key/><value/></entry>`.
#[must_use]
pub fn pairs(xml: &str) -> Vec<(String, String)> {
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

/// The members of a list, each with the names and texts of its elements.
#[must_use]
pub fn members(xml: &str) -> Vec<Vec<(String, String)>> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_found_by_name_in_any_namespace() {
        let xml = "<A xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><b> one </b><c><b x=\"1\">two \
            &amp; three</b></c><b/></A>";
        assert_eq!(elements(xml, "b"), ["one", "two & three"]);
        assert_eq!(element(xml, "b").as_deref(), Some("one"));
        assert_eq!(element(xml, "d"), None);
    }

    #[test]
    fn what_is_not_xml_holds_nothing() {
        for text in ["", "<html>", "{}", "<A><b>one</b>"] {
            assert_eq!(elements(text, "b"), Vec::<String>::new(), "{text}");
        }
    }
}
