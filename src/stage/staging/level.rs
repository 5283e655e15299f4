//! How far a kept block has come.

/// Of a block that is not in the object store yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// The kernel has it: it survives a crash of this process.
    Logged,
    /// The disk has it: it survives a loss of power.
    Local,
}
