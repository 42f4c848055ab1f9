//! Deadlines: when a key stops existing, and how clients name that moment.

use cairn_protocol::WireError;
use cairn_protocol::number::parse_i64;

use crate::failure::Outcome;

/// How a client writes a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Time {
    pub(crate) unit: Unit,
    pub(crate) from: From,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Seconds,
    Milliseconds,
}

/// What a client's time counts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum From {
    Now,
    Epoch,
}

impl Time {
    /// `EX`, `EXPIRE`
    pub(crate) const SECONDS: Time = Time { unit: Unit::Seconds, from: From::Now };
    /// `PX`, `PEXPIRE`
    pub(crate) const MILLISECONDS: Time = Time { unit: Unit::Milliseconds, from: From::Now };
    /// `EXAT`, `EXPIREAT`
    pub(crate) const UNIX_SECONDS: Time = Time { unit: Unit::Seconds, from: From::Epoch };
    /// `PXAT`, `PEXPIREAT`
    pub(crate) const UNIX_MILLISECONDS: Time = Time { unit: Unit::Milliseconds, from: From::Epoch };

    /// The deadline that `SET` and its kin mean by `text`: positive, or an error.
    ///
    /// `command` is named in the error. Unix milliseconds.
    pub(crate) fn positive_deadline(
        self,
        text: &[u8],
        now_ms: u64,
        command: &'static str,
    ) -> Outcome<u64> {
        let value = parse_i64(text).ok_or(WireError::NotInteger)?;
        let deadline = match value {
            ..=0 => None,
            _ => self.deadline(value, now_ms),
        };
        Ok(deadline.ok_or(WireError::InvalidExpire(command))?.unsigned_abs())
    }

    /// The deadline that `EXPIRE` and its kin mean by `text`: what is not in the future is past.
    ///
    /// `command` is named in the error. Unix milliseconds, negative when before the epoch.
    pub(crate) fn any_deadline(
        self,
        text: &[u8],
        now_ms: u64,
        command: &'static str,
    ) -> Outcome<i64> {
        let value = parse_i64(text).ok_or(WireError::NotInteger)?;
        Ok(self.deadline(value, now_ms).ok_or(WireError::InvalidExpire(command))?)
    }

    fn deadline(self, value: i64, now_ms: u64) -> Option<i64> {
        let value = match self.unit {
            Unit::Seconds => value.checked_mul(1000)?,
            Unit::Milliseconds => value,
        };
        match self.from {
            From::Now => value.checked_add(i64::try_from(now_ms).ok()?),
            From::Epoch => Some(value),
        }
    }
}

/// Whether a deadline has passed. At its very millisecond a key is gone, so that reclaiming up to
/// `now_ms` and hiding at `now_ms` mean the same keys.
#[inline]
pub(crate) fn has_passed(deadline_ms: Option<u64>, now_ms: u64) -> bool {
    deadline_ms.is_some_and(|deadline| deadline <= now_ms)
}

/// Milliseconds to seconds, to the nearest, as TTL and EXPIRETIME round.
pub(crate) fn to_seconds(ms: u64) -> u64 {
    ms.saturating_add(500) / 1000
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Failure;

    const NOW_MS: u64 = 1_700_000_000_000;

    fn text(outcome: Outcome<impl Into<i128>>) -> Result<i128, String> {
        outcome.map(Into::into).map_err(|failure| match failure {
            Failure::Reply(error) => error.text().into_owned(),
            Failure::Store(error) => error.to_string(),
            Failure::Deferred => "deferred".to_owned(),
        })
    }

    #[test]
    fn positive_deadlines() {
        let invalid = Err("ERR invalid expire time in 'set' command".to_owned());
        let not_integer = Err("ERR value is not an integer or out of range".to_owned());
        let now = i128::from(NOW_MS);
        let rows: &[(Time, &str, Result<i128, String>)] = &[
            (Time::SECONDS, "1", Ok(now + 1000)),
            (Time::SECONDS, "0", invalid.clone()),
            (Time::SECONDS, "-1", invalid.clone()),
            (Time::SECONDS, "x", not_integer.clone()),
            (Time::SECONDS, "9223372036854775", invalid.clone()),
            (Time::SECONDS, "9223372036854776", invalid.clone()),
            (Time::SECONDS, "9223372036854775807", invalid.clone()),
            (Time::SECONDS, "9223372036854775808", not_integer),
            (Time::MILLISECONDS, "1", Ok(now + 1)),
            (Time::MILLISECONDS, "9223372036854775807", invalid.clone()),
            (Time::UNIX_SECONDS, "1", Ok(1000)),
            (Time::UNIX_SECONDS, "9223372036854775", Ok(9223372036854775000)),
            (Time::UNIX_MILLISECONDS, "9223372036854775807", Ok(i64::MAX.into())),
            (Time::UNIX_MILLISECONDS, "-1", invalid),
        ];
        for (time, given, wanted) in rows {
            let got = text(time.positive_deadline(given.as_bytes(), NOW_MS, "set"));
            assert_eq!(got, *wanted, "{time:?} {given}");
        }
    }

    #[test]
    fn any_deadlines() {
        let invalid = Err("ERR invalid expire time in 'expire' command".to_owned());
        let now = i128::from(NOW_MS);
        let rows: &[(Time, &str, Result<i128, String>)] = &[
            (Time::SECONDS, "-1", Ok(now - 1000)),
            (Time::SECONDS, "0", Ok(now)),
            (Time::SECONDS, "-9223372036854775", Ok(now - 9223372036854775000)),
            (Time::SECONDS, "-9223372036854776", invalid.clone()),
            (Time::SECONDS, "9223372036854775", invalid.clone()),
            (Time::MILLISECONDS, "-9223372036854775808", Ok(now + i128::from(i64::MIN))),
            (Time::MILLISECONDS, "9223372036854775807", invalid),
            (Time::UNIX_MILLISECONDS, "9223372036854775807", Ok(i64::MAX.into())),
            (Time::UNIX_SECONDS, "-5", Ok(-5000)),
        ];
        for (time, given, wanted) in rows {
            let got = text(time.any_deadline(given.as_bytes(), NOW_MS, "expire"));
            assert_eq!(got, *wanted, "{time:?} {given}");
        }
    }

    #[test]
    fn a_key_is_gone_at_its_deadline() {
        assert!(!has_passed(None, u64::MAX));
        assert!(!has_passed(Some(10), 9));
        assert!(has_passed(Some(10), 10));
    }

    #[test]
    fn seconds_are_rounded_to_the_nearest() {
        for (ms, seconds) in
            [(0, 0), (499, 0), (500, 1), (1499, 1), (i64::MAX as u64, 9223372036854776)]
        {
            assert_eq!(to_seconds(ms), seconds);
        }
    }
}
