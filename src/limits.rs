//! Every bound in one place, with the relations between them held at compile time.
