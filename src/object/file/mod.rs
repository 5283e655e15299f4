//! A store in a folder, in the layout of JuiceFS's local storage: `<bucket>/<key>`.
//!
//! `store` speaks the trait, `disk` makes the system calls, `list` walks in the order of keys.

mod disk;
mod list;
mod store;

pub use store::FileStore;
