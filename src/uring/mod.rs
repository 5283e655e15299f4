//! The ring of a core: reactor, operations, executor. Knows the kernel, not FUSE.
