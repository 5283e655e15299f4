//! The story of a mount: check, connect, serve until the kernel lets go, store the rest.

use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use super::failure::Failure;
use super::point::{self, ServingLock};
use super::process::{EndSignals, Readiness};
use super::serve::{ServePlan, Server};
use super::store::Stores;
use super::volume::Volume;
use crate::core;
use crate::fuse::{self, MountOptions, Session, Transport, Wishes};

/// How requests may travel (`--transport`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WantedTransport {
    /// The ring where the kernel has it, the device otherwise.
    Auto,
    /// The ring or nothing.
    Uring,
    /// The device.
    Dev,
}

/// A mount, decided.
#[derive(Clone, Debug)]
pub struct MountPlan {
    /// Where.
    pub point: PathBuf,
    /// What is there may be hidden (`--force`, `-o nonempty`).
    pub over_content: bool,
    /// Other users may enter.
    pub allow_other: bool,
    /// How requests travel.
    pub transport: WantedTransport,
    /// The kernel collects small writes (`-o writeback_cache`).
    pub writeback_cache: bool,
    /// Largest request in bytes.
    pub request_bytes_max: u32,
    /// Directory of the volume shown as root (`--subdir`).
    pub subdir: Option<String>,
    /// Everything above the transport.
    pub serve: ServePlan,
}

/// Whether the folder of `plan` may be mounted on.
///
/// # Errors
/// Why not, with the cure.
pub fn check_point(plan: &MountPlan) -> Result<(), Failure> {
    point::check_free(&point::absolute(&plan.point)?, plan.over_content)
}

/// Mount `volume` by `plan` and serve it until it is unmounted, or one of `signals` comes.
///
/// # Errors
/// Before the mount answers: whatever stands in the way. Afterwards only when the kernel breaks
/// the connection.
pub fn mount(
    volume: Volume,
    stores: Stores,
    mut plan: MountPlan,
    signals: &EndSignals,
    readiness: &Readiness,
) -> Result<(), Failure> {
    let read_only = plan.serve.vfs.read_only;
    let point = point::absolute(&plan.point)?;
    if volume.setting.acl() {
        plan.serve.vfs.acl = true;
        plan.serve.vfs.xattr = true;
    }
    if let Some(path) = &plan.subdir {
        let root = Server::subdir(&volume.engines, volume.rules(), path, read_only)?;
        plan.serve.vfs.root = root;
    }
    let name = volume.setting.name().to_owned();
    let (engines, serve_plan) = (volume.engines.clone(), plan.serve.clone());
    let server = Server::new(&volume.setting, engines, stores, serve_plan, &point)?;
    server.load_quotas()?;
    server.open_session()?;
    server.take_over()?;
    let connected = connect(&point, &name, &plan, signals);
    let lock = connected.as_ref().ok().and_then(|_| ServingLock::take(&point));
    let served = connected.and_then(|session| serve(session, &point, &plan, &server, readiness));
    server.close_session();
    server.close_staging();
    // `umount` returns now: nothing of this mount is left to be done.
    drop(lock);
    served
}

/// Put the file system into the tree and agree with the kernel.
fn connect(
    point: &Path,
    name: &str,
    plan: &MountPlan,
    signals: &EndSignals,
) -> Result<Session, Failure> {
    let over_uring = plan.transport != WantedTransport::Dev;
    let options = MountOptions {
        source: format!("JuiceFS:{name}"),
        read_only: plan.serve.vfs.read_only,
        allow_other: plan.allow_other,
        default_permissions: true,
        over_uring,
    };
    let device = signals
        .mounting(point, || fuse::mount(point, &options))
        .map_err(|error| cannot_mount(point, &error))?;
    let wishes = Wishes {
        write_bytes_max: plan.request_bytes_max,
        over_uring,
        writeback_cache: plan.writeback_cache,
        locks: true,
        acl: plan.serve.vfs.acl,
    };
    let agreed = Session::negotiate(device, &wishes).map_err(|error| {
        Failure::failed(format!(
            "the kernel did not agree on FUSE: {error}; Linux 5.12 or later is needed"
        ))
    });
    match agreed {
        Ok(session)
            if plan.transport == WantedTransport::Uring
                && session.transport != Transport::OverUring =>
        {
            drop(session);
            let _ = fuse::unmount(point, true);
            Err(Failure::failed(
                "the kernel does not offer FUSE over io_uring; it needs Linux 6.14 and \
                 `echo Y > /sys/module/fuse/parameters/enable_uring`, or choose --transport auto",
            ))
        }
        Ok(session) => Ok(session),
        Err(failure) => {
            let _ = fuse::unmount(point, true);
            Err(failure)
        }
    }
}

fn cannot_mount(point: &Path, error: &std::io::Error) -> Failure {
    let shown = point.display();
    let cure = match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENODEV) => {
            "there is no /dev/fuse; load it with `modprobe fuse`, \
             in a container add --device /dev/fuse"
        }
        Some(libc::EPERM | libc::EACCES) => {
            "mounting is not allowed here; be root, install fuse3 for fusermount3, \
             or add --cap-add SYS_ADMIN to the container"
        }
        _ if error.kind() == std::io::ErrorKind::NotFound => {
            "fusermount3 is missing; install the package fuse3"
        }
        _ => "see `jfs-uring doctor`",
    };
    Failure::failed(format!("cannot mount at {shown}: {error}; {cure}"))
}

/// Run the cores until the kernel lets go of the mount.
fn serve(
    session: Session,
    point: &Path,
    plan: &MountPlan,
    server: &Server,
    readiness: &Readiness,
) -> Result<(), Failure> {
    let (transport, cores) = (session.transport, plan.serve.cores);
    tracing::info!(?transport, cores, point = %point.display(), "serving");
    let answered = tell_when_it_answers(point.to_path_buf(), readiness.clone());
    let served = core::run(session, cores, server.notices(), |number| server.handler(number));
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    tracing::info!("the mount has ended");
    served.map_err(|error| Failure::failed(format!("the connection broke: {error}")))?;
    // The kernel has let go, so nothing waits for an answer any more.
    answered.join().expect("asking for the root does not panic")
}

/// The first answer of the root is what callers of `mount -d` and systemd wait for.
fn tell_when_it_answers(point: PathBuf, readiness: Readiness) -> JoinHandle<Result<(), Failure>> {
    thread::spawn(move || match std::fs::metadata(&point) {
        Ok(_) => {
            readiness.answered();
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
            tracing::info!("the mount answers");
            Ok(())
        }
        Err(error) => {
            let shown = point.display();
            let text = format!("the mount at {shown} does not answer: {error}; its log tells why");
            let failure = Failure::failed(text);
            readiness.failed(&failure);
            let _ = fuse::unmount(&point, true);
            Err(failure)
        }
    })
}
