//! An intake that remembers what it was given, and fails or dawdles when asked.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use rootwatch_core::decode::{Item, Limits, decode_log};
use rootwatch_core::detect::{Detected, Detector};
use rootwatch_core::rules::Ruleset;
use rootwatch_engine::status::Status;
use rootwatch_engine::{IngestError, IntakeOutcome, RecordSource};
use rootwatch_hub::sources::{Intake, SourceContext};
use rootwatch_scan::ScanOptions;
use rootwatch_scan::objects::ObjectScanner;
use rootwatch_store::StoreError;
use tokio::sync::watch;

static RULES: LazyLock<Arc<Ruleset>> = LazyLock::new(|| Arc::new(Ruleset::built_in()));

/// The fake, and the hub's closing.
pub(crate) struct Fake {
    pub(crate) seen: Arc<Seen>,
    pub(crate) status: Status,
    closing: watch::Sender<bool>,
}

#[derive(Default)]
pub(crate) struct Seen {
    /// How often each event was saved.
    ids: Mutex<BTreeMap<String, usize>>,
    positions: Mutex<BTreeMap<String, String>>,
    /// Where drills came from.
    drills: Mutex<Vec<String>>,
    calls: AtomicUsize,
    asked: AtomicUsize,
    /// Largest number of findings in one call.
    pub(crate) batch_max: AtomicUsize,
    pub(crate) fails: AtomicBool,
    pub(crate) is_full: AtomicBool,
    pub(crate) dawdles_millis: AtomicU64,
}

impl Fake {
    pub(crate) fn new() -> Self {
        Self::with_positions(BTreeMap::new())
    }

    /// As after a restart: what was saved before is there.
    pub(crate) fn with_positions(positions: BTreeMap<String, String>) -> Self {
        let seen = Seen::default();
        *seen.positions.lock().expect("no panic") = positions;
        Self { seen: Arc::new(seen), status: Status::default(), closing: watch::Sender::new(false) }
    }

    pub(crate) fn surroundings(&self) -> SourceContext {
        SourceContext {
            intake: self.seen.clone(),
            scanner: Arc::new(ObjectScanner::new(Arc::clone(&RULES), ScanOptions::default())),
            status: self.status.clone(),
            shutdown: self.closing.subscribe(),
        }
    }

    pub(crate) fn close(&self) {
        self.closing.send_replace(true);
    }
}

impl Seen {
    /// Ids of the events that were saved.
    pub(crate) fn ids(&self) -> Vec<String> {
        self.ids.lock().expect("no panic").keys().cloned().collect()
    }

    /// How often an event was saved.
    pub(crate) fn times(&self, id: &str) -> usize {
        self.ids.lock().expect("no panic").get(id).copied().unwrap_or(0)
    }

    pub(crate) fn has(&self, ids: &[&str]) -> bool {
        ids.iter().all(|id| self.times(id) > 0)
    }

    /// How often something was handed over, saved or not.
    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    /// How often it was asked whether it is full.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    pub(crate) fn positions(&self) -> BTreeMap<String, String> {
        self.positions.lock().expect("no panic").clone()
    }

    async fn save(
        &self,
        detected: &[Detected],
        position: Option<(String, String)>,
    ) -> Result<(), IngestError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.batch_max.fetch_max(detected.len(), Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(self.dawdles_millis.load(Ordering::SeqCst))).await;
        if self.fails.load(Ordering::SeqCst) {
            let reason = "the disk is full".to_owned();
            return Err(IngestError::Store(StoreError::Unavailable { reason }));
        }
        let mut ids = self.ids.lock().expect("no panic");
        for one in detected {
            let id = one.finding.event_id.clone().unwrap_or_default();
            *ids.entry(id).or_default() += 1;
        }
        self.positions.lock().expect("no panic").extend(position);
        Ok(())
    }
}

#[async_trait]
impl Intake for Seen {
    async fn take(&self, _: &RecordSource, body: Bytes) -> Result<Vec<IntakeOutcome>, IngestError> {
        let (mut detected, mut outcomes) = (Vec::new(), Vec::new());
        {
            let mut detector = Detector::new(&RULES);
            decode_log(&body, &Limits::default(), &mut |place, item| match item {
                Item::Event(event) => {
                    outcomes.push(IntakeOutcome::Known);
                    detected.extend(detector.detect(&event));
                }
                Item::PassedOver(kind) => {
                    outcomes.push(IntakeOutcome::PassedOver { what: kind.name() });
                }
                Item::Skipped(skipped) => outcomes.push(IntakeOutcome::Skipped {
                    reason: skipped.reason,
                    record: place.record,
                    offset: place.offset,
                }),
            });
        }
        self.save(&detected, None).await?;
        Ok(outcomes)
    }

    async fn take_detected(
        &self,
        _: &RecordSource,
        detected: Vec<Detected>,
        position: Option<(String, String)>,
    ) -> Result<Vec<IntakeOutcome>, IngestError> {
        self.save(&detected, position).await?;
        Ok(detected.iter().map(|_| IntakeOutcome::Known).collect())
    }

    async fn drill(&self, account: &str, region: &str) -> Result<(), IngestError> {
        let mut drills = self.drills.lock().expect("no panic");
        drills.push(format!("{account} {region}"));
        Ok(())
    }

    async fn positions(&self, prefix: &str) -> Result<Vec<(String, String)>, StoreError> {
        let positions = Self::positions(self).into_iter();
        Ok(positions.filter(|(name, _)| name.starts_with(prefix)).collect())
    }

    fn pressure(&self) -> f64 {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if self.is_full.load(Ordering::SeqCst) { 1.0 } else { 0.0 }
    }
}
