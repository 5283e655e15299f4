//! The only folder that knows there is more than one core.
