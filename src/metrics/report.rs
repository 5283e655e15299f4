//! What a mount counted at one moment, by the official client's names and some of its own, and its two
//! forms: the lines of `.stats`, and what Prometheus scrapes.
//!
//! Owns the forms. Which names there are is told by who makes a report.

use std::fmt::Write;

use super::Sum;
use super::spread::{BucketSum, Scale, SpreadSum, Unit};

/// A number of a report.
enum Value {
    Number(u64),
    /// In nanoseconds.
    Time(u64),
    Spread(&'static Scale, SpreadSum),
}

/// One of the numbers under a name, with the label that tells it from the others.
struct Sample {
    label: Option<(&'static str, String)>,
    value: Value,
}

/// A name and all its numbers.
struct Family {
    name: &'static str,
    help: &'static str,
    kind: &'static str,
    samples: Vec<Sample>,
}

/// What is written in front of every name that the official client has.
const PREFIX: &str = "juicefs_";
/// What names of this client's own begin with.
const OWN: &str = "jfs_uring_";

/// What is written in front of a name.
fn prefix(name: &str) -> &'static str {
    if name.starts_with(OWN) { "" } else { PREFIX }
}

/// All numbers of one moment.
#[derive(Default)]
pub struct Report(Vec<Family>);

impl Report {
    fn family(
        &mut self,
        name: &'static str,
        help: &'static str,
        kind: &'static str,
    ) -> &mut Family {
        let new = self.0.last().is_none_or(|last| last.name != name);
        if new {
            assert!(self.0.iter().all(|family| family.name != name), "{name} is in one place");
            self.0.push(Family { name, help, kind, samples: Vec::new() });
        }
        self.0.last_mut().expect("there is one now")
    }

    fn add(&mut self, name: &'static str, help: &'static str, kind: &'static str, value: Value) {
        self.family(name, help, kind).samples.push(Sample { label: None, value });
    }

    /// A number that goes up and down.
    pub fn gauge(&mut self, name: &'static str, help: &'static str, value: u64) {
        self.add(name, help, "gauge", Value::Number(value));
    }

    /// A time that goes up and down.
    pub fn gauge_ns(&mut self, name: &'static str, help: &'static str, time_ns: u64) {
        self.add(name, help, "gauge", Value::Time(time_ns));
    }

    /// Several numbers that go up and down, under one name, with the values of a label.
    pub fn gauges(
        &mut self,
        name: &'static str,
        help: &'static str,
        label: &'static str,
        values: impl IntoIterator<Item = (String, u64)>,
    ) {
        let values = values.into_iter().map(|(of, value)| (of, Value::Number(value)));
        self.labelled((name, help, "gauge"), label, values);
    }

    /// A number that only grows.
    pub fn counter(&mut self, name: &'static str, help: &'static str, value: u64) {
        self.add(name, help, "counter", Value::Number(value));
    }

    /// A time that only grows.
    pub fn counter_ns(&mut self, name: &'static str, help: &'static str, time_ns: u64) {
        self.add(name, help, "counter", Value::Time(time_ns));
    }

    /// How amounts are spread.
    pub fn spread(
        &mut self,
        name: &'static str,
        help: &'static str,
        scale: &'static Scale,
        all: Sum,
        buckets: BucketSum,
    ) {
        self.add(name, help, "histogram", Value::Spread(scale, SpreadSum { all, buckets }));
    }

    /// Several counters under one name, with the values of a label.
    pub fn counters(
        &mut self,
        name: &'static str,
        help: &'static str,
        label: &'static str,
        values: impl IntoIterator<Item = (String, u64)>,
    ) {
        let values = values.into_iter().map(|(of, value)| (of, Value::Number(value)));
        self.labelled((name, help, "counter"), label, values);
    }

    /// As [`Report::counters`], of times.
    pub fn counters_ns(
        &mut self,
        name: &'static str,
        help: &'static str,
        label: &'static str,
        values: impl IntoIterator<Item = (String, u64)>,
    ) {
        let values = values.into_iter().map(|(of, time_ns)| (of, Value::Time(time_ns)));
        self.labelled((name, help, "counter"), label, values);
    }

    /// As [`Report::spread`], several under one name.
    pub fn spreads(
        &mut self,
        name: &'static str,
        help: &'static str,
        scale: &'static Scale,
        label: &'static str,
        values: impl IntoIterator<Item = (String, SpreadSum)>,
    ) {
        let values = values.into_iter().map(|(of, spread)| (of, Value::Spread(scale, spread)));
        self.labelled((name, help, "histogram"), label, values);
    }

    fn labelled(
        &mut self,
        (name, help, kind): (&'static str, &'static str, &'static str),
        label: &'static str,
        values: impl Iterator<Item = (String, Value)>,
    ) {
        let samples = values.map(|(of, value)| Sample { label: Some((label, of)), value });
        self.family(name, help, kind).samples.extend(samples);
    }

    /// Lines of a name and a value. Of what is spread there is how often and how much; the value of a
    /// label is part of the name.
    pub fn lines(&self) -> Vec<u8> {
        let mut text = String::new();
        for family in &self.0 {
            for Sample { label, value } in &family.samples {
                let name = match label {
                    Some((_, of)) => format!("{}_{of}", family.name),
                    None => family.name.to_owned(),
                };
                let prefix = prefix(family.name);
                let mut line = |end: &str, value: &dyn std::fmt::Display| {
                    writeln!(text, "{prefix}{name}{end} {value}").expect("text can be written");
                };
                match value {
                    Value::Number(number) => line("", number),
                    Value::Time(time_ns) => line("", &seconds(*time_ns)),
                    Value::Spread(scale, spread) => {
                        line("_total", &spread.all.count);
                        match scale.unit() {
                            Unit::Time => line("_sum", &seconds(spread.all.total)),
                            Unit::Plain => line("_sum", &spread.all.total),
                        }
                    }
                }
            }
        }
        text.into_bytes()
    }

    /// The text format of Prometheus, version 0.0.4, with `common` labels at every number.
    pub fn exposition(&self, common: &[(&str, String)]) -> Vec<u8> {
        let mut common: Vec<(&str, &str)> =
            common.iter().map(|(name, value)| (*name, value.as_str())).collect();
        common.sort_unstable();
        let mut text = String::new();
        for Family { name, help, kind, samples } in &self.0 {
            let prefix = prefix(name);
            writeln!(text, "# HELP {prefix}{name} {help}").expect("text can be written");
            writeln!(text, "# TYPE {prefix}{name} {kind}").expect("text can be written");
            for Sample { label, value } in samples {
                let mut labels = common.clone();
                labels.extend(label.as_ref().map(|(name, value)| (*name, value.as_str())));
                let mut line = |end: &str, bound: Option<&str>, value: &str| {
                    let mut labels = labels.clone();
                    labels.extend(bound.map(|bound| ("le", bound)));
                    writeln!(text, "{prefix}{name}{end}{} {value}", braced(&labels))
                        .expect("text can be written");
                };
                match value {
                    Value::Number(number) => line("", None, &number.to_string()),
                    Value::Time(time_ns) => line("", None, &shown(seconds(*time_ns))),
                    Value::Spread(scale, SpreadSum { all, buckets }) => {
                        let up_to = buckets.up_to(scale, all.count);
                        for (bound, count) in scale.shown().iter().zip(up_to) {
                            line("_bucket", Some(&shown(*bound)), &count.to_string());
                        }
                        line("_bucket", Some("+Inf"), &all.count.to_string());
                        let total = match scale.unit() {
                            Unit::Time => shown(seconds(all.total)),
                            Unit::Plain => all.total.to_string(),
                        };
                        line("_sum", None, &total);
                        line("_count", None, &all.count.to_string());
                    }
                }
            }
        }
        text.into_bytes()
    }
}

fn braced(labels: &[(&str, &str)]) -> String {
    let quoted = |(name, value): &(&str, &str)| {
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        format!("{name}=\"{value}\"")
    };
    match labels {
        [] => String::new(),
        labels => format!("{{{}}}", labels.iter().map(quoted).collect::<Vec<_>>().join(",")),
    }
}

fn seconds(time_ns: u64) -> f64 {
    time_ns as f64 / 1e9
}

/// A number as the official client's language writes it: as short as possible, very small and very
/// large ones with an exponent of two digits.
fn shown(number: f64) -> String {
    if number == 0.0 || (1e-4..1e21).contains(&number.abs()) {
        return number.to_string();
    }
    let text = format!("{number:e}");
    let (digits, exponent) = text.split_once('e').expect("it has an exponent");
    let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |rest| ('-', rest));
    format!("{digits}e{sign}{exponent:0>2}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::spread::{METADATA, OPERATIONS, SIZES};

    fn report() -> Report {
        let mut report = Report::default();
        report.gauge("memory", "Memory in use in bytes.", 1 << 33);
        report.gauge_ns("cpu_usage", "Accumulated CPU usage in seconds.", 2_500_000_000);
        let ops = "fuse_ops_durations_histogram_seconds";
        let all = Sum { count: 3, total: 1_000 };
        report.spread(ops, "Times.", &OPERATIONS, all, BucketSum::default());
        let sizes = crate::metrics::spread::Buckets::new(&SIZES);
        (0..2).for_each(|_| sizes.add(65_536, 1));
        let all = Sum { count: 2, total: 131_072 };
        report.spread("fuse_read_size_bytes", "Sizes.", &SIZES, all, sizes.sum());
        let done = [("read".to_owned(), 2), ("we\"ird\\".to_owned(), 1)];
        report.counters("fuse_ops_total", "Operations.", "method", done);
        report
    }

    #[test]
    fn lines_are_those_of_the_real_client() {
        let golden = "juicefs_memory 8589934592\njuicefs_cpu_usage 2.5\n\
            juicefs_fuse_ops_durations_histogram_seconds_total 3\n\
            juicefs_fuse_ops_durations_histogram_seconds_sum 0.000001\n\
            juicefs_fuse_read_size_bytes_total 2\njuicefs_fuse_read_size_bytes_sum 131072\n\
            juicefs_fuse_ops_total_read 2\njuicefs_fuse_ops_total_we\"ird\\ 1\n";
        assert_eq!(String::from_utf8(report().lines()).unwrap(), golden);
    }

    #[test]
    fn prometheus_gets_its_format() {
        let common = [("vol_name", "v".to_owned()), ("mp", "/mnt".to_owned())];
        let text = String::from_utf8(report().exposition(&common)).unwrap();
        let has = |line: &str| assert!(text.lines().any(|each| each == line), "{line}\n{text}");
        has("# TYPE juicefs_memory gauge");
        has("juicefs_memory{mp=\"/mnt\",vol_name=\"v\"} 8589934592");
        let times = "juicefs_fuse_ops_durations_histogram_seconds";
        has(&format!("{times}_bucket{{mp=\"/mnt\",vol_name=\"v\",le=\"1e-05\"}} 0"));
        has(&format!("{times}_bucket{{mp=\"/mnt\",vol_name=\"v\",le=\"+Inf\"}} 3"));
        has(&format!("{times}_sum{{mp=\"/mnt\",vol_name=\"v\"}} 1e-06"));
        let sizes = "juicefs_fuse_read_size_bytes_bucket{mp=\"/mnt\",vol_name=\"v\",le=";
        has(&format!("{sizes}\"61440\"}} 0"));
        has(&format!("{sizes}\"65536\"}} 2"));
        has("juicefs_fuse_ops_total{mp=\"/mnt\",vol_name=\"v\",method=\"we\\\"ird\\\\\"} 1");
    }

    #[test]
    fn names_of_our_own_have_their_own_prefix() {
        let mut report = Report::default();
        let levels = [("logged".to_owned(), 1), ("local".to_owned(), 2)];
        report.gauges("jfs_uring_level_blocks", "Blocks.", "level", levels);
        report.counter_ns("jfs_uring_waited_seconds", "Time.", 1_500_000_000);
        let golden = "jfs_uring_level_blocks_logged 1\njfs_uring_level_blocks_local 2\n\
            jfs_uring_waited_seconds 1.5\n";
        assert_eq!(String::from_utf8(report.lines()).unwrap(), golden);
        let text = String::from_utf8(report.exposition(&[])).unwrap();
        assert!(text.contains("# TYPE jfs_uring_level_blocks gauge\n"), "{text}");
        assert!(text.contains("\njfs_uring_level_blocks{level=\"local\"} 2\n"), "{text}");
    }

    #[test]
    fn numbers_are_written_as_the_real_client_does() {
        let written: Vec<_> = OPERATIONS.shown()[..6].iter().map(|bound| shown(*bound)).collect();
        let golden = ["1e-05", "1.8e-05", "3.24e-05", "5.832e-05", "0.000104976", "0.0001889568"];
        assert_eq!(written.len(), golden.len());
        assert_eq!((written[0].as_str(), written[1].as_str()), (golden[0], golden[1]));
        assert!(written[4].starts_with("0.00010497"), "{}", written[4]);
        assert_eq!(shown(METADATA.shown()[0]), "0.0001");
        let all =
            [(0.0, "0"), (131_072.0, "131072"), (2.5, "2.5"), (1e21, "1e+21"), (-1e-7, "-1e-07")];
        for (number, text) in all {
            assert_eq!(shown(number), text);
        }
    }
}
