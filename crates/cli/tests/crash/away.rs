//! Whom we tell is away for a day, by the program's clock, and the hub is killed every hour.

use jiff::{SignedDuration, Timestamp};

use crate::program::Program;
use crate::queue::Queue;
use crate::receiver::{Mood, Receiver};
use crate::traffic::{self, Dice};
use crate::{all, all_told, config, free_address, post, seed};

/// Root sessions that are told of.
const SESSIONS: usize = 40;
/// How long the receiver is away, by the program's clock.
const HOURS: i64 = 24;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_was_away_for_a_day_hears_everything_once_it_is_back() {
    let seed = seed();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut dice = Dice::new(seed);
    let events = traffic::sessions(
        &mut dice,
        SESSIONS,
        traffic::ACCOUNTS.len(),
        3,
        Timestamp::now(),
        SignedDuration::from_mins(30),
    );
    let folder = tempfile::tempdir().expect("a temporary folder");
    let receiver = Receiver::start(seed, Mood::Away).await;
    let queue = Queue::new().await;
    let hub = free_address();
    let config = config(folder.path(), hub, &receiver, &queue, false);
    let mut program = Program::new(&config, hub);
    program.start("/readyz").await;
    let list: Vec<&str> = events.iter().map(|made| made.json.as_str()).collect();
    assert!(post(hub, format!("[{}]", list.join(","))).await.is_some_and(|code| code == 200));

    for hour in 1..=HOURS {
        program.clock.set(SignedDuration::from_hours(hour));
        tokio::time::sleep(std::time::Duration::from_millis(20 + dice.below(200) as u64)).await;
        program.kill();
        program.start("/livez").await;
    }
    assert!(receiver.taken().is_empty(), "the receiver was away");
    let tried = receiver.refused();
    assert!(tried > 0, "it was tried");
    let owed = all(hub, "/v1/deliveries?state=due").await.len();
    assert!(owed >= SESSIONS, "{owed} deliveries are owed");
    for wrong in ["failed", "delivered"] {
        let ended = all(hub, &format!("/v1/deliveries?state={wrong}")).await;
        assert!(ended.is_empty(), "{wrong}: {}", ended[0]);
    }

    receiver.behave(Mood::Kind);
    program.clock.set(SignedDuration::from_hours(HOURS + 2));
    let told = all_told(hub, &receiver).await;
    println!("{owed} deliveries owed after a day and {tried} attempts, {told} told");
}
