//! A file system that answers at once: names and lengths in memory, data dropped or kept.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::future::ready;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jfs_uring::fuse::Handler;
use jfs_uring::meta::Local;
use jfs_uring::pages::Page;
use jfs_uring::stdx::Gate;
use jfs_uring::types::{Attr, FileType, Ino, Name, Time};
use jfs_uring::uring;
use jfs_uring::vfs::op::{DirentReply, EntryReply, Op, Reply, Request, StatfsReply};

const MINUTE_NS: u64 = 60_000_000_000;

/// Shared by all cores.
#[derive(Clone)]
pub struct NullFs {
    tree: Arc<Mutex<Tree>>,
    /// Opened when a request is interrupted.
    interrupted: Arc<Gate>,
}

struct Tree {
    nodes: HashMap<u64, Node>,
    next_ino: u64,
    keep_data: bool,
    zeros: Page,
    forgotten: u64,
    interrupts: HashSet<u64>,
}

struct Node {
    attr: Attr,
    children: HashMap<Name, u64>,
    /// The same by number, which is the order of listings.
    order: BTreeMap<u64, Name>,
    data: Vec<u8>,
}

fn node(kind: FileType, mode: u32) -> Node {
    let now = Time { sec: 1_700_000_000, nsec: 0 };
    let attr = Attr { nlink: 1, length: 0, ..Attr::new(kind, (mode & 0o7777) as u16, now) };
    Node { attr, children: HashMap::new(), order: BTreeMap::new(), data: Vec::new() }
}

/// A panic that was asked for leaves the tree as it was.
fn lock(tree: &Mutex<Tree>) -> MutexGuard<'_, Tree> {
    tree.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the product tells the kernel of a handle: direct I/O in parallel.
fn open_flags(flags: u32) -> u32 {
    const DIRECT_IO: u32 = 1;
    const PARALLEL_DIRECT_WRITES: u32 = 64;
    if flags as i32 & libc::O_DIRECT == 0 { 0 } else { DIRECT_IO | PARALLEL_DIRECT_WRITES }
}

impl NullFs {
    pub fn new(keep_data: bool) -> Self {
        let nodes = HashMap::from([(1, node(FileType::Dir, 0o755))]);
        let zeros = Page::from_vec(vec![0; 1 << 20]);
        let interrupts = HashSet::new();
        let tree = Tree { nodes, next_ino: 2, keep_data, zeros, forgotten: 0, interrupts };
        Self { tree: Arc::new(Mutex::new(tree)), interrupted: Arc::default() }
    }

    pub fn handler(&self) -> Rc<dyn Handler> {
        Rc::new(self.clone())
    }

    /// Answer at once.
    pub fn answer(&self, op: Op) -> Reply {
        lock(&self.tree).answer(op)
    }

    async fn until_interrupted(self, unique: u64) -> Reply {
        loop {
            let ticket = self.interrupted.ticket();
            if lock(&self.tree).interrupts.remove(&unique) {
                return Reply::Error(libc::EINTR);
            }
            self.interrupted.wait(ticket).await;
        }
    }

    /// Lookups the kernel has given back.
    #[allow(dead_code)] // the bench does not ask
    pub fn forgotten(&self) -> u64 {
        lock(&self.tree).forgotten
    }
}

impl Handler for NullFs {
    fn handle(&self, request: Request) -> Local<'static, Reply> {
        let named = |start: &[u8]| matches!(&request.op, Op::Lookup { name, .. } if name.starts_with(start));
        if named(b"stuck") {
            return Box::pin(self.clone().until_interrupted(request.unique));
        }
        let slow = named(b"slow") || matches!(&request.op, Op::Write { offset: 77, .. });
        if !slow {
            return Box::pin(ready(self.answer(request.op)));
        }
        let tree = Arc::clone(&self.tree);
        Box::pin(async move {
            uring::sleep(Duration::from_millis(20)).await;
            lock(&tree).answer(request.op)
        })
    }

    fn interrupt(&self, unique: u64) {
        lock(&self.tree).interrupts.insert(unique);
        self.interrupted.open();
    }
}

impl Tree {
    fn answer(&mut self, op: Op) -> Reply {
        match op {
            Op::Lookup { dir, name } => {
                assert!(&*name != b"panic", "asked to");
                match self.nodes[&dir.0].children.get(&name) {
                    Some(ino) => Reply::Entry(self.entry(*ino)),
                    None => Reply::Error(libc::ENOENT),
                }
            }
            Op::Getattr { ino, .. } => self.attr(ino),
            Op::Setattr { ino, set } => {
                let node = self.nodes.get_mut(&ino.0).expect("a known inode");
                node.attr.length = set.size.unwrap_or(node.attr.length);
                node.attr.mode = set.mode.unwrap_or(node.attr.mode);
                self.attr(ino)
            }
            Op::Create { dir, name, mode, flags, .. } => {
                let entry = self.add(dir, name, FileType::File, mode);
                Reply::Create { handle: entry.ino.0, entry, open_flags: open_flags(flags) }
            }
            Op::Mkdir { dir, name, mode, .. } => {
                Reply::Entry(self.add(dir, name, FileType::Dir, mode))
            }
            Op::Unlink { dir, name } | Op::Rmdir { dir, name } => self.remove(dir, &name),
            Op::Open { ino, flags, .. } => {
                Reply::Open { handle: ino.0, open_flags: open_flags(flags) }
            }
            Op::Opendir { ino, .. } => Reply::Open { handle: ino.0, open_flags: 0 },
            Op::Write { ino, offset, data, .. } => self.write(ino, offset, &data.0),
            Op::Read { ino, offset, len_bytes, .. } => self.read(ino, offset, len_bytes),
            Op::Readdir { ino, offset, len_bytes, plus, .. } => {
                self.list(ino, offset, len_bytes as usize, plus)
            }
            Op::Statfs { .. } => Reply::Statfs(StatfsReply::default()),
            Op::Forget { items } => {
                self.forgotten += items.iter().map(|(_, count)| count).sum::<u64>();
                Reply::None
            }
            Op::Flush { .. } | Op::Release { .. } | Op::Releasedir { .. } | Op::Fsync { .. } => {
                Reply::Ok
            }
            _ => Reply::Error(libc::ENOSYS),
        }
    }

    fn entry(&self, ino: u64) -> EntryReply {
        let attr = self.nodes[&ino].attr.clone();
        EntryReply { ino: Ino(ino), attr, entry_ttl_ns: MINUTE_NS, attr_ttl_ns: MINUTE_NS }
    }

    fn attr(&self, ino: Ino) -> Reply {
        let entry = self.entry(ino.0);
        Reply::Attr { ino, attr: entry.attr, attr_ttl_ns: entry.attr_ttl_ns }
    }

    fn add(&mut self, dir: Ino, name: Name, kind: FileType, mode: u32) -> EntryReply {
        let ino = self.next_ino;
        self.next_ino += 1;
        self.nodes.insert(ino, node(kind, mode));
        let parent = self.nodes.get_mut(&dir.0).expect("a known directory");
        parent.order.insert(ino, name.clone());
        parent.children.insert(name, ino);
        self.entry(ino)
    }

    fn remove(&mut self, dir: Ino, name: &[u8]) -> Reply {
        let parent = self.nodes.get_mut(&dir.0).expect("a known directory");
        match parent.children.remove(name) {
            Some(ino) => {
                parent.order.remove(&ino);
                Reply::Ok
            }
            None => Reply::Error(libc::ENOENT),
        }
    }

    fn write(&mut self, ino: Ino, offset: u64, data: &[u8]) -> Reply {
        let keep = self.keep_data;
        let node = self.nodes.get_mut(&ino.0).expect("a known inode");
        let end = offset + data.len() as u64;
        node.attr.length = node.attr.length.max(end);
        if keep {
            node.data.resize(node.attr.length as usize, 0);
            node.data[offset as usize..end as usize].copy_from_slice(data);
        }
        Reply::Written(data.len() as u32)
    }

    fn read(&self, ino: Ino, offset: u64, len_bytes: u32) -> Reply {
        let node = &self.nodes[&ino.0];
        let left = node.attr.length.saturating_sub(offset);
        let len = left.min(u64::from(len_bytes)) as usize;
        if !self.keep_data {
            return Reply::Data(vec![self.zeros.piece(0, len)]);
        }
        let at = (offset as usize).min(node.data.len());
        let all = &node.data[at..at + len];
        Reply::Data(all.chunks(65536).map(|piece| Page::from_vec(piece.to_vec())).collect())
    }

    /// Names in the order in which they were made; as many as fit.
    fn list(&self, ino: Ino, offset: u64, len_bytes: usize, plus: bool) -> Reply {
        let mut room = len_bytes;
        let head_bytes = if plus { 128 + 24 } else { 24 };
        let entries = self.nodes[&ino.0].order.range(offset + 1..).take_while(|(_, name)| {
            let need = head_bytes + name.len().next_multiple_of(8);
            let fits = need <= room;
            room = room.saturating_sub(need);
            fits
        });
        Reply::Dirents(
            entries
                .map(|(ino, name)| DirentReply {
                    name: name.clone(),
                    ino: Ino(*ino),
                    kind: self.nodes[ino].attr.kind,
                    next_offset: *ino,
                    plus: plus.then(|| self.entry(*ino)),
                })
                .collect(),
        )
    }
}
