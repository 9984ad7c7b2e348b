//! Whether to retry, and when: decided here for every part of the program that makes requests.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use jiff::fmt::rfc2822;
use jiff::{SignedDuration, Timestamp};

/// The pause before a retry: `first` after the first failure, twice as long after each one that
/// follows, at most `max`; then cut by `chance` to between half of that and all of it, so that many
/// clients that failed together do not return together.
///
/// `failures` counts the failures so far, and `chance` is a random number from 0 up to 1.
///
/// ```
/// use std::time::Duration;
/// use rootwatch_core::retry::back_off;
///
/// let (first, max) = (Duration::from_secs(1), Duration::from_secs(5));
/// let longest = [1, 2, 3, 4, 40].map(|failures| back_off(first, max, failures, 1.0).as_secs());
/// assert_eq!(longest, [1, 2, 4, 5, 5]);
/// assert_eq!(back_off(first, max, 2, 0.0), Duration::from_secs(1));
/// assert_eq!(back_off(first, max, 2, 0.5), Duration::from_millis(1500));
/// ```
#[must_use]
pub fn back_off(first: Duration, max: Duration, failures: u32, chance: f64) -> Duration {
    let doubled = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
    let half = first.saturating_mul(doubled).min(max) / 2;
    half + half.mul_f64(chance.clamp(0.0, 1.0))
}

/// Counts failures and gives the pause after each; see [`back_off`].
#[derive(Debug, Clone)]
pub struct BackOff {
    first: Duration,
    max: Duration,
    failures: u32,
}

impl BackOff {
    /// Pauses from `first` to `max`.
    #[must_use]
    pub fn new(first: Duration, max: Duration) -> Self {
        Self { first, max, failures: 0 }
    }

    /// Counts a failure and gives the pause after it.
    pub fn pause(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        back_off(self.first, self.max, self.failures, chance())
    }

    /// Forgets the failures after a success.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

/// A random number from 0 up to 1, for pauses and names; not for secrets. The one function of this
/// crate whose result does not follow from its arguments.
#[must_use]
pub fn chance() -> f64 {
    // A hasher is made with new random keys each time.
    let bits = RandomState::new().hash_one(0_u8) >> 11;
    bits as f64 / (1_u64 << 53) as f64
}

/// What an HTTP status means for the one who sent the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusClass {
    /// 2xx: it was done.
    Success,
    /// Retry after a pause: the server is overloaded, too slow, or broken.
    Retry,
    /// The credentials are missing, wrong, or not allowed to do this.
    Denied,
    /// The same request fails again.
    Refused,
}

/// What an HTTP status means. Services with meanings of their own decide these first, and leave the
/// rest to this table.
///
/// | Status | Class | Source |
/// |---|---|---|
/// | 2xx | success | RFC 9110, section 15.3 |
/// | 401, 403, 407 | denied | RFC 9110, sections 15.5.2, 15.5.4 and 15.5.8 |
/// | 408 | retry | RFC 9110, section 15.5.9: "the client MAY repeat that request" |
/// | 425 | retry | RFC 8470, section 5.2: repeat without early data |
/// | 429 | retry | RFC 6585, section 4: "may include a Retry-After header" |
/// | 5xx | retry | RFC 9110, section 15.6: the server failed, not the request |
/// | others | refused | RFC 9110, section 15.5: the request is wrong; redirects are not followed |
///
/// ```
/// use rootwatch_core::retry::{StatusClass, status_class};
///
/// assert_eq!(status_class(503), StatusClass::Retry);
/// assert_eq!(status_class(404), StatusClass::Refused);
/// ```
#[must_use]
pub fn status_class(status: u16) -> StatusClass {
    match status {
        200..=299 => StatusClass::Success,
        401 | 403 | 407 => StatusClass::Denied,
        408 | 425 | 429 | 500..=599 => StatusClass::Retry,
        _ => StatusClass::Refused,
    }
}

/// True for a status after which the same request is worth a retry.
#[must_use]
pub fn is_retryable(status: u16) -> bool {
    status_class(status) == StatusClass::Retry
}

/// Reads a `Retry-After` header: seconds, or a date (RFC 9110, section 10.2.3). A date that has passed
/// is no time at all.
#[must_use]
pub fn retry_after(header: &str, now: Timestamp) -> Option<SignedDuration> {
    let header = header.trim();
    if let Ok(secs) = header.parse::<u32>() {
        return Some(SignedDuration::from_secs(i64::from(secs)));
    }
    let date = rfc2822::DateTimeParser::new().parse_timestamp(header).ok()?;
    Some(date.duration_since(now).max(SignedDuration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_their_limit_and_vary_by_half() {
        let (first, max) = (Duration::from_millis(200), Duration::from_secs(20));
        let mut last = Duration::ZERO;
        for failures in 1..=100 {
            let longest = back_off(first, max, failures, 1.0);
            assert!(longest >= last && longest <= max, "{failures}: {longest:?}");
            assert_eq!(back_off(first, max, failures, 0.0), longest / 2);
            last = longest;
        }
        assert_eq!(last, max);
        assert_eq!(back_off(first, max, 0, 1.0), first);
        assert_eq!(back_off(first, max, u32::MAX, f64::NAN.max(2.0)), max);
    }

    #[test]
    fn pauses_begin_again_after_a_success() {
        let mut pauses = BackOff::new(Duration::from_secs(1), Duration::from_secs(5));
        for whole in [1, 2, 4, 5, 5] {
            let pause = pauses.pause();
            assert!(pause >= Duration::from_millis(whole * 500), "{pause:?} of {whole}");
            assert!(pause <= Duration::from_secs(whole), "{pause:?} of {whole}");
        }
        pauses.reset();
        assert!(pauses.pause() <= Duration::from_secs(1));
    }

    #[test]
    fn chance_is_from_0_up_to_1_and_varies() {
        let all: Vec<f64> = (0..100).map(|_| chance()).collect();
        assert!(all.iter().all(|one| (0.0..1.0).contains(one)), "{all:?}");
        assert!(all.iter().any(|one| *one != all[0]));
    }

    #[test]
    fn every_status_has_one_class() {
        let name = |status| format!("{:?}", status_class(status)).to_lowercase();
        let (mut ranges, mut from) = (Vec::new(), 100);
        for status in 100..=599 {
            if status == 599 || name(status + 1) != name(from) {
                ranges.push(format!("{from}-{status} {}", name(from)));
                from = status + 1;
            }
        }
        assert_eq!(
            ranges.join(", "),
            "100-199 refused, 200-299 success, 300-400 refused, 401-401 denied, 402-402 refused, \
             403-403 denied, 404-406 refused, 407-407 denied, 408-408 retry, 409-424 refused, \
             425-425 retry, 426-428 refused, 429-429 retry, 430-499 refused, 500-599 retry"
        );
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now: Timestamp = "2026-05-04T14:03:40Z".parse().expect("a time");
        let secs = SignedDuration::from_secs;
        assert_eq!(retry_after(" 17 ", now), Some(secs(17)));
        assert_eq!(retry_after("Mon, 04 May 2026 14:04:00 GMT", now), Some(secs(20)));
        assert_eq!(retry_after("Mon, 04 May 2026 14:00:00 GMT", now), Some(secs(0)));
        for header in ["", "soon", "-1", "1.5"] {
            assert_eq!(retry_after(header, now), None, "{header}");
        }
    }
}
