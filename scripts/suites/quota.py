"""Quotas of directories: kept exactly through names of every fate, never exceeded, shown by df, checked and mended."""
import errno
import os
import random
import sqlite3
import time

from . import loader
from .fsck import _found
from .rig import check, errno_of

PAGE = 4096


class Quotas:
    """The quotas of a volume, as they are stored."""

    def __init__(self, rig, url):
        self.redis = loader.Connection(url) if rig.redis else None
        self.path = url.split("://", 1)[1]

    def _sql(self, words, *values):
        base = sqlite3.connect(self.path, timeout=30)
        found = base.execute(words, values).fetchall()
        base.commit()
        base.close()
        return found

    def set(self, ino, space, inodes, used=(0, 0)):
        """As `juicefs quota set` does it."""
        if self.redis:
            limits = space.to_bytes(8, "big", signed=True) + inodes.to_bytes(8, "big", signed=True)
            self.redis.call("HSET", "dirQuota", str(ino), limits)
            self.redis.call("HSET", "dirQuotaUsedSpace", str(ino), str(used[0]))
            self.redis.call("HSET", "dirQuotaUsedInodes", str(ino), str(used[1]))
        else:
            self._sql("INSERT OR REPLACE INTO jfs_dir_quota (inode, max_space, max_inodes, used_space, used_inodes) VALUES (?, ?, ?, ?, ?)",
                      ino, space, inodes, *used)

    def used(self, ino):
        if self.redis:
            found = [self.redis.call("HGET", "dirQuotaUsed" + what, str(ino)) for what in ("Space", "Inodes")]
            return None if found[1] is None else tuple(map(int, found))
        found = self._sql("SELECT used_space, used_inodes FROM jfs_dir_quota WHERE inode = ?", ino)
        return found[0] if found else None


def _counted(top):
    """Space and inodes of all names below a directory, as a mount shows them."""
    space = inodes = 0
    for folder, folders, files in os.walk(top):
        for name in folders + files:
            path = os.path.join(folder, name)
            length = os.lstat(path).st_size if os.path.isfile(path) and not os.path.islink(path) else 0
            space, inodes = space + PAGE * max(1, -(-length // PAGE)), inodes + 1
    return space, inodes


def _same(quotas, point, inos, when):
    for name, ino in inos.items():
        want, have = _counted(os.path.join(point, name)), quotas.used(ino)
        check(want == have, "%s: the quota of %r counts %r, there are %r" % (when, name, have, want))


def _write(path, size, at=0):
    with open(path, "r+b" if os.path.exists(path) else "wb") as out:
        out.seek(at)
        out.write(os.urandom(size))


def _pages(here, there):
    with open(here, "rb") as source, open(there, "r+b") as target:
        os.copy_file_range(source.fileno(), target.fileno(), 30000, 0, 5000)


def _replace(here):
    """A new file takes the place of another one."""
    _write(here + ".new", 12345)
    os.rename(here + ".new", here)


def _mix(chance, tops, steps):
    """Random work in and between directories; how many steps a quota refused."""
    refused, ends = 0, {}
    folders = [os.path.join(top, name) for top in tops for name in ("", "x", "y")]
    for _ in range(steps):
        here, there = (os.path.join(chance.choice(folders), "n%d" % chance.randrange(9)) for _ in range(2))
        tree, place = (os.path.join(chance.choice(tops), chance.choice("xy")) for _ in range(2))
        size, at = chance.randrange(40000), chance.randrange(90000)
        actions = {
            "write": lambda: _write(here, size), "append": lambda: _write(here, size, at), "cut": lambda: os.truncate(here, at),
            "move": lambda: os.rename(here, there), "link": lambda: os.link(here, there), "replace": lambda: _replace(here),
            "unlink": lambda: os.unlink(here), "rmdir": lambda: os.rmdir(here), "mkdir": lambda: os.mkdir(here),
            "symlink": lambda: os.symlink("somewhere", here), "tree": lambda: os.rename(tree, place), "pages": lambda: _pages(here, there),
        }
        for folder in folders:
            errno_of(lambda: os.mkdir(folder))
        kind = chance.choice(("write", "write", "tree", "move", *actions))
        end = errno_of(actions[kind])
        ends[kind] = ends.get(kind, 0) + (end == 0)
        refused += end == errno.EDQUOT
    return refused, ends


def _refusals(point, quotas, inos):
    """EDQUOT at the limit, by whatever makes more, and nothing is counted for it."""
    tight = os.path.join(point, "tight")
    for number in range(3):
        _write(os.path.join(tight, "f%d" % number), 5000)
    outside = os.path.join(point, "outside")
    _write(outside, 5000)
    no = {
        "open": lambda: _write(os.path.join(tight, "f3"), 1), "mkdir": lambda: os.mkdir(os.path.join(tight, "d")),
        "symlink": lambda: os.symlink("x", os.path.join(tight, "s")), "mknod": lambda: os.mkfifo(os.path.join(tight, "p")),
        "link": lambda: os.link(outside, os.path.join(tight, "h")), "rename": lambda: os.rename(outside, os.path.join(tight, "r")),
        "write": lambda: _write(os.path.join(tight, "f0"), 9 * PAGE), "truncate": lambda: os.truncate(os.path.join(tight, "f0"), 9 * PAGE),
    }
    for what, action in no.items():
        got = errno_of(action)
        check(got == errno.EDQUOT, "%s beyond the quota ends with %d" % (what, got))
    _same(quotas, point, {"tight": inos["tight"]}, "after refusals")
    os.replace(outside, os.path.join(tight, "f0"))
    os.unlink(os.path.join(tight, "f1"))
    os.mkdir(os.path.join(tight, "d"))
    told = os.statvfs(tight)
    seen = told.f_blocks * told.f_frsize, told.f_bavail * told.f_frsize, told.f_files, told.f_ffree
    check(seen == (10 * PAGE, 5 * PAGE, 3, 0), "df of the quota: %r" % (seen,))
    inner = os.statvfs(os.path.join(tight, "d"))
    check((inner.f_blocks, inner.f_ffree) == (told.f_blocks, told.f_ffree), "df below the quota")
    check(os.statvfs(point).f_blocks * PAGE > 1 << 40, "df beside the quota")
    return len(no)


def _checked(rig, url, quotas, inos):
    """A check recounts quotas, and a repair sets them."""
    code, words = _found(rig, url)
    check((code, words) == (0, []), "a check of a whole volume finds %s" % words)
    right = quotas.used(inos["a"])
    quotas.set(inos["a"], -1, -1, (right[0] + PAGE, right[1] - 1))
    code, words = _found(rig, url)
    check((code, words) == (4, ["quota-usage"]), "a wrong quota is %s" % words)
    _found(rig, url, "--repair")
    check(_found(rig, url) == (0, []) and quotas.used(inos["a"]) == right, "a repair sets %r, not %r" % (quotas.used(inos["a"]), right))


def _removed(point, quotas, ino):
    """A directory that is removed takes its quota along."""
    tight = os.path.join(point, "tight")
    os.rmdir(os.path.join(tight, "d"))
    for name in os.listdir(tight):
        os.unlink(os.path.join(tight, name))
    check(quotas.used(ino) == (0, 0), "an empty directory counts %r" % (quotas.used(ino),))
    os.rmdir(tight)
    check(quotas.used(ino) is None, "a removed directory leaves its quota behind")


def _below(rig, url, point, quotas, inos):
    """A mount of a part knows the quotas above it."""
    below = rig.mount(url, "--subdir", "a/b", where="mnt-below")
    told = os.statvfs(below)
    check(told.f_blocks == 100 and told.f_ffree <= 12, "df of a mount of a part: %d blocks" % told.f_blocks)
    for name in os.listdir(below):
        path = os.path.join(below, name)
        if not os.path.isdir(path) and not name.startswith("."):
            os.unlink(path)
    _write(os.path.join(below, "one more"), 1)
    rig.umount(below)
    time.sleep(1.1)
    _same(quotas, point, inos, "through a mount of a part")


def quota(rig):
    url = rig.volume()
    quotas = Quotas(rig, url)
    point = rig.mount(url, "--heartbeat", "1s")
    names = ("a", "a/b", "c", "tight")
    for name in names:
        os.mkdir(os.path.join(point, name))
    inos = {name: os.stat(os.path.join(point, name)).st_ino for name in names}
    for name, limits in {"a": (-1, 0), "a/b": (100 * PAGE, 12), "c": (60 * PAGE, -1), "tight": (10 * PAGE, 3)}.items():
        quotas.set(inos[name], *limits, used=_counted(os.path.join(point, name)))
    time.sleep(2.5)  # the mount hears of them with its heartbeat
    no = _refusals(point, quotas, inos)
    _removed(point, quotas, inos.pop("tight"))
    other = rig.mount(url, "--heartbeat", "1s", where="mnt-other")
    chance, refused, ends = random.Random("quota-1"), 0, {}
    for number in range(8):
        at = (point, other)[number % 2]
        more, done = _mix(chance, [os.path.join(at, name) for name in ("a", "a/b", "c", ".")], 60)
        refused, ends = refused + more, {kind: ends.get(kind, 0) + done.get(kind, 0) for kind in {**ends, **done}}
        time.sleep(1.1)  # what the kernel keeps of names for the other mount
        _same(quotas, at, inos, "after round %d" % number)
    check(refused > 3 and all(ends.values()), "quotas refused %d of the random steps; done: %s" % (refused, ends))
    rig.umount(other)
    _below(rig, url, point, quotas, inos)
    rig.umount(point)
    _checked(rig, url, quotas, inos)
    return "%d ways refused, %d of 480 random steps of two mounts refused, quotas as recounted" % (no, refused)
