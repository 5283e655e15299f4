"""Round trips to Redis per operation, counted by Redis itself (MONITOR, commands of scripts left out)."""
import os
import re
import socket
import threading
import time

from . import loader
from .loader import encode
from .rig import check

FILES, UNLINKS = 200, 40
HOUSEKEEPING = {"PING", "ECHO", "ZADD", "INFO", "AUTH", "HELLO", "SELECT", "CLIENT", "SCRIPT"}


class Monitor:
    """Commands that clients send while this is open."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.socket.sendall(encode("MONITOR"))
        self.lines = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        time.sleep(0.1)

    def _read(self):
        for line in self.socket.makefile("r", errors="replace"):
            self.lines.append(line)

    def mark(self, redis):
        """How many lines came before now, in Redis's own order."""
        word = "mark-%d" % time.monotonic_ns()
        redis.call("ECHO", word)
        until, at = time.monotonic() + 10, 0
        while True:
            for at in range(at, len(self.lines)):
                if word in self.lines[at]:
                    return at
            check(time.monotonic() < until, "Redis does not tell what it is asked")
            time.sleep(0.001)

    def names(self, begin=0, end=None):
        names = [match.group(1).upper() for line in self.lines[begin:end]
                 if " lua]" not in line and (match := re.search(r'\] "([^"]+)"', line))]
        return [name for name in names if name not in HOUSEKEEPING]

    def end(self):
        time.sleep(0.2)
        self.socket.shutdown(socket.SHUT_RDWR)
        self.reader.join()
        return self.names()


def _counted(rig, action):
    monitor = Monitor(rig.redis.socket)
    action()
    return monitor.end()


def _unlinked(rig, url, names):
    """What each unlink asks before it returns. Data goes 50 ms later, in the background: each waits until that is over."""
    redis, monitor, asked = loader.Connection(url), Monitor(rig.redis.socket), []
    for name in names:
        begin = monitor.mark(redis)
        os.unlink(name)
        asked.append(monitor.names(begin, monitor.mark(redis)))
        quiet = None
        while quiet != (quiet := len(monitor.names())):
            time.sleep(0.1)
    monitor.end()
    return asked


def trips(rig):
    """create + write + close <= 3 trips, unlink <= 2, stat of a cached name 0; never WATCH or MULTI."""
    url = rig.volume()
    point = rig.mount(url, "--attr-cache", "60", "--entry-cache", "60", "--heartbeat", "600")
    names = [os.path.join(point, "f%d" % number) for number in range(FILES)]

    def create():
        for name in names:
            with open(name, "wb") as out:
                out.write(b"x" * 1024)

    with open(os.path.join(point, "warm"), "wb") as out:
        out.write(b"warm")
    created = _counted(rig, create)
    for name in names:
        os.stat(name)
    cached = _counted(rig, lambda: [os.stat(name) for name in names])
    asked = _unlinked(rig, url, names[:UNLINKS])
    removed = _counted(rig, lambda: [os.unlink(name) for name in names[UNLINKS:]])
    rig.umount(point)
    per_create = len(created) / FILES
    # One in ten may be disturbed by what else the machine does.
    per_unlink = sorted(map(len, asked))[UNLINKS * 9 // 10]
    check(not {"WATCH", "MULTI", "EXEC"} & set(created + cached + removed + sum(asked, [])), "WATCH or MULTI was used")
    check(per_create <= 3.05, "%.2f round trips a created file" % per_create)
    check(1 <= per_unlink <= 2, "%d round trips an unlink: %s" % (per_unlink, asked))
    check(removed, "unlinks asked Redis nothing")
    check(not cached, "a cached stat asked Redis: %s" % cached[:3])
    return "%.2f round trips a created file, %d an unlink, 0 a cached stat" % (per_create, per_unlink)
