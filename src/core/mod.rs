//! The only folder that knows there is more than one core.

mod cpus;
mod run;

pub use cpus::{allowed_cpus, possible_cpus};
pub use run::run;
