//! The same commits on Redis and on SQLite: the same outcomes, the same answers.
