"""A day of work from a fixed seed, done on a mount and beside it on a file system of the kernel's; then all opinions agree.

The twin says which errors and which content are right, the independent reader says what the volume holds.
"""
import json
import os
import random

from . import rows, volume
from .rig import check, errno_of
from .volumes import expect_equal

OPERATIONS = 20000
# In a twin these are another file system's own affair.
OWN = ("ino", "blocks", "atime", "mtime", "ctime", "size")


def _path(chance):
    """One of some thousand names, so that most meet one another again and again."""
    return os.path.join("d%d" % chance.randrange(8), *chance.choice(((), (), ("sub%d" % chance.randrange(3),))),
                        "f%02d" % chance.randrange(40))


def _put(path, flags, at, data):
    out = os.open(path, flags | os.O_WRONLY, 0o644)
    try:
        os.pwrite(out, data, at)
    finally:
        os.close(out)


def _clone(source, target, count, begin, to):
    first = os.open(source, os.O_RDONLY)
    try:
        second = os.open(target, os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            while count > 0 and (done := os.copy_file_range(first, second, count, begin, to)):
                begin, to, count = begin + done, to + done, count - done
        finally:
            os.close(second)
    finally:
        os.close(first)


def _step(chance):
    """One operation, to be done below any root."""
    first, second, word = _path(chance), _path(chance), chance.random()
    size, at = chance.choice((10, 1000, 5000, 40000)), chance.choice((0, 0, 100, 4096, 70000))
    data = chance.randbytes(size)
    subfolder = os.path.join("d%d" % chance.randrange(8), "sub%d" % chance.randrange(3))
    mode, number = chance.choice((0o600, 0o640, 0o755)), chance.randrange(3)
    steps = (
        (0.25, lambda in_: _put(in_(first), os.O_CREAT, 0, data)),
        (0.35, lambda in_: _put(in_(first), os.O_CREAT | os.O_TRUNC, 0, data)),
        (0.45, lambda in_: _put(in_(first), 0, at, data)),
        (0.53, lambda in_: os.truncate(in_(first), size)),
        (0.63, lambda in_: os.rename(in_(first), in_(second))),
        (0.69, lambda in_: os.link(in_(first), in_(second))),
        (0.73, lambda in_: os.symlink(second, in_(first))),
        (0.80, lambda in_: os.setxattr(in_(first), "user.x%d" % number, data[:20], follow_symlinks=False)),
        (0.83, lambda in_: os.chmod(in_(first), mode)),
        (0.87, lambda in_: first != second and _clone(in_(first), in_(second), size, at, at)),
        (0.90, lambda in_: os.mkdir(in_(subfolder))),
        (0.92, lambda in_: os.rmdir(in_(subfolder))),
        (1.00, lambda in_: os.unlink(in_(first))),
    )
    return next(step for most, step in steps if word < most)


def _done(step, root):
    """What it ends with below this root."""
    return errno_of(lambda: step(lambda path: os.path.join(root, path)))


def _work(point, twin, operations):
    """All steps on both; how many ended well."""
    chance, well = random.Random(20000), 0
    for number in range(8):
        for root in (point, twin):
            os.mkdir(os.path.join(root, "d%d" % number))
    for number in range(operations):
        step = _step(chance)
        told, right = _done(step, point), _done(step, twin)
        check(told == right, "step %d ends with %s, not %s" % (number, os.strerror(told), os.strerror(right)))
        well += right == 0
    return well


def _counted(found):
    """The counters that a tree should have: the root and its trash are not in them."""
    nodes = {row["ino"]: row for path, row in found.items() if path not in (b"", b".trash")}
    # An empty file takes as much as one byte does.
    space = sum(max(1, -(-row["size"] // 4096)) * 4096 if row["type"] == "file" else 4096 for row in nodes.values())
    return {"usedSpace": space, "totalInodes": len(nodes)}


def day(rig):
    """20,000 operations: the mount, its twin, a cold remount, the independent reader and the counters agree."""
    url = rig.volume()
    return worked(rig, url, url, OPERATIONS)


def worked(rig, url, beside, operations):
    """So many operations on the volume at `url`; the independent reader finds its metadata at `beside`."""
    bucket, twin = rig.path("objects%d" % rig.count), rig.path("twin")
    os.mkdir(twin)
    os.chmod(twin, 0o777)  # as the root of a volume
    point = rig.mount(url, "--no-bgjob")
    well = _work(point, twin, operations)
    point = rig.remount(point, url, "--no-bgjob")
    cold = rows.scan(point)
    rig.umount(point)
    expect_equal("the twin", rows.scan(twin), {path: row for path, row in cold.items() if path != b".trash"}, OWN)
    setting = json.loads(rig.call("status", url).stdout)["Setting"]
    reader = volume.Volume(beside, bucket, setting)
    found = reader.rows()
    expect_equal("the independent reader", found, cold, ("atime",))
    check(reader.meta.counters() == _counted(found), "counters %s, not %s" % (reader.meta.counters(), _counted(found)))
    check(rig.call("fsck", "--deep", url).returncode == 0, "fsck finds something")
    return "%d operations, %d of them done, the rest refused alike; %d paths" % (operations, well, len(cold))
