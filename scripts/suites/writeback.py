"""Write-back: what close and fsync promised is there after a kill, a power cut, a full disk and an end without a drain."""
import contextlib
import errno
import glob
import json
import os
import random
import re
import signal
import subprocess
import threading
import time

from . import rows
from .rig import FIXTURES, check, errno_of, run, setting_of
from .volumes import expect_equal, loaded

WRITEBACK, HELD = ("--writeback",), ("--writeback", "--upload-delay", "1h")
LATE = 5
KIB, MIB, PAGE = 1 << 10, 1 << 20, 4096
SMALL, SMALL_BYTES = 400, KIB
# Of one file each; the block is 4 MiB.
LARGE = (5 * MIB + 17, 4 * MIB, 300 * KIB)
OUTAGE_S = 60 if os.environ.get("SUITE_FULL") else 8
POWER_CUTS = 5 if os.environ.get("SUITE_FULL") else 2


def _bytes(name, size):
    return random.Random(name).randbytes(size)


def _write(path, content, sync=False):
    with open(path, "wb") as out:
        out.write(content)
        if sync:
            out.flush()
            os.fsync(out.fileno())


def _read(path):
    with open(path, "rb") as source:
        return source.read()


def _fill(point, tag):
    """Small and large files; what each holds."""
    sizes = {"%s small %d" % (tag, number): SMALL_BYTES for number in range(SMALL)}
    sizes.update({"%s large %d" % (tag, number): size for number, size in enumerate(LARGE)})
    written = {name: _bytes(name, size) for name, size in sizes.items()}
    for name, content in written.items():
        _write(os.path.join(point, name), content)
    return written


def _same(point, written, when):
    for name, content in written.items():
        check(_read(os.path.join(point, name)) == content, "%s: %s is not what was written" % (when, name))


def _objects(rig):
    """Objects of the volume that was made last."""
    found = glob.glob(rig.path("objects%d" % rig.count) + "/**/chunks/**", recursive=True)
    return {os.path.basename(path): path for path in found if os.path.isfile(path) and re.search(r"/\d+_\d+_\d+$", path)}


def _staged(rig):
    """Files that wait in the cache folders of all volumes."""
    return [path for path in glob.glob(rig.cache + "/*/rawstaging/**", recursive=True) if os.path.isfile(path)]


def _state(rig, path):
    return json.loads(rig.call("status", "--json", path).stdout)


def _takes(is_so, seconds):
    until = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True


def _crash(rig, point):
    """The process ends without a word."""
    pid = rig.pid(point)
    os.kill(pid, signal.SIGKILL)
    check(_takes(lambda: not os.path.exists("/proc/%d/fd" % pid), 20), "a killed process stays")
    rig.call("umount", point, timeout=60)
    rig.mounts.remove(point)


def _flush(rig, path, level="committed", *words):
    told = json.loads(rig.call("flush", "--level", level, "--timeout", "60s", "--json", *words, path).stdout)
    check(told["reached"], "flush does not reach its level: %s" % told)


def _cold(rig, url, written, when):
    """A mount without the cache folder has it all from the store."""
    rig.drop_cache()
    point = rig.mount(url, where="cold")
    _same(point, written, when)
    rig.umount(point)


def _killed(rig):
    """A kill right after the last close loses nothing; all is served at once, and then uploaded."""
    url = rig.volume()
    point = rig.mount(url, *HELD)
    written = _fill(point, "killed")
    _crash(rig, point)
    check(not _objects(rig), "--upload-delay uploads at once")
    point = rig.mount(url, *HELD)
    _same(point, written, "after a kill")
    check(not _objects(rig), "reading a kept file uploads it")
    # A delay does not hold up those who wait.
    _flush(rig, point)
    state = _state(rig, point)
    check(state["level"] == "committed" and state["blocks_left"] == 0, "after a flush: %s" % state)
    check(len(_objects(rig)) == SMALL + len(LARGE) + 1, "%d objects" % len(_objects(rig)))
    check(_takes(lambda: not _staged(rig), 10), "files stay in rawstaging: %s" % _staged(rig)[:3])
    rig.umount(point)
    _cold(rig, url, written, "from the store")
    # In the middle of writing and uploading, again and again.
    for turn in range(3):
        point = rig.mount(url, *WRITEBACK)
        _same(point, written, "turn %d" % turn)
        written.update(_fill(point, "turn %d" % turn))
        _crash(rig, point)
    point = rig.mount(url, *WRITEBACK)
    _same(point, written, "after three kills")
    _flush(rig, point)
    rig.umount(point)
    _cold(rig, url, written, "after three kills, from the store")
    rig.call("fsck", "--deep", url)
    return len(written)


def _dropped(rig):
    """What is removed before its upload never is uploaded, also after a kill."""
    url = rig.volume()
    point = rig.mount(url, *HELD)
    kept = {"kept": _bytes("kept", 9000)}
    for name in ("gone", "replaced", "kept"):
        _write(os.path.join(point, name), _bytes(name, 9000), sync=True)
    os.unlink(os.path.join(point, "gone"))
    os.rename(os.path.join(point, "kept"), os.path.join(point, "replaced"))
    os.rename(os.path.join(point, "replaced"), os.path.join(point, "kept"))
    # Data of deleted files goes a moment later.
    check(_takes(lambda: _state(rig, point)["blocks_left"] == 1, 10), "removed blocks stay: %s" % _state(rig, point))
    _crash(rig, point)
    point = rig.mount(url, *HELD)
    _same(point, kept, "after a removal and a kill")
    _flush(rig, point)
    check(len(_objects(rig)) == 1, "removed blocks were uploaded: %s" % list(_objects(rig)))
    rig.umount(point)


def _fixture(rig, name):
    """What the official client left is served at once, uploaded, and compressed where the volume says so."""
    url, _bucket = loaded(rig, name)
    rig.drop_cache()
    os.makedirs(rig.cache)
    run("sh", "-c", 'zstd -q -d -c "$0" | tar -xpf - -C "$1"', os.path.join(FIXTURES, name, "cache.tar.zst"), rig.cache)
    setting = setting_of(name)
    wanted = {os.path.basename(path) for path in setting["staged"]}
    check(wanted and not wanted & set(_objects(rig)), "the fixture has its objects already")
    manifest = rows.load(os.path.join(FIXTURES, name, "manifest.jsonl"))
    rig.umount(rig.mount(url, "--read-only", where="looks"))
    check(len(_staged(rig)) == len(wanted), "a read-only mount took blocks over")
    # Too old for a delay; the hours of uploads are others.
    hour = time.localtime().tm_hour
    held = (*WRITEBACK, "--upload-hours", "%d,%d" % ((hour + 2) % 24, (hour + 3) % 24))
    point = rig.mount(url, *held, "--no-bgjob", where="mnt-" + name)
    equal = expect_equal(name, manifest, rows.scan(point))
    check(not wanted & set(_objects(rig)), "it was uploaded before it was served")
    _flush(rig, point)
    found = _objects(rig)
    check(wanted <= set(found), "not uploaded: %s" % sorted(wanted - set(found)))
    check(_takes(lambda: not _staged(rig), 10), "left in rawstaging: %s" % _staged(rig))
    shorter = [block for block in wanted if os.path.getsize(found[block]) < int(block.rsplit("_", 1)[1])]
    longer = [block for block in wanted if os.path.getsize(found[block]) != int(block.rsplit("_", 1)[1])]
    check(bool(shorter) == (setting["setting"]["Compression"] == "lz4") and (shorter or not longer), "lengths of objects: %s" % longer)
    rig.umount(point)
    rig.drop_cache()
    point = rig.mount(url, "--no-bgjob", where="mnt-" + name)
    expect_equal(name + ", from the store", manifest, rows.scan(point), skip=("atime",))
    rig.umount(point)
    return equal


def _outage(rig):
    """The store is away: writers go on, the failures are told, and all is uploaded when it is back."""
    url = rig.volume()
    bucket = rig.path("objects%d" % rig.count)
    point = rig.mount(url, *WRITEBACK)
    _write(os.path.join(point, "before"), b"before")
    _flush(rig, point)
    os.rename(bucket, bucket + ".away")
    with open(bucket, "wb"):
        written, slowest, until = {}, [0.0], time.monotonic() + OUTAGE_S

    def write(who):
        number = 0
        while time.monotonic() < until:
            name, began = "writer %d file %d" % (who, number), time.monotonic()
            content = _bytes(name, (5000, 300 * KIB)[number % 7 == 0])
            _write(os.path.join(point, name), content, sync=number % 3 == 0)
            slowest[0] = max(slowest[0], time.monotonic() - began)
            written[name], number = content, number + 1
            time.sleep(0.02)

    writers = [threading.Thread(target=write, args=(who,)) for who in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    check(len(written) > 3 * OUTAGE_S, "%d files were written while the store is away" % len(written))
    check(slowest[0] < 5, "a writer waited %.1f s for a store that is away" % slowest[0])
    state = _state(rig, point)
    check(state["blocks_left"] >= len(written) and state["last_error"], "the failures are not told: %s" % state)
    check(state["failed_blocks"] and state["failed"][0]["reason"], "no list of failed uploads: %s" % state)
    late = rig.call("flush", "--timeout", "1s", point, ok=False, timeout=60)
    check(late.returncode == LATE and "not committed" in late.stdout, "a flush without a store: %d %s" % (late.returncode, late.stdout))
    _flush(rig, point, "local")
    _same(point, written, "while the store is away")
    os.unlink(bucket)
    os.rename(bucket + ".away", bucket)
    retried = json.loads(rig.call("retry", "--json", point).stdout)["retried"]
    check(retried > 0, "nothing is tried again")
    _flush(rig, point)
    rig.umount(point)
    _cold(rig, url, written, "after the store was away")
    return len(written)


def _ended(rig):
    """An end while it uploads is quick, complete and told; a mount without --writeback finishes it. With --flush it waits."""
    url = rig.volume()
    slow = (*WRITEBACK, "--upload-limit", "8")
    point = rig.mount(url, *slow)
    written = _fill(point, "ended")
    refused = rig.call("umount", "--flush", "--timeout", "1s", point, ok=False, timeout=60)
    check(refused.returncode == LATE and "stays mounted" in refused.stdout and os.path.ismount(point),
          "a drain that is late: %d %s" % (refused.returncode, refused.stdout))
    began = time.monotonic()
    told = json.loads(rig.call("umount", "--json", point, timeout=60).stdout)
    took = time.monotonic() - began
    rig.mounts.remove(point)
    check(not os.path.ismount(point) and told["unmounted"], "it is still mounted: %s" % told)
    check(told["blocks_left"] > 0 and took < 10, "an end without a drain took %.1f s: %s" % (took, told))
    blocks = {os.path.basename(path) for path in _staged(rig)}
    check(len(blocks) == told["blocks_left"], "%d files in rawstaging, %d blocks told" % (len(blocks), told["blocks_left"]))
    wrong = [block for block in blocks if not re.fullmatch(r"\d+_\d+_\d+", block)]
    check(not wrong, "names in rawstaging that no client knows: %s" % wrong)
    missing = SMALL + len(LARGE) + 1 - len(set(_objects(rig)) | blocks)
    check(missing == 0, "%d blocks are in neither place" % missing)
    point = rig.mount(url)
    _same(point, written, "on a mount without --writeback")
    check(_takes(lambda: not _staged(rig), 30), "a mount without --writeback does not finish: %s" % _staged(rig)[:3])
    rig.umount(point)
    _cold(rig, url, written, "after another mount finished")
    point = rig.mount(url, *WRITEBACK)
    written = _fill(point, "flushed")
    done = rig.call("umount", "--flush", "--timeout", "60s", "--json", point, timeout=90)
    rig.mounts.remove(point)
    check(json.loads(done.stdout)["blocks_left"] == 0 and not _staged(rig), "umount --flush leaves something: %s" % done.stdout)
    _cold(rig, url, written, "after umount --flush")


def _told(rig):
    """Levels of a file and of the mount, by command and by attribute; a second process on the folder is refused."""
    url = rig.volume()
    point = rig.mount(url, *HELD)
    path = os.path.join(point, "file")
    _write(path, bytes(70000))
    state = _state(rig, path)
    check(state["level"] == "logged" and state["bytes_left"] == 70000 and state["blocks_left"] == 1, "after close: %s" % state)
    with open(path, "ab") as out:
        out.write(b"more")
        out.flush()
        os.fsync(out.fileno())
        state = json.loads(os.getxattr(path, "user.jfs.state"))
        check(state["level"] == "local", "after fsync: %s" % state)
    check("user.jfs.state" not in os.listxattr(path), "the state is listed")
    check(errno_of(lambda: os.setxattr(path, "user.jfs.state", b"x")) in (errno.EPERM, errno.EACCES, errno.ENOTSUP), "the state can be set")
    whole = _state(rig, point)
    check(whole["writeback"] and whole["blocks_left"] >= 2 and "local" in json.loads(os.getxattr(point, "user.jfs.state"))["levels"],
          "of the mount: %s" % whole)
    check(re.search("write-back: on", rig.call("status", point).stdout), "status in words")
    os.makedirs(rig.path("second"), exist_ok=True)
    second = rig.call("mount", "-d", "--cache-dir", rig.cache, *WRITEBACK, url, rig.path("second"), ok=False, timeout=60)
    check(second.returncode == 1 and "--cache-dir" in second.stdout and not os.path.ismount(rig.path("second")),
          "a second process on the folder: %d %s" % (second.returncode, second.stdout))
    _flush(rig, path, "uploaded")
    check(_state(rig, path)["level"] == "committed", "after a flush of the file: %s" % _state(rig, path))
    # What is staged is read without the store.
    _write(os.path.join(point, "near"), _bytes("near", 200 * KIB), sync=True)
    before = _gets(point)
    run("sh", "-c", "echo 3 >/proc/sys/vm/drop_caches")
    check(_read(os.path.join(point, "near")) == _bytes("near", 200 * KIB), "a kept file reads otherwise")
    check(_gets(point) == before, "reading a kept file asked the store")
    rig.umount(point)


def _gets(point):
    with open(os.path.join(point, ".stats"), encoding="ascii") as lines:
        return [line for line in lines if "object_request" in line and "GET" in line]


def writeback(rig):
    """Kills, removals, official leftovers, a store that is away, ends of mounts, and what is told of all that."""
    files = _killed(rig)
    _dropped(rig)
    _told(rig)
    written = _outage(rig)
    _ended(rig)
    equal = sum(_fixture(rig, name) for name in ("writeback-killed", "writeback-unmounted")) if rig.redis else 0
    return "%d files after 5 kills, %d paths of official leftovers, %d files while the store was away for %d s" % (
        files, equal, written, OUTAGE_S)


class Image:
    """An ext4 file system of its own on a loop device: the disk of the cache."""

    def __init__(self, rig, name, mebibytes):
        self.rig, self.before = rig, rig.cache
        self.file, self.folder = rig.path(name + ".img"), rig.path(name)
        os.mkdir(self.folder)
        with open(self.file, "wb") as out:
            os.truncate(out.fileno(), mebibytes * MIB)
        run("mkfs.ext4", "-q", "-m", "0", self.file)

    def attach(self):
        run("mount", "-o", "loop,errors=remount-ro", self.file, self.folder)

    def detach(self):
        run("umount", self.folder)

    def __enter__(self):
        self.attach()
        self.rig.cache = os.path.join(self.folder, "cache")
        return self

    def __exit__(self, *_):
        self.rig.cache = self.before
        subprocess.run(["umount", "-l", self.folder], check=False, stderr=subprocess.DEVNULL)

    def cut(self):
        """The power goes: nothing that was not synced is on the disk."""
        run("xfs_io", "-x", "-c", "shutdown", self.folder)

    def fail(self):
        """An error that ext4 finds: it takes no writes any more."""
        device = run("findmnt", "-no", "SOURCE", self.folder).stdout.strip()
        with open("/sys/fs/ext4/%s/trigger_fs_error" % os.path.basename(device), "w", encoding="ascii") as out:
            out.write("suite")


def _syncing(point, seconds, tag):
    """Writers that fsync; what each file held when its last fsync returned. They end when the disk does."""
    synced, until = {}, time.monotonic() + seconds

    def write(who):
        chance, number = random.Random("%s %d" % (tag, who)), 0
        with contextlib.suppress(OSError):
            while time.monotonic() < until:
                name = "%s writer %d file %d" % (tag, who, number)
                content = b""
                with open(os.path.join(point, name), "wb", buffering=0) as out:
                    for _ in range(chance.randrange(1, 6)):
                        piece = chance.randbytes(chance.choice((PAGE, 3 * PAGE, 300 * KIB)))
                        out.write(piece)
                        content += piece
                        os.fsync(out.fileno())
                        synced[name] = content
                    if number % 2:
                        # Not synced: it may be lost. It begins a page of the kernel, which is lost as a whole.
                        out.write(b"unsynced")
                number += 1

    writers = [threading.Thread(target=write, args=(who,)) for who in range(4)]
    for writer in writers:
        writer.start()
    return synced, writers


def _begins(point, synced, when):
    """All that was synced is there; what was not may be there, too."""
    for name, content in synced.items():
        with open(os.path.join(point, name), "rb", buffering=0) as source:
            for at in range(0, len(content), PAGE):
                wanted = content[at:at + PAGE]
                try:
                    found = os.pread(source.fileno(), len(wanted), at)
                except OSError as error:
                    found = b"" if error.errno == errno.EIO else None
                check(found == wanted, "%s: %s of %d bytes lost what was synced at %d: %r" % (when, name, len(content), at, found and found[:9]))


def _cuts(rig):
    """The power goes under writers that fsync."""
    url, files = rig.volume(), {}
    with Image(rig, "disk", 512) as disk:
        for turn in range(POWER_CUTS):
            point = rig.mount(url, *HELD)
            synced, writers = _syncing(point, 3, "cut %d" % turn)
            time.sleep(1.5)
            disk.cut()
            _crash(rig, point)
            for writer in writers:
                writer.join()
            check(len(synced) > 20, "%d files were synced before the cut" % len(synced))
            files.update(synced)
            disk.detach()
            disk.attach()
            point = rig.mount(url, *HELD)
            _begins(point, files, "after power cut %d" % turn)
            rig.umount(point)
        point = rig.mount(url, *HELD)
        _flush(rig, point, "uploaded")
        rig.umount(point)
        rig.drop_cache()
        point = rig.mount(url, where="cold")
        _begins(point, files, "from the store")
        rig.umount(point)
    return len(files)


def _full(rig):
    """A disk of the cache without room, then one that takes no writes: data goes to the store at once, and nobody notices."""
    url = rig.volume()
    with Image(rig, "small", 64) as disk:
        point = rig.mount(url, *HELD, "--free-space-ratio", "0.02")
        written = {}
        for number in range(40):
            name = "full %d" % number
            written[name] = _bytes(name, 3 * MIB)
            _write(os.path.join(point, name), written[name], sync=number % 2 == 0)
            if number == 4:
                state = _state(rig, point)
                check(state["blocks_left"] == 5 and not _objects(rig), "not kept on a disk with room: %s" % state)
        check(_objects(rig), "120 MiB are on a disk of 64")
        _same(point, written, "on a full disk")
        before = len(_objects(rig))
        disk.fail()
        for number in range(8):
            name = "read-only %d" % number
            written[name] = _bytes(name, 100 * KIB)
            _write(os.path.join(point, name), written[name], sync=number % 2 == 0)
        check(len(_objects(rig)) >= before + 8, "nothing was stored at once on a disk that takes no writes")
        _same(point, written, "on a disk that takes no writes")
        rig.umount(point)
        disk.detach()
        disk.attach()
        point = rig.mount(url, *HELD)
        _same(point, written, "after the disk was mended")
        _flush(rig, point, "uploaded")
        rig.umount(point)
        rig.drop_cache()
        point = rig.mount(url, where="cold")
        _same(point, written, "from the store")
        rig.umount(point)
    return len(written)


def power(rig):
    """Power cuts under writers that fsync, and a disk of the cache that is full or takes no writes."""
    files = _cuts(rig)
    written = _full(rig)
    return "%d files synced before %d power cuts are whole, %d files by way of a full disk" % (files, POWER_CUTS, written)
