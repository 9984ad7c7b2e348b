//! Compares the items of the table with each other.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::DynamoStore;
use super::item::{Item, Key, PARTS, sorted, unsorted};
use super::layout::{HeadItem, MATCHES};
use super::parts::parts_of;
use crate::StoreError;
use crate::rows;

/// Maximum number of problems that a check reports.
const PROBLEMS_MAX: usize = 100;

impl DynamoStore {
    /// Compares the items of the table with each other. Reads all of it, which DynamoDB charges for;
    /// while others write it may report problems that do not exist.
    ///
    /// # Errors
    /// When it cannot be read at all.
    pub async fn check(&self) -> Result<Vec<String>, StoreError> {
        let head = self.committed_head().await?;
        let mut collections: BTreeMap<String, BTreeMap<String, Item>> = BTreeMap::new();
        for (key, item) in self.table.scan().await? {
            collections.entry(key.pk).or_default().insert(key.sk, item);
        }
        let mut check = Check { collections: &collections, problems: Vec::new() };
        check.incidents()?;
        check.findings(head.findings)?;
        check.deliveries()?;
        check.parts();
        let unverified = collections.keys().filter(|pk| pk.starts_with("V#")).count() as i64;
        if unverified != head.unverified {
            check.report(format!("{unverified} unverified records, counted {}", head.unverified));
        }
        Ok(check.problems)
    }
}

/// All items of a table.
struct Check<'a> {
    collections: &'a BTreeMap<String, BTreeMap<String, Item>>,
    problems: Vec<String>,
}

impl Check<'_> {
    fn report(&mut self, problem: String) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(problem);
        }
    }

    fn get(&self, pk: &str, sk: &str) -> Option<&Item> {
        self.collections.get(pk)?.get(sk)
    }

    fn of<'b>(
        &'b self,
        prefix: &'b str,
    ) -> impl Iterator<Item = (&'b String, &'b BTreeMap<String, Item>)> {
        self.collections.iter().filter(move |(pk, _)| pk.starts_with(prefix))
    }

    fn incidents(&mut self) -> Result<(), StoreError> {
        let mut problems = Vec::new();
        let (mut entries, mut unended) = (BTreeSet::new(), BTreeSet::new());
        for (pk, items) in self.of("I#") {
            let Some(item) = items.get("H") else {
                problems.push(format!("{pk}: findings of an incident that is not there"));
                continue;
            };
            let total = item.counts("total")?;
            let shown = items.keys().filter(|sk| sk.starts_with("F#") || sk.starts_with("X#"));
            if total != shown.count() as i64 {
                problems.push(format!("{pk}: an incident that miscounts its findings"));
            }
            let originals = items.keys().filter(|sk| sk.starts_with("O#")).count() as i64;
            if item.counts("originals")? != originals {
                problems.push(format!("{pk}: an incident that miscounts what it judges otherwise"));
            }
            let mut echoes: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
            for (sk, echo) in items.iter().filter(|(sk, _)| sk.starts_with("X#")) {
                let at = unsorted(&sk[2..])?;
                let counted = echoes.entry(echo.needs("e")?).or_insert((0, i64::MIN));
                *counted = (counted.0 + 1, counted.1.max(at));
            }
            let mut counted: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
            for (_, echo) in items.iter().filter(|(sk, _)| sk.starts_with("E#")) {
                counted.insert(echo.needs("k")?, (echo.counts("n")?, echo.counts("last")?));
            }
            if echoes != counted {
                problems.push(format!("{pk}: an incident that miscounts its echoes"));
            }
            // The body may be stored in parts.
            let Some(entry) = self.entry_of(pk) else {
                problems.push(format!("{pk}: an incident that no list has, or several times"));
                continue;
            };
            entries.insert(entry.0.clone());
            let is_unended = [Some("open"), Some("acknowledged")].contains(&entry.1.text("state"));
            let listed = format!("={}", &pk[2..]);
            if is_unended != self.get("U", &listed).is_some() {
                problems.push(format!("{pk}: an incident in a list where it does not belong"));
            }
            if is_unended {
                unended.insert(listed);
            }
            if item.number(PARTS).is_none() {
                let head = HeadItem::read(item)?;
                let entry = entry.1;
                if entry.text("state") != Some(rows::state(head.incident.state))
                    || entry.number("sev") != Some(head.incident.severity as i64)
                {
                    problems.push(format!("{pk}: an incident whose entry differs from it"));
                }
            }
        }
        for (pk, known, word) in [("IT", entries, "list"), ("U", unended, "list of open ones")] {
            for sk in self.collections.get(pk).into_iter().flat_map(BTreeMap::keys) {
                if !known.contains(sk) {
                    problems.push(format!("{sk}: an entry of the {word} without an incident"));
                }
            }
        }
        problems.into_iter().for_each(|problem| self.report(problem));
        Ok(())
    }

    fn entry_of(&self, pk: &str) -> Option<(&String, &Item)> {
        let name = pk.strip_prefix("I")?;
        let mut found = self.collections.get("IT")?.iter().filter(|(sk, _)| sk.ends_with(name));
        let first = found.next()?;
        found.next().is_none().then_some(first)
    }

    /// Bodies that are stored in parts.
    fn parts(&mut self) {
        let mut wanted: BTreeMap<String, i64> = BTreeMap::new();
        for (pk, items) in self.collections {
            for (sk, item) in items {
                if let Some(parts) = item.number(PARTS) {
                    wanted.insert(parts_of(&Key::new(pk, sk)), parts);
                }
            }
        }
        let of_parts = self.of("B#").map(|(pk, items)| (pk.clone(), items.len() as i64));
        let found: BTreeMap<String, i64> = of_parts.collect();
        if wanted != found {
            self.report(format!("bodies have the parts {wanted:?}, and {found:?} are there"));
        }
    }

    fn findings(&mut self, counted: i64) -> Result<(), StoreError> {
        let mut problems = Vec::new();
        let mut known = 0;
        let mut places: HashMap<(String, String), &str> = HashMap::new();
        for (pk, items) in self.of("K#") {
            known += 1;
            let Some(item) = items.get("K") else { continue };
            let incident = format!("I#{}", item.needs("i")?);
            let (letter, name) = (item.needs("l")?, &pk[2..]);
            let shown = format!("{letter}#{}#{name}", sorted(item.counts("at")?));
            let original = format!("O#{name}");
            let has_original = item.number("o") == Some(1);
            if letter != "O" && self.get(&incident, &shown).is_none() {
                problems.push(format!("{pk}: a finding without content"));
            }
            if has_original != self.get(&incident, &original).is_some()
                || (letter == "O" && !has_original)
            {
                problems.push(format!("{pk}: a finding that lost how it stood by itself"));
            }
            if letter != "O" {
                places.insert((incident.clone(), shown), pk);
            }
            if has_original {
                places.insert((incident, original), pk);
            }
            if let Some(account) = item.text("s") {
                let sk = format!("{MATCHES}{}#{name}", sorted(item.counts("at")?));
                if self.get(&format!("A#{account}"), &sk).is_none() {
                    problems.push(format!("{pk}: a finding that rules do not look back at"));
                }
            }
        }
        for (pk, items) in self.of("I#") {
            for sk in items.keys().filter(|sk| !sk.starts_with("E#") && *sk != "H") {
                if !places.contains_key(&(pk.clone(), sk.clone())) {
                    problems.push(format!("{pk} {sk}: a finding that is not known"));
                }
            }
        }
        if known != counted {
            problems.push(format!("{known} findings, counted {counted}"));
        }
        problems.into_iter().for_each(|problem| self.report(problem));
        Ok(())
    }

    fn deliveries(&mut self) -> Result<(), StoreError> {
        let mut problems = Vec::new();
        let mut counts: BTreeMap<String, i64> = BTreeMap::new();
        let (mut in_turn, mut due) = (0, 0);
        for (pk, items) in self.of("D#") {
            let Some(item) = items.get("D") else { continue };
            let state = item.needs("state")?;
            let name = format!("{}|{state}", item.needs("dest")?);
            *counts.entry(name).or_default() += 1;
            due += i64::from(state == "due");
            in_turn += item.counts("turn")?;
            if state != "due" && (item.number("leased").is_some() || item.number("ended").is_none())
            {
                problems.push(format!("{pk}: a delivery that ended and does not look so"));
            }
            if state != "due" && item.counts("turn")? != 0 {
                problems.push(format!("{pk}: a delivery that is out of its turn"));
            }
            if item.counts("turn")? == 1 {
                let at = item.counts("due")?;
                let at = at.max(item.number("leased").unwrap_or(at));
                let sk = format!("{}#{}", sorted(at), sorted(item.counts("number")?));
                let ready = format!("R#{}", item.needs("dest")?);
                if self.get(&ready, &sk).is_none() {
                    problems.push(format!("{pk}: a delivery that would be sent at another time"));
                }
            }
        }
        let ready: usize = self.of("R#").map(|(_, items)| items.len()).sum();
        if ready as i64 != in_turn {
            problems.push(format!("{ready} deliveries are ready, {in_turn} in turn"));
        }
        let (mut waiting, mut threads, mut unended) = (0, 0, 0);
        for (_, items) in self.of("T#") {
            threads += 1;
            waiting += items.keys().filter(|sk| sk.starts_with("W#")).count() as i64;
            unended += items.get("!").map_or(Ok(0), |item| item.counts("n"))?;
        }
        if (waiting, unended, threads) != (due, due, in_turn) {
            problems.push(format!(
                "{due} deliveries are due and {in_turn} in turn, {waiting} wait, {threads} threads \
                 count {unended}"
            ));
        }
        let mut counted: BTreeMap<String, i64> = BTreeMap::new();
        for item in self.collections.get("C").into_iter().flat_map(BTreeMap::values) {
            for name in item.0.keys() {
                *counted.entry(name.clone()).or_default() += item.number(name).unwrap_or_default();
            }
        }
        counted.retain(|_, number| *number != 0);
        if counted != counts {
            problems.push(format!("deliveries are counted as {counted:?}, and are {counts:?}"));
        }
        problems.into_iter().for_each(|problem| self.report(problem));
        Ok(())
    }
}
