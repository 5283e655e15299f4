//! Systems that serve a folder: the empty file system on our transport, and the product itself.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::JoinHandle;

use jfs_uring::core;
use jfs_uring::fuse::{MountOptions, Session, Transport, Wishes, mount, unmount};
use jfs_uring::vfs::Notices;

use super::null_fs::NullFs;

/// A mounted system; it is unmounted when this goes.
pub struct System {
    /// What it is.
    pub name: &'static str,
    folder: tempfile::TempDir,
    end: End,
}

enum End {
    Ours(Option<JoinHandle<()>>),
    Product,
    Other(Option<Box<dyn FnOnce()>>),
}

fn new_folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let point = folder.path().join("mnt");
    std::fs::create_dir(&point).expect("mkdir");
    (folder, point)
}

/// Where root lets FUSE offer its ring.
const RING_SWITCH: &str = "/sys/module/fuse/parameters/enable_uring";

fn ring_is_offered() -> bool {
    std::fs::read_to_string(RING_SWITCH).is_ok_and(|text| text.trim() == "Y")
}

impl System {
    /// The empty file system on our transport.
    pub fn empty(name: &'static str, over_uring: bool, cores: usize) -> Self {
        assert!(
            !over_uring || ring_is_offered(),
            "the kernel offers FUSE no ring; Linux 6.14 and later do once root wrote: \
             echo Y > {RING_SWITCH}"
        );
        let (folder, point) = new_folder();
        let options = MountOptions {
            source: "bench".to_owned(),
            read_only: false,
            allow_other: true,
            default_permissions: true,
            over_uring,
        };
        let device = mount(&point, &options).expect("root may mount");
        let wishes = Wishes { over_uring, ..Wishes::default() };
        let session = Session::negotiate(device, &wishes).expect("the kernel speaks FUSE");
        let wanted = if over_uring { Transport::OverUring } else { Transport::DevFuse };
        assert_eq!(session.transport, wanted, "{name}: the kernel offers another transport");
        let files = NullFs::new(false);
        let serve = move || {
            let notices = Notices::default();
            core::run(session, cores, &notices, move |_| files.handler()).expect("served");
        };
        Self { name, folder, end: End::Ours(Some(std::thread::spawn(serve))) }
    }

    /// The product, mounting `url`, which is formatted before, with its objects in a folder, unless
    /// it is in memory with them. Kernel caches live as long as those of the empty file system.
    pub fn product(name: &'static str, url: &str, options: &[&str]) -> Self {
        let (folder, point) = new_folder();
        if !url.starts_with("memory://") {
            let bucket = folder.path().join("objects").display().to_string();
            format(url, &["--bucket", &bucket]);
        }
        let ttl = ["--attr-cache", "60s", "--entry-cache", "60s", "--dir-entry-cache", "60s"];
        Self::mounted(name, folder, &point, url, &[&ttl, options].concat())
    }

    /// The product, mounting `url`, which is formatted.
    pub fn formatted(name: &'static str, url: &str, options: &[&str]) -> Self {
        let (folder, point) = new_folder();
        Self::mounted(name, folder, &point, url, options)
    }

    fn mounted(
        name: &'static str,
        folder: tempfile::TempDir,
        point: &Path,
        url: &str,
        options: &[&str],
    ) -> Self {
        let (cache, log) = (folder.path().join("cache"), folder.path().join("log"));
        let (cache, log) = (cache.display().to_string(), log.display().to_string());
        let mut words = vec!["mount", "-d", "--log", &log];
        if !options.contains(&"--cache-dir") {
            words.extend(["--cache-dir", &cache]);
        }
        words.extend_from_slice(options);
        let shown = point.display().to_string();
        words.extend([url, &shown]);
        product(&words);
        Self { name, folder, end: End::Product }
    }

    /// Something else that serves a folder; `start` mounts it there and says how to end it.
    pub fn other(name: &'static str, start: impl FnOnce(&Path) -> Box<dyn FnOnce()>) -> Self {
        let (folder, point) = new_folder();
        let end = start(&point);
        Self { name, folder, end: End::Other(Some(end)) }
    }

    /// Where it is mounted.
    pub fn point(&self) -> PathBuf {
        self.folder.path().join("mnt")
    }
}

impl Drop for System {
    fn drop(&mut self) {
        let point = self.point();
        match &mut self.end {
            End::Ours(server) => {
                unmount(&point, true).expect("mounted");
                server.take().expect("it served").join().expect("no panic");
            }
            End::Product => product(&["umount", &point.display().to_string()]),
            End::Other(end) => (end.take().expect("it served"))(),
        }
    }
}

/// Make a volume.
pub fn format(url: &str, options: &[&str]) {
    product(&[&["format", "--trash-days", "0"], options, &[url, "bench"]].concat());
}

/// Run the product's own program.
fn product(words: &[&str]) {
    let output = Command::new(env!("CARGO_BIN_EXE_jfs-uring")).args(words).output();
    let output = output.expect("the product is built");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {told}");
}
