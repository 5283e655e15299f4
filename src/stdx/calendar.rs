//! Dates in UTC from seconds since 1970.

use crate::types::Time;

/// A date and a time of day in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Utc {
    /// Year.
    pub year: i64,
    /// Month, 1 to 12.
    pub month: i64,
    /// Day of the month, from 1.
    pub day: i64,
    /// Hour of the day.
    pub hour: i64,
    /// Minute.
    pub minute: i64,
    /// Second.
    pub second: i64,
}

/// The moment `sec` seconds after 1970 began.
pub fn utc(sec: i64) -> Utc {
    let (days, of_day) = (sec.div_euclid(86_400), sec.rem_euclid(86_400));
    // Civil date from days, counted in years that begin in March.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    Utc {
        year: year_of_era + era * 400 + i64::from(month <= 2),
        month,
        day: day_of_year - (153 * shifted_month + 2) / 5 + 1,
        hour: of_day / 3600,
        minute: of_day / 60 % 60,
        second: of_day % 60,
    }
}

/// The seconds from 1970 to a moment, whatever its numbers: those beyond their range count on.
/// Years of more than six digits are cut to that.
pub fn seconds(at: Utc) -> i64 {
    let year = at.year.clamp(-999_999, 999_999) - i64::from(at.month <= 2);
    let month = at.month.clamp(1, 12);
    let shifted_month = (month + 9) % 12;
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let of_month = |number: i64| number.clamp(0, 1_000_000);
    let day_of_year = (153 * shifted_month + 2) / 5 + of_month(at.day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - 719_468;
    days * 86_400 + of_month(at.hour) * 3600 + of_month(at.minute) * 60 + of_month(at.second)
}

/// RFC 3339 with nanoseconds.
pub fn rfc3339(time: Time) -> String {
    let Utc { year, month, day, hour, minute, second } = utc(time.sec);
    let nsec = time.nsec;
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nsec:09}Z")
}

/// Seconds since 1970 of a moment in RFC 3339, in any zone; a fraction of a second is left out.
pub fn parse_rfc3339(text: &str) -> Option<i64> {
    let (moment, rest) = text.split_at_checked(19)?;
    let number = |from: usize, to: usize| {
        let digits = moment.get(from..to)?;
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse::<i64>().ok())?
    };
    let parts = [(4, '-'), (7, '-'), (10, 'T'), (13, ':'), (16, ':')];
    let stands = |&(at, mark): &(usize, char)| moment[at..].starts_with(mark);
    if !moment.is_ascii() || !parts.iter().all(stands) {
        return None;
    }
    let at = Utc {
        year: number(0, 4)?,
        month: number(5, 7).filter(|month| (1..=12).contains(month))?,
        day: number(8, 10).filter(|day| (1..=31).contains(day))?,
        hour: number(11, 13)?,
        minute: number(14, 16)?,
        second: number(17, 19)?,
    };
    let zone = match rest.strip_prefix('.') {
        Some(fraction) => fraction.trim_start_matches(|c: char| c.is_ascii_digit()),
        None => rest,
    };
    Some(seconds(at) - ahead_s(zone)?)
}

/// Seconds by which a zone's clocks are ahead of UTC: `Z`, `+08:00`.
fn ahead_s(zone: &str) -> Option<i64> {
    if zone == "Z" {
        return Some(0);
    }
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    let (hours, minutes): (u32, u32) = (hours.parse().ok()?, minutes.parse().ok()?);
    let ahead = i64::from(hours.min(99)) * 3600 + i64::from(minutes.min(59)) * 60;
    match zone.as_bytes()[0] {
        b'+' => Some(ahead),
        b'-' => Some(-ahead),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments() {
        assert_eq!(rfc3339(Time { sec: 0, nsec: 7 }), "1970-01-01T00:00:00.000000007Z");
        assert_eq!(rfc3339(Time { sec: 951_782_400, nsec: 0 }), "2000-02-29T00:00:00.000000000Z");
        assert_eq!(rfc3339(Time { sec: 1_700_000_000, nsec: 0 }), "2023-11-14T22:13:20.000000000Z");
        assert_eq!(rfc3339(Time { sec: -1, nsec: 0 }), "1969-12-31T23:59:59.000000000Z");
    }

    #[test]
    fn moments_are_read_in_any_zone() {
        assert_eq!(parse_rfc3339("2021-11-23T18:29:54+08:00"), Some(1_637_663_394));
        assert_eq!(parse_rfc3339("2021-11-23T10:29:54Z"), Some(1_637_663_394));
        assert_eq!(parse_rfc3339("2021-11-23T06:59:54.25-03:30"), Some(1_637_663_394));
        assert_eq!(parse_rfc3339(&rfc3339(Time { sec: 951_782_400, nsec: 5 })), Some(951_782_400));
        for wrong in [
            "",
            "2021-11-23",
            "2021-11-23T10:29:54",
            "2021-13-23T10:29:54Z",
            "2021x11-23T10:29:54Z",
            "2021-11-23T10:29:5éZ",
            "2021-11-23T10:29:54+0800",
            "+021-11-23T10:29:54Z",
        ] {
            assert_eq!(parse_rfc3339(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn moments_come_back_from_their_dates() {
        for day in -200_000..200_000_i64 {
            let sec = day * 86_400 + (day * 7919).rem_euclid(86_400);
            assert_eq!(seconds(utc(sec)), sec);
        }
        let wild = Utc {
            year: i64::MAX,
            month: i64::MIN,
            day: i64::MAX,
            hour: i64::MAX,
            minute: i64::MAX,
            second: i64::MAX,
        };
        assert!(seconds(wild) > 0);
    }
}
