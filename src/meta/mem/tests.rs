//! The memory engine passes the suite, and agrees with itself.

use super::*;
use crate::meta::conformance::{conforms, formats};
use crate::uring::block_on;

#[test]
fn conforms_to_the_language() {
    let engine = MemBase::new().engine();
    block_on(async {
        formats(&*engine).await;
        conforms(engine).await;
    });
}
