"""Bad input and damage: clear words, the right errno, nothing lost."""
import errno
import glob
import os
import signal
import socket
import subprocess
import threading
import time

from .rig import check, errno_of


def _refused(rig, words, *command, env=None):
    done = rig.call(*command, ok=False, timeout=60, env={**os.environ, **(env or {})})
    text = done.stdout.strip()
    check(done.returncode not in (0, 101) and done.returncode > 0, "%s ended with %d: %s" % (command, done.returncode, text))
    check(text and any(word in text.lower() for word in words), "%s says %r, not %s" % (command, text, words))
    check("panicked" not in text, text)


def bad_input(rig):
    """Every refusal is one clear line and changes nothing."""
    url = rig.volume()
    point = rig.path("empty")
    os.makedirs(point)
    full = rig.path("full")
    os.makedirs(os.path.join(full, "something"))
    cases = [
        (("empty",), "mount", url, full),
        (("not exist", "no such", "does not"), "mount", url, rig.path("nowhere")),
        (("size",), "mount", "--buffer-size", "many", url, point),
        (("block",), "format", "--block-size", "3", rig.meta_url(), "bad"),
        (("name",), "format", rig.meta_url(), "A"),
        (("compress",), "format", "--compress", "brotli", rig.meta_url(), "bad"),
        (("consul",), "mount", "--consul", "127.0.0.1:8500", url, point),
        (("writeback",), "mount", "--upload-delay", "5s", url, point),
        (("format", "not a"), "mount", rig.meta_url(), point),
        (("url", "scheme", "engine"), "mount", "mysql://x", point),
        (("mount",), "umount", point),
    ]
    if rig.engine == "redis":
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        cases.append((("refused", "reach", "connect"), "status", "redis://127.0.0.1:%d/1" % port))
    for words, *command in cases:
        _refused(rig, words, *command)
    cases.append((("cache",), "mount", "-d", "--cache-dir", "/proc/no/cache/here", url, point))
    _refused(rig, *cases[-1])
    check(not os.listdir(point), "a refused mount left something")
    mounted = rig.mount(url)
    _refused(rig, ("mounted", "busy", "empty"), "mount", "-d", url, mounted)
    os.kill(rig.pid(mounted), signal.SIGKILL)
    time.sleep(0.3)
    _refused(rig, ("umount", "stale", "not connected"), "mount", "-d", url, mounted)
    rig.call("umount", mounted)
    rig.mounts.remove(mounted)
    return "%d cases, one line each" % (len(cases) + 2)


def _read(path):
    with open(path, "rb") as source:
        return source.read()


def replaced(rig):
    """A name that is replaced again and again is never missing, near and far; at worst the look was too slow twice."""
    url = rig.volume()
    near, far = rig.mount(url), rig.mount(url, where="far")
    name, link, end = os.path.join(near, "current"), os.path.join(near, "link"), time.monotonic() + 4
    counts = {"replaced": 0, "read": 0, "missing": 0}

    def write():
        while time.monotonic() < end:
            with open(name + ".new", "wb") as out:
                out.write(b"%d" % counts["replaced"])
            os.rename(name + ".new", name)
            os.symlink("current", link + ".new")
            os.rename(link + ".new", link)
            counts["replaced"] += 1

    def read(point):
        while time.monotonic() < end:
            for what in ("current", "link"):
                path = os.path.join(point, what)
                found = errno_of(lambda p=path: open(p, "rb").close()) or errno_of(lambda p=path: os.stat(p))
                counts["read" if found == 0 else "missing"] += 1
                if found:
                    counts.setdefault(errno.errorcode[found], 0)
                    counts[errno.errorcode[found]] += 1

    with open(name, "wb"):
        os.symlink("current", link)
    readers = [threading.Thread(target=read, args=(point,)) for point in (near, far)]
    for reader in readers:
        reader.start()
    write()
    for reader in readers:
        reader.join()
    rig.umount(far)
    rig.umount(near)
    # Replaced during the kernel's second look, too: that is ESTALE, and rare.
    only_stale = counts["missing"] == counts.get("ESTALE", 0)
    check(counts["read"] > 500 and only_stale and counts["missing"] <= counts["read"] // 10, "names went missing: %s" % counts)
    return str(counts)


class Small:
    """A small file system of its own, writable or not."""

    def __init__(self, rig, name, size):
        self.folder = rig.path(name)
        os.mkdir(self.folder)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=" + size, name, self.folder], check=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        subprocess.run(["umount", "-l", self.folder], check=True)

    def path(self, name):
        return os.path.join(self.folder, name)

    def fill(self):
        """Not a block is left."""
        with open(self.path("filler"), "ab", buffering=0) as out:
            for size in (1 << 20, 4096):
                while not errno_of(lambda n=size: out.write(bytes(n))):
                    pass


def full_disk(rig):
    """A full object store is ENOSPC at close, and everything goes on when there is room again; so with a full engine."""
    with Small(rig, "small", "12m") as small:
        url = rig.meta_url()
        rig.call("format", "--trash-days", "0", "--bucket", small.folder, url, "small")
        point = rig.mount(url)

        def write(name, mebibytes):
            with open(os.path.join(point, name), "wb") as out:
                out.write(os.urandom(mebibytes << 20))

        write("fits", 6)
        found = errno_of(lambda: write("too large", 20))
        check(found == errno.ENOSPC, "20 MiB into a store of 12: %s" % found)
        os.unlink(os.path.join(point, "too large"))
        os.unlink(os.path.join(point, "fits"))
        deadline = time.monotonic() + 20
        while errno_of(lambda: write("again", 6)):
            check(time.monotonic() < deadline, "no room after the deletion")
            time.sleep(0.2)
        rig.umount(point)
    if rig.engine == "sqlite":
        _full_sqlite(rig)
    return "ENOSPC at close, and room again after a deletion"


def _full_sqlite(rig):
    """No room below the SQLite file: whatever grows is ENOSPC; all that is there can be read and removed."""
    with Small(rig, "tiny", "12m") as tiny:
        url = "sqlite3://" + tiny.path("meta.db")
        rig.call("format", "--trash-days", "0", "--bucket", rig.path("objects-tiny"), url, "tiny")
        point = rig.mount(url, where="mnt-tiny")
        base = os.path.join(point, "base")
        os.mkdir(base)

        def make(count):
            """The errno of the first that fails."""
            for number in range(count):
                if found := errno_of(lambda n=number: os.mkdir(os.path.join(base, "%d-%d" % (count, n)))):
                    return found
            return 0

        check(make(300) == 0, "no folders while there is room")
        tiny.fill()
        found = make(5000)
        check(found == errno.ENOSPC, "a full SQLite file is told as %s" % found)
        there = os.listdir(base)
        check(300 <= len(there) < 5300 and all(os.path.isdir(os.path.join(base, name)) for name in there), "%d names" % len(there))
        found = {errno_of(lambda n=name: os.rmdir(os.path.join(base, n))) for name in there}
        check(found == {0}, "%d deletions on a full disk are told as %s" % (len(there), found))
        check(make(1) == errno.ENOSPC, "a full disk takes a folder after deletions")
        os.unlink(tiny.path("filler"))
        os.mkdir(os.path.join(base, "again"))
        rig.remount(point, url)
        check(os.listdir(base) == ["again"], "after room was made: %s" % os.listdir(base))
        rig.umount(point)


def read_only_file(rig):
    """An SQLite file on a file system that is read-only is read; where SQLite needs to write, one line says so."""
    with Small(rig, "frozen", "8m") as frozen:
        url, point = "sqlite3://" + frozen.path("odd %3f name.db"), rig.path("mnt")
        rig.call("format", "--trash-days", "0", "--bucket", rig.path("objects"), url, "frozen")
        with open(os.path.join(rig.mount(url), "kept"), "wb") as out:
            out.write(b"kept")
        rig.umount(point)
        subprocess.run(["mount", "-o", "remount,ro", frozen.folder], check=True)
        check('"frozen"' in rig.call("status", url).stdout, "status of a file that is only read")
        rig.mount(url, "--read-only")
        check(_read(os.path.join(point, "kept")) == b"kept", "a file that is only read shows something else")
        found = errno_of(lambda: os.mkdir(os.path.join(point, "d")))
        check(found == errno.EROFS, "a change is told as %s" % found)
        rig.umount(point)
        _refused(rig, ("mount with --read-only",), "mount", "-d", url, point)
        _refused(rig, ("can only be read",), "format", "--trash-days", "3", url, "frozen")
        _half_frozen(rig, frozen, url, point)
    return "status and --read-only work on a frozen file, writing and a log that is left are refused in one line"


def _half_frozen(rig, frozen, url, point):
    """What a killed mount left beside the file belongs to it; what others may write is not frozen."""
    subprocess.run(["mount", "-o", "remount,rw", frozen.folder], check=True)
    os.mkdir(os.path.join(rig.mount(url), "late"))
    os.kill(rig.pid(point), signal.SIGKILL)
    rig.call("umount", point)
    rig.mounts.remove(point)
    view = rig.path("view")
    os.mkdir(view)
    subprocess.run(["mount", "--bind", frozen.folder, view], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", view], check=True)
    try:
        rig.mount(url, where="writer")
        seen = rig.mount(url.replace(frozen.folder, view), "--read-only")
        os.mkdir(os.path.join(rig.path("writer"), "new"))
        check("new" in os.listdir(seen), "a view that cannot be written shows no change of others")
        rig.umount(seen)
        os.kill(rig.pid(rig.path("writer")), signal.SIGKILL)
        rig.call("umount", rig.path("writer"))
        rig.mounts.remove(rig.path("writer"))
    finally:
        subprocess.run(["umount", view], check=True)
    os.unlink(frozen.path("odd %3f name.db-shm"))
    subprocess.run(["mount", "-o", "remount,ro", frozen.folder], check=True)
    _refused(rig, ("-wal",), "status", url)
    _refused(rig, ("-wal",), "mount", "-d", "--read-only", url, point)


def faults(rig):
    """kill -9 after close loses nothing; a damaged block is EIO and the mount lives on."""
    url = rig.volume()
    point = rig.mount(url)
    for number in range(20):
        with open(os.path.join(point, "f%d" % number), "wb") as out:
            out.write(b"%d" % number * 5000)
    os.kill(rig.pid(point), signal.SIGKILL)
    time.sleep(0.3)
    rig.call("umount", point)
    rig.mounts.remove(point)
    point = rig.mount(url)
    for number in range(20):
        check(_read(os.path.join(point, "f%d" % number)) == b"%d" % number * 5000, "f%d is not what was closed" % number)
    rig.umount(point)
    blocks = sorted(glob.glob(rig.path("objects*/suite/chunks/*/*/*_0_*")), key=lambda path: int(os.path.basename(path).split("_")[0]))
    check(len(blocks) >= 20, "%d objects for 20 files" % len(blocks))
    os.unlink(blocks[0])
    os.truncate(blocks[1], 10)
    rig.drop_cache()
    point = rig.mount(url)
    found = [errno_of(lambda n=n: _read(os.path.join(point, "f%d" % n))) for n in range(20)]
    check(sorted(found) == [0] * 18 + [errno.EIO] * 2, "errno of 20 reads with two damaged blocks: %s" % found)
    if rig.engine == "redis":
        _redis_away(rig, point)
    rig.umount(point)
    return "20 files survive a kill; damage is EIO and the mount lives on"


def _redis_away(rig, point):
    """Redis stopped under a create, once for half a minute: it waits, then goes on."""
    seconds = 30 if rig.transport == "uring" else 3
    os.kill(rig.redis.process.pid, signal.SIGSTOP)
    done = []
    waiter = threading.Thread(target=lambda: done.append(errno_of(lambda: open(os.path.join(point, "late"), "xb").close())))
    waiter.start()
    time.sleep(seconds)
    check(not done, "create did not wait for a stopped Redis: %s" % done)
    os.kill(rig.redis.process.pid, signal.SIGCONT)
    waiter.join(30)
    check(done == [0], "create after Redis came back: %s" % done)


def _ended(rig, point, began, seconds):
    while rig.serving(point):
        check(time.monotonic() < began + seconds, "the process does not end without Redis")
        time.sleep(0.1)
    rig.mounts.remove(point)
    return time.monotonic() - began


def redis_gone(rig):
    """Redis away for good: a signal and umount end the mount all the same; what was closed is kept."""
    url = rig.volume()
    point = rig.mount(url)
    with open(os.path.join(point, "kept"), "wb") as out:
        out.write(b"kept" * 1000)
    os.kill(rig.redis.process.pid, signal.SIGSTOP)
    waiter = threading.Thread(target=lambda: errno_of(lambda: open(os.path.join(point, "late"), "xb").close()))
    waiter.start()
    time.sleep(1)
    began = time.monotonic()
    os.kill(rig.pid(point), signal.SIGTERM)
    by_signal = _ended(rig, point, began, 45)
    waiter.join(10)
    check(not waiter.is_alive(), "a caller hangs after the end of the mount")
    os.kill(rig.redis.process.pid, signal.SIGCONT)
    point = rig.mount(url)
    check(_read(os.path.join(point, "kept")) == b"kept" * 1000, "what was closed is lost")
    os.kill(rig.redis.process.pid, signal.SIGSTOP)
    began = time.monotonic()
    rig.call("umount", point, timeout=90)
    by_umount = _ended(rig, point, began, 45)
    os.kill(rig.redis.process.pid, signal.SIGCONT)
    return "ended %.0f s after SIGTERM with a caller waiting, %.0f s after umount; what was closed is kept" % (by_signal, by_umount)
