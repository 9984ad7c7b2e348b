//! What is taken away, and whether the table agrees with itself.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;
use rootwatch_core::incident::IncidentId;

use super::DynamoStore;
use super::head::{Plan, Went};
use super::item::{Item, Key, LIST_SK, PARTS, sorted, unsorted};
use super::layout::{HEARD, HeadItem, head_of};
use super::read::is_over;
use super::table::{BEGIN, Range, parts_of};
use super::work::Work;
use crate::rows::{self, micros};
use crate::{Pruned, StoreError};

/// Incidents that one commit prunes at most.
const PRUNE_INCIDENTS: usize = 50;
/// Findings that one commit prunes at most; of one incident more.
const PRUNE_FINDINGS: u64 = 2_000;
/// Beginnings of the names of notes that are pruned by age: message ids that were seen, and what
/// channels keep of threads.
pub(super) const AGEING: [&str; 2] = ["seen:", "thread:"];
/// Problems that a check tells of at most.
const PROBLEMS_MAX: usize = 100;

impl DynamoStore {
    pub(super) async fn prune_all(&self, before: Timestamp) -> Result<Pruned, StoreError> {
        self.clear_journals().await?;
        let mut pruned = Pruned::default();
        let mut from = BEGIN.to_owned();
        loop {
            let range = Range {
                from: from.clone(),
                to: sorted(micros(before)),
                ..Range::all("IT").first(super::PRUNE_SLICE)
            };
            let entries = self.table.range(range).await?;
            let Some((last, _)) = entries.last() else { break };
            // The next key that there can be.
            from = format!("{}\u{1}", last.sk);
            let ended = entries.iter().filter(|(_, item)| {
                let state = item.text("state");
                state == Some("quiet") || state == Some("resolved")
            });
            let ids: Vec<IncidentId> = ended
                .map(|(_, item)| item.needs("id").map(|id| IncidentId(id.to_owned())))
                .collect::<Result<_, _>>()?;
            for some in ids.chunks(PRUNE_INCIDENTS) {
                self.prune_incidents(some, before, &mut pruned).await?;
            }
            if entries.len() < super::PRUNE_SLICE {
                break;
            }
        }
        pruned.deliveries = self.prune_deliveries(before).await?;
        pruned.unverified = self.prune_unverified(before).await?;
        self.prune_notes(before).await?;
        Ok(pruned)
    }

    async fn prune_incidents(
        &self,
        ids: &[IncidentId],
        before: Timestamp,
        pruned: &mut Pruned,
    ) -> Result<(), StoreError> {
        let mut left = ids;
        while !left.is_empty() {
            let (mut taken, mut incidents, mut findings) = (0, 0, 0);
            let head = self.settled().await?;
            let received = BTreeMap::new();
            let mut work = Work::new(self, &received, before);
            let heads = self.table.get(&left.iter().map(head_of).collect::<Vec<_>>()).await?;
            for id in left {
                if findings >= PRUNE_FINDINGS {
                    break;
                }
                taken += 1;
                let Some(item) = heads.get(&head_of(id)) else { continue };
                let read = HeadItem::read(item)?;
                if is_over(&read.incident, read.changed, before) {
                    findings += work.remove(id).await?;
                    incidents += 1;
                }
            }
            let plan = work.finish(Vec::new())?;
            if self.push(&head, plan).await? == Went::Through {
                pruned.incidents += incidents;
                pruned.findings += findings;
                left = &left[taken..];
            }
        }
        Ok(())
    }

    async fn prune_unverified(&self, before: Timestamp) -> Result<u64, StoreError> {
        let mut pruned = 0;
        loop {
            let range = Range {
                to: sorted(micros(before)),
                of_list: true,
                ..Range::all("V").first(super::PRUNE_SLICE)
            };
            let entries = self.table.range(range).await?;
            let keys: Vec<Key> = entries.iter().map(|(key, _)| key.clone()).collect();
            let taken = loop {
                let head = self.settled().await?;
                // The list may be behind.
                let there = self.table.get(&keys).await?;
                let mut work = super::overlay::Overlay::new(&self.table);
                let taken = there.len();
                work.fetch(there.into_keys()).await?;
                for key in &keys {
                    work.delete(key.clone());
                }
                let ops = work.ops();
                let moves = !ops.is_empty();
                let plan = Plan { ops, unverified: -(taken as i64), moves, ..Plan::default() };
                if self.push(&head, plan).await? == Went::Through {
                    break taken;
                }
            };
            pruned += taken as u64;
            if entries.len() < super::PRUNE_SLICE || taken == 0 {
                return Ok(pruned);
            }
        }
    }

    async fn prune_notes(&self, before: Timestamp) -> Result<(), StoreError> {
        loop {
            let range = Range {
                to: sorted(micros(before)),
                of_list: true,
                ..Range::all("N").first(super::PRUNE_SLICE)
            };
            let entries = self.table.range(range).await?;
            for (key, entry) in &entries {
                let at = entry.needs(LIST_SK)?;
                let edit = super::write::Edit::of(key.clone()).is(LIST_SK, at);
                // One that was put again meanwhile stays.
                self.table.write(&super::write::Write::Drop(edit)).await?;
            }
            if entries.len() < super::PRUNE_SLICE {
                return Ok(());
            }
        }
    }

    /// Looks whether the table agrees with itself. Reads all of it, which DynamoDB charges for; while
    /// others write it may see what is not so.
    ///
    /// # Errors
    /// When it cannot be read at all.
    pub async fn check(&self) -> Result<Vec<String>, StoreError> {
        let head = self.settled().await?;
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
            check.tell(format!("{unverified} unverified records, counted {}", head.unverified));
        }
        Ok(check.problems)
    }
}

/// A table that was read whole.
struct Check<'a> {
    collections: &'a BTreeMap<String, BTreeMap<String, Item>>,
    problems: Vec<String>,
}

impl Check<'_> {
    fn tell(&mut self, problem: String) {
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
            // The body may lie in parts.
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
        problems.into_iter().for_each(|problem| self.tell(problem));
        Ok(())
    }

    fn entry_of(&self, pk: &str) -> Option<(&String, &Item)> {
        let name = pk.strip_prefix("I")?;
        let mut found = self.collections.get("IT")?.iter().filter(|(sk, _)| sk.ends_with(name));
        let first = found.next()?;
        found.next().is_none().then_some(first)
    }

    /// Bodies that lie beside their items.
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
            self.tell(format!("bodies have the parts {wanted:?}, and {found:?} are there"));
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
                let sk = format!("{HEARD}{}#{name}", sorted(item.counts("at")?));
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
        problems.into_iter().for_each(|problem| self.tell(problem));
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
        problems.into_iter().for_each(|problem| self.tell(problem));
        Ok(())
    }
}
