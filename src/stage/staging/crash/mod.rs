//! Crashes at every point, on a disk in memory that may lose its power.

mod log;
mod model;
mod staging;

pub(super) use model::{Fault, Model};
