//! The suite of all engines, on Redis.

use super::server::TestServer;
use crate::meta::conformance::{agrees, conforms, formats};
use crate::meta::mem::MemBase;
use crate::uring::block_on;

#[test]
fn conforms_to_the_language() {
    let server = TestServer::start(&[]);
    block_on(async {
        let engine = server.engine();
        formats(&*engine).await;
        conforms(engine).await;
    });
}

#[test]
fn agrees_with_the_reference() {
    for seed in 1..=8 {
        let server = TestServer::start(&[]);
        block_on(async {
            let (engine, reference) = (server.engine(), MemBase::new().engine());
            formats(&*engine).await;
            formats(&*reference).await;
            agrees(&*reference, &*engine, seed).await;
        });
    }
}
