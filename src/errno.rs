//! The one place where errors become numbers for the caller.
