//! Constants that ARCHITECTURE.md names.

use super::tree::Tree;

/// Each `NAME_IN_CAPITALS` between backticks in ARCHITECTURE.md is a constant of some crate.
pub(super) fn limits(tree: &Tree) -> Vec<String> {
    let Some(map) = tree.text("ARCHITECTURE.md") else { return Vec::new() };
    let mut problems = Vec::new();
    for (index, line) in map.lines().enumerate() {
        for name in line.split('`').skip(1).step_by(2).filter(|name| is_constant(name)) {
            let declared = format!("const {name}:");
            let is_there = tree.texts("crates/", ".rs").any(|(_, text)| text.contains(&declared));
            if !is_there {
                problems.push(format!("ARCHITECTURE.md:{}: no constant `{name}`", index + 1));
            }
        }
    }
    problems
}

fn is_constant(name: &str) -> bool {
    let is_part = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    name.contains('_') && name.chars().all(is_part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constant_that_no_crate_has_is_found() {
        let problems = |map: &str| {
            let source = "pub const FILE_BYTES_MAX: u64 = 1;";
            let files = vec![("ARCHITECTURE.md", map), ("crates/scan/src/lib.rs", source)];
            limits(&Tree::of(files))
        };
        assert_eq!(problems("| `FILE_BYTES_MAX` | 1 |"), Vec::<String>::new());
        assert_eq!(problems("`README` and NO_CODE and `rootwatch`"), Vec::<String>::new());
        assert_eq!(problems("a\n`FILES_MAX`"), ["ARCHITECTURE.md:2: no constant `FILES_MAX`"]);
    }
}
