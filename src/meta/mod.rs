//! Names, attributes, slice references and the order of commits.
//!
//! Plans decide (`plan`), commits carry (`txn`), engines apply (`engine`). Does not know block
//! bytes, object stores, staging or FUSE.

mod engine;
mod node;
pub mod record;
mod slices;
pub mod sqlite;
mod txn;

pub use engine::{DirEntry, Engine, EngineError, Local, Session};
pub use slices::{MetaError, NewSlice, Slices};
pub use txn::{
    Commit, Counter, Expect, Flock, Key, LockOwner, Mutation, NodeField, Outcome, Patch, Plock,
    SetNode, Value,
};
