//! Which backups of metadata are kept: JuiceFS's choice, by their names.
//!
//! All of the last two days; after that one for each day of two weeks, for each week of two months,
//! for each month of two years: the earliest of those that were there. Other names are nobody's
//! to delete. Not JuiceFS's is the care about a clock that is wrong, by which all of them may look old: the
//! newest few always stay, and where these do not follow one another as backups do, so do all.

use crate::stdx::calendar::{Utc, seconds, utc};

const DAY_S: i64 = 86_400;
/// Days of which all are kept.
const ALL_DAYS: i64 = 2;
/// Years after which none is.
const YEARS: i64 = 2;
/// The newest ones, which stay however old they look. With more, a backup each half day would not thin out as
/// JuiceFS's do.
const NEWEST: usize = 4;
/// Of so many newest ones each was made soon after the one before, or else nothing goes: the clock is wrong, or
/// nobody was there for long.
const CLOSE: usize = 16;
/// Periods that may lie between two of these.
const PERIODS_MAX: i64 = 30;

/// The name of the backup of a moment.
pub fn name(at_s: i64) -> String {
    let Utc { year, month, day, hour, minute, second } = utc(at_s);
    format!("dump-{year:04}-{month:02}-{day:02}-{hour:02}{minute:02}{second:02}.json.gz")
}

/// The moment of a backup, if this is the name of one.
fn moment(text: &str) -> Option<i64> {
    let digits = text.strip_prefix("dump-")?.strip_suffix(".json.gz")?;
    let part = |from: usize, to: usize| digits.get(from..to)?.parse::<i64>().ok();
    let at = Utc {
        year: part(0, 4)?,
        month: part(5, 7)?,
        day: part(8, 10)?,
        hour: part(11, 13)?,
        minute: part(13, 15)?,
        second: part(15, 17)?,
    };
    let at_s = seconds(at);
    // Only what this names is named so: no sign, no 31st of June.
    (name(at_s) == text).then_some(at_s)
}

/// Names of backups, one of which is made each period, that have had their time.
pub fn outdated(names: &[String], now_s: i64, period_s: i64) -> Vec<&str> {
    let now = utc(now_s);
    let cutoff_s = seconds(Utc { year: now.year - YEARS, ..now });
    let dated = names.iter().filter_map(|name| Some((moment(name)?, name.as_str())));
    let mut dated: Vec<_> = dated.collect();
    dated.sort_unstable();
    dated.dedup();
    let newest = |count: usize| &dated[dated.len().saturating_sub(count)..];
    let are_close = |pair: &[(i64, &str)]| pair[1].0 - pair[0].0 <= PERIODS_MAX * period_s;
    if !newest(CLOSE).windows(2).all(are_close) {
        return Vec::new();
    }
    let oldest_kept = dated.partition_point(|(at_s, _)| *at_s < cutoff_s);
    let (old, kept) = dated.split_at(oldest_kept);
    let days = |(at_s, _): &(i64, &str)| until_days(now_s - at_s);
    let is_one_too_many =
        |pair: &&[(i64, &str)]| days(&pair[1]) > ALL_DAYS && days(&pair[0]) == days(&pair[1]);
    let thinned = kept.windows(2).filter(is_one_too_many).map(|pair| pair[1]);
    let gone = old.iter().copied().chain(thinned).filter(|one| !newest(NEWEST).contains(one));
    gone.map(|(_, name)| name).collect()
}

/// The age in days that ends the time for which one backup is kept.
fn until_days(age_s: i64) -> i64 {
    let mut days = ALL_DAYS;
    while age_s > days * DAY_S {
        days += match days {
            ..14 => 1,
            14..60 => 7,
            _ => 30,
        };
    }
    days
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_S: i64 = 1_700_000_000;

    #[test]
    fn names_are_those_of_juicefs() {
        assert_eq!(name(NOW_S), "dump-2023-11-14-221320.json.gz");
        assert_eq!(moment("dump-2023-11-14-221320.json.gz"), Some(NOW_S));
        for other in [
            "dump-2023-11-14-221320.json",
            "notes",
            "dump-2023-06-31-221320.json.gz",
            "dump-+023-11-14-221320.json.gz",
            "dump-2023-11-14-22132é.json.gz",
        ] {
            assert_eq!(moment(other), None, "{other}");
        }
    }

    /// The real client's own test: one each half day for a hundred days.
    #[test]
    fn what_is_kept_thins_out_with_its_age() {
        let mut there: Vec<String> = Vec::new();
        let begin_s = NOW_S - 100 * DAY_S;
        for step in 0..=200 {
            let at_s = begin_s + step * DAY_S / 2;
            there.push(name(at_s));
            // It begins a part of a second after the one that names it.
            let gone: Vec<_> =
                outdated(&there, at_s + 1, DAY_S / 2).into_iter().map(str::to_owned).collect();
            there.retain(|name| !gone.contains(name));
        }
        let mut ages: Vec<i64> = vec![200];
        ages.extend((15..=65).rev().step_by(7).map(|days| days * 2));
        ages.extend((3..=13).rev().map(|days| days * 2));
        ages.extend((0..=4).rev());
        let want: Vec<_> = ages.iter().map(|halves| name(NOW_S - halves * DAY_S / 2)).collect();
        assert_eq!(there, want);
    }

    #[test]
    fn after_two_years_nothing_is_kept_but_what_others_put_there() {
        let age = |days: i64| name(NOW_S - days * DAY_S);
        let mut names = vec![age(800), age(732), age(729), "a-note".into(), "dump-z".into()];
        names.extend((0..16).map(age));
        let mut gone = outdated(&names, NOW_S, DAY_S);
        gone.sort_unstable();
        assert_eq!(gone, [&*age(800), &*age(732)]);
        assert_eq!(outdated(&names[2..], NOW_S, DAY_S), Vec::<&str>::new());
    }

    #[test]
    fn a_clock_that_is_years_ahead_takes_no_backup_away() {
        const HOUR_S: i64 = 3600;
        let years_s = 5 * 365 * DAY_S;
        let mut there: Vec<_> = (0..100).map(|hours| name(NOW_S - hours * HOUR_S)).collect();
        // Those by the wrong clock do not follow the others.
        for hour in 0..15 {
            let at_s = NOW_S + years_s + hour * HOUR_S;
            there.push(name(at_s));
            assert_eq!(outdated(&there, at_s, HOUR_S), Vec::<&str>::new(), "after {hour} hours");
        }
        // However a name came about: the newest stay.
        assert_eq!(outdated(&there[..4], NOW_S + years_s, HOUR_S), Vec::<&str>::new());
        assert_eq!(outdated(&there[..5], NOW_S + years_s, HOUR_S), [&*there[4]]);
    }
}
