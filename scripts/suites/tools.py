"""The files of a mount as the official tools use them: stats, profile, info, summary, rmr and warmup, byte by byte."""
import errno
import fcntl
import json
import os
import re
import struct
import threading
import time

from .rig import check, errno_of, run

LINE = re.compile(r"^(\d{4}\.\d\d\.\d\d \d\d:\d\d:\d\d\.\d{6}) \[uid:(\d+),gid:(\d+),pid:(\d+)\] (\w+) (\(.*) - (.*) <(\d+\.\d{6})>$")
FILES, SIZE = 60, 70000


def _stats(point):
    """As readStats of cmd/stats.go: lines of two fields, values of one name added up."""
    found = {}
    with open(os.path.join(point, ".stats"), encoding="ascii") as lines:
        for line in lines:
            fields = line.split()
            check(len(fields) == 2 and fields[0].startswith(("juicefs_", "jfs_uring_")), "a line of .stats: %r" % line)
            found[fields[0]] = found.get(fields[0], 0) + float(fields[1])
    return found


def _work(folder):
    """Make, read and look at files; what was done, by the names of the log."""
    os.mkdir(folder)
    for number in range(FILES):
        name = os.path.join(folder, "f%d" % number)
        with open(name, "wb") as out:
            out.write(b"%d" % (number % 10) * SIZE)
        with open(name, "rb") as source:
            check(len(source.read()) == SIZE, "%s is short" % name)
    check(errno_of(lambda: os.stat(os.path.join(folder, "none"))) == errno.ENOENT, "a missing name is there")


def _follow(point, lines, stop):
    """As cmd/profile.go does: read on and on, whatever comes."""
    with open(os.path.join(point, ".accesslog"), "rb", buffering=0) as log:
        rest = b""
        while not stop.is_set():
            *whole, rest = (rest + log.read(128 << 10)).split(b"\n")
            lines += [line.decode() for line in whole]


def _log(point):
    """While it is read, the log has every operation, in the official form; nothing of the files of the mount."""
    lines, stop = [], threading.Event()
    reader = threading.Thread(target=_follow, args=(point, lines, stop))
    reader.start()
    time.sleep(0.5)
    before = _stats(point)
    _work(os.path.join(point, "logged"))
    after = _stats(point)
    time.sleep(1.2)
    stop.set()
    reader.join()
    told = [LINE.match(line) for line in lines if line != "#"]
    check(all(told), "lines that no tool reads: %s" % [line for line in lines if line != "#" and not LINE.match(line)][:3])
    check({match[4] for match in told} >= {str(os.getpid())}, "the caller is not told")
    counts = {}
    for match in told:
        counts[match[5]] = counts.get(match[5], 0) + 1
    for name in ("create", "write", "mkdir", "release"):
        counted = after["juicefs_fuse_ops_total_" + name] - before.get("juicefs_fuse_ops_total_" + name, 0)
        check(counts.get(name, 0) == counted > 0, "%s: %s in the log, %d counted" % (name, counts.get(name), counted))
    written = sum(int(match[6].split(",")[1]) for match in told if match[5] == "write")
    check(written == FILES * SIZE, "%d bytes written by the log" % written)
    check(any(match[5] == "lookup" and match[6].endswith("none):") and match[7] == "no such file or directory" for match in told), "no missing name in the log")
    check("juicefs_fuse_ops_io_errors_ENOENT" in after, "no error is counted")
    return len(told)


def _counted(point):
    """Between two looks the numbers move by what was done."""
    first = _stats(point)
    began = time.monotonic()
    _work(os.path.join(point, "counted"))
    took, second = time.monotonic() - began, _stats(point)

    def more(name):
        return second["juicefs_" + name] - first.get("juicefs_" + name, 0)

    check(more("fuse_written_size_bytes_sum") == FILES * SIZE, "%d bytes written" % more("fuse_written_size_bytes_sum"))
    check(more("object_request_durations_histogram_seconds_PUT_total") == FILES, "%d objects" % more("object_request_durations_histogram_seconds_PUT_total"))
    check(more("object_request_data_bytes_PUT") == FILES * SIZE, "%d bytes stored" % more("object_request_data_bytes_PUT"))
    check(more("used_inodes") == FILES + 1, "%d inodes" % more("used_inodes"))
    check(more("transaction_durations_histogram_seconds_total") >= 2 * FILES, "%d commits" % more("transaction_durations_histogram_seconds_total"))
    # One caller cannot wait longer than the whole work took; FLUSH and RELEASE may overlap it a little.
    check(0 < more("fuse_ops_durations_histogram_seconds_sum") < 1.5 * took, "operations took %.3f of %.3f s" % (more("fuse_ops_durations_histogram_seconds_sum"), took))
    check(0 < more("cpu_usage") and more("uptime") >= took * 0.9 and second["juicefs_memory"] > 1 << 20, "process figures")
    for name in ("meta_ops_durations_histogram_seconds_sum", "used_buffer_size_bytes", "store_cache_size_bytes", "transaction_restart",
                 "blockcache_hit_bytes", "blockcache_write_bytes", "object_request_data_bytes_GET",
                 "object_request_durations_histogram_seconds_GET_sum", "object_request_durations_histogram_seconds_DELETE_total"):
        check("juicefs_" + name in second, "%s is missing, which `juicefs stats` reads" % name)


def _answer(control):
    """As readProgress of cmd/warmup.go: the progress, then JSON or an errno."""
    progress, pause, deadline = [], 0.01, time.monotonic() + 30
    while True:
        got = os.read(control, 128 << 10)
        if not got:
            check(time.monotonic() < deadline, "a message is not answered")
            time.sleep(pause)
            pause = min(pause * 2, 0.3)
            continue
        at = 0
        while at < len(got):
            if at + 1 == len(got):
                return progress, got[at]
            if got[at] == 0xFE and at + 17 <= len(got):
                progress.append(struct.unpack(">QQ", got[at + 1:at + 17]))
                at += 17
                continue
            check(got[at] == 0xFF and at + 5 < len(got), "a bad answer: %r" % got[at:at + 40])
            (size,) = struct.unpack(">I", got[at + 1:at + 5])
            text = got[at + 5:]
            while len(text) < size:
                text += os.read(control, size)
            return progress, json.loads(text[:size])


def _send(folder, command, body):
    control = os.open(os.path.join(folder, ".control"), os.O_RDWR)
    try:
        message = struct.pack(">II", command, len(body)) + body
        check(os.write(control, message) == len(message), "a message is taken in part")
        return _answer(control)
    finally:
        os.close(control)


def _messages(point, url, objects):
    folder = os.path.join(point, "counted")
    ino, name = os.stat(folder).st_ino, b"counted"
    _, told = _send(folder, 1005, struct.pack(">QBBB", ino, 1, 0, 0))
    size = FILES * -(-SIZE // 4096) * 4096 + 4096
    check(told["Summary"] == {"Length": FILES * SIZE, "Size": size, "Files": FILES, "Dirs": 1}, "info tells %s" % told["Summary"])
    check(told["Paths"] == ["/counted"] and not told["Failed"], "info tells %s" % told["Paths"])
    _, told = _send(folder, 1005, struct.pack(">QBBB", os.stat(os.path.join(folder, "f7")).st_ino, 0, 0, 0))
    keys = [each["Key"] for each in told["Objects"]]
    check(len(keys) == 1 and os.path.getsize(os.path.join(objects, keys[0])) == SIZE, "objects of a file: %s" % keys)
    _, told = _send(point, 1007, struct.pack(">QBBB", 1, 2, 5, 1))
    check(told["Errno"] == 0 and told["Tree"]["Files"] == 2 * FILES, "summary tells %s" % str(told)[:300])

    def fill(action, *paths):
        text = "\n".join(paths).encode()
        progress, told = _send(folder, 1004, struct.pack(">I", len(text)) + text + struct.pack(">HBB", 50, 0, action))
        check(progress and progress[-1] == (FILES, FILES * SIZE), "warm-up is at %s" % progress[-1:])
        return told

    deadline = time.monotonic() + 10
    # Blocks that were written a moment ago are still on their way to the disk, and land there after an eviction.
    while (fill(1, "/counted"), fill(2, "/counted"))[1]["MissBytes"] != FILES * SIZE:
        check(time.monotonic() < deadline, "evicted blocks are cached")
        time.sleep(0.1)
    fill(0, "/counted")
    while (told := fill(2, "/counted"))["MissBytes"] or list(told["Locations"]) == ["memory"]:
        check(time.monotonic() < deadline, "what was warmed up is not on disk: %s" % told)
        time.sleep(0.1)
    progress, end = _send(point, 1002, struct.pack(">QB", 1, len(name)) + name + bytes([0, 50]))
    check(end == 0 and progress[-1][0] == FILES + 1, "rmr ends with %s at %s" % (end, progress[-1:]))
    check(b"counted" not in os.listdir(os.fsencode(point)), "rmr leaves the folder")
    for command in (1006, 1008):
        check(_send(point, command, b"\0" * 40)[1] == errno.EOPNOTSUPP, "message %d is not refused" % command)
    check(_send(point, 9, b"")[1] == errno.EINVAL, "an unknown message is not refused")
    _strangers(point, url)


def _strangers(point, _url):
    """Who may not remove with rm(1) may not with a message."""
    folder = os.path.join(point, "private")
    os.mkdir(folder, 0o755)
    with open(os.path.join(folder, "kept"), "wb") as out:
        out.write(b"kept")
    program = ("import os, struct, time\n"
               "c = os.open(%r, os.O_RDWR)\n"
               "b = struct.pack('>QB', %d, 4) + b'kept' + bytes([0, 50])\n"
               "os.write(c, struct.pack('>II', 1002, len(b)) + b)\n"
               "got = b''\n"
               "while not got:\n"
               "    time.sleep(0.01)\n"
               "    got = os.read(c, 100)\n"
               "print(got[-1])\n") % (os.path.join(folder, ".control"), os.stat(folder).st_ino)
    told = run("setpriv", "--reuid=tests", "--regid=tests", "--init-groups", "python3", "-c", program).stdout.strip()
    check(told == str(errno.EACCES), "a stranger's removal ends with %s" % told)
    check(os.path.exists(os.path.join(folder, "kept")), "a stranger removed a file")
    denied = run("setpriv", "--reuid=tests", "--regid=tests", "--init-groups", "cat", os.path.join(point, ".config"), ok=False)
    check("Permission denied" in denied.stdout, "a stranger reads .config")


def _forgotten(rig, url):
    """What rmr removed is gone at once, although the kernel may keep it for a minute: names, folders and what was open."""
    minute = ("--attr-cache", "60s", "--entry-cache", "60s", "--dir-entry-cache", "60s")
    point = rig.mount(url, *minute, where="long")
    top = os.path.join(point, "top")
    os.makedirs(os.path.join(top, "below"))
    paths = [os.path.join(top, "f%d" % number) for number in range(300)] + [os.path.join(top, "below", "g")]
    for path in paths:
        with open(path, "wb") as out:
            out.write(b"x")
    held = os.open(paths[0], os.O_RDONLY)
    links = os.stat(point).st_nlink
    for path in [*paths, top, os.path.join(top, "below")]:
        os.stat(path)
    _, end = _send(point, 1002, struct.pack(">QB", 1, 3) + b"top" + bytes([0, 50]))
    check(end == 0, "rmr ends with %s" % end)
    for path in [*paths, top, os.path.join(top, "below")]:
        check(errno_of(lambda path=path: os.stat(path)) == errno.ENOENT, "%s is still seen" % path)
    check(os.stat(point).st_nlink == links - 1, "the root still counts what was removed")
    check(os.fstat(held).st_nlink == 0 and os.read(held, 9) == b"x", "an open file is not what it is after rm")
    os.close(held)
    os.close(os.open(os.path.join(point, "top"), os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    rig.umount(point)


def _info(rig, point, url):
    """`info` through the mount and from the metadata alone: the same, with whoever holds locks."""
    folder = os.path.join(point, "asked")
    os.mkdir(folder)
    path = os.path.join(folder, "f")
    with open(path, "wb") as out:
        out.write(b"i" * SIZE)
    ino = os.stat(path).st_ino
    with open(path, "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        fcntl.lockf(file, fcntl.LOCK_SH, 10, 5)
        (told,) = json.loads(rig.call("info", "--json", path).stdout)
        (alone,) = json.loads(rig.call("info", "--json", "--meta", url, "/asked/f").stdout)
        (number,) = json.loads(rig.call("info", "--json", "-i", ino, cwd=folder).stdout)
        check(told == alone == number, "info of a path, of metadata, of an inode:\n%s\n%s\n%s" % (told, alone, number))
        check((told["Ino"], told["Paths"], told["Summary"]["Length"]) == (ino, ["/asked/f"], SIZE), "info tells %s" % told)
        (flock,), (plock,) = told["FLocks"], told["PLocks"]
        check(flock["Type"] == "W" and flock["Sid"] == plock["Sid"] > 0, "BSD locks: %s" % told["FLocks"])
        check((plock["Type"], plock["Start"], plock["End"], plock["Pid"]) == (0, 5, 14, os.getpid()), "POSIX locks: %s" % told["PLocks"])
        lines = rig.call("info", path).stdout
        check(lines.startswith(path + " :\n  inode: %d\n  files: 1\n" % ino), "info shows " + lines)
        check(all(title in lines for title in (" objects:\n", " flocks:\n", " plocks:\n", "   path: /asked/f\n")), "info shows " + lines)
    (told,) = json.loads(rig.call("info", "--json", "--raw", path).stdout)
    check(not told["FLocks"] and not told["PLocks"] and not told["Objects"], "locks are left: %s" % told)
    check([each["Size"] for each in told["Chunks"]] == [SIZE], "slices: %s" % told["Chunks"])
    (flat,), (deep,) = (json.loads(rig.call("info", "--json", *options, point).stdout) for options in ((), ("-r",)))
    check(flat["Summary"]["Files"] < deep["Summary"]["Files"] and deep["Summary"]["Dirs"] >= 2, "info of the root: %s, %s" % (flat, deep))
    for words in ((rig.folder,), (os.path.join(point, "none"),), ("--meta", url, "/none"), ("-i", "--meta", url, "999999")):
        done = rig.call("info", *words, ok=False)
        check(done.returncode == 1 and done.stdout.count("\n") == 1, "info %s: %d %s" % (words, done.returncode, done.stdout))


def tools(rig):
    """Metrics, access log, settings and messages, as the official tools read and write them."""
    url = rig.volume()
    point = rig.mount(url)
    lines = _log(point)
    _counted(point)
    with open(os.path.join(point, ".config"), encoding="utf-8") as text:
        config = json.load(text)
    check(config["Format"]["Name"] == "suite" and config["Mountpoint"] == point, "config: %s" % str(config)[:300])
    check(os.stat(os.path.join(point, ".stats")).st_ino == 0x7FFFFFFF00000003, "the number of .stats")
    check({".stats", ".accesslog", ".config"} <= set(os.listdir(point)) and ".control" not in os.listdir(point), "the listing of the root")
    check(errno_of(lambda: os.unlink(os.path.join(point, ".stats"))) == errno.EPERM, ".stats can be removed")
    os.chmod(os.path.join(point, ".control"), 0o600)
    check(os.stat(os.path.join(point, ".control")).st_mode & 0o777 == 0o666, "the mode of .control moves")
    _messages(point, url, rig.path("objects1"))
    _forgotten(rig, url)
    _info(rig, point, url)
    point = rig.remount(point, url, "--hide-internal")
    check(not {".stats", ".trash"} & set(os.listdir(point)), "--hide-internal lists them")
    check(_stats(point)["juicefs_used_inodes"] >= FILES, "a hidden .stats is not there")
    return "%d lines of log read; info, summary, warmup and rmr answered" % lines
