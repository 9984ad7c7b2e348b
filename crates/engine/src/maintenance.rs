//! What time alone changes: quiet incidents close, digests fall due, old data is pruned and evicted.
//!
//! Clocks jump. After a jump forwards by a day, incidents close early and open again with the next
//! record, a digest is sent early, and nothing is pruned until a day has really passed. After a jump
//! backwards, everything continues: times that now lie in the future count as now.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use rootwatch_core::alert::{ALERT_FINDINGS_MAX, Alert, AlertKind, DIGEST_INCIDENTS_MAX, brief};
use rootwatch_core::correlate::{Change, close_quiet};
use rootwatch_core::finding::Severity;
use rootwatch_core::incident::IncidentId;
use rootwatch_store::{IncidentFilter, PAGE_ITEMS_MAX, PageRequest, StoreError};

use crate::batch::BatchContext;
use crate::engine::Engine;

/// How often the store is pruned.
const PRUNE_EVERY: Duration = Duration::from_secs(3_600);
/// How often memory is evicted.
const EVICT_EVERY: Duration = Duration::from_secs(60);
/// How long an incident has to get no new finding before it closes, whatever the times of its findings.
/// Log files of last week arrive one after the other, and an incident should not close between two.
const UNTOUCHED_MIN: SignedDuration = SignedDuration::from_mins(5);
/// How long the hub is not ready after the store failed, unless it saves something earlier.
const NOT_READY: Duration = Duration::from_secs(30);
/// Name of the note that keeps when a shared store was pruned last.
const PRUNE_NOTE: &str = "pruned";
/// Name of the note that keeps when the last digest was sent.
const DIGEST_NOTE: &str = "digest";

impl Engine {
    /// Applies what time alone changes.
    pub(crate) async fn tick(&mut self) -> Result<(), StoreError> {
        let mut tries = 0;
        let done = loop {
            let done = self.tick_once().await;
            if !self.should_retry(&done, &mut tries).await {
                break done;
            }
        };
        self.in_sync &= done.is_ok();
        self.record_result(done)
    }

    async fn tick_once(&mut self) -> Result<(), StoreError> {
        if self.inner.trouble.borrow().is_some() {
            // Reading may work where writing does not, and a small write where a batch has no permit:
            // only after a while without trouble does this count.
            self.parts.store.ping().await?;
            if self.schedule.failed_at.elapsed() >= NOT_READY {
                self.store_recovered();
            }
        }
        self.sync_memory().await?;
        let now = self.parts.clock.now();
        self.schedule.check_clock(now);
        self.memory.load_unended(&*self.parts.store).await?;
        self.close(now).await?;
        self.digest(now).await?;
        if self.memory.is_full() || self.schedule.evicted_at.elapsed() >= EVICT_EVERY {
            self.memory.evict(&self.parts.rules, now);
            self.schedule.evicted_at = Instant::now();
        }
        let due = self.schedule.pruned_at.is_none_or(|at| at.elapsed() >= PRUNE_EVERY);
        if due && self.schedule.trusts_clock() && !self.is_pruned_by_others(now).await? {
            self.prune(now).await?;
            self.schedule.pruned_at = Some(Instant::now());
        }
        Ok(())
    }

    /// True if another engine pruned a shared store recently. If not, notes for the others that this one
    /// is about to.
    async fn is_pruned_by_others(&mut self, now: Timestamp) -> Result<bool, StoreError> {
        if !self.memory.is_shared() {
            return Ok(false);
        }
        let note = self.parts.store.note(PRUNE_NOTE).await?;
        let at: Option<Timestamp> = note.and_then(|text| text.parse().ok());
        let every = SignedDuration::try_from(PRUNE_EVERY).unwrap_or(SignedDuration::MAX);
        // A note from the future was written before the clock was set back: not recent.
        let is_recent = at.is_some_and(|at| at <= now && now.duration_since(at) < every);
        if !is_recent {
            self.parts.store.put_note(PRUNE_NOTE, Some(&now.to_string())).await?;
        }
        Ok(is_recent)
    }

    /// Closes incidents that got no new finding for long enough.
    async fn close(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let mut changes = close_quiet(&self.memory.open, now);
        changes.retain(|change| {
            let Change::Closed { id, .. } = change else { return false };
            let meta = self.memory.meta(id);
            meta.touched_at = meta.touched_at.min(now);
            now.duration_since(meta.touched_at) >= UNTOUCHED_MIN
        });
        if changes.is_empty() {
            return Ok(());
        }
        self.memory.open.apply(&changes);
        let batch = self.batch(changes, &BatchContext::default(), now).await?;
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
                "pruned data older than the configured {days} days"
            );
            // Memory may hold pruned incidents.
            self.in_sync &= pruned.incidents == 0;
        }
        Ok(())
    }

    /// Enqueues the digest of informational incidents when it is due.
    async fn digest(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let Some(due) = self.inner.settings.digest.last_due(now) else { return Ok(()) };
        // Another engine of a shared store may have sent one since.
        if self.memory.is_shared() {
            self.memory.digested_at = None;
        }
        if self.memory.digested_at.is_none() {
            let note = self.parts.store.note(DIGEST_NOTE).await?;
            self.memory.digested_at = note.and_then(|text| text.parse().ok());
        }
        match self.memory.digested_at {
            // The first start: present incidents wait for the next digest.
            None => return self.note_digest(now).await,
            // Noted before the clock was set back.
            Some(last) if last > now => return self.note_digest(now).await,
            Some(last) if last >= due => return Ok(()),
            Some(_) => {}
        }
        let filter = IncidentFilter { undigested: true, ..IncidentFilter::default() };
        let mut page = PageRequest { items_max: PAGE_ITEMS_MAX, after: None };
        let mut ids: Vec<IncidentId> = Vec::new();
        // Incidents from old log files are marked as listed without being listed.
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
