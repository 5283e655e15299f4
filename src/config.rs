//! Settings of a volume and of a mount, as plain data.
