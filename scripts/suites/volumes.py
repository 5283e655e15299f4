"""Volumes of the real client: read equal, refused by name, and written so that others read them."""
import contextlib
import json
import os
import random
import sqlite3

from . import loader, rows, volume
from .rig import FIXTURES, check, setting_of

READ = {"redis": ("plain", "lz4", "zstd", "hash-prefix", "overwrites", "overwrites-compacted", "clone", "older",
                  "refuse-shards", "refuse-tiers", "refuse-encrypt", "refuse-encrypt-passphrase", "refuse-changelog", "quota-acl",
                  "trash", "sustained"),
        "sqlite": ("plain", "overwrites", "overwrites-compacted", "sqlite-plain", "sqlite-lz4", "quota-acl")}
WRITTEN = {"redis": ("plain", "lz4", "hash-prefix", "clone", "refuse-tiers", "refuse-encrypt", "refuse-encrypt-passphrase"), "sqlite": ("plain", "sqlite-plain")}
REFUSED = {"refuse-min-version": "9.9.9", "refuse-max-version": "1.0.0", "refuse-meta-version": "metadata version",
           "refuse-encrypt-passphrase": "JFS_RSA_PASSPHRASE",
           "refuse-changelog": "change log"}
PASSPHRASE = "JFS_RSA_PASSPHRASE"
# A key of each old and new form, its algorithm, and a compression below it.
KEYS = {"redis": ("plain1", "aes256gcm-rsa", "none"), "sqlite": ("old-aes256", "chacha20-rsa", "lz4")}


def loaded(rig, fixture):
    url, bucket = rig.meta_url(), rig.path("objects%d" % rig.count)
    loader.load(fixture, url, bucket)
    return url, bucket


@contextlib.contextmanager
def _passphrase(word):
    """Commands in this block find it in their environment."""
    if word:
        os.environ[PASSPHRASE] = word
    try:
        yield word
    finally:
        os.environ.pop(PASSPHRASE, None)


def _passphrase_of(fixture):
    return _passphrase(setting_of(fixture).get("mount_environment", {}).get(PASSPHRASE, ""))


def expect_equal(what, want, have, skip=()):
    """How many rows are equal; all have to be."""
    equal, wrong = rows.compare(want, have, skip)
    check(not wrong, "%s differs:\n  %s" % (what, "\n  ".join(wrong)))
    return equal


def fixtures(rig):
    """Every path, attribute and sha256 of the real client's volumes."""
    equal = 0
    for fixture in READ[rig.engine]:
        url, _bucket = loaded(rig, fixture)
        with _passphrase_of(fixture):
            point = rig.mount(url, "--read-only", "--enable-cap", where="mnt-" + fixture)
        equal += expect_equal(fixture, rows.load(os.path.join(FIXTURES, fixture, "manifest.jsonl")), rows.scan(point))
        rig.umount(point)
    return "%d volumes, %d paths equal" % (len(READ[rig.engine]), equal)


def refused(rig):
    """Volumes that must not be mounted: one line that names why, and nothing written."""
    for fixture, word in REFUSED.items():
        url, _bucket = loaded(rig, fixture)
        before = loader.digest(url)
        point = rig.path("mnt-" + fixture)
        os.makedirs(point, exist_ok=True)
        done = rig.call("mount", "-d", url, point, ok=False, timeout=60)
        check(done.returncode != 0 and not os.path.ismount(point), fixture + " was mounted")
        check(word in done.stdout, "%s: %r does not name %r" % (fixture, done.stdout, word))
        check(loader.digest(url) == before, fixture + ": the refusal wrote to the volume")
    _wrong_passphrase(rig)
    return "%d volumes refused by name, nothing written" % len(REFUSED)


def _wrong_passphrase(rig):
    """Another passphrase than that of the key is told in one line, and nothing of it is shown."""
    url, _bucket = loaded(rig, "refuse-encrypt-passphrase")
    point = rig.path("mnt-wrong")
    os.makedirs(point)
    with _passphrase("not it"):
        done = rig.call("mount", "-d", url, point, ok=False, timeout=60)
    told = done.stdout.strip()
    check(done.returncode == 1 and PASSPHRASE in told and "\n" not in told and "not it" not in told, "it is told: " + told)
    check(not os.path.ismount(point), "it was mounted")


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


def _written(rig, name, url, bucket, setting, passphrase):
    """Work on a volume; how many paths the mount, a cold remount and the independent reader agree on."""
    point = rig.mount(url, "--enable-cap", where="mnt-w-" + name)
    _work(point, name)
    seen = rows.scan(point)
    point = rig.remount(point, url, "--enable-cap")
    cold = rows.scan(point)
    rig.umount(point)
    ours = volume.Volume(url, bucket, setting, passphrase)
    expect_equal(name + ", independent reader", ours.rows(), cold, skip=("atime",))
    return expect_equal(name + ", cold", seen, cold, skip=("atime",))


def _stored_setting(url):
    if url.startswith("sqlite3://"):
        with contextlib.closing(sqlite3.connect(url.split("://", 1)[1])) as base:
            return json.loads(base.execute("select value from jfs_setting where name='format'").fetchone()[0])
    return json.loads(loader.Connection(url).call("GET", "setting"))


def _own_key(rig):
    """A volume that is formatted with a private key: nothing in its bucket is in the clear, and others read it."""
    key, algo, compress = KEYS[rig.engine]
    path = os.path.join(FIXTURES, "keys", key + ".pem")
    options = ("--encrypt-rsa-key", path, "--encrypt-algo", algo, "--compress", compress, "--block-size", "64K")
    with _passphrase("hush" if key.startswith("old") else "") as word:
        url = rig.volume(*options)
        bucket, setting = rig.path("objects%d" % rig.count), _stored_setting(url)
        with open(os.path.join(bucket, "suite", "juicefs_uuid"), "rb") as source:
            stored = source.read()
        check(setting["UUID"].encode() not in stored, "the UUID is stored in the clear")
        reader = volume.Volume(url, bucket, setting, word)
        check(reader.sealed.open(stored).decode() == setting["UUID"], "the UUID is another one")
        # The same words again are fine, other ones are not.
        again = ("format", "--bucket", bucket, "--trash-days", "0")
        rig.call(*again, *options, url, "suite")
        other = os.path.join(FIXTURES, "keys", "plain8.pem")
        done = rig.call(*again, "--encrypt-rsa-key", other, url, "suite", ok=False)
        check(done.returncode == 1 and "--encrypt-rsa-key" in done.stdout, "another key: " + done.stdout)
        return _written(rig, "own key", url, bucket, setting, word)


def _tiers_inherited(rig):
    """In a volume with tiers: each record keeps its tier when it changes, and what is new is in that of its directory."""
    url, _bucket = loaded(rig, "refuse-tiers")
    meta = volume.metadata(url)

    def tiers(ino=1, path="/"):
        found = {path: meta.node(ino)["tier"]}
        for name, child in meta.entries(ino).items():
            inside = meta.node(child)["kind"] == 2
            found.update(tiers(child, path + name.decode() + "/") if inside else {path + name.decode(): meta.node(child)["tier"]})
        return found

    before = tiers()
    check(set(before.values()) == {0, 1}, "the fixture has tiers %s" % before)
    point = rig.mount(url, where="mnt-tiers")
    for path in before:
        full = point + path
        os.chmod(full, 0o755)
        os.utime(full, ns=(1, 2))
        os.setxattr(full, "user.a", b"b")
        if os.path.isfile(full):
            with open(full, "ab") as out:
                out.write(b"more")
            os.link(full, full + ".link")
            os.rename(full + ".link", full + ".again")
            os.unlink(full + ".again")
    for folder in (point, os.path.join(point, "dir")):
        os.makedirs(os.path.join(folder, "new", "deeper"))
        _put(os.path.join(folder, "new", "deeper", "file"), b"x" * 100000)
        os.symlink("x", os.path.join(folder, "new", "link"))
    os.rename(os.path.join(point, "new", "deeper", "file"), os.path.join(point, "dir", "moved"))
    rig.umount(point)
    after = tiers()
    wanted = dict(before, **{"/new/": 0, "/new/deeper/": 0, "/new/link": 0, "/dir/new/": 1, "/dir/new/deeper/": 1,
                             "/dir/new/deeper/file": 1, "/dir/new/link": 1, "/dir/moved": 0})
    check(after == wanted, "tiers are %s, not %s" % (after, wanted))


def _put(path, body):
    with open(path, "wb") as out:
        out.write(body)


def write_back_out(rig):
    """What we write into a real volume, the independent reader and a cold mount read the same."""
    total = 0
    for fixture in WRITTEN[rig.engine]:
        url, bucket = loaded(rig, fixture)
        with _passphrase_of(fixture) as word:
            total += _written(rig, fixture, url, bucket, setting_of(fixture)["setting"], word)
    total += _own_key(rig)
    if rig.engine == "redis":
        _tiers_inherited(rig)
    return "%d paths: the mount, a cold remount and the independent reader agree" % total
