//! Names, attributes, slice references and the order of commits.
//!
//! Plans decide (`plan`), commits carry (`txn`), engines apply (`engine`). Does not know block
//! bytes, object stores, staging or FUSE.

mod acl;
mod client;
#[cfg(test)]
mod conformance;
mod engine;
pub mod mem;
mod node;
mod overlay;
mod plan;
pub mod record;
pub mod redis;
mod scan;
mod slices;
pub mod sqlite;
mod txn;

pub use acl::{AclKind, Named, Rule, UNSET};
pub use client::{Made, Meta, MetaCounts, MetaShared, Moved, Released, TrashFolder, Usage};
pub use engine::{
    AclRules, Description, DirEntry, Engine, EngineError, Heard, Local, Session, UnusedSlices,
};
pub use overlay::overlay;
pub use plan::acl::WantedAcl;
pub use plan::attr::{Atime, Wanted};
pub use plan::compact::Compaction;
pub use plan::content::{KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE};
pub use plan::create::NewNode;
pub use plan::remove::Removed;
pub use plan::rename::{EXCHANGE, NO_REPLACE};
pub use plan::{Rules, Who};
pub use scan::{Page, Row, Table};
pub use slices::{MetaError, NewSlices, SizedSlice, Slices};
pub use txn::{
    Commit, Counter, Delayed, Expect, Flock, Holder, Key, LockOwner, Mutation, NodeField, Outcome,
    Patch, Plock, Quota, SetNode, Value,
};
