"""Servers, volumes and mounts for a suite, each below one scratch folder, all ended with it."""
import contextlib
import glob
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FIXTURES = os.path.join(ROOT, "tests", "fixtures")
URING = "/sys/module/fuse/parameters/enable_uring"
MEMORY, ROOM_BYTES = "/dev/shm", 4 << 30


class Failed(Exception):
    """A check that did not hold; the text says which."""


def switched():
    """Whether the kernel offers FUSE over io_uring: Y, N, or nothing where it has no such switch."""
    if not os.path.exists(URING):
        return ""
    with open(URING, encoding="ascii") as text:
        return text.read().strip()


def switch_to(word):
    if word and os.access(URING, os.W_OK):
        with open(URING, "w", encoding="ascii") as out:
            out.write(word)


def check(holds, text):
    if not holds:
        raise Failed(text)


def errno_of(action):
    """What it ends with: 0, or an errno."""
    try:
        action()
    except OSError as err:
        return err.errno
    return 0


def binary():
    target = os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target"))
    path = os.environ.get("JFS_URING", os.path.join(target, "release", "jfs-uring"))
    check(os.access(path, os.X_OK), "no %s: run `cargo build --release` first" % path)
    return path


def run(*words, ok=True, timeout=600, **kwargs):
    """Run a program, its output kept; raise with that output unless it ends with 0."""
    done = subprocess.run([str(word) for word in words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=timeout, text=True, errors="replace", **kwargs)
    if ok:
        check(done.returncode == 0, "%s ended with %d:\n%s" % (" ".join(map(str, words))[:200], done.returncode, done.stdout[-3000:]))
    return done


def free_ports(count, host="127.0.0.1"):
    """Ports that nobody has."""
    with contextlib.ExitStack() as held:
        found = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in found:
            one.bind((host, 0))
        return [one.getsockname()[1] for one in found]


def venv(name, package):
    """A Python environment with a package, installed once; its folder."""
    folder = os.path.expanduser("~/.cache/jfs-uring-tests/" + name)
    ready = os.path.join(folder, "ready")
    if not os.path.exists(ready):
        shutil.rmtree(folder, ignore_errors=True)
        run(sys.executable, "-m", "venv", folder)
        run(os.path.join(folder, "bin/pip"), "install", "-q", package)
        with open(ready, "wb"):
            pass
    return folder


class Redis:
    """A real redis-server on a unix socket, nothing kept on disk."""

    def __init__(self, folder, *options):
        self.socket = os.path.join(folder, "redis.sock")
        self.log = open(os.path.join(folder, "redis.log"), "wb")
        self.process = subprocess.Popen(
            ["redis-server", "--port", "0", "--unixsocket", self.socket, "--save", "", "--appendonly", "no", "--dir", folder,
             "--databases", "32", *options],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        deadline = time.monotonic() + 10
        while not os.path.exists(self.socket):
            check(time.monotonic() < deadline and self.process.poll() is None, "redis-server did not start")
            time.sleep(0.02)
        self.databases = 0

    def url(self):
        """A fresh database."""
        self.databases += 1
        check(self.databases < 32, "a suite uses at most 31 databases")
        return "unix://%s?db=%d" % (self.socket, self.databases)

    def end(self):
        self.process.kill()
        self.process.wait()
        self.log.close()


def in_memory():
    """A folder in memory with room for a suite; None (that is TMPDIR) where there is none."""
    if not os.access(MEMORY, os.W_OK):
        return None
    told = os.statvfs(MEMORY)
    return MEMORY if told.f_bavail * told.f_frsize >= ROOM_BYTES else None


class Rig:
    """One suite on one engine and one transport: all in memory, or objects on the disk and their cache in memory.

    A cache folder on the device of the objects is not used, so that only the latter has a cache on "disk"."""

    def __init__(self, engine, transport, on_disk=False):
        self.engine, self.transport = engine, transport
        self.binary = binary()
        self.folder = tempfile.mkdtemp(prefix="jfs-suite-", dir=None if on_disk else in_memory())
        self.cache = tempfile.mkdtemp(prefix="jfs-suite-cache-", dir=in_memory())
        os.chmod(self.folder, 0o755)  # other users work in the mounts, too
        self.mounts = []
        self.redis = Redis(self.folder) if engine == "redis" else None
        self.count = 0
        switch_to("Y" if transport == "uring" else "N")

    def path(self, name):
        return os.path.join(self.folder, name)

    def call(self, *words, **kwargs):
        return run(self.binary, *words, **kwargs)

    def meta_url(self):
        self.count += 1
        return self.redis.url() if self.redis else "sqlite3://" + self.path("meta%d.db" % self.count)

    def volume(self, *options):
        """A fresh volume; its META-URL."""
        url = self.meta_url()
        bucket = self.path("objects%d" % self.count)
        self.call("format", "--trash-days", "0", "--storage", "file", "--bucket", bucket, *options, url, "suite")
        return url

    def mount(self, url, *options, where="mnt"):
        point = self.path(where)
        os.makedirs(point, exist_ok=True)
        log = self.path(where + ".log")
        self.call("mount", "-d", "--transport", "uring" if self.transport == "uring" else "dev", "--log", log,
                  "--cache-dir", self.cache, "--cache-size", "1G", "--enable-xattr", "--skip-dir-mtime", "0", *options, url, point,
                  timeout=60)
        check(os.path.ismount(point), "mount returned and %s is no mount point" % point)
        self.mounts.append(point)
        return point

    def umount(self, point):
        self.call("umount", point, timeout=60)
        self.mounts.remove(point)
        check(os.path.ismount(point) == (point in self.mounts), "%s is still mounted, or nothing is" % point)

    def remount(self, point, url, *options, cold=True):
        self.umount(point)
        if cold:
            self.drop_cache()
        return self.mount(url, *options, where=os.path.basename(point))

    def drop_cache(self):
        shutil.rmtree(self.cache, ignore_errors=True)

    def pid(self, point):
        """The process that serves a mount, found by its command line."""
        for name in glob.glob("/proc/[0-9]*/cmdline"):
            try:
                with open(name, "rb") as text:
                    words = text.read().split(b"\0")
            except OSError:
                continue
            if os.fsencode(point) in words and b"mount" in words:
                return int(name.split("/")[2])
        raise Failed("no process serves " + point)

    def serving(self, point):
        try:
            return bool(self.pid(point))
        except Failed:
            return False

    def rss_mib(self, point):
        with open("/proc/%d/status" % self.pid(point), encoding="ascii") as text:
            return int(next(line for line in text if line.startswith("VmRSS")).split()[1]) // 1024

    def end(self):
        for point in list(self.mounts):
            subprocess.run(["umount", "-l", point], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL, check=False)
            try:
                os.kill(self.pid(point), signal.SIGKILL)
            except (Failed, ProcessLookupError):
                pass
        if self.redis:
            self.redis.end()
        self.drop_cache()
        if os.environ.get("KEEP_SUITE"):
            print("kept: " + self.folder)
        else:
            shutil.rmtree(self.folder, ignore_errors=True)


def setting_of(fixture):
    with open(os.path.join(FIXTURES, fixture, "volume.json"), encoding="utf-8") as text:
        return json.load(text)
