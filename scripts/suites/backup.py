"""Backups of metadata: they appear beside the objects, once a period whoever is mounted, hold the tree that a mount shows, and
old ones go."""
import glob
import gzip
import json
import os
import stat
import time

from .rig import check

CHUNK = 64 << 20
TYPES = {stat.S_IFREG: "regular", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink", stat.S_IFIFO: "fifo", stat.S_IFBLK: "blockdev",
         stat.S_IFCHR: "chardev", stat.S_IFSOCK: "socket"}


def unescape(text):
    """The bytes of a name, target or value: JuiceFS writes `%` and two digits for what is no plain text."""
    raw, out, at = text.encode(), bytearray(), 0
    while at < len(raw):
        if raw[at:at + 1] == b"%":
            out.append(int(raw[at + 1:at + 3], 16))
            at += 3
        else:
            out.append(raw[at])
            at += 1
    return bytes(out)


def _strict(pairs):
    keys = [key for key, _value in pairs]
    check(len(keys) == len(set(keys)), "a key comes twice among %s" % keys[:5])
    return dict(pairs)


def read(path):
    """A backup as it is."""
    with gzip.open(path, "rt", encoding="utf-8") as text:
        return json.load(text, object_pairs_hook=_strict)


def _names(entry, path=b""):
    """Every name of a tree, with its entry."""
    for name, child in entry.get("entries", {}).items():
        here = os.path.join(path, unescape(name))
        yield here, child
        yield from _names(child, here)


def _shown(path):
    """What a mount shows of a name, in the words of a dump."""
    found = os.lstat(path)
    seen = {"inode": found.st_ino, "type": TYPES[stat.S_IFMT(found.st_mode)], "mode": stat.S_IMODE(found.st_mode), "uid": found.st_uid,
            "gid": found.st_gid, "nlink": found.st_nlink, "rdev": found.st_rdev}
    for key in ("atime", "mtime", "ctime"):
        nanoseconds = getattr(found, "st_%s_ns" % key)
        seen[key], seen[key + "nsec"] = divmod(nanoseconds, 10 ** 9)
    seen["length"] = found.st_size if seen["type"] == "regular" else 0
    target = os.readlink(path) if seen["type"] == "symlink" else b""
    values = {name: os.getxattr(path, name, follow_symlinks=False) for name in os.listxattr(path, follow_symlinks=False)}
    return seen, target, values


def _same(point, dump):
    """The tree of a dump is that of the mount; how many names it has."""
    told = dict(_names(dump["FSTree"]))
    top = os.fsencode(point)
    walked = [os.path.relpath(os.path.join(folder, name), top) for folder, folders, files in os.walk(top) for name in folders + files]
    own = {b".trash", b".stats", b".accesslog", b".config", b".control"}
    walked = [path for path in walked if path.split(b"/")[0] not in own]
    check(sorted(walked) == sorted(told), "names differ: %s" % sorted(set(walked) ^ set(told))[:5])
    for path, entry in told.items():
        seen, target, values = _shown(os.path.join(top, path))
        attr = {key: entry["attr"].get(key, 0) for key in seen}
        check(attr == seen, "%r: the backup has %r, the mount %r" % (path, attr, seen))
        check(unescape(entry.get("symlink", "")) == target, "%r points to %r" % (path, entry.get("symlink")))
        kept = {one["name"]: unescape(one["value"]) for one in entry.get("xattrs", [])}
        check(kept == values, "%r has attributes %r, not %r" % (path, kept, values))
        held = sum(piece["len"] for chunk in entry.get("chunks", []) for piece in chunk["slices"])
        full = seen["type"] == "regular" and not path.endswith(b"sparse")
        check(not full or held >= seen["length"], "%r: the slices of the backup hold %d bytes of %d" % (path, held, seen["length"]))
    return len(told)


def _fill(point):
    """A tree of everything that a volume may hold."""
    top = os.fsencode(point)
    for folder in (b"a", b"a/b", b"a/b/c", b"empty", "果汁".encode(), b"GBK\xb9\xfb"):
        os.mkdir(os.path.join(top, folder))
    for number in range(300):
        with open(os.path.join(top, b"a/b", b"f%d" % number), "wb") as out:
            out.write(os.urandom(100 + number))
    for name in (b"plain", b'odd %"\\\t\n name', b"\xff\xfe", "a\ufffdb".encode(), b"<&>", b"x" * 255):
        with open(os.path.join(top, name), "wb") as out:
            out.write(b"1")
    with open(os.path.join(top, b"sparse"), "wb") as out:
        for index in (0, 2, 9):
            out.seek(index * CHUNK)
            out.write(b"x" * 4096)
    with open(os.path.join(top, b"two chunks"), "wb") as out:
        out.write(b"y" * (CHUNK + 5))
    os.link(os.path.join(top, b"plain"), os.path.join(top, b"a/hard"))
    os.symlink(b'to "nowhere" \xff', os.path.join(top, b"link"))
    os.mkfifo(os.path.join(top, b"a/pipe"))
    os.mknod(os.path.join(top, b"a/device"), stat.S_IFCHR | 0o600, os.makedev(7, 300))
    os.setxattr(os.path.join(top, b"plain"), "user.value", b"\0 <%41> \xff")
    os.setxattr(os.path.join(top, b"a"), "user.value", b"v" * 5000)
    os.chown(os.path.join(top, b"a/pipe"), 1001, 2001)


def _waited(found, many, seconds=20):
    end = time.monotonic() + seconds
    while len(found()) < many:
        check(time.monotonic() < end, "%d backups after %d s, not %d: %s" % (len(found()), seconds, many, found()))
        time.sleep(0.1)
    return found()


def _none(rig, url, folder):
    """Nobody backs up who is not to, and each says so."""
    words = {"": "this mount makes no backups of metadata; --backup-meta 1h", "--no-bgjob": "--no-bgjob leaves that to others",
             "--read-only": "it is read-only"}
    for number, (flag, word) in enumerate(words.items()):
        where = "mnt-none%d" % number
        options = [flag, "--backup-meta", "2s"] if flag else []
        point = rig.mount(url, *options, where=where)
        time.sleep(1.5)
        rig.umount(point)
        with open(rig.path(where + ".log"), encoding="utf-8") as text:
            check(word in text.read(), "the log of a mount with %r does not say %r" % (flag, word))
    check(not os.path.exists(folder), "backups appear without being asked for")
    refused = rig.call("mount", "--backup-meta", "299s", url, rig.path("mnt-none0"), ok=False, env={**os.environ, "SKIP_BACKUP_META_CHECK": ""})
    check(refused.returncode == 2 and "at least 5m" in refused.stdout, "a period of 299 s ends with %d: %s" % (refused.returncode, refused.stdout))


def _stat(point, name):
    with open(os.path.join(point, ".stats"), encoding="ascii") as text:
        return float(dict(line.split() for line in text)["juicefs_" + name])


def backup(rig):
    os.environ["SKIP_BACKUP_META_CHECK"] = "true"
    try:
        return _backup(rig)
    finally:
        del os.environ["SKIP_BACKUP_META_CHECK"]


def _backup(rig):
    url = rig.volume()
    rig.call("format", "--storage", "file", "--bucket", rig.path("objects1"), "--trash-days", "1", url, "suite")
    folder = os.path.join(rig.path("objects1"), "suite", "meta")
    _none(rig, url, folder)
    found = lambda: sorted(glob.glob(os.path.join(folder, "dump-*.json.gz")))  # noqa: E731
    point = rig.mount(url, where="mnt-fill")
    _fill(point)
    os.unlink(os.path.join(point, "a/b/f0"))
    rig.umount(point)
    os.makedirs(folder)
    now = time.time()
    # Old ones go only where the newest follow one another.
    near = [time.strftime("dump-%Y-%m-%d-%H%M%S.json.gz", time.gmtime(now - 100 * number)) for number in range(1, 17)]
    for name in ["dump-2001-01-01-000000.json.gz", "note"] + near:
        with open(os.path.join(folder, name), "w", encoding="ascii") as out:
            out.write("old")
    found = lambda: sorted(set(glob.glob(os.path.join(folder, "dump-*.json.gz"))) - {os.path.join(folder, name) for name in near})  # noqa: E731
    # Two mounts, and a period that is over once while they are there.
    points = [rig.mount(url, "--backup-meta", "6s", where="mnt%d" % number) for number in range(2)]
    first = [path for path in _waited(found, 1) if "2001" not in path] or _waited(lambda: [path for path in found() if "2001" not in path], 1)
    began = time.monotonic()
    kept = read(first[0])
    check(_waited(lambda: [] if len(found()) != 1 else found(), 1) == first, "an old backup stays: %s" % found())
    check(os.path.exists(os.path.join(folder, "note")), "what others put beside the backups is gone")
    names = _same(points[0], kept)
    made = [(_stat(point, "last_successful_backup"), _stat(point, "last_backup_duration")) for point in points]
    check(abs(max(made)[0] - time.time()) < 60 and 0 < max(made)[1] < 60, "no mount has made a backup by its numbers: %s" % made)
    check([name for name, _entry in _names(kept["Trash"]) if name.endswith(b"-f0")], "the trash is not in the backup")
    # One has two names, and the trash has a folder and a file.
    check(kept["Counters"]["usedInodes"] == names - 1 + 2, "%d inodes for %d names" % (kept["Counters"]["usedInodes"], names))
    time.sleep(max(0, began + 4 - time.monotonic()))
    check(found() == first, "another backup inside the period: %s" % found())
    second = _waited(found, 2)
    time.sleep(2)
    check(found() == second, "two mounts back up one period twice: %s" % found())
    for point in points:
        rig.umount(point)
    point = rig.mount(url, "--backup-meta", "1s", "--backup-skip-trash", where="mnt-skip")
    last = read(_waited(found, 3)[-1])
    check("Trash" not in last and _same(point, last) == names, "--backup-skip-trash")
    rig.umount(point)
    check(rig.call("fsck", url, ok=False).returncode == 0, "fsck")
    return "%d names as the mount shows them, one backup a period of two mounts, %d bytes" % (names, os.path.getsize(second[0]))
