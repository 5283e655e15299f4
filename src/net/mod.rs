//! Side threads for work that blocks, and the bridge to them.
