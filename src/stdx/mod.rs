//! Small general pieces that know nothing of file systems.

mod clock;
mod gate;
mod oneshot;

pub use clock::{monotonic_ns, now};
pub use gate::Gate;
pub use oneshot::{Closed, Receiver, Sender, oneshot};
