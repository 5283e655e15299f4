//! Side threads for work that blocks, and the bridge to them.

pub mod side;
