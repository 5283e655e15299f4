//! Small general pieces that know nothing of file systems.

pub mod calendar;
mod chance;
mod clock;
mod gate;
mod oneshot;
mod permits;

pub use chance::Chance;
#[cfg(test)]
pub use clock::step;
pub use clock::{local_hour, monotonic_ns, now, process_ns};
pub use gate::Gate;
pub use oneshot::{Closed, Receiver, Sender, oneshot};
pub use permits::{Permit, Permits};
