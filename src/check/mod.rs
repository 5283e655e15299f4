//! What is wrong with a volume: findings from facts, and what mends those about derived data.
//!
//! Owns the judgement, pure: [`Census`] takes rows of metadata and names of objects in the order its
//! methods stand, and says what does not fit. Does not own how they are read, nor what becomes of a
//! finding (`daemon`). Relies on `meta` for rows and commits, on `object` for the names of blocks.
//!
//! What it remembers grows with the volume: entries of hash tables for nodes, directories, lists and
//! slices.

mod census;
mod finding;
mod mend;
mod slices;

#[cfg(test)]
mod tests;

pub use census::{Census, Shape};
pub use finding::{FINDINGS_MAX, Finding, Findings, Weight};
pub use mend::mend;
pub use slices::Unused;
