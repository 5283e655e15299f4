"""Round trips to Redis per operation, counted by Redis itself (MONITOR, commands of scripts left out)."""
import os
import re
import socket
import threading
import time

from .loader import encode
from .rig import check

FILES = 200
HOUSEKEEPING = {"PING", "ZADD", "INFO", "AUTH", "HELLO", "SELECT", "CLIENT", "SCRIPT"}


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

    def end(self):
        time.sleep(0.2)
        self.socket.shutdown(socket.SHUT_RDWR)
        self.reader.join()
        names = [match.group(1).upper() for line in self.lines
                 if " lua]" not in line and (match := re.search(r'\] "([^"]+)"', line))]
        return [name for name in names if name not in HOUSEKEEPING]


def _counted(rig, action):
    monitor = Monitor(rig.redis.socket)
    action()
    return monitor.end()


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
    removed = _counted(rig, lambda: [os.unlink(name) for name in names])
    rig.umount(point)
    per_create, per_unlink = len(created) / FILES, len(removed) / FILES
    check(not {"WATCH", "MULTI", "EXEC"} & set(created + cached + removed), "WATCH or MULTI was used")
    check(per_create <= 3.05, "%.2f round trips a created file" % per_create)
    check(per_unlink <= 2.05, "%.2f round trips an unlink" % per_unlink)
    check(not cached, "a cached stat asked Redis: %s" % cached[:3])
    return "%.2f round trips a created file, %.2f an unlink, 0 a cached stat" % (per_create, per_unlink)
