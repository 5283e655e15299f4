"""--watch: what another client changes is seen soon, although names and attributes may be kept for a minute."""
import contextlib
import os
import statistics
import subprocess
import time

from .rig import check

MINUTE = ("--attr-cache", "60s", "--entry-cache", "60s", "--dir-entry-cache", "60s", "--negative-entry-cache", "60s", "--open-cache", "60s", "--readdir-cache")
SOON, SECOND, ROUNDS = 0.5, 1.3, 200


def _redis(rig, *words):
    return subprocess.run(["redis-cli", "-s", rig.redis.socket, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True).stdout


def _takes(is_seen, limit):
    """Seconds until it is seen; None where it is not in time."""
    began = time.monotonic()
    while time.monotonic() - began < limit:
        if is_seen():
            return time.monotonic() - began
        time.sleep(0.0002)
    return None


def _write(path, text):
    with open(path, "wb") as out:
        out.write(text)


def _read(path):
    with open(path, "rb") as source:
        return source.read()


def _same(names):
    """Changes of each kind: what is done through `far`, and how `near` sees it."""
    near, far = names

    def there(name):
        return os.path.exists(os.path.join(near, name))

    def stat(name):
        return os.stat(os.path.join(near, name))

    held = os.open(os.path.join(near, "written"), os.O_RDONLY)
    size = os.fstat(held).st_size

    def longer():
        with open(os.path.join(far, "written"), "ab") as out:
            out.write(b"more")

    return held, [
        ("a new file", lambda: _write(os.path.join(far, "new"), b"x"), lambda: there("new")),
        ("a removed file", lambda: os.unlink(os.path.join(far, "gone")), lambda: not there("gone")),
        ("a renamed file", lambda: os.rename(os.path.join(far, "old name"), os.path.join(far, "new name")), lambda: there("new name") and not there("old name")),
        ("a file moved over another", lambda: os.rename(os.path.join(far, "over"), os.path.join(far, "under")), lambda: _read(os.path.join(near, "under")) == b"over"),
        ("a removed folder", lambda: os.rmdir(os.path.join(far, "folder")), lambda: not there("folder")),
        ("a folder of a folder", lambda: os.mkdir(os.path.join(far, "deep", "er")), lambda: there("deep/er") and stat("deep").st_nlink == 3),
        ("a file in a listing", lambda: _write(os.path.join(far, "listed", "late"), b"x"), lambda: "late" in os.listdir(os.path.join(near, "listed"))),
        ("other bits", lambda: os.chmod(os.path.join(far, "bits"), 0o600), lambda: stat("bits").st_mode & 0o777 == 0o600),
        ("one more link", lambda: os.link(os.path.join(far, "bits"), os.path.join(far, "bits too")), lambda: stat("bits").st_nlink == 2),
        ("other content", lambda: _write(os.path.join(far, "content"), b"after!"), lambda: _read(os.path.join(near, "content")) == b"after!"),
        ("an open file that grew", longer, lambda: os.fstat(held).st_size == size + 4 and os.pread(held, 9, size) == b"more"),
    ]


def _make(point):
    for name in ("gone", "old name", "over", "under", "bits", "content", "written", "turns"):
        _write(os.path.join(point, name), name.encode())
    for name in ("folder", "deep", "listed", "emptied"):
        os.mkdir(os.path.join(point, name))
    _write(os.path.join(point, "emptied", "only"), b"x")


def _look(point):
    """Have the kernel keep everything, and what is not there yet."""
    for name in [*os.listdir(point), "new", "new name", "bits too", "deep/er", "lost", "back"]:
        with contextlib.suppress(FileNotFoundError):
            os.stat(os.path.join(point, name))
    for name in ("listed", "emptied"):
        os.listdir(os.path.join(point, name))
    for name in ("under", "content", "turns"):
        _read(os.path.join(point, name))


def _judge(points, limit, wanted):
    _look(points[0])
    held, changes = _same(points)
    for what, change, is_seen in changes:
        check(not is_seen(), "%s is there before it is made" % what)
        change()
        check((_takes(is_seen, limit) is not None) == wanted, "%s is %s within %.1f s" % (what, "not seen" if wanted else "seen", limit))
    os.close(held)


def _figure(points):
    """Seconds until a changed mode is seen, again and again."""
    near, far = (os.path.join(point, "turns") for point in points)
    times = []
    for number in range(ROUNDS):
        mode = 0o600 + (number % 2) * 0o44
        os.stat(near)
        os.chmod(far, mode)
        times.append(_takes(lambda mode=mode: os.stat(near).st_mode & 0o777 == mode, 2))
        check(times[-1] is not None, "a change is not seen")
    return times


def _kept(point):
    """Names that nobody changes are not asked for again: no lookup comes through."""
    def lookups():
        with open(os.path.join(point, ".stats"), encoding="ascii") as lines:
            return sum(int(line.split()[1]) for line in lines if line.startswith("juicefs_fuse_ops_total_lookup "))
    _look(point)
    before = lookups()
    for _ in range(100):
        os.stat(os.path.join(point, "content"))
        time.sleep(0.02)
    return lookups() - before


def _tracking(rig):
    """Connections that listen."""
    return [line.split()[0][3:] for line in _redis(rig, "CLIENT", "LIST").splitlines() if "flags=tB" in line]


def _cut(rig, points):
    """While Redis cannot tell, nothing is kept for longer than a second; what was missed is not believed."""
    far = points[1]
    _look(points[0])
    _redis(rig, "ACL", "SETUSER", "default", "-client|tracking")
    (listener,) = _tracking(rig)
    _redis(rig, "CLIENT", "KILL", "ID", listener)
    _write(os.path.join(far, "lost"), b"x")
    os.unlink(os.path.join(far, "emptied", "only"))
    os.chmod(os.path.join(far, "turns"), 0o640)
    check(_takes(lambda: os.path.exists(os.path.join(points[0], "lost")), SECOND), "a name made while nothing is heard is not seen")
    check(_takes(lambda: os.stat(os.path.join(points[0], "turns")).st_mode & 0o777 == 0o640, SECOND), "bits set meanwhile are not seen")
    check(_takes(lambda: not os.listdir(os.path.join(points[0], "emptied")), SECOND), "a listing is kept although nothing is heard")
    for number in range(2):
        os.unlink(os.path.join(far, "lost")) if number else os.chmod(os.path.join(far, "turns"), 0o604)
    check(_takes(lambda: not os.path.exists(os.path.join(points[0], "lost")), SECOND), "a name is kept for longer than a second")
    check(_takes(lambda: os.stat(os.path.join(points[0], "turns")).st_mode & 0o777 == 0o604, SECOND), "bits are kept for longer than a second")
    _redis(rig, "ACL", "SETUSER", "default", "+client|tracking")
    check(_takes(lambda: _tracking(rig), 5), "it does not listen again")
    time.sleep(0.1)
    os.path.exists(os.path.join(points[0], "back"))
    _write(os.path.join(far, "back"), b"x")
    check(_takes(lambda: os.path.exists(os.path.join(points[0], "back")), SOON), "it listens, and hears nothing")


def watch(rig):
    """Changes of each kind with --watch and without, their delay, and a connection that is lost."""
    url = rig.volume()
    far = rig.mount(url, where="far")
    _make(far)
    points = [rig.mount(url, *MINUTE), far]
    _judge(points, 1.5, False)
    rig.umount(points[0])
    rig.umount(far)
    url = rig.volume()
    far = rig.mount(url, where="far")
    _make(far)
    points = [rig.mount(url, "--watch", *MINUTE), far]
    check(_takes(lambda: _tracking(rig), 5), "it does not listen")
    time.sleep(0.1)
    _judge(points, SOON, True)
    times = _figure(points)
    asked = _kept(points[0])
    check(asked == 0, "%d lookups of a name that nobody changes" % asked)
    _cut(rig, points)
    for point in points:
        rig.umount(point)
    refused = rig.call("mount", "--watch", "sqlite3:///nowhere.db", rig.path("none"), ok=False)
    check(refused.returncode == 2 and "--watch needs Redis" in refused.stdout, "--watch without Redis: %s" % refused.stdout)
    times.sort()
    return "a change is seen after %.0f us (median of %d; the slowest 1%%: %.1f ms)" % (
        1e6 * statistics.median(times), ROUNDS, 1e3 * times[-ROUNDS // 100])
