"""Suites that others wrote, judged by their counts and never by their exit status alone."""
import os
import re
import shutil
import sys

from .rig import ROOT, check, run

PJDFSTEST = """[features]
posix_fallocate = {}
rename_ctime = {}
utime_now = {}
utimensat = {}
[settings]
naptime = 0.02
allow_remount = false
[dummy_auth]
entries = [["nobody", "nogroup"], ["tests", "tests"]]
"""
LARGE = """flen = 73400320
opsize = { max = 5242880 }
weights = { read = 10, write = 10, mapread = 10, mapwrite = 10, truncate = 2, close_open = 1, invalidate = 1, fsync = 1, fdatasync = 1, copy_file_range = 1, punch_hole = 1, posix_fallocate = 1, sendfile = 1, posix_fadvise = 1 }
"""
VERIFY = """[global]
directory=${D}
verify=crc32c
verify_fatal=1
end_fsync=1
ioengine=psync
[seq]
rw=write
bs=1M
size=128M
numjobs=2
[odd]
rw=randwrite
bsrange=512-64k
bs_unaligned=1
size=32M
numjobs=2
[map]
ioengine=mmap
rw=randwrite
bs=4k
size=16M
[small]
rw=write
bs=4k
nrfiles=500
filesize=4k
openfiles=64
"""
FULL = bool(os.environ.get("SUITE_FULL"))
# 26 of pyxattr's tests look for leaks in pyxattr itself by 16,384 rounds each, 5 million requests in all.
ROUNDS = """import os


def pytest_collection_modifyitems(items):
    for item in items:
        item.module.MANYOPS_COUNT = int(os.environ["ROUNDS"])
"""


def _scratch(rig, *options):
    url = rig.volume()
    point = rig.mount(url, *options)
    folder = os.path.join(point, "d")
    os.mkdir(folder)
    os.chmod(folder, 0o777)
    return url, point, folder


def _write(path, text):
    with open(path, "w", encoding="utf-8") as out:
        out.write(text)
    return path


def pjdfstest(rig):
    """POSIX results, errno, times, ownership, links."""
    _url, point, folder = _scratch(rig)
    config = _write(rig.path("pjdfstest.toml"), PJDFSTEST)
    done = run("pjdfstest", "-c", config, "-p", folder, ok=False, timeout=300)
    counts = re.findall(r"\d+ failed, .* total", done.stdout)
    failed = [line for line in done.stdout.splitlines() if "FAILED" in line]
    check(counts == ["0 failed, 16 skipped, 382 passed, 0 expected failures, 398 total"], "%s\n%s" % (counts, "\n".join(failed[:40])))
    check(os.path.ismount(point), "the mount is gone")
    return counts[0]


def fsx(rig):
    """Overlapping writes, maps, truncations, holes, copies; equal again after a cold remount."""
    url, point, folder = _scratch(rig)
    seeds, count, large_count = ((1, 2, 3, 4, 5), 20000, 20000) if FULL else ((1, 2), 5000, 300)
    for seed in seeds:
        run("fsx", "-N", count, "-S", seed, "-P", rig.folder, os.path.join(folder, "f%d" % seed), timeout=1800)
    config = _write(rig.path("large.toml"), LARGE)
    for seed in seeds if FULL else (7,):
        large = os.path.join(folder, "large")
        run("fsx", "-N", large_count, "-S", seed, "-f", config, "-P", rig.folder, large, timeout=3000)
        before = run("sha256sum", *sorted(os.listdir(folder)), cwd=folder).stdout
        point = rig.remount(point, url)
        check(run("sha256sum", *sorted(os.listdir(folder)), cwd=folder).stdout == before, "content differs after a cold remount")
        # Overwritten slices stay until the file goes: 20,000 operations leave some 20 GiB.
        os.unlink(large)
    rig.umount(point)
    return "%d seeds x %d operations, large x %d, equal after a cold remount" % (len(seeds), count, large_count)


def fio(rig):
    """Checksummed bulk data, verified again after a cold remount."""
    url, point, folder = _scratch(rig)
    job, place = _write(rig.path("verify.fio"), VERIFY), rig.path("fio")
    os.mkdir(place)
    first = run("fio", job, cwd=place, env={**os.environ, "D": folder}, timeout=600).stdout
    check(len(re.findall(r"err= 0", first)) == 6, first[-2000:])
    point = rig.remount(point, url)
    again = run("fio", "--verify_only=1", job, cwd=place, env={**os.environ, "D": folder}, timeout=600).stdout
    check(len(re.findall(r"err= 0", again)) == 6, again[-2000:])
    rig.umount(point)
    return "6 jobs err= 0, verified again after a cold remount"


WRITERS = r"""
for mode in DELETE WAL; do db=$D/$mode.db
  sqlite3 "$db" "PRAGMA journal_mode=$mode; CREATE TABLE t(w,i);" >/dev/null
  writer() { for n in $(seq 50); do echo "BEGIN IMMEDIATE; WITH RECURSIVE c(x) AS (VALUES(1) UNION ALL SELECT x+1 FROM c WHERE x<20)
    INSERT INTO t SELECT $1,x FROM c; COMMIT;"; done | sqlite3 -bail -cmd '.timeout 20000' -cmd 'PRAGMA synchronous=FULL' "$db"; }
  writer 1 & p1=$!; writer 2 & p2=$!; wait $p1 && wait $p2 || exit 1
  sqlite3 "$db" 'PRAGMA integrity_check; SELECT w,count(*) FROM t GROUP BY w;'
done
"""


def sqlite_writers(rig):
    """Locks and shared maps: two writers in both journal modes."""
    _url, _point, folder = _scratch(rig)
    out = run("bash", "-c", WRITERS, env={**os.environ, "D": folder}, timeout=300).stdout
    check(out.split() == ["ok", "1|1000", "2|1000"] * 2, out)
    return "2 writers, DELETE and WAL: ok, 1000 and 1000 rows"


def pyxattr(rig):
    """Sizes, flags, errno and names of extended attributes."""
    _url, _point, folder = _scratch(rig)
    tools = os.path.expanduser("~/.cache/jfs-uring-tests/pyxattr")
    source = os.path.join(tools, "pyxattr-0.8.1")
    if not os.path.exists(os.path.join(source, "ready")):
        shutil.rmtree(tools, ignore_errors=True)
        run(sys.executable, "-m", "venv", os.path.join(tools, "venv"))
        pip = os.path.join(tools, "venv/bin/pip")
        run(pip, "install", "-q", "pytest", "pyxattr==0.8.1")
        run(pip, "download", "-q", "--no-deps", "--no-binary", ":all:", "-d", tools, "pyxattr==0.8.1")
        run("tar", "-xf", os.path.join(tools, "pyxattr-0.8.1.tar.gz"), "-C", tools)
        _write(os.path.join(source, "ready"), "")
    _write(os.path.join(source, "tests/conftest.py"), ROUNDS)
    rounds = 16384 if FULL else 512
    done = run(os.path.join(tools, "venv/bin/python"), "-m", "pytest", "-q", "tests", cwd=source, ok=False,
               env={**os.environ, "TEST_DIR": folder, "ROUNDS": str(rounds)}, timeout=1800).stdout
    check(re.search(r"^287 passed", done, re.M), done[-2000:])
    return "%s, many means %d" % (done.strip().splitlines()[-1], rounds)


def git(rig):
    """A clone of some thousand files: status, fsck, gc."""
    _url, _point, folder = _scratch(rig)
    source = rig.path("source")
    os.mkdir(source)
    setup = ("git init -q . && git config user.email a@b && git config user.name a && "
             "for d in $(seq 30); do mkdir d$d; for f in $(seq 100); do echo $d $f >d$d/f$f; done; done && git add . && git commit -qm one")
    run("bash", "-c", setup, cwd=source)
    clone = os.path.join(folder, "g")
    run("git", "clone", "-q", "--no-hardlinks", source, clone)
    check(run("git", "status", "--porcelain", cwd=clone).stdout == "", "status is not clean")
    run("git", "fsck", "--full", cwd=clone)
    run("git", "gc", "-q", cwd=clone)
    run("git", "fsck", "--full", cwd=clone)
    return "clone of 3,000 files, status clean, fsck clean before and after gc"


def untar(rig):
    """A tree of more than 20,000 files, equal by sha256 and attributes after a cold remount."""
    import tarfile  # only here: building the archive
    import io
    import random
    archive, chance, count = rig.path("tree.tar"), random.Random(20500), 20500
    with tarfile.open(archive, "w") as out:
        for number in range(count):
            entry = tarfile.TarInfo("t/d%d/d%d/f%d" % (number % 40, number // 40 % 25, number))
            body = chance.randbytes(chance.choice((0, 100, 900, 2500, 9000)))
            entry.size, entry.mtime, entry.mode = len(body), 1700000000 + number, chance.choice((0o644, 0o755, 0o600))
            out.addfile(entry, io.BytesIO(body))
    url, point, folder = _scratch(rig)
    run("tar", "-xf", archive, "-C", folder, timeout=900)
    rss = rig.rss_mib(point)
    check(rss <= 300 + 100 + 64, "RSS of %d MiB after the untar" % rss)
    point = rig.remount(point, url)
    run("tar", "-df", archive, "-C", folder, timeout=900)
    rig.umount(point)
    return "%d files equal after a cold remount; RSS after the untar %d MiB" % (count, rss)
