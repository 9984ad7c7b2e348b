use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::SignedDuration;
use rootwatch_core::alert::{AlertKind, Clock as _};
use rootwatch_core::delivery::{Delivery, DeliveryState};
use rootwatch_notify::Worker;
use tokio::sync::watch;

use crate::common::{Answer, Manual, Memory, Server, config, notifier, status, test_alert};

const NOW: &str = "2026-05-04T14:03:40Z";

struct Stage {
    clock: Arc<Manual>,
    outbox: Arc<Memory>,
    worker: Worker,
    text: String,
}

/// Destinations `a` (which escalates to `b`), `b`, and `log`.
async fn stage(a: &Server, b: &Server, more: &str) -> Stage {
    let text = format!(
        r#"{{ "destination": {{
            "a": {{ "channel": "webhook", "url": "{}", "allow_private": true, "escalate_to": "b"{more} }},
            "b": {{ "channel": "webhook", "url": "{}", "allow_private": true }},
            "log": {{ "channel": "log" }} }} }}"#,
        a.url, b.url
    );
    let clock = Manual::new(NOW);
    let outbox = Arc::new(Memory::default());
    let worker = Worker::new(notifier(&config(&text), &clock), outbox.clone(), clock.clone());
    Stage { clock, outbox, worker, text }
}

impl Stage {
    fn owe(&self, id: &str, to: &str) {
        self.outbox.owe(vec![Delivery::new(test_alert(id), to, self.clock.now())]);
    }

    fn restart(&mut self) {
        let notifier = notifier(&config(&self.text), &self.clock);
        self.worker = Worker::new(notifier, self.outbox.clone(), self.clock.clone());
    }

    /// Rounds with time in between, until nothing is due or so much time is over.
    async fn pass(&mut self, time: SignedDuration, step: SignedDuration) {
        let end = self.clock.now() + time;
        while self.clock.now() < end {
            self.clock.advance(step);
            self.worker.tick().await;
        }
    }
}

#[tokio::test]
async fn what_fails_for_a_while_is_tried_again_after_the_right_time() {
    let later = Answer::Status(429, "retry-after: 30\r\n", String::new());
    let a = Server::new(&[later, status(500), status(200)]).await;
    let b = Server::new(&[status(200)]).await;
    let mut stage = stage(&a, &b, "").await;
    stage.owe("A.1", "a");
    stage.worker.tick().await;
    let kept = stage.outbox.get("A.1@a");
    assert_eq!(kept.due_at, stage.clock.now() + SignedDuration::from_secs(30), "as it asked");
    stage.clock.advance(SignedDuration::from_secs(29));
    stage.worker.tick().await;
    assert_eq!(a.count(), 1, "not before");
    stage.clock.advance(SignedDuration::from_secs(1));
    stage.worker.tick().await;
    assert_eq!(a.count(), 2);
    let wait = stage.outbox.get("A.1@a").due_at.duration_since(stage.clock.now());
    assert!(wait >= SignedDuration::from_secs(1) && wait <= SignedDuration::from_secs(2));
    stage.clock.advance(wait);
    stage.worker.tick().await;
    let kept = stage.outbox.get("A.1@a");
    assert_eq!((kept.state, kept.attempts), (DeliveryState::Delivered, 3));
    let ids: Vec<_> =
        (0..3).map(|n| a.request(n).header("webhook-id").map(str::to_owned)).collect();
    assert!(ids.iter().all(|id| id.as_deref() == Some("A.1@a")), "{ids:?}");
    assert_eq!(b.count(), 0);
}

#[tokio::test]
async fn what_is_refused_goes_to_the_stand_in_and_the_outage_is_told_once_and_its_end_too() {
    let a = Server::new(&[status(410)]).await;
    let b = Server::new(&[status(200)]).await;
    let mut stage = stage(&a, &b, "").await;
    for number in 1..=3 {
        stage.owe(&format!("A.{number}"), "a");
    }
    let round = stage.worker.tick().await;
    assert_eq!(round.failed, 3);
    for number in 1..=3 {
        let kept = stage.outbox.get(&format!("A.{number}@a"));
        assert_eq!(kept.state, DeliveryState::Failed);
        let error = kept.last_error.unwrap_or_default();
        assert!(error.contains("410") && !error.contains("hush"), "{error}");
        let stand_in = stage.outbox.get(&format!("A.{number}@b"));
        assert_eq!(stand_in.state, DeliveryState::Delivered);
        assert_eq!(stand_in.stands_in_for, Some(kept.id));
    }
    let is_broken = |one: &Delivery| matches!(&one.alert.kind, AlertKind::DeliveryFailing { destination } if destination == "a");
    assert_eq!(stage.outbox.count(is_broken), 2, "b and log, once");
    stage.restart();
    stage.owe("A.4", "a");
    stage.worker.tick().await;
    assert_eq!(stage.outbox.count(is_broken), 2, "not again after a restart");
    a.answer(&[status(200)]);
    stage.owe("A.5", "a");
    stage.clock.advance(SignedDuration::from_mins(10));
    stage.worker.tick().await;
    stage.worker.tick().await;
    let is_mended = |one: &Delivery| matches!(one.alert.kind, AlertKind::DeliveryRecovered { .. });
    assert_eq!(stage.outbox.count(is_mended), 2);
    assert!(stage.outbox.count(|one| is_mended(one) && one.destination == "a") == 0);
    assert!(stage.outbox.notes.lock().expect("notes").is_empty());
}

#[tokio::test]
async fn a_destination_that_is_away_for_a_day_is_escalated_early_and_given_up_at_last() {
    let a = Server::new(&[status(503)]).await;
    let b = Server::new(&[status(200)]).await;
    let mut stage = stage(&a, &b, "").await;
    for number in 0..100 {
        stage.owe(&format!("A.{number}"), "a");
    }
    stage.pass(SignedDuration::from_mins(40), SignedDuration::from_secs(20)).await;
    let early = stage.outbox.count(|one| one.destination == "b");
    assert_eq!(early, 100, "somebody else hears of it long before the day is over");
    assert_eq!(stage.outbox.count(|one| one.state == DeliveryState::Failed), 0);
    let tries = a.count();
    stage.pass(SignedDuration::from_hours(24), SignedDuration::from_mins(3)).await;
    stage.pass(SignedDuration::from_hours(2), SignedDuration::from_mins(3)).await;
    let due = stage.outbox.count(|one| one.state == DeliveryState::Due);
    assert_eq!(due, 0, "no delivery is stuck");
    let stood_in = stage
        .outbox
        .count(|one| one.state == DeliveryState::Delivered && one.stands_in_for.is_some());
    assert_eq!(stood_in, 100);
    assert!(tries < 120, "the breaker leaves it alone: {tries} tries in 40 minutes");
}

#[tokio::test]
async fn a_breaker_survives_a_restart_and_one_attempt_shows_whether_it_works_again() {
    let a = Server::new(&[status(500)]).await;
    let b = Server::new(&[status(200)]).await;
    let mut stage = stage(&a, &b, r#", "concurrency": 1"#).await;
    for number in 0..20 {
        stage.owe(&format!("A.{number}"), "a");
    }
    stage.worker.tick().await;
    assert_eq!(a.count(), 5, "left alone after five failures");
    stage.restart();
    stage.worker.tick().await;
    assert_eq!(a.count(), 5, "after a restart, too");
    stage.clock.advance(SignedDuration::from_secs(6));
    stage.worker.tick().await;
    assert_eq!(a.count(), 6, "one attempt");
    a.answer(&[status(200)]);
    stage.pass(SignedDuration::from_mins(2), SignedDuration::from_secs(5)).await;
    assert_eq!(stage.outbox.count(|one| one.state == DeliveryState::Delivered), 20);
    let twenty = stage.outbox.count(|one| one.attempts < 5);
    assert_eq!(twenty, 20, "what was not begun does not count");
}

#[tokio::test]
async fn a_clock_that_is_set_back_does_not_keep_what_is_owed() {
    let a = Server::new(&[status(500), status(200)]).await;
    let b = Server::new(&[status(200)]).await;
    let mut stage = stage(&a, &b, "").await;
    stage.owe("A.1", "a");
    stage.worker.tick().await;
    stage.clock.advance(SignedDuration::from_hours(-24 * 365));
    stage.worker.tick().await;
    stage.worker.tick().await;
    assert_eq!(stage.outbox.get("A.1@a").state, DeliveryState::Delivered);
}

#[tokio::test]
async fn a_destination_that_hangs_delays_no_other_and_nothing_is_sent_twice() {
    let a = Server::new(&[Answer::Hang]).await;
    let b = Server::new(&[status(200)]).await;
    let stage = stage(&a, &b, r#", "timeout_secs": 30"#).await;
    for number in 0..50 {
        stage.owe(&format!("A.{number}"), "a");
    }
    for number in 0..1000 {
        stage.owe(&format!("B.{number}"), "b");
    }
    let (end, ended) = watch::channel(false);
    let begun = Instant::now();
    let run = tokio::spawn(stage.worker.run(ended));
    let is_done = |one: &Delivery| one.destination == "b" && one.state == DeliveryState::Delivered;
    while stage.outbox.count(is_done) < 1000 {
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "{} of 1000",
            stage.outbox.count(is_done)
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(b.count(), 1000, "each once");
    assert!(a.count() <= 4, "no more than its concurrency");
    run.abort();
    drop(end);
}

#[tokio::test]
async fn what_is_owed_anew_is_sent_at_once_and_an_end_waits_for_what_is_being_sent() {
    let a = Server::new(&[status(200)]).await;
    let b = Server::new(&[status(200)]).await;
    let stage = stage(&a, &b, "").await;
    let (end, ended) = watch::channel(false);
    let waker = stage.worker.waker();
    let (outbox, clock) = (stage.outbox.clone(), stage.clock.clone());
    let run = tokio::spawn(stage.worker.run(ended));
    for number in 0..10 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let begun = Instant::now();
        outbox.owe(vec![Delivery::new(test_alert(&format!("A.{number}")), "a", clock.now())]);
        waker.notify_one();
        while a.count() <= number {
            assert!(begun.elapsed() < Duration::from_secs(5));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    end.send(true).expect("the worker listens");
    run.await.expect("an end");
    assert_eq!(outbox.count(|one| one.state == DeliveryState::Delivered), 10);
}
