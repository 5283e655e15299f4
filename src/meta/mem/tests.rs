//! The memory engine passes the suite, and agrees with itself.

use super::*;
use crate::meta::conformance::{agrees, conforms, formats};
use crate::uring::block_on;

#[test]
fn conforms_to_the_language() {
    let engine = MemBase::new().engine();
    block_on(async {
        formats(&*engine).await;
        conforms(engine).await;
    });
}

#[test]
fn a_life_repeats_itself() {
    block_on(async {
        let (a, b) = (MemBase::new().engine(), MemBase::new().engine());
        formats(&*a).await;
        formats(&*b).await;
        agrees(&*a, &*b, 1).await;
    });
}
