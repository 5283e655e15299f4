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

/// RFC 3339 with nanoseconds.
pub fn rfc3339(time: Time) -> String {
    let Utc { year, month, day, hour, minute, second } = utc(time.sec);
    let nsec = time.nsec;
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nsec:09}Z")
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
}
