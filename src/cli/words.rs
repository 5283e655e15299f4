//! Amounts and times as people read them.

const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/// With a unit: `1.50 KiB`.
pub fn amount(count: u64) -> String {
    if count < 1024 {
        return format!("{count} Bytes");
    }
    let (mut rest, mut unit) = (count, 0);
    while rest >= 1 << 20 && unit < UNITS.len() - 1 {
        rest >>= 10;
        unit += 1;
    }
    format!("{:.2} {}", rest as f64 / 1024.0, UNITS[unit])
}

/// With its two largest parts: `2h 5m`.
pub fn time_ms(time_ms: u64) -> String {
    let s = time_ms / 1000;
    match s {
        0 => format!("{time_ms} ms"),
        1..=59 => format!("{s}.{} s", time_ms % 1000 / 100),
        60..=3599 => format!("{}m {}s", s / 60, s % 60),
        3600..=86_399 => format!("{}h {}m", s / 3600, s % 3600 / 60),
        _ => format!("{}d {}h", s / 86_400, s % 86_400 / 3600),
    }
}

/// `1 block`, `2 blocks`.
pub fn blocks(count: u64) -> String {
    if count == 1 { "1 block".to_owned() } else { format!("{count} blocks") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_two_parts() {
        assert_eq!([0, 999, 1500, 61_000].map(time_ms), ["0 ms", "999 ms", "1.5 s", "1m 1s"]);
        assert_eq!([7_500_000, 90_000_000].map(time_ms), ["2h 5m", "1d 1h"]);
        assert_eq!((blocks(1), amount(1536)), ("1 block".to_owned(), "1.50 KiB".to_owned()));
    }
}
