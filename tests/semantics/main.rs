//! What the file system promises, asked as the kernel asks it, with an engine in a file and a
//! store in memory. `docs/semantics.md` names these tests.

mod acl;
mod attributes;
mod content;
mod directories;
mod extended;
mod internal;
mod kernel;
mod locks;
mod names;
mod promises;
mod unlinked;
mod world;
mod writeback;
