//! Whether and when a request is sent again: the rules of the vendors' own clients (anthropic-sdk-typescript and
//! openai-node, `shouldRetry` and `retryRequest` in client.ts), as a pure function.

use std::time::{Duration, SystemTime};

use crate::Fault;

/// The first wait where the server names none; it doubles.
const FIRST_WAIT: Duration = Duration::from_millis(500);

/// The longest wait where the server names none.
const LONGEST_WAIT: Duration = Duration::from_secs(8);

/// What an answer's headers say about trying again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Hints {
    /// `x-should-retry`.
    pub(super) should_retry: Option<bool>,
    /// `retry-after-ms`, else `retry-after` in seconds or as a date.
    pub(super) after: Option<Duration>,
}

impl Hints {
    /// Reads them; what cannot be understood is passed over.
    pub(super) fn read<'a>(header: impl Fn(&str) -> Option<&'a str>, now: SystemTime) -> Hints {
        let should_retry = match header("x-should-retry").map(str::trim) {
            Some("true") => Some(true),
            Some("false") => Some(false),
            _ => None,
        };
        let number = |text: &str| text.trim().parse::<f64>().ok();
        let duration = |seconds: f64| Duration::try_from_secs_f64(seconds).ok();
        let date = |text: &str| {
            let at = httpdate::parse_http_date(text.trim()).ok()?;
            Some(at.duration_since(now).unwrap_or_default())
        };
        let in_ms = header("retry-after-ms").and_then(number).and_then(|ms| duration(ms / 1000.0));
        let after = in_ms.or_else(|| {
            let text = header("retry-after")?;
            number(text).and_then(duration).or_else(|| date(text))
        });
        Hints { should_retry, after }
    }
}

/// What limits another attempt.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Attempts after the first.
    pub(super) retries: u32,
    /// The longest wait that is kept; a longer one is cut to it.
    pub(super) longest_wait: Duration,
    /// What is left of the deadline; a wait that does not fit ends it.
    pub(super) left: Duration,
}

/// How long to wait before the next attempt; None if there is none. `failed` attempts have failed, the last of them
/// with `fault`.
pub(super) fn wait(fault: &Fault, hints: Hints, failed: u32, limits: Limits, id: &str) -> Option<Duration> {
    let again = hints.should_retry.unwrap_or_else(|| fault.may_pass());
    if !again || failed > limits.retries {
        return None;
    }
    let wait = hints.after.unwrap_or_else(|| backoff(failed, id)).min(limits.longest_wait);
    (wait < limits.left).then_some(wait)
}

/// Half a second, doubling up to 8 s, less up to a quarter, so that many clients do not come back at one moment. The
/// quarter's share comes from the request's id, so it is the same whenever it is computed.
fn backoff(failed: u32, id: &str) -> Duration {
    let doubled = FIRST_WAIT.saturating_mul(1 << failed.saturating_sub(1).min(16));
    let wait = doubled.min(LONGEST_WAIT);
    // FNV-1a (Fowler, Noll, Vo), of the id and the attempt.
    let bytes = id.bytes().chain(failed.to_le_bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let share = (hash >> 40) as f64 / (1u64 << 24) as f64;
    wait.mul_f64(1.0 - 0.25 * share)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;
    const MINUTE: Limits = Limits { retries: 2, longest_wait: Duration::MAX, left: Duration::from_secs(60) };

    type Headers = &'static [(&'static str, &'static str)];

    fn server(status: u16) -> Fault {
        Fault::Server { status, message: String::new() }
    }

    fn hints(headers: &[(&str, &str)]) -> Hints {
        // 1994-11-06 08:49:37 UTC, the example of RFC 9110, 5.6.7.
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let header = |name: &str| headers.iter().find(|(is, _)| *is == name).map(|(_, value)| *value);
        Hints::read(header, now)
    }

    #[test]
    fn each_header_form() {
        let after = |headers: &[(&str, &str)]| hints(headers).after;
        let table: [(Headers, Option<Duration>); 9] = [
            (&[("retry-after-ms", "1500")], Some(MS(1500))),
            (&[("retry-after", "2")], Some(MS(2000))),
            (&[("retry-after", "0.5")], Some(MS(500))),
            (&[("retry-after-ms", "100"), ("retry-after", "9")], Some(MS(100))),
            (&[("retry-after-ms", "soon"), ("retry-after", "9")], Some(MS(9000))),
            (&[("retry-after", "Sun, 06 Nov 1994 08:49:47 GMT")], Some(MS(10_000))),
            (&[("retry-after", "Sun, 06 Nov 1994 08:49:27 GMT")], Some(MS(0))),
            (&[("retry-after", "-1")], None),
            (&[("retry-after", "NaN")], None),
        ];
        for (headers, expected) in table {
            assert_eq!(after(headers), expected, "{headers:?}");
        }
        assert_eq!(hints(&[("x-should-retry", "true")]).should_retry, Some(true));
        assert_eq!(hints(&[("x-should-retry", "perhaps")]).should_retry, None);
    }

    #[test]
    fn who_is_asked_again() {
        let message = String::new;
        let table: [(Fault, Headers, u32, bool); 12] = [
            (server(408), &[], 1, true),
            (server(409), &[], 1, true),
            (server(500), &[], 2, true),
            (server(529), &[], 3, false),
            (Fault::RateLimited { message: message(), after_s: None }, &[], 1, true),
            (Fault::Rejected { status: 400, message: message() }, &[], 1, false),
            (Fault::Rejected { status: 400, message: message() }, &[("x-should-retry", "true")], 1, true),
            (server(500), &[("x-should-retry", "false")], 1, false),
            (Fault::KeyRefused { from: message(), status: 401 }, &[], 1, false),
            (Fault::OutOfCredit { message: message() }, &[], 1, false),
            (Fault::Cancelled, &[], 1, false),
            (Fault::CutOff { problem: message() }, &[], 1, true),
        ];
        for (fault, headers, failed, again) in table {
            let wait = wait(&fault, hints(headers), failed, MINUTE, "id");
            assert_eq!(wait.is_some(), again, "{fault:?} {headers:?}");
        }
    }

    #[test]
    fn waits_double_up_to_8_s_with_the_ids_jitter() {
        let mut times = Vec::new();
        for (failed, full) in [(1, 500), (2, 1000), (3, 2000), (4, 4000), (5, 8000), (6, 8000), (99, 8000)] {
            let time = backoff(failed, "run-1");
            assert!(time <= MS(full) && time >= MS(full * 3 / 4), "{failed}: {time:?}");
            assert_eq!(time, backoff(failed, "run-1"));
            times.push(backoff(failed, "run-2") == time);
        }
        assert!(!times.contains(&true), "two requests never wait equally long here");
    }

    #[test]
    fn no_retry_after_outgrows_the_deadline() {
        let hour = hints(&[("retry-after", "3600")]);
        assert_eq!(wait(&server(503), hour, 1, MINUTE, "id"), None);
        let impatient = Limits { longest_wait: MS(1), ..MINUTE };
        assert_eq!(wait(&server(503), hour, 1, impatient, "id"), Some(MS(1)));
        let late = Limits { left: Duration::ZERO, ..MINUTE };
        assert_eq!(wait(&server(503), hints(&[("retry-after", "0")]), 1, late, "id"), None);
    }
}
