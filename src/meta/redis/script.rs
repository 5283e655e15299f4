//! The scripts that run inside Redis, named by the hashes Redis gives them.

use redis::Value;

use super::words::Asked;

/// A script.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Script {
    Commit,
    Lookup,
    Chunks,
    Lists,
    EndSession,
    WinJob,
    TidyRefs,
    AddAcl,
}

const TEXTS: [&str; 8] = [
    include_str!("commit.lua"),
    include_str!("lookup.lua"),
    include_str!("chunks.lua"),
    include_str!("lists.lua"),
    include_str!("end_session.lua"),
    include_str!("win_job.lua"),
    include_str!("tidy_refs.lua"),
    include_str!("add_acl.lua"),
];

/// The hashes of all scripts; the same on every server.
#[derive(Default)]
pub(super) struct Hashes([Vec<u8>; TEXTS.len()]);

impl Hashes {
    /// How many there are.
    pub(super) const COUNT: usize = TEXTS.len();

    /// What to send to have them all loaded.
    pub(super) fn load(asked: &mut Asked) {
        TEXTS.iter().for_each(|text| asked.add(&[b"SCRIPT", b"LOAD", text.as_bytes()]));
    }

    /// From the replies to that; `Err` is what Redis says instead.
    pub(super) fn loaded(replies: &[Value]) -> Result<Self, &Value> {
        assert_eq!(replies.len(), TEXTS.len(), "each load has its reply");
        let mut hashes = Self::default();
        for (hash, reply) in hashes.0.iter_mut().zip(replies) {
            match reply {
                Value::BulkString(bytes) => hash.clone_from(bytes),
                other => return Err(other),
            }
        }
        Ok(hashes)
    }

    pub(super) fn of(&self, script: Script) -> &[u8] {
        &self.0[script as usize]
    }
}
