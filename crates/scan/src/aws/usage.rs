//! The cost of a scan of AWS: requests, and their list price.

use std::sync::atomic::{AtomicU64, Ordering};

/// The month of the price list.
pub const PRICES_AS_OF: &str = "2026-11";
/// Billionths of a dollar for one LIST request: 0.005 USD a thousand (S3 Standard in us-east-1, S3
/// pricing page, "Requests & data retrievals"). Other regions and storage classes cost more.
const LIST_NANO_DOLLARS: u64 = 5_000;
/// The same for one GET or HEAD: 0.0004 USD a thousand.
const GET_NANO_DOLLARS: u64 = 400;
/// The same for one request of SQS: 0.40 USD a million (SQS pricing page, standard queues), after a
/// first million a month that is free and is not taken off here.
const QUEUE_NANO_DOLLARS: u64 = 400;
/// SQS counts each 64 KiB of a request as one.
const QUEUE_REQUEST_BYTES: u64 = 64 << 10;

/// Requests made so far; read it from another thread. Every try counts: AWS bills it, unless it was
/// answered with 5xx, which makes this an upper bound.
#[derive(Debug, Default)]
pub struct Usage {
    /// LIST requests to S3.
    pub lists: AtomicU64,
    /// GET and HEAD requests to S3.
    pub gets: AtomicU64,
    /// Requests to SQS, as billed.
    pub queue_requests: AtomicU64,
    /// `LookupEvents` requests; they cost nothing.
    pub lookups: AtomicU64,
    /// Bytes received.
    pub bytes: AtomicU64,
    /// Objects that names or filters kept from being fetched.
    pub not_fetched: AtomicU64,
    /// Progress of `lookup://`: thousandths of the time range that are done.
    pub range_done_thousandths: AtomicU64,
}

impl Usage {
    pub(super) fn list(&self) {
        self.lists.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn get(&self) {
        self.gets.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn received(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn queue(&self, bytes: usize) {
        let requests = (bytes as u64).div_ceil(QUEUE_REQUEST_BYTES).max(1);
        self.queue_requests.fetch_add(requests, Ordering::Relaxed);
    }

    /// The list price of the requests, in dollars, without data transfer.
    #[must_use]
    pub fn dollars(&self) -> f64 {
        let of = |count: &AtomicU64, price: u64| count.load(Ordering::Relaxed) * price;
        let nano = of(&self.lists, LIST_NANO_DOLLARS)
            + of(&self.gets, GET_NANO_DOLLARS)
            + of(&self.queue_requests, QUEUE_NANO_DOLLARS);
        nano as f64 / 1e9
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_objects_cost_the_list_price() {
        let usage = Usage::default();
        usage.lists.store(1_000, Ordering::Relaxed);
        usage.gets.store(1_000_000, Ordering::Relaxed);
        assert_eq!(usage.dollars(), 0.405);
        usage.queue(100 << 10);
        assert_eq!(usage.queue_requests.load(Ordering::Relaxed), 2);
    }
}
