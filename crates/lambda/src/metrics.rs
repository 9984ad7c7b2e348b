//! Metrics for CloudWatch, as lines in its embedded metric format: alarms can use them, and sending them
//! needs no request and no permission.
//!
//! Source of the shape: CloudWatch user guide, "Specification: Embedded metric format".

use jiff::Timestamp;
use rootwatch_notify::worker::Round;
use serde_json::{Value, json};

/// The namespace of all of them.
const NAMESPACE: &str = "Rootwatch";

/// A batch of messages or events was handled.
pub(crate) fn worked(not_done: usize, round: &Round) {
    if not_done > 0 || round.leased > 0 {
        print(&[("MessagesNotDone", not_done), ("Ticks", 0)], round);
    }
}

/// A tick succeeded or failed.
pub(crate) fn ticked(done: bool, round: &Round) {
    print(&[("Ticks", usize::from(done)), ("MessagesNotDone", 0)], round);
}

fn print(numbers: &[(&str, usize)], round: &Round) {
    let mut all = numbers.to_vec();
    all.push(("DeliveriesDelivered", round.delivered));
    all.push(("DeliveriesFailed", round.failed));
    all.push(("DeliveriesRetried", round.again));
    #[allow(clippy::print_stdout, reason = "this is how CloudWatch takes metrics")]
    {
        println!("{}", line(&all, Timestamp::now()));
    }
}

fn line(numbers: &[(&str, usize)], now: Timestamp) -> Value {
    let metrics: Vec<Value> =
        numbers.iter().map(|(name, _)| json!({ "Name": name, "Unit": "Count" })).collect();
    let mut line = json!({
        "_aws": {
            "Timestamp": now.as_millisecond(),
            "CloudWatchMetrics": [{ "Namespace": NAMESPACE, "Dimensions": [[]], "Metrics": metrics }],
        },
    });
    for (name, number) in numbers {
        line[*name] = json!(number);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_named_metric_has_its_number() {
        let line = line(&[("Ticks", 1), ("DeliveriesFailed", 2)], Timestamp::UNIX_EPOCH);
        let named = line.pointer("/_aws/CloudWatchMetrics/0/Metrics").expect("metrics");
        assert_eq!(named.as_array().expect("a list").len(), 2);
        assert_eq!((line["Ticks"].as_u64(), line["DeliveriesFailed"].as_u64()), (Some(1), Some(2)));
        assert_eq!(line["_aws"]["Timestamp"], 0);
    }
}
