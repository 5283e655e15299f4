//! Sizes and times as a person writes them, with JuiceFS's defaults for a missing unit.

use std::time::Duration;

/// Bytes: `512M`, `4MiB`, `1.5g`; without a unit the number counts `unit_bytes`.
///
/// # Errors
/// A sentence that says what is wrong and what would be right.
pub fn parse_size(text: &str, unit_bytes: u64) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let wrong = || format!("{text:?} is not a size; write it as 512M, 4MiB or 100G");
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let unit = match unit.trim().to_ascii_lowercase().as_str() {
        "" => unit_bytes,
        "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        "t" | "tb" | "tib" => 1 << 40,
        "p" | "pb" | "pib" => 1 << 50,
        _ => return Err(wrong()),
    };
    let bytes = number * unit as f64;
    if bytes < (1u64 << 60) as f64 {
        Ok(bytes as u64)
    } else {
        Err(format!("{text:?} is too large for a size"))
    }
}

/// Megabits a second: `100`, `2.5G`; without a unit the number counts megabits.
///
/// # Errors
/// A sentence that says what is wrong and what would be right.
pub fn parse_mbps(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a rate; write it in Mbps as 100 or 2.5G, 0 for none");
    let text = text.trim();
    let (number, unit) = match text.char_indices().last() {
        Some((at, 'm' | 'M')) => (&text[..at], 1.0),
        Some((at, 'g' | 'G')) => (&text[..at], 1e3),
        Some((at, 't' | 'T')) => (&text[..at], 1e6),
        Some((at, 'p' | 'P')) => (&text[..at], 1e9),
        _ => (text, 1.0),
    };
    let rate: f64 = number.parse().map_err(|_| wrong())?;
    let rate = rate * unit;
    if (0.0..1e12).contains(&rate) { Ok(rate as u64) } else { Err(wrong()) }
}

/// A time: `300ms`, `1h30m`, `2d`; a bare number counts seconds.
///
/// # Errors
/// A sentence that says what is wrong and what would be right.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a time; write it as 300ms, 12s, 1h or 2d");
    let mut rest = text.trim();
    let mut total = 0.0;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = rest[digits..].trim_start();
        let letters = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        total += number
            * match rest[..letters].trim() {
                "ns" => 1e-9,
                "us" | "µs" => 1e-6,
                "ms" => 1e-3,
                "" | "s" => 1.0,
                "m" | "min" => 60.0,
                "h" => 3600.0,
                "d" => 86_400.0,
                _ => return Err(wrong()),
            };
        rest = &rest[letters..];
    }
    Duration::try_from_secs_f64(total).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_in_megabits() {
        assert_eq!(parse_mbps("100"), Ok(100));
        assert_eq!(parse_mbps("2.5G"), Ok(2500));
        assert_eq!(parse_mbps("7m"), Ok(7));
        for odd in ["", "G", "10K", "-1", "fast", "NaN", "inf"] {
            assert!(parse_mbps(odd).is_err(), "{odd}");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(parse_size("512M", 1), Ok(512 << 20));
        assert_eq!(parse_size("300", 1 << 20), Ok(300 << 20));
        assert_eq!(parse_size("1.5GiB", 1), Ok(3 << 29));
        assert_eq!(parse_size("0", 1 << 30), Ok(0));
        for wrong in ["", "many", "5 apples", "-1", "1e3", "9999999P"] {
            assert!(parse_size(wrong, 1).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times() {
        assert_eq!(parse_duration("300ms"), Ok(Duration::from_millis(300)));
        assert_eq!(parse_duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(parse_duration("12"), Ok(Duration::from_secs(12)));
        assert_eq!(parse_duration("0.5"), Ok(Duration::from_millis(500)));
        for wrong in ["", "soon", "1y", "-1s"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }
}
