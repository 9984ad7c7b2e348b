//! Compares the incidents of a new partition with the known ones: which continues which.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::correlate::assess::{Draft, drafts};
use crate::correlate::change::{Change, IncidentUpdate};
use crate::correlate::links::View;
use crate::correlate::open::OpenIncidents;
use crate::finding::{Finding, FindingKey};
use crate::incident::{Incident, IncidentId, IncidentState, RedundantCount, by_time};

/// The changes to `before`, all incidents that any link could reach from the `fresh` findings,
/// when these are added.
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
        let Some(update) = update(draft, heir, &parents, related, &owners, &views) else {
            continue;
        };
        let from = parents.iter().map(|parent| parent.severity).max().unwrap_or_default();
        let (id, to) = (update.id.clone(), update.severity);
        changes.push(Change::Grew(Box::new(update)));
        if to > from {
            changes.push(Change::Escalated { id: id.clone(), from, to });
        }
        for parent in &parents[1..] {
            changes.push(Change::Joined { into: id.clone(), from: parent.id.clone() });
        }
    }
    changes
}

/// For each draft the incidents that continue in it, the eldest first: the draft keeps its id.
///
/// An incident continues in the draft with most of its findings; among equals, with the earliest.
fn heirs(drafts: &[Draft], owners: &[Option<usize>], before: &[&Incident]) -> Vec<Vec<usize>> {
    // For each known incident: how many of its findings the best draft has, and which draft.
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

/// The id of each draft: the inherited one, or a new one derived from its opening finding.
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

/// Counts of what is redundant to the members of a draft for which `which` is true.
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

/// The update of the eldest of `parents`; `None` if nothing changed.
fn update(
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
    let update = IncidentUpdate {
        head: draft.head(eldest.id.clone(), state, related),
        reopened,
        superseded: originals(draft, views),
        added,
        changed,
        removed,
        redundant_to: None,
        echoes: echoes(draft, views, |index| owners[index] != Some(heir)),
    };
    (gained || update.differs_from(eldest)).then_some(update)
}

/// The state of an incident that continues `parents`, the eldest first.
///
/// The most severe one decides, so that the acknowledgement of a small incident does not silence a
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
