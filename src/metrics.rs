//! Counters under JuiceFS's names.
