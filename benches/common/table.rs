//! Rounds of calls on several systems, their medians, and whether they reach their bars.

use super::caller::{Size, call};
use super::systems::System;

const ROUNDS: usize = 7;

/// What a case must reach.
pub enum Bar {
    /// At most so many times what another system of the table takes.
    Times(f64, usize),
    /// At most so many microseconds.
    Micros(f64),
}

/// Whether this is only to prove that the bench runs.
pub fn is_quick() -> bool {
    std::env::var_os("BENCH_QUICK").is_some()
}

/// How much to do.
pub fn size(files: usize, mebibytes: usize) -> Size {
    if is_quick() { Size { files: 50, mebibytes: 8 } } else { Size { files, mebibytes } }
}

/// Rounds that count.
pub fn rounds() -> usize {
    if is_quick() { 1 } else { ROUNDS }
}

/// What each system took in each round, µs: `[system][case][round]`. Case by case all systems are
/// called one after another, so that a disturbance falls on all alike.
pub fn measure(systems: &[System], cases: &[&str], size: Size) -> Vec<Vec<Vec<f64>>> {
    let mut found = vec![vec![Vec::new(); cases.len()]; systems.len()];
    // The first round warms up.
    for number in 0..=rounds() {
        for (at, case) in cases.iter().enumerate() {
            for (system, rows) in systems.iter().zip(&mut found) {
                let value = call(&system.point(), case, size);
                if number > 0 {
                    rows[at].push(value);
                }
            }
        }
    }
    found
}

/// The middle one.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// One line for each case: median and least of each system.
pub fn print(systems: &[System], cases: &[&str], found: &[Vec<Vec<f64>>]) {
    let names: Vec<_> = systems.iter().map(|system| format!("{:>22}", system.name)).collect();
    println!("{:24}{}", "µs: median (least)", names.join(""));
    for (at, case) in cases.iter().enumerate() {
        let values: Vec<_> = found.iter().map(|rows| shown(&rows[at])).collect();
        println!("{case:24}{}", values.join(""));
    }
}

/// Median and least.
pub fn shown(values: &[f64]) -> String {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    format!("{:13.2} ({least:6.2})", median(values.to_vec()))
}

/// Say whether system `judged` reaches `bar` in a case; ratios are of rounds side by side.
pub fn judge(case: &str, found: &[Vec<Vec<f64>>], at: usize, judged: usize, bar: &Bar) {
    if is_quick() {
        return;
    }
    let own = &found[judged][at];
    let (told, reached) = match bar {
        Bar::Times(most, other) => {
            let ratios = own.iter().zip(&found[*other][at]).map(|(own, other)| own / other);
            let ratio = median(ratios.collect());
            (format!("{ratio:.2}x of at most {most:.2}x"), ratio <= *most)
        }
        Bar::Micros(most) => {
            let value = median(own.clone());
            (format!("{value:.2} µs of at most {most}"), value <= *most)
        }
    };
    tell(case, &told, reached);
}

/// One line on one bar.
pub fn tell(what: &str, told: &str, reached: bool) {
    println!("  {what:24} {told:32} {}", if reached { "reached" } else { "FELL SHORT" });
}
