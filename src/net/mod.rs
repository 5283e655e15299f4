//! Threads beside the cores, and the bridges to them: for calls that block, and for HTTP.

pub mod runtime;
pub mod side;
