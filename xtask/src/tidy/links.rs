//! Relative links between Markdown pages.

use std::collections::BTreeSet;

use super::tree::Tree;

/// Every relative link in a Markdown file names a file, a folder or a heading that exists.
pub(super) fn links(tree: &Tree) -> Vec<String> {
    let paths: BTreeSet<&str> = tree.paths().collect();
    let mut problems = Vec::new();
    for (path, text) in tree.texts("", ".md") {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        for (number, line) in prose(text) {
            for target in targets(line) {
                let is_elsewhere = target.contains("://") || target.starts_with("mailto:");
                if is_elsewhere {
                    continue;
                }
                let (file, heading) = target.split_once('#').unwrap_or((target, ""));
                let own = file.is_empty().then(|| path.to_owned());
                let Some(file) = own.or_else(|| resolved(folder, file)) else {
                    problems.push(format!("{path}:{number}: `{target}` leaves the repository"));
                    continue;
                };
                let is_folder = || paths.iter().any(|known| known.starts_with(&format!("{file}/")));
                if !paths.contains(file.as_str()) && !is_folder() {
                    problems.push(format!("{path}:{number}: `{target}` does not exist"));
                } else if !heading.is_empty() && !has_heading(tree.text(&file), heading) {
                    problems.push(format!("{path}:{number}: `{target}`: no such heading"));
                }
            }
        }
    }
    problems
}

/// Lines outside of code blocks, with their numbers.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fence: Option<&str> = None;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let start = line.trim_start();
        match fence {
            Some(open) if start.starts_with(open) => fence = None,
            Some(_) => {}
            None => match ["```", "~~~"].into_iter().find(|mark| start.starts_with(mark)) {
                Some(mark) => fence = Some(mark),
                None => return Some((index + 1, line)),
            },
        }
        None
    })
}

/// What the links of a line point to: `[text](target)`.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    line.match_indices("](").filter_map(|(at, mark)| {
        let rest = &line[at + mark.len()..];
        let target = &rest[..rest.find(')')?];
        // Code between backticks may look like a link.
        let is_code = line[..at].matches('`').count() % 2 == 1;
        (!is_code && !target.is_empty()).then_some(target)
    })
}

/// A relative path from the root; `None` above it.
fn resolved(folder: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

fn has_heading(text: Option<&str>, anchor: &str) -> bool {
    let Some(text) = text else { return false };
    prose(text).any(|(_, line)| {
        let title = line.trim_start_matches('#');
        title.len() < line.len() && title.starts_with(' ') && slug(title) == anchor
    })
}

/// The anchor that code hosts give to a heading.
fn slug(title: &str) -> String {
    let title = title.trim().to_lowercase();
    let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        let files = vec![
            ("docs/a/page.md", text),
            ("docs/b.md", "# A `b`: first, and more\n"),
            ("README.md", "[docs](docs/b.md)"),
        ];
        links(&Tree::of(files))
    }

    #[test]
    fn links_to_files_folders_and_headings_are_followed() {
        for line in [
            "[b](../b.md), [root](../../README.md) and [folder](../../docs/)",
            "[b](../b.md#a-b-first-and-more)",
            "# Own heading\n[here](#own-heading)",
            "[away](https://example.com/no-such-page)",
            "`[code](no-such.md)`",
            "```\n[in a block](no-such.md)\n```",
        ] {
            assert_eq!(problems(line), Vec::<String>::new(), "{line}");
        }
    }

    #[test]
    fn broken_links_are_found() {
        for line in [
            "[gone](gone.md)",
            "[wrong folder](b.md)",
            "[no heading](../b.md#another)",
            "[not here](#nowhere)",
            "[outside](../../../b.md)",
            "two links: [b](../b.md) and [gone](../gone.md)",
        ] {
            assert_eq!(problems(line).len(), 1, "{line}");
        }
        assert_eq!(
            problems("one\n\n[gone](gone.md)"),
            ["docs/a/page.md:3: `gone.md` does not exist"]
        );
    }
}
