"""Quotas of directories, users and groups: kept exactly through names of every fate, never exceeded, shown by df, checked
and mended."""
import errno
import json
import os
import random
import sqlite3
import subprocess
import time

from . import loader
from .fsck import _found
from .kept import _setting
from .rig import check, errno_of
from .volumes import loaded

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

    def owned(self, kind, number):
        """Inodes that a user or group owns."""
        if self.redis:
            return int(self.redis.call("HGET", kind + "QuotaUsedInodes", str(number)))
        return self._sql("SELECT used_inodes FROM jfs_user_group_quota WHERE qtype = ? AND qkey = ?", ("", "user", "group").index(kind), number)[0][0]

    def miscount(self, number):
        """A user's quota counts one page more."""
        if self.redis:
            self.redis.call("HINCRBY", "userQuotaUsedSpace", str(number), str(PAGE))
        else:
            self._sql("UPDATE jfs_user_group_quota SET used_space = used_space + ? WHERE qtype = 1 AND qkey = ?", PAGE, number)

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
        owner, group = chance.choice((0, 1001, 1002)), chance.choice((0, 2001))
        size, at = chance.randrange(40000), chance.randrange(90000)
        actions = {
            "write": lambda: _write(here, size), "append": lambda: _write(here, size, at), "cut": lambda: os.truncate(here, at),
            "move": lambda: os.rename(here, there), "link": lambda: os.link(here, there), "replace": lambda: _replace(here),
            "unlink": lambda: os.unlink(here), "rmdir": lambda: os.rmdir(here), "mkdir": lambda: os.mkdir(here),
            "symlink": lambda: os.symlink("somewhere", here), "give": lambda: os.lchown(here, owner, group), "tree": lambda: os.rename(tree, place), "pages": lambda: _pages(here, there),
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
    quotas.miscount(1001)
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


def _files(folder, user, group):
    """How many files a user of a group can make in a folder."""
    words = "i=0; while echo x 2>/dev/null > %d-%d-$i; do i=$((i+1)); done; echo $i" % (user, group)
    return int(subprocess.run(("sh", "-c", words), cwd=folder, user=user, group=group, extra_groups=[], capture_output=True, check=True).stdout)


def _fixture(rig):
    """Quotas that the real client set and counted hold, and are counted on."""
    url, _bucket = loaded(rig, "quota-acl")
    quotas, point = Quotas(rig, url), rig.mount(url, where="mnt-fixture")
    check(errno_of(lambda: _write(os.path.join(point, "quota-full", "fourth"), 1)) == errno.EDQUOT, "a fourth file in quota-full")
    own = os.path.join(point, "own")
    os.mkdir(own)
    os.chmod(own, 0o777)
    check((quotas.owned("user", 1001), quotas.owned("group", 2001)) == (4, 2), "the fixture counts otherwise")
    made = _files(own, 1001, 1001), _files(own, 1002, 2001)
    check(made == (16, 8), "a user of 4 of 20, a group of 2 of 10 makes %r" % (made,))
    for number in range(5):
        os.chown(os.path.join(own, "1001-1001-%d" % number), 1003, -1)
    check((quotas.owned("user", 1001), quotas.owned("user", 1003)) == (15, 5), "files that are given away stay")
    os.truncate(os.path.join(own, "1001-1001-9"), 100000)
    os.unlink(os.path.join(own, "1002-2001-0"))
    check((_files(own, 1001, 1002), _files(own, 1003, 2001)) == (5, 1), "what was given away makes no room")
    rig.umount(point)
    check(_found(rig, url) == (0, []), "the fixture is no more whole: %s" % (_found(rig, url),))


def quota(rig):
    url = rig.volume()
    quotas = Quotas(rig, url)
    setting = json.loads(_setting(rig, url))
    _setting(rig, url, json.dumps({**setting, "UserGroupQuota": True}))
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
    _fixture(rig)
    return "%d ways refused, %d of 480 random steps of two mounts refused, quotas as recounted; those of the real client hold" % (no, refused)
