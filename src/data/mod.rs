//! File bytes: the one join of metadata, staging and objects. Does not know FUSE or other cores.
