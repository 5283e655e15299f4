"""Mounts that come and go beside one that stays: memory, descriptors and what is on the machine stay as they were."""
import contextlib
import glob
import json
import os
import sqlite3
import time

from . import loader
from .rig import check

# Loops before the first look, and all of them; memory of its own that the mount may grow by meanwhile.
WARM, LOOPS, GROWTH_KIB = 75, 300, 512
# Each name is made anew long after what a mount remembers of it, a second.
NAMES = 50
DATA = {"jfs_chunk", "jfs_chunk_ref", "jfs_delfile", "jfs_delslices"}


def _held(rig, point):
    """KiB of the mount's own memory, and its descriptors."""
    folder = "/proc/%d" % rig.pid(point)
    with open(folder + "/status", encoding="ascii") as text:
        kib = int(next(line for line in text if line.startswith("RssAnon")).split()[1])
    return kib, len(os.listdir(folder + "/fd"))


def _records(rig, url):
    """How many records the volume has, but for those of data: of a deleted file they may wait for an hour."""
    if rig.redis:
        redis = loader.Connection(url)
        return redis.call("DBSIZE") - len(redis.call("KEYS", "c*")) - redis.call("EXISTS", "delfiles", "sliceRef")
    base = sqlite3.connect(url.split("://", 1)[1])
    tables = [name for (name,) in base.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    counts = [base.execute("SELECT count(*) FROM %s" % name).fetchone()[0] for name in tables if name not in DATA]
    base.close()
    return sum(counts)


def _left(rig):
    """What mounts keep on the machine while they are there."""
    name = os.path.basename(rig.folder).replace("_", "_5f")  # as names of files of mounts are written
    return len(glob.glob("/run/jfs-uring/*" + name + "*")), len(os.listdir(rig.folder))


def _loop(rig, url, stays, number):
    """Another client comes, works in the folder of the one that stays, and goes."""
    far = rig.mount(url, "--heartbeat", "1s", where="far")
    path = os.path.join(far, "shared", "f%d" % (number % NAMES))
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    with open(path, "wb") as out:
        out.write(b"%d" % number * 1000)
    rig.umount(far)
    # Not its bytes: those it would cache.
    told = os.stat(os.path.join(stays, "shared", "f%d" % (number % NAMES))).st_size
    check(told == len(b"%d" % number * 1000), "what a client wrote before it went is not there")


def soak(rig):
    """Hundreds of mounts beside one that stays."""
    url = rig.volume()
    stays = rig.mount(url, "--heartbeat", "1s")
    os.mkdir(os.path.join(stays, "shared"))
    began, first = time.monotonic(), None
    loops = LOOPS * (10 if os.environ.get("SUITE_FULL") else 1)
    for number in range(loops):
        _loop(rig, url, stays, number)
        if number == WARM:
            first = (_held(rig, stays), _records(rig, url), _left(rig))
    deadline = time.monotonic() + 15
    while (last := (_held(rig, stays), _records(rig, url), _left(rig)))[1:] != first[1:] and time.monotonic() < deadline:
        time.sleep(0.5)  # what is removed or looked for has an end
    check(last[0][1] == first[0][1], "%d descriptors, then %d" % (first[0][1], last[0][1]))
    check(last[0][0] <= first[0][0] + GROWTH_KIB, "%d KiB of memory, then %d" % (first[0][0], last[0][0]))
    check(last[1:] == first[1:], "records and files: %s, then %s" % (first[1:], last[1:]))
    sessions = json.loads(rig.call("status", url).stdout)["Sessions"]
    check(len(sessions) == 1, "%d sessions are left" % len(sessions))
    rig.umount(stays)
    check(rig.call("fsck", url).returncode == 0, "fsck finds something")
    return "%d mounts in %.0f s; %d, then %d KiB; %d descriptors; %d records" % (
        loops, time.monotonic() - began, first[0][0], last[0][0], last[0][1], last[1])
