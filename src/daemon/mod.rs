//! Start, drain and end of a mount.
