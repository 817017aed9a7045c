//! Dates without a time zone: everything is UTC, so that a ledger says the same everywhere.

use super::entry::Millis;

const SECOND: Millis = 1000;
/// Milliseconds of a day.
pub(super) const DAY: Millis = 24 * 3600 * SECOND;

/// The beginning of a period, as people write it: an age such as `90m`, `24h`, `7d`, `4w`, or a date such as
/// `2026-11-01` or `2026-11-01T08:30:00Z`. The error says what is understood.
pub fn since(text: &str, now: Millis) -> Result<Millis, String> {
    let wrong =
        || format!("`{text}` is no time; write an age such as 24h, 7d or 4w, or a date such as 2026-11-01");
    let text = text.trim();
    if let Some((number, unit)) = text.char_indices().next_back().map(|(at, unit)| (&text[..at], unit))
        && let Ok(number) = number.parse::<u32>()
    {
        let unit = match unit {
            'm' => 60 * SECOND,
            'h' => 3600 * SECOND,
            'd' => DAY,
            'w' => 7 * DAY,
            _ => return Err(wrong()),
        };
        return Ok(now.saturating_sub(Millis::from(number).saturating_mul(unit)));
    }
    let (day, time) = text.split_once(['T', ' ']).unwrap_or((text, "00:00:00"));
    let number = |text: &str, digits: usize| -> Option<i64> {
        (text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
    };
    let parse = || {
        let mut parts = day.splitn(3, '-');
        let (year, month, day) =
            (number(parts.next()?, 4)?, number(parts.next()?, 2)?, number(parts.next()?, 2)?);
        let at = days_of(year, month, day);
        // A day that does not exist would come back as another.
        if civil_of(at) != (year, month, day) {
            return None;
        }
        let mut parts = time.trim_end_matches('Z').splitn(3, ':');
        let (hour, minute) = (number(parts.next()?, 2)?, number(parts.next()?, 2)?);
        let second = parts.next().map_or(Some(0), |text| number(text, 2))?;
        (hour < 24 && minute < 60 && second < 60)
            .then(|| at * DAY + (hour * 3600 + minute * 60 + second) * SECOND)
    };
    parse().ok_or_else(wrong)
}

/// A moment's day, such as `2026-11-28`.
pub fn date(at: Millis) -> String {
    let (year, month, day) = civil_of(at.div_euclid(DAY));
    format!("{year:04}-{month:02}-{day:02}")
}

/// A moment to the second, such as `2026-11-28T09:15:00Z`.
pub fn timestamp(at: Millis) -> String {
    let second = at.rem_euclid(DAY) / SECOND;
    format!("{}T{:02}:{:02}:{:02}Z", date(at), second / 3600, second / 60 % 60, second % 60)
}

/// The Monday on which a moment's week began, at midnight.
pub fn week(at: Millis) -> Millis {
    // 1970-01-01 was a Thursday.
    let day = at.div_euclid(DAY);
    (day - (day + 3).rem_euclid(7)) * DAY
}

/// Days since 1970-01-01 of a date of the Gregorian calendar (Howard Hinnant, "chrono-compatible low-level date
/// algorithms").
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Year, month and day of a number of days since 1970-01-01; the inverse of [`days_of`].
fn civil_of(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_and_written() {
        let now = since("2026-11-28T09:15:30Z", 0).unwrap();
        assert_eq!(now, 1_795_857_330_000);
        assert_eq!(timestamp(now), "2026-11-28T09:15:30Z");
        assert_eq!(date(since("7d", now).unwrap()), "2026-11-21");
        assert_eq!(timestamp(since("90m", now).unwrap()), "2026-11-28T07:45:30Z");
        assert_eq!(since("1970-01-01", now), Ok(0));
        assert_eq!(since("2024-02-29", now).map(date), Ok("2024-02-29".to_owned()));
        // A Saturday's week began on Monday.
        assert_eq!(date(week(now)), "2026-11-23");
        assert_eq!(date(week(week(now))), "2026-11-23");
        for wrong in
            ["", "d", "7y", "2026-02-29", "2026-13-01", "26-01-01", "2026-01-01T25:00", "yesterday", "ö"]
        {
            assert!(since(wrong, now).is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_day_of_four_centuries_comes_back() {
        for day in -150_000..150_000 {
            let (year, month, of_month) = civil_of(day);
            assert_eq!(days_of(year, month, of_month), day);
        }
    }
}
