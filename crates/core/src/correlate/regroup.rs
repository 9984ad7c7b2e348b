//! Which of the incidents of before live on in those of now, and what became of them.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::correlate::gather::{Draft, drafts};
use crate::correlate::links::View;
use crate::correlate::{Change, IncidentUpdate, OpenIncidents};
use crate::finding::{Finding, FindingKey};
use crate::incident::{Incident, IncidentId, IncidentState, RedundantCount, by_time};

/// What becomes of incidents, all that any link could reach from `fresh` findings, together with
/// them.
pub(super) fn regroup(
    open: &OpenIncidents,
    before: &[&Incident],
    fresh: &[&Finding],
) -> Vec<Change> {
    let mut owned: Vec<(View<'_>, Option<usize>)> =
        fresh.iter().map(|finding| (View::new(finding), None)).collect();
    for (place, incident) in before.iter().enumerate() {
        owned.extend(incident.originals().map(|original| {
            let echoes = incident.echoes.get(&original.key).copied().unwrap_or_default();
            (View { echoes, ..View::new(original) }, Some(place))
        }));
    }
    owned.sort_unstable_by(|(one, _), (other, _)| by_time(one.finding, other.finding));
    let (views, owners): (Vec<View<'_>>, Vec<Option<usize>>) = owned.into_iter().unzip();
    let drafts = drafts(&views, open.policy());
    let heirs = heirs(&drafts, &owners, before);
    let ids = names(&drafts, &heirs, before, &views, |id| open.get(id).is_some());

    let mut changes = Vec::new();
    for (place, draft) in drafts.iter().enumerate() {
        let related = related(draft, &ids);
        let Some(&heir) = heirs[place].first() else {
            let shown = draft.shown.iter().map(|one| one.finding(&views).clone()).collect();
            let incident = whole(draft, ids[place].clone(), related, shown, &views);
            changes.push(Change::Opened(Box::new(incident)));
            continue;
        };
        let parents: Vec<&Incident> = heirs[place].iter().map(|&old| before[old]).collect();
        let Some(growth) = growth(draft, heir, &parents, related, &owners, &views) else {
            continue;
        };
        let from = parents.iter().map(|parent| parent.severity).max().unwrap_or_default();
        let (id, to) = (growth.id.clone(), growth.severity);
        changes.push(Change::Grew(Box::new(growth)));
        if to > from {
            changes.push(Change::Escalated { id: id.clone(), from, to });
        }
        for parent in &parents[1..] {
            changes.push(Change::Joined { into: id.clone(), from: parent.id.clone() });
        }
    }
    changes
}

/// For each draft the incidents that live on in it, the eldest first: it keeps its name.
///
/// An incident lives on where most of its findings are, among equals where the earliest is.
fn heirs(drafts: &[Draft], owners: &[Option<usize>], before: &[&Incident]) -> Vec<Vec<usize>> {
    // For each incident of before: how many findings the best draft holds, and which it is.
    let mut best: Vec<Option<(usize, usize)>> = vec![None; before.len()];
    for (place, draft) in drafts.iter().enumerate() {
        let mut shares: HashMap<usize, usize> = HashMap::new();
        for owner in draft.members.iter().filter_map(|&index| owners[index]) {
            *shares.entry(owner).or_default() += 1;
        }
        for (owner, share) in shares {
            if best[owner].is_none_or(|(most, _)| share > most) {
                best[owner] = Some((share, place));
            }
        }
    }
    let mut heirs = vec![Vec::new(); drafts.len()];
    for (owner, heir) in best.into_iter().enumerate() {
        if let Some((_, place)) = heir {
            heirs[place].push(owner);
        }
    }
    for owners in &mut heirs {
        owners.sort_by_key(|&owner: &usize| {
            let incident = before[owner];
            (incident.first_at.is_none(), incident.first_at, &incident.id)
        });
    }
    heirs
}

/// The name of each draft: the one that it inherits, or a new one from its opening finding.
pub(super) fn names(
    drafts: &[Draft],
    heirs: &[Vec<usize>],
    before: &[&Incident],
    views: &[View<'_>],
    taken: impl Fn(&IncidentId) -> bool,
) -> Vec<IncidentId> {
    let mut used: HashSet<IncidentId> = HashSet::new();
    let mut ids = Vec::with_capacity(drafts.len());
    for (draft, heirs) in drafts.iter().zip(heirs) {
        let id = match heirs.first() {
            Some(&heir) => before[heir].id.clone(),
            None => {
                let opening = draft.members.first().map(|&index| &views[index].finding.key.0);
                let opening = opening.map_or("", String::as_str);
                (0..)
                    .map(|attempt| IncidentId::derived(opening, attempt))
                    .find(|id| !used.contains(id) && !taken(id))
                    .unwrap_or_else(|| IncidentId::derived(opening, 0))
            }
        };
        used.insert(id.clone());
        ids.push(id);
    }
    ids
}

pub(super) fn related(draft: &Draft, ids: &[IncidentId]) -> Vec<IncidentId> {
    let mut related: Vec<IncidentId> =
        draft.related.iter().map(|&other| ids[other].clone()).collect();
    related.sort();
    related
}

fn whole(
    draft: &Draft,
    id: IncidentId,
    related: Vec<IncidentId>,
    findings: Vec<Finding>,
    views: &[View<'_>],
) -> Incident {
    Incident {
        head: draft.head(id, IncidentState::Open, related),
        findings,
        superseded: originals(draft, views),
        echoes: echoes(draft, views, |_| true),
    }
}

/// What echoes the members of a draft for which `which` is true.
fn echoes(
    draft: &Draft,
    views: &[View<'_>],
    which: impl Fn(usize) -> bool,
) -> BTreeMap<FindingKey, RedundantCount> {
    let members = draft.members.iter().filter(|&&index| views[index].echoes.count > 0);
    let members = members.filter(|&&index| which(index)).map(|&index| &views[index]);
    members.map(|view| (view.finding.key.clone(), view.echoes)).collect()
}

fn originals(draft: &Draft, views: &[View<'_>]) -> Vec<Finding> {
    draft.superseded.iter().map(|&index| views[index].finding.clone()).collect()
}

/// What became of the eldest of `parents`; `None` when it is what it was.
fn growth(
    draft: &Draft,
    heir: usize,
    parents: &[&Incident],
    related: Vec<IncidentId>,
    owners: &[Option<usize>],
    views: &[View<'_>],
) -> Option<IncidentUpdate> {
    let eldest = *parents.first()?;
    let gained = draft.members.iter().any(|&index| owners[index] != Some(heir));
    let (mut added, mut changed) = (Vec::new(), Vec::new());
    for one in &draft.shown {
        let original = views[one.index].finding;
        let was_revised = eldest.original(&original.key).is_some();
        if owners[one.index] != Some(heir) {
            added.push(one.finding(views).clone());
        } else if was_revised || one.revised.is_some() {
            match eldest.shown(original) {
                None => added.push(one.finding(views).clone()),
                Some(shown) if shown != one.finding(views) => {
                    changed.push(one.finding(views).clone());
                }
                Some(_) => {}
            }
        }
    }
    let stay = draft.shown.len() - added.len();
    let mut removed = Vec::new();
    if stay != eldest.findings.len() {
        let shown: HashSet<&FindingKey> =
            draft.shown.iter().map(|one| &views[one.index].finding.key).collect();
        let gone = eldest.findings.iter().filter(|finding| !shown.contains(&finding.key));
        removed.extend(gone.map(|finding| finding.key.clone()));
    }
    let (state, reopened) = state(parents, gained);
    let growth = IncidentUpdate {
        head: draft.head(eldest.id.clone(), state, related),
        reopened,
        superseded: originals(draft, views),
        added,
        changed,
        removed,
        redundant_to: None,
        echoes: echoes(draft, views, |index| owners[index] != Some(heir)),
    };
    (gained || growth.differs_from(eldest)).then_some(growth)
}

/// The state of an incident made of `parents`, the eldest first.
///
/// The worst of them decides, so that nobody's acknowledgement of something small silences a
/// break-in that it turns out to belong to; among equals an acknowledgement counts.
pub(super) fn state(parents: &[&Incident], gained: bool) -> (IncidentState, bool) {
    let worst = parents.iter().map(|parent| parent.severity).max();
    let mut states = parents.iter().filter(|one| Some(one.severity) == worst).map(|one| one.state);
    let first = states.clone().next().unwrap_or_default();
    let state = if states.any(|state| state == IncidentState::Acknowledged) {
        IncidentState::Acknowledged
    } else {
        first
    };
    match state {
        IncidentState::Quiet | IncidentState::Resolved if gained => (IncidentState::Open, true),
        _ => (state, false),
    }
}
