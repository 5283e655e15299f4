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
    Quota,
}

const TEXTS: [&str; 9] = [
    include_str!("commit.lua"),
    include_str!("lookup.lua"),
    include_str!("chunks.lua"),
    include_str!("lists.lua"),
    include_str!("end_session.lua"),
    include_str!("win_job.lua"),
    include_str!("tidy_refs.lua"),
    include_str!("add_acl.lua"),
    include_str!("quota.lua"),
];

/// A script without what only people read, its lines where they were.
fn bare(text: &str) -> String {
    let lines = text.lines().map(str::trim_start);
    let lines = lines.map(|line| if line.starts_with("--") { "" } else { line });
    lines.collect::<Vec<_>>().join("\n")
}

/// The hashes of all scripts; the same on every server.
#[derive(Default)]
pub(super) struct Hashes([Vec<u8>; TEXTS.len()]);

impl Hashes {
    /// How many there are.
    pub(super) const COUNT: usize = TEXTS.len();

    /// What to send to have them all loaded.
    pub(super) fn load(asked: &mut Asked) {
        for text in TEXTS {
            asked.add(&[b"SCRIPT", b"LOAD", bare(text).as_bytes()]);
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_wants_a_password_lets_scripts_come_as_far_as_to_tell() {
        // It closes the connection at a longer word of somebody unknown.
        const UNKNOWN_MAX: usize = 16384;
        for text in TEXTS {
            let bare = bare(text);
            assert!(bare.len() <= UNKNOWN_MAX, "{} bytes: {}", bare.len(), &text[..50]);
            assert_eq!(bare.lines().count(), text.lines().count());
            assert!(!bare.contains("\n--") && bare.contains("call("));
        }
    }
}
