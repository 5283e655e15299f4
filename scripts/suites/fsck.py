"""A check of volumes: quiet on those of the real client, loud on each planted damage; what is derived is mended."""
import glob
import json
import os
import sqlite3

from . import loader
from .rig import check
from .volumes import loaded

WHOLE = {"redis": ("plain", "lz4", "zstd", "hash-prefix", "clone", "overwrites", "older", "refuse-shards", "refuse-encrypt",
                   "trash", "sustained", "quota-acl"),
         "sqlite": ("plain", "overwrites-compacted", "sqlite-plain", "sqlite-lz4", "quota-acl")}
# The real client left statistics of directories in these that are not the sum of what is in them.
STATISTICS = {"clone", "overwrites"}


def _found(rig, url, *options):
    """Exit code, and the findings by their words."""
    done = rig.call("fsck", "--json", *options, url, ok=False)
    check(done.returncode in (0, 4), "fsck ended with %d: %s" % (done.returncode, done.stdout[-2000:]))
    text = done.stdout[:done.stdout.rindex("}") + 1]
    return done.returncode, [f["finding"] for f in json.loads(text)["findings"] if f["weight"] != "left" and not f["mended"]]


def _write(path, size):
    with open(path, "wb") as out:
        out.write(os.urandom(size))


def _made(rig):
    """A small volume with every kind of link; its META-URL, and where its objects are."""
    url = rig.volume()
    bucket = rig.path("objects%d" % rig.count)
    point = rig.mount(url, "--no-bgjob")
    os.makedirs(os.path.join(point, "a", "b"))
    for number in range(20):
        _write(os.path.join(point, "a", "f%d" % number), 1000 + 5000 * number)
    os.link(os.path.join(point, "a", "f1"), os.path.join(point, "a", "b", "hard"))
    os.symlink("f1", os.path.join(point, "a", "soft"))
    inos = {name: os.lstat(os.path.join(point, name)).st_ino for name in ("a", "a/b", "a/f2", "a/f3", "a/f4", "a/f5")}
    rig.umount(point)
    return url, bucket, inos


def _redis(url, inos):
    """What is planted in Redis, the finding it must have, and whether it is mended."""
    call = loader.Connection(url).call
    node = bytearray(call("GET", "i%d" % inos["a"]))
    node[47:51] = (9).to_bytes(4, "big")
    slice_id = int.from_bytes(call("LINDEX", "c%d_0" % inos["a/f2"], "0")[4:12], "big")
    return (
        ("counter", True, lambda: call("INCRBY", "usedSpace", "4096")),
        ("counter", True, lambda: call("DECRBY", "totalInodes", "1")),
        ("counter", True, lambda: call("SET", "nextinode", "3")),
        ("counter", True, lambda: call("SET", "nextchunk", "1")),
        ("directory-statistics", True, lambda: call("HINCRBY", "dirUsedSpace", str(inos["a"]), "5")),
        ("link-count", True, lambda: call("SET", "i%d" % inos["a"], bytes(node))),
        ("slice-references", True, lambda: call("HINCRBY", "sliceRef", "k%d_11000" % slice_id, "-1")),
        ("dangling-entry", False, lambda: call("DEL", "i%d" % inos["a/f3"])),
        ("orphan-node", False, lambda: call("HDEL", "d%d" % inos["a"], "f4")),
        ("missing-rule", False, lambda: call("SETRANGE", "i%d" % inos["a/f5"], "71", (77).to_bytes(4, "big") + bytes(5))),
        ("directory-loop", False, lambda: (call("HDEL", "d%d" % inos["a"], "b"),
                                           call("HSET", "d%d" % inos["a/b"], "me", b"\2" + inos["a/b"].to_bytes(8, "big")))),
    )


def _sqlite(url, inos):
    """The same in SQLite."""
    def call(words, *values):
        base = sqlite3.connect(url.split("://", 1)[1])
        base.execute(words, values)
        base.commit()
        base.close()

    def counter(name, words):
        return lambda: call("UPDATE jfs_counter SET value = %s WHERE name = ?" % words, name)
    return (
        ("counter", True, counter("usedSpace", "value + 4096")),
        ("counter", True, counter("totalInodes", "value - 1")),
        ("counter", True, counter("nextInode", "3")),
        ("counter", True, counter("nextChunk", "1")),
        ("directory-statistics", True, lambda: call("UPDATE jfs_dir_stats SET used_space = used_space + 5 WHERE inode = ?", inos["a"])),
        ("link-count", True, lambda: call("UPDATE jfs_node SET nlink = 9 WHERE inode = ?", inos["a"])),
        ("slice-references", True, lambda: call("UPDATE jfs_chunk_ref SET refs = 0 WHERE size = ?", 11000)),
        ("dangling-entry", False, lambda: call("DELETE FROM jfs_node WHERE inode = ?", inos["a/f3"])),
        ("orphan-node", False, lambda: call("DELETE FROM jfs_edge WHERE inode = ?", inos["a/f4"])),
        ("missing-rule", False, lambda: call("UPDATE jfs_node SET access_acl_id = 77 WHERE inode = ?", inos["a/f5"])),
        ("directory-loop", False, lambda: call("UPDATE jfs_edge SET parent = inode WHERE inode = ?", inos["a/b"])),
    )


def _metadata(rig):
    """Each damage of metadata is found; derived data is mended, the rest stays as it is."""
    url, _bucket, inos = _made(rig)
    code, words = _found(rig, url, "--deep")
    check((code, words) == (0, []), "a whole volume has %s" % words)
    planted = _redis(url, inos) if rig.redis else _sqlite(url, inos)
    for word, mended, plant in planted:
        plant()
        code, words = _found(rig, url)
        check(code == 4 and word in words, "%s is not among %s" % (word, words))
        _found(rig, url, "--repair")
        code, words = _found(rig, url)
        check((word not in words) == mended, "after a repair of %s: %s" % (word, words))
        check(not mended or code == 0, "after a repair of %s: %s" % (word, words))
    return len(planted)


def _objects(rig):
    """Objects that are cut, gone, or are not what was stored."""
    url, bucket, _inos = _made(rig)
    blocks = sorted(glob.glob(os.path.join(bucket, "suite", "chunks", "*", "*", "*")))
    os.truncate(blocks[0], 10)
    os.unlink(blocks[1])
    code, words = _found(rig, url)
    check(code == 4 and sorted(words) == ["missing-object", "object-length"], "objects: %s" % words)
    url = rig.volume("--compress", "lz4")
    point = rig.mount(url, "--no-bgjob")
    _write(os.path.join(point, "f"), 100000)
    rig.umount(point)
    block = glob.glob(os.path.join(rig.path("objects%d" % rig.count), "suite", "chunks", "*", "*", "*"))[0]
    os.truncate(block, 1000)
    check(_found(rig, url) == (0, []), "the length of a compressed object tells nothing")
    code, words = _found(rig, url, "--deep")
    check(code == 4 and words == ["bad-object"], "a cut LZ4 object: %s" % words)


def _in_use(rig):
    """Nothing is mended under a client that works."""
    url = rig.volume()
    point = rig.mount(url)
    done = rig.call("fsck", "--repair", url, ok=False)
    check(done.returncode == 1 and "unmount" in done.stdout, "a repair of a mounted volume: %s" % done.stdout)
    rig.umount(point)


def fsck(rig):
    """Volumes of the real client, planted damages, and repairs."""
    for fixture in WHOLE[rig.engine]:
        url, _bucket = loaded(rig, fixture)
        _code, words = _found(rig, url, "--deep")
        known = {"directory-statistics"} if fixture in STATISTICS and rig.redis else set()
        check(set(words) == known, "%s: %s" % (fixture, words))
    count = _metadata(rig)
    _objects(rig)
    _in_use(rig)
    return "%d volumes, %d damages of metadata, 3 of objects" % (len(WHOLE[rig.engine]), count)
