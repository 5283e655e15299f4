//! The end of a mount from outside.

use std::path::Path;
use std::time::Duration;

use super::failure::Failure;
use super::point::{Serving, absolute, mounted};
use crate::fuse;

/// How long the serving process may take to store what is dirty and end.
const END_PATIENCE: Duration = Duration::from_secs(60);

/// Unmount `point` and wait until the process that served it has ended; `lazy` also when somebody
/// is inside.
///
/// # Errors
/// When it is no mount of a volume, or in use.
pub fn umount(point: &Path, lazy: bool) -> Result<(), Failure> {
    let point = absolute(point)?;
    let shown = point.display();
    let mount = match mounted(&point) {
        Some(mount) if mount.kind == "fuse.juicefs" => mount,
        Some(other) => {
            return Err(Failure::failed(format!(
                "{shown} is a mount of {}, not of a volume; end it with `umount {shown}`",
                other.kind
            )));
        }
        None => return Err(Failure::failed(format!("{shown} is not mounted"))),
    };
    let serving = Serving::of(&point, &mount);
    fuse::unmount(&point, lazy).map_err(|error| match error.raw_os_error() {
        Some(libc::EBUSY) => Failure::failed(format!(
            "{shown} is in use; see by whom with `fuser -vm {shown}`, \
             or hide it now and end it later with --force"
        )),
        Some(libc::EPERM | libc::EACCES) => {
            Failure::failed(format!("{shown} was mounted by another user; ask root"))
        }
        _ => Failure::failed(format!("cannot unmount {shown}: {error}")),
    })?;
    // A lazy unmount ends with its last user.
    if lazy || serving.wait_for_end(END_PATIENCE) {
        return Ok(());
    }
    Err(Failure::failed(format!(
        "{shown} is unmounted, but its process still stores data after {} s; its log tells why",
        END_PATIENCE.as_secs()
    )))
}
