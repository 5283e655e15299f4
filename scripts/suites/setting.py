"""What a mount does when the setting of its volume changes: it obeys rates, goes where objects are, takes no changes where it may not
make them, and ends at once where the volume is gone."""
import errno
import json
import os
import shutil
import sqlite3
import time

from . import loader
from .kept import _setting
from .rig import check, errno_of

BEAT_S = 2.5  # two heartbeats and a bit


def _set(rig, url, **keys):
    """As `juicefs config` does it; mounts see it with their next heartbeat."""
    text = json.loads(_setting(rig, url))
    text.update(keys)
    _setting(rig, url, json.dumps(text))
    time.sleep(BEAT_S)


def _removed(rig, url):
    """The setting is gone, as after a FLUSHDB or in a new file."""
    if rig.redis:
        loader.Connection(url).call("DEL", "setting")
    else:
        base = sqlite3.connect(url.split("://", 1)[1])
        base.execute("DELETE FROM jfs_setting WHERE name = 'format'")
        base.commit()
        base.close()


def _seconds(path, bytes_):
    """What it takes to store so much."""
    began = time.monotonic()
    with open(path, "wb") as out:
        out.write(os.urandom(bytes_))
    return time.monotonic() - began


def _log(rig, where):
    with open(rig.path(where + ".log"), encoding="utf-8", errors="replace") as text:
        return text.read()


def _rates(rig, url, point):
    """Limits of the volume are obeyed by the mount that is there, and not by one with limits of its own."""
    own = rig.mount(url, "--heartbeat", "1s", "--upload-limit", "8000", where="mnt-own")
    free = _seconds(os.path.join(point, "free"), 4 << 20)
    _set(rig, url, UploadLimit=16)
    slow, other = _seconds(os.path.join(point, "slow"), 4 << 20), _seconds(os.path.join(own, "other"), 4 << 20)
    _set(rig, url, UploadLimit=0)
    again = _seconds(os.path.join(point, "again"), 4 << 20)
    rig.umount(own)
    # 4 MiB at 1.7 MB a second, less a tenth of a second saved up.
    check(slow > 1.5 and max(free, other, again) < 1.5, "4 MiB take %.2f s, %.2f limited, %.2f beside, %.2f after" % (free, slow, other, again))
    return slow


def _objects(folder):
    return sum(len(files) for _, _, files in os.walk(os.path.join(folder, "suite", "chunks")))


def _moved(rig, url, point):
    """Objects go to the bucket that the volume has now, but for a mount with one of its own; one that is none holds the mount."""
    old = json.loads(_setting(rig, url))["Bucket"]
    new = rig.path("objects-moved") + "/"
    own = rig.mount(url, "--heartbeat", "1s", "--bucket", old, where="mnt-bucket")
    # As who moves a bucket does it: a copy first.
    shutil.copytree(old, new)
    _set(rig, url, Bucket=new)
    before = _objects(old), _objects(new)
    with open(os.path.join(point, "moved"), "wb") as out:
        out.write(b"m" * 4096)
    check((_objects(old), _objects(new)) == (before[0], before[1] + 1), "the new file is not in the new bucket")
    with open(os.path.join(own, "stays"), "wb") as out:
        out.write(b"s" * 4096)
    check(_objects(old) == before[0] + 1, "a mount with a bucket of its own does not stay there")
    rig.umount(own)
    os.unlink(os.path.join(point, "stays"))
    _set(rig, url, Storage="ceph")
    held = errno_of(lambda: os.mkdir(os.path.join(point, "held")))
    log = _log(rig, os.path.basename(point))
    check(held == errno.EROFS and "its objects are elsewhere" in log and "ceph" in log, "an unknown store: %s, %s" % (held, log[-500:]))
    _set(rig, url, Storage="file", Bucket=old)
    with open(os.path.join(point, "back"), "wb") as out:
        out.write(b"b" * 4096)


def _held(rig, url, point):
    """With a change log nothing is taken, what was taken is stored, and it goes on without one."""
    path = os.path.join(point, "dirty")
    body = os.urandom(3 << 20)
    with open(path, "wb", buffering=0) as out:
        out.write(body)
        _set(rig, url, ChangeLog=True)
        ends = {"write": errno_of(lambda: out.write(b"x")), "mkdir": errno_of(lambda: os.mkdir(os.path.join(point, "d"))),
                "open": errno_of(lambda: open(path, "r+b")), "unlink": errno_of(lambda: os.unlink(path)), "chmod": errno_of(lambda: os.chmod(path, 0o600)),
                "rename": errno_of(lambda: os.rename(path, path + "2")), "xattr": errno_of(lambda: os.setxattr(path, "user.x", b"1")),
                "truncate": errno_of(lambda: os.truncate(path, 1))}
        check(set(ends.values()) == {errno.EROFS}, "with a change log: %s" % ends)
        os.fsync(out.fileno())
    with open(path, "rb") as back:
        check(back.read() == body, "what was written before is not whole")
    log = _log(rig, os.path.basename(point))
    check(log.count("for writing: the change log") == 1 and "changes end with EROFS" in log, "the log tells it once: " + log[-500:])
    _set(rig, url, ChangeLog=False)
    os.mkdir(os.path.join(point, "d"))
    return len(ends)


def _ended(rig, point, word):
    """A mount ends by itself, and says why."""
    where, end = os.path.basename(point), time.monotonic() + 10
    while rig.serving(point) or errno_of(lambda: os.listdir(point)) != errno.ENOTCONN:
        check(time.monotonic() < end, "%s is still served" % point)
        time.sleep(0.1)
    log = _log(rig, where)
    check(word in log and "jfs-uring umount" in log, "the log of %s does not say %r: %s" % (where, word, log[-500:]))
    rig.umount(point)


def setting(rig):
    url = rig.volume()
    point = rig.mount(url, "--heartbeat", "1s")
    slow = _rates(rig, url, point)
    _moved(rig, url, point)
    ways = _held(rig, url, point)
    text = json.loads(_setting(rig, url))
    _setting(rig, url, json.dumps({**text, "UUID": "11111111-2222-3333-4444-555555555555"}))
    _ended(rig, point, "another volume now")
    _setting(rig, url, json.dumps(text))
    point = rig.mount(url, "--heartbeat", "1s", where="mnt-gone")
    _removed(rig, url)
    _ended(rig, point, "holds no volume any more")
    return "a rate of 16 Mbps obeyed (4 MiB in %.1f s), a bucket followed, %d changes refused with a change log, ends on another volume and on none" % (slow, ways)
