//! What time alone changes: incidents end in silence, digests fall due, old things are let go of.
//!
//! Clocks jump. Forwards by a day, incidents close early and open again with the next record, a
//! digest comes early, and nothing is pruned until a day has really passed. Backwards, all goes on:
//! what was noted in what is now the future is taken as noted now.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use rootwatch_core::alert::{ALERT_FINDINGS_MAX, Alert, AlertKind, DIGEST_INCIDENTS_MAX, brief};
use rootwatch_core::correlate::{Change, close_quiet};
use rootwatch_core::finding::Severity;
use rootwatch_core::incident::IncidentId;
use rootwatch_store::{IncidentFilter, PAGE_ITEMS_MAX, PageRequest, StoreError};

use crate::batch::News;
use crate::engine::Engine;

/// How often the store is pruned.
const PRUNE_EVERY: Duration = Duration::from_secs(3_600);
/// How often memory is tidied.
const EVICT_EVERY: Duration = Duration::from_secs(60);
/// Silence of an incident's own, at least, whatever the times of its findings: log files of last
/// week come one after the other, and what they tell should not end and begin again between two.
const SETTLE: SignedDuration = SignedDuration::from_mins(5);
/// How long the hub is not ready after the store failed, unless it saves something before.
const TROUBLE: Duration = Duration::from_secs(30);
/// Names the note of when a shared store was pruned last.
const PRUNE_NOTE: &str = "pruned";
/// Names the note of the last digest.
const DIGEST_NOTE: &str = "digest";

impl Engine {
    /// What time alone changes.
    pub(crate) async fn tick(&mut self) -> Result<(), StoreError> {
        let mut tries = 0;
        let done = loop {
            let done = self.tick_once().await;
            if !self.is_to_try_again(&done, &mut tries).await {
                break done;
            }
        };
        self.in_step &= done.is_ok();
        self.note(done)
    }

    async fn tick_once(&mut self) -> Result<(), StoreError> {
        if self.inner.trouble.borrow().is_some() {
            // Reading may work where writing does not, and a small write where a batch has no room:
            // only after a while without trouble does this count.
            self.parts.store.ping().await?;
            if self.upkeep.failed_at.elapsed() >= TROUBLE {
                self.works();
            }
        }
        self.step().await?;
        let now = self.parts.clock.now();
        self.upkeep.look(now);
        self.memory.load_unended(&*self.parts.store).await?;
        self.close(now).await?;
        self.digest(now).await?;
        if self.memory.is_full() || self.upkeep.evicted_at.elapsed() >= EVICT_EVERY {
            self.memory.evict(&self.parts.rules, now);
            self.upkeep.evicted_at = Instant::now();
        }
        let due = self.upkeep.pruned_at.is_none_or(|at| at.elapsed() >= PRUNE_EVERY);
        if due && self.upkeep.trusts_clock() && !self.is_pruned_by_others(now).await? {
            self.prune(now).await?;
            self.upkeep.pruned_at = Some(Instant::now());
        }
        Ok(())
    }

    /// True when another that shares the store has pruned it of late; if not, says to the others
    /// that this one is about to.
    async fn is_pruned_by_others(&mut self, now: Timestamp) -> Result<bool, StoreError> {
        if self.memory.generation.is_none() {
            return Ok(false);
        }
        let note = self.parts.store.note(PRUNE_NOTE).await?;
        let at: Option<Timestamp> = note.and_then(|text| text.parse().ok());
        let every = SignedDuration::try_from(PRUNE_EVERY).unwrap_or(SignedDuration::MAX);
        // Noted by a clock that was set back since: not of late.
        let is_recent = at.is_some_and(|at| at <= now && now.duration_since(at) < every);
        if !is_recent {
            self.parts.store.put_note(PRUNE_NOTE, Some(&now.to_string())).await?;
        }
        Ok(is_recent)
    }

    /// Closes incidents of which nothing is heard any more.
    async fn close(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let mut changes = close_quiet(&self.memory.open, now);
        changes.retain(|change| {
            let Change::Closed { id, .. } = change else { return false };
            let beside = self.memory.beside(id);
            beside.touched_at = beside.touched_at.min(now);
            now.duration_since(beside.touched_at) >= SETTLE
        });
        if changes.is_empty() {
            return Ok(());
        }
        self.memory.open.apply(&changes);
        let batch = self.batch(changes, &News::default(), now).await?;
        self.save(batch).await.map(drop)
    }

    async fn prune(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let days = self.inner.settings.retention_days;
        let keep = SignedDuration::from_hours(24 * i64::from(days));
        let Ok(before) = now.checked_sub(keep) else { return Ok(()) };
        let pruned = self.parts.store.prune(before).await?;
        if pruned != rootwatch_store::Pruned::default() {
            tracing::info!(
                incidents = pruned.incidents,
                findings = pruned.findings,
                deliveries = pruned.deliveries,
                unverified = pruned.unverified,
                %before,
                "pruned what is older than the configured {days} days"
            );
            // Memory may hold what is gone.
            self.in_step &= pruned.incidents == 0;
        }
        Ok(())
    }

    /// Tells of informational incidents together, when the time has come.
    async fn digest(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let Some(due) = self.inner.settings.digest.last_due(now) else { return Ok(()) };
        // Another that shares the store may have told one since.
        if self.memory.generation.is_some() {
            self.memory.digested_at = None;
        }
        if self.memory.digested_at.is_none() {
            let note = self.parts.store.note(DIGEST_NOTE).await?;
            self.memory.digested_at = note.and_then(|text| text.parse().ok());
        }
        match self.memory.digested_at {
            // The first start: what is there now waits for the next time.
            None => return self.note_digest(now).await,
            // Noted by a clock that was set back since.
            Some(last) if last > now => return self.note_digest(now).await,
            Some(last) if last >= due => return Ok(()),
            Some(_) => {}
        }
        let filter = IncidentFilter { undigested: true, ..IncidentFilter::default() };
        let mut page = PageRequest { items_max: PAGE_ITEMS_MAX, after: None };
        let mut ids: Vec<IncidentId> = Vec::new();
        // What a look into the past brought counts as listed, and is not.
        let mut history: Vec<IncidentId> = Vec::new();
        loop {
            let found = self.parts.store.incidents(&filter, &page).await?;
            for stored in found.items {
                let list = if stored.notified.history { &mut history } else { &mut ids };
                list.push(stored.incident.head.id);
            }
            match found.next {
                Some(next) => page.after = Some(next),
                None => break,
            }
        }
        if !history.is_empty() {
            self.parts.store.mark_digested(&history, Vec::new()).await?;
        }
        if !ids.is_empty() {
            let mut briefs = Vec::new();
            for id in ids.iter().take(DIGEST_INCIDENTS_MAX) {
                let one = self.parts.store.incident(id, ALERT_FINDINGS_MAX).await?;
                let names = |id: &str| self.name(id);
                let rules = &self.parts.rules;
                briefs.push(brief(&one.incident, one.findings_total, &names, rules));
            }
            let alert = Alert {
                id: format!("digest-{}", due.as_second()),
                kind: AlertKind::Digest,
                decided_at: now,
                received_at: None,
                severity: Severity::Informational,
                incidents_left_out: ids.len().saturating_sub(briefs.len()) as u64,
                incidents: briefs,
                findings: Vec::new(),
                fresh: Vec::new(),
                next: Vec::new(),
                approval: rootwatch_core::window::Approval::Unknown,
                note: None,
            };
            self.parts.store.mark_digested(&ids, self.deliveries(&alert, now)).await?;
            self.parts.wake.notify_one();
        }
        self.note_digest(now).await
    }

    async fn note_digest(&mut self, now: Timestamp) -> Result<(), StoreError> {
        self.parts.store.put_note(DIGEST_NOTE, Some(&now.to_string())).await?;
        self.memory.digested_at = Some(now);
        Ok(())
    }
}
