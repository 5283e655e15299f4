//! What a node is and where, and how much is below a directory: `juicefs info`, `juicefs summary`.
//!
//! Owns the form of the answers, also for a volume that is not mounted. Sums are made by walking:
//! they are exact, whatever the volume's statistics say.

use std::rc::Rc;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::job::Job;
use super::line::error_words;
use crate::data::blocks_of;
use crate::errno::Cause;
use crate::meta::{Flock, Local, Meta, Plock};
use crate::object::Layout;
use crate::types::{Attr, FileType, Ino, SliceRecord};
use crate::vfs::Vfs;
use crate::vfs::error::Done;
use crate::vfs::op::Caller;
use crate::vfs::ranges::unpack;

/// Levels and names that a summary shows at most.
const DEPTH_MAX: u8 = 10;
const TOP_MAX: u8 = 100;

/// How much there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Amount {
    length: u64,
    size: u64,
    files: u64,
    dirs: u64,
}

impl Amount {
    fn of(kind: FileType, length: u64) -> Self {
        match kind {
            FileType::Dir => Self { size: 4096, dirs: 1, ..Self::default() },
            FileType::File => Self { length, size: charged(length), files: 1, dirs: 0 },
            _ => Self { size: charged(length), files: 1, ..Self::default() },
        }
    }

    fn add(&mut self, other: Self) {
        self.length += other.length;
        self.size += other.size;
        self.files += other.files;
        self.dirs += other.dirs;
    }
}

fn charged(length: u64) -> u64 {
    length.max(1).next_multiple_of(4096)
}

/// A branch of a summary.
struct Branch {
    ino: Ino,
    path: String,
    kind: u8,
    amount: Amount,
    children: Vec<Self>,
}

impl Branch {
    fn show(&self) -> Value {
        let mut shown = Map::new();
        shown.insert("Inode".into(), self.ino.0.into());
        shown.insert("Path".into(), self.path.clone().into());
        shown.insert("Type".into(), self.kind.into());
        shown.insert("Size".into(), self.amount.size.into());
        shown.insert("Files".into(), self.amount.files.into());
        shown.insert("Dirs".into(), self.amount.dirs.into());
        if !self.children.is_empty() {
            let children = self.children.iter().map(Self::show).collect();
            shown.insert("Children".into(), Value::Array(children));
        }
        Value::Object(shown)
    }

    /// The largest `top` children, and the others as one.
    fn prune(&mut self, top: usize) {
        self.children.sort_by_key(|child| std::cmp::Reverse(child.amount.size));
        if self.children.len() <= top {
            return;
        }
        let mut others = Amount::default();
        self.children.drain(top..).for_each(|child| others.add(child.amount));
        let path = joined(&self.path, "...");
        let kind = FileType::File as u8;
        let rest = Self { ino: Ino(0), path, kind, amount: others, children: Vec::new() };
        self.children.push(rest);
    }
}

fn joined(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") }
}

fn text(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

/// What a volume is asked about a node.
#[derive(Clone, Copy, Debug)]
pub struct Inquiry<'a> {
    /// How its slices are cut and named.
    pub layout: Layout,
    /// Its name.
    pub volume: &'a str,
    /// Its setting.
    pub setting: &'a Value,
    /// The node.
    pub ino: Ino,
    /// Whether all below it counts.
    pub recursive: bool,
    /// Whether slices are told in place of objects.
    pub raw: bool,
}

/// What became of an inquiry, in the form of the official client's answer.
fn told(ino: Ino, answer: Done<Value>) -> Value {
    answer.unwrap_or_else(
        |cause: Cause| json!({"Ino": ino.0, "Failed": true, "Reason": error_words(cause.number())}),
    )
}

/// The answer to `juicefs info` from metadata alone, where nothing of the node is dirty.
pub async fn info_of(meta: &Meta, inquiry: Inquiry<'_>) -> Value {
    let caller = Caller { uid: 0, gid: 0, pid: 0 };
    let job = Job::new(caller, Arc::default());
    let answer = async {
        let attr = meta.getattr(inquiry.ino).await?;
        inquiry.answer(meta, &attr, &job).await
    };
    told(inquiry.ino, answer.await)
}

impl Vfs {
    /// The answer to `juicefs info`.
    pub(super) async fn info(
        self: &Rc<Self>,
        (ino, recursive, raw): (Ino, bool, bool),
        job: &Job,
    ) -> Value {
        let shown: Value = serde_json::from_str(&self.config.shown).unwrap_or_default();
        let (setting, volume) = (&shown["Format"], &*self.config.volume);
        let layout = self.data.layout();
        let inquiry = Inquiry { layout, volume, setting, ino, recursive, raw };
        let answer = async {
            let (attr, _) = self.attr(ino).await?;
            inquiry.answer(&self.meta, &attr, job).await
        };
        told(ino, answer.await)
    }
}

impl Inquiry<'_> {
    async fn answer(&self, meta: &Meta, attr: &Attr, job: &Job) -> Done<Value> {
        let Self { ino, recursive, raw, .. } = *self;
        let amount = amount(meta, (ino, attr), recursive, job).await?;
        let paths = meta.paths(ino).await?;
        let (whole, ranges) = meta.locks(ino).await?;
        let (mut chunks, mut objects) = (Vec::new(), Vec::new());
        if attr.kind == FileType::File {
            for (chunk, pieces) in meta.pieces(ino, attr.length).await? {
                for piece in pieces {
                    match raw {
                        true => chunks.push(slice(chunk, &piece)),
                        false => self.objects(chunk, &piece, &mut objects),
                    }
                }
            }
        }
        Ok(json!({
            "Ino": ino.0,
            "Failed": false,
            "Reason": "",
            "Summary": {
                "Length": amount.length,
                "Size": amount.size,
                "Files": amount.files,
                "Dirs": amount.dirs,
            },
            "Paths": paths.iter().map(|path| text(path)).collect::<Vec<_>>(),
            "Chunks": chunks,
            "Objects": objects,
            "PLocks": plocks(&ranges),
            "FLocks": flocks(&whole),
            "Tier": tier(self.setting, attr.tier),
            "RestoreStatus": "",
        }))
    }

    fn objects(&self, chunk: u32, piece: &SliceRecord, objects: &mut Vec<Value>) {
        let SliceRecord { id, size, off, len, .. } = *piece;
        let shown = |key: String, size: u32, off: u32, len: u32| json!({"ChunkIndex": chunk, "Key": key, "Size": size, "Off": off, "Len": len});
        if id == 0 {
            objects.push(shown(String::new(), size, off, len));
        }
        for (key, off, len) in blocks_of(self.layout, piece) {
            let name = format!("{}/{}", self.volume, self.layout.name(key));
            objects.push(shown(name, key.size, off, len));
        }
    }
}

fn flocks(held: &[Flock]) -> Vec<Value> {
    let one = |lock: &Flock| {
        let kind = if lock.exclusive { "W" } else { "R" };
        json!({"Sid": lock.owner.sid, "Owner": lock.owner.owner, "Type": kind})
    };
    held.iter().map(one).collect()
}

/// One for each range of each owner; the end is inclusive.
fn plocks(held: &[Plock]) -> Vec<Value> {
    let of_owner = |lock: &Plock| {
        let owner = lock.owner;
        unpack(&lock.records).into_iter().map(move |range| {
            json!({
                "Sid": owner.sid, "Owner": owner.owner, "Type": range.kind, "Pid": range.pid,
                "Start": range.start, "End": range.end,
            })
        })
    };
    held.iter().flat_map(of_owner).collect()
}

/// How much a node is, and what is in it.
async fn amount(
    meta: &Meta,
    (ino, attr): (Ino, &Attr),
    recursive: bool,
    job: &Job,
) -> Done<Amount> {
    let mut amount = Amount::of(attr.kind, attr.length);
    let mut dirs = if attr.kind == FileType::Dir { vec![ino] } else { Vec::new() };
    while let Some(dir) = dirs.pop() {
        job.is_wanted()?;
        for entry in meta.list(dir, true).await? {
            let length = entry.attr.as_ref().map_or(0, |attr| attr.length);
            let more = Amount::of(entry.kind, length);
            amount.add(more);
            job.add(more.files, more.size);
            if recursive && entry.kind == FileType::Dir {
                dirs.push(entry.ino);
            }
        }
    }
    Ok(amount)
}

impl Vfs {
    /// The answer to `juicefs summary`.
    pub(super) async fn summary(
        self: &Rc<Self>,
        (ino, depth, top): (Ino, u8, u8),
        job: &Rc<Job>,
    ) -> Done<Value> {
        let (attr, _) = self.attr(ino).await?;
        let amount = Amount::of(attr.kind, attr.length);
        let kind = FileType::Dir as u8;
        let mut root = Branch { ino, path: String::new(), kind, amount, children: Vec::new() };
        if attr.kind == FileType::Dir {
            let top = usize::from(top.min(TOP_MAX));
            root = self.branch(root, depth.min(DEPTH_MAX), top, Rc::clone(job)).await?;
        }
        Ok(json!({"Errno": 0, "Tree": root.show()}))
    }

    /// A directory's branch with what is below it, shown `depth` levels deep.
    fn branch(
        self: &Rc<Self>,
        mut branch: Branch,
        depth: u8,
        top: usize,
        job: Rc<Job>,
    ) -> Local<'static, Done<Branch>> {
        let vfs = Rc::clone(self);
        Box::pin(async move {
            job.is_wanted()?;
            if depth == 0 {
                let dir = vfs.attr(branch.ino).await?.0;
                branch.amount = amount(&vfs.meta, (branch.ino, &dir), true, &job).await?;
                return Ok(branch);
            }
            for entry in vfs.meta.list(branch.ino, true).await? {
                let length = entry.attr.as_ref().map_or(0, |attr| attr.length);
                let amount = Amount::of(entry.kind, length);
                job.add(amount.files, amount.size);
                let path = joined(&branch.path, &text(&entry.name));
                let (ino, kind) = (entry.ino, entry.kind as u8);
                let mut child = Branch { ino, path, kind, amount, children: Vec::new() };
                if entry.kind == FileType::Dir {
                    child = vfs.branch(child, depth - 1, top, Rc::clone(&job)).await?;
                }
                branch.amount.add(child.amount);
                branch.children.push(child);
            }
            branch.prune(top);
            Ok(branch)
        })
    }
}

/// What the setting in the text of `.config` says of a tier.
fn tier(setting: &Value, id: u8) -> Value {
    let tier = &setting["Tiers"][id.to_string()];
    let text = |key: &str| tier[key].as_str().unwrap_or("");
    let class = if id > 0 && tier.is_null() { "unknown" } else { text("StorageClass") };
    json!({"ID": id, "StorageClass": class, "Tag": text("Tag")})
}

fn slice(chunk: u32, piece: &SliceRecord) -> Value {
    let SliceRecord { id, size, off, len, .. } = *piece;
    json!({"ChunkIndex": chunk, "Id": id, "Size": size, "Off": off, "Len": len})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tier_is_shown_as_the_setting_has_it() {
        let told =
            |id: u8, class: &str, tag: &str| json!({"ID": id, "StorageClass": class, "Tag": tag});
        let tiered = json!({"Tiers": {"1": told(1, "STANDARD_IA", "a=b")}});
        assert_eq!(tier(&tiered, 1), told(1, "STANDARD_IA", "a=b"));
        assert_eq!(tier(&tiered, 3), told(3, "unknown", ""));
        assert_eq!(tier(&Value::Null, 0), told(0, "", ""));
    }

    #[test]
    fn a_summary_shows_the_largest_and_the_rest_as_one() {
        let leaf = |path: &str, length| Branch {
            ino: Ino(length),
            path: path.into(),
            kind: 1,
            amount: Amount::of(FileType::File, length),
            children: vec![],
        };
        let mut root = Branch { kind: 2, ..leaf("", 0) };
        root.children = vec![leaf("a", 1), leaf("b", 9000), leaf("c", 5000), leaf("d", 1)];
        root.prune(2);
        let shown = root.show();
        let names: Vec<_> =
            shown["Children"].as_array().unwrap().iter().map(|child| &child["Path"]).collect();
        assert_eq!(names, ["b", "c", "..."]);
        assert_eq!(
            (&shown["Children"][2]["Size"], &shown["Children"][2]["Files"]),
            (&8192.into(), &2.into())
        );
    }
}
