"""Volumes of the real client: read equal, refused by name, and written so that others read them."""
import os
import random

from . import loader, rows, volume
from .rig import FIXTURES, check, setting_of

READ = {"redis": ("plain", "lz4", "zstd", "hash-prefix", "overwrites", "overwrites-compacted", "clone", "older",
                  "refuse-shards", "quota-acl"),
        "sqlite": ("plain", "overwrites", "overwrites-compacted", "sqlite-plain", "sqlite-lz4", "quota-acl")}
WRITTEN = {"redis": ("plain", "lz4", "hash-prefix", "clone"), "sqlite": ("plain", "sqlite-plain")}
REFUSED = {"refuse-min-version": "9.9.9", "refuse-max-version": "1.0.0", "refuse-meta-version": "metadata version",
           "refuse-encrypt": "encrypt"}


def _loaded(rig, fixture):
    url, bucket = rig.meta_url(), rig.path("objects%d" % rig.count)
    loader.load(fixture, url, bucket)
    return url, bucket


def expect_equal(what, want, have, skip=()):
    """How many rows are equal; all have to be."""
    equal, wrong = rows.compare(want, have, skip)
    check(not wrong, "%s differs:\n  %s" % (what, "\n  ".join(wrong)))
    return equal


def fixtures(rig):
    """Every path, attribute and sha256 of the real client's volumes."""
    equal = 0
    for fixture in READ[rig.engine]:
        url, _bucket = _loaded(rig, fixture)
        point = rig.mount(url, "--read-only", "--enable-cap", where="mnt-" + fixture)
        equal += expect_equal(fixture, rows.load(os.path.join(FIXTURES, fixture, "manifest.jsonl")), rows.scan(point))
        rig.umount(point)
    return "%d volumes, %d paths equal" % (len(READ[rig.engine]), equal)


def refused(rig):
    """Volumes that must not be mounted: one line that names why, and nothing written."""
    for fixture, word in REFUSED.items():
        url, _bucket = _loaded(rig, fixture)
        before = loader.digest(url)
        point = rig.path("mnt-" + fixture)
        os.makedirs(point, exist_ok=True)
        done = rig.call("mount", "-d", url, point, ok=False, timeout=60)
        check(done.returncode != 0 and not os.path.ismount(point), fixture + " was mounted")
        check(word in done.stdout, "%s: %r does not name %r" % (fixture, done.stdout, word))
        check(loader.digest(url) == before, fixture + ": the refusal wrote to the volume")
    _quotas_refused(rig)
    return "%d volumes refused by name, nothing written" % (len(REFUSED) + 1)


def _quotas_refused(rig):
    """Quotas of directories are not kept by us: such a volume is only read."""
    url = rig.volume()
    db = loader.Connection(url)
    db.call("HSET", "dirQuota", "1", b"\0" * 16)
    point = rig.path("mnt-quota")
    os.makedirs(point)
    done = rig.call("mount", "-d", url, point, ok=False, timeout=60)
    check(done.returncode == 3 and "quota" in done.stdout, "quotas: %d %r" % (done.returncode, done.stdout))
    rig.umount(rig.mount(url, "--read-only", where="mnt-quota"))


def _work(point, seed):
    """A short day of work from a fixed seed, in a folder of its own."""
    chance = random.Random(seed)
    base = os.path.join(point, "written here")
    os.mkdir(base)
    names = []
    for number in range(120):
        name = os.path.join(base, "f%03d" % number)
        with open(name, "wb") as out:
            out.write(chance.randbytes(chance.choice((0, 1, 1000, 5000, 70000, 300000))))
        names.append(name)
    for name in chance.sample(names, 40):
        with open(name, "r+b") as out:
            out.seek(chance.randrange(0, 400000))
            out.write(chance.randbytes(chance.randrange(1, 90000)))
    for name in chance.sample(names, 20):
        os.truncate(name, chance.randrange(0, 200000))
    for number, name in enumerate(chance.sample(names, 15)):
        os.link(name, os.path.join(base, "link%d" % number))
        os.setxattr(name, "user.colour", b"blue\0green")
        os.chmod(name, 0o640)
        os.utime(name, ns=(10**18 + number, 10**18 + 7 * number))
    for number in range(8):
        os.makedirs(os.path.join(base, "d%d" % number, "deeper"))
        os.symlink("../f%03d" % number, os.path.join(base, "d%d" % number, "s"))
    gone = chance.sample(names, 20)
    for name in gone[:10]:
        os.unlink(name)
    for old, new in zip(gone[10:15], gone[15:]):
        os.rename(old, new)
    with open(os.path.join(base, "sparse"), "wb") as out:
        out.seek(70 << 20)
        out.write(b"behind a chunk of nothing")
    os.mkfifo(os.path.join(base, "fifo"))


def write_back_out(rig):
    """What we write into a real volume, the independent reader and a cold mount read the same."""
    total = 0
    for fixture in WRITTEN[rig.engine]:
        url, bucket = _loaded(rig, fixture)
        point = rig.mount(url, "--enable-cap", where="mnt-w-" + fixture)
        _work(point, fixture)
        seen = rows.scan(point)
        point = rig.remount(point, url, "--enable-cap")
        cold = rows.scan(point)
        rig.umount(point)
        total += expect_equal(fixture + ", cold", seen, cold, skip=("atime",))
        ours = volume.Volume(url, bucket, setting_of(fixture)["setting"])
        expect_equal(fixture + ", independent reader", ours.rows(), cold, skip=("atime",))
    return "%d paths: the mount, a cold remount and the independent reader agree" % total
