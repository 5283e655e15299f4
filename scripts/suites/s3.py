"""Objects in a bucket: a tree over S3, and a server that is away for a while under load."""
import hashlib
import json
import os
import random
import select
import shutil
import socket
import sqlite3
import subprocess
import threading
import time
import urllib.request

from . import loader, volume
from .rig import FIXTURES, check, free_ports, venv

SECRET = "a secret that must not be seen"
MOTO = "moto[s3,server]==5.2.5"


class Bucket:
    """A bucket in a server of its own, reached through a wire that can be cut. It is made by who formats."""

    def __init__(self, rig, name="suite-bucket"):
        self.name, (self.port, self.wire_port) = name, free_ports(2)
        self.log = open(rig.path("moto.log"), "wb")
        self.process = subprocess.Popen([os.path.join(venv("moto", MOTO), "bin/moto_server"), "-H", "127.0.0.1", "-p", str(self.port)],
                                        stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        self.cut, self.ended, self.pairs, self.listener = False, False, set(), None
        self._listen()
        threading.Thread(target=self._accept, daemon=True).start()
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen("http://127.0.0.1:%d/" % self.port, timeout=5).close()
                return
            except OSError as err:
                check(time.monotonic() < deadline and self.process.poll() is None, "moto does not answer: %s" % err)
                time.sleep(0.1)

    def url(self):
        return "http://127.0.0.1:%d/%s" % (self.wire_port, self.name)

    def keys(self):
        """Names of all objects, by a listing that nobody has to sign."""
        with urllib.request.urlopen("http://127.0.0.1:%d/%s?list-type=2&max-keys=1000" % (self.port, self.name), timeout=30) as got:
            text = got.read().decode()
        return [part.split("</Key>")[0] for part in text.split("<Key>")[1:]]

    def object(self, key):
        """Headers and bytes of one object."""
        # The server wants a signature and does not check it.
        signed = {"Authorization": "AWS4-HMAC-SHA256 Credential=AK/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"}
        ask = urllib.request.Request("http://127.0.0.1:%d/%s/%s" % (self.port, self.name, key), headers=signed)
        with urllib.request.urlopen(ask, timeout=30) as got:
            return dict(got.headers), got.read()

    def away(self, seconds):
        """Nobody listens, and all connections break."""
        self.cut = True
        self.listener.close()
        for pair in list(self.pairs):
            for end in pair:
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
        time.sleep(seconds)
        self._listen()
        self.cut = False

    def _listen(self):
        self.listener = socket.create_server(("127.0.0.1", self.wire_port), backlog=256)
        self.listener.settimeout(0.2)

    def _accept(self):
        while not self.ended:
            try:
                near, _from = self.listener.accept()
                near.settimeout(None)
                far = socket.create_connection(("127.0.0.1", self.port))
            except OSError:
                time.sleep(0.02)
                continue
            threading.Thread(target=self._carry, args=((near, far),), daemon=True).start()

    def _carry(self, pair):
        self.pairs.add(pair)
        near, far = pair
        try:
            while not self.cut:
                ready, _out, _odd = select.select(pair, (), (), 1)
                for source in ready:
                    piece = source.recv(1 << 18)
                    if not piece:
                        return
                    (far if source is near else near).sendall(piece)
        except (OSError, ValueError):
            pass
        finally:
            near.close()
            far.close()
            self.pairs.discard(pair)

    def end(self):
        self.ended = True
        self.process.kill()
        self.process.wait()
        self.log.close()


def _tree(folder, seed, count=300):
    """Files of many sizes; their sums by name."""
    chance, sums = random.Random(seed), {}
    for number in range(count):
        name = os.path.join("d%d" % (number % 12), "f%d" % number)
        body = chance.randbytes(chance.choice((0, 1, 300, 5000, 70000, 400000, 3 << 20, 9 << 20) if number % 25 == 0 else (1, 900, 5000, 70000)))
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as out:
            out.write(body)
        sums[name] = hashlib.sha256(body).hexdigest()
    return sums


def _wrong(folder, sums):
    found = []
    for name, wanted in sums.items():
        with open(os.path.join(folder, name), "rb") as source:
            if hashlib.sha256(source.read()).hexdigest() != wanted:
                found.append(name)
    return found


def _secrets(rig, url):
    """The secret is in the volume, and nowhere in the clear."""
    told = rig.call("status", url).stdout
    setting = json.loads(told)["Setting"]
    check(setting["SecretKey"] == "removed" and setting["AccessKey"] == "AK", "status shows %s" % setting)
    check(SECRET not in told, "status shows the secret")
    if rig.engine == "redis":
        stored = loader.Connection(url).call("GET", "setting")
        check(b'"KeyEncrypted": true' in stored and SECRET.encode() not in stored, "the secret is stored in the clear")
    point = rig.mount(url, "--trace")
    with open(rig.path("mnt.log"), encoding="utf-8") as log:
        check(SECRET not in log.read(), "the log shows the secret")
    return point


def _under_load(rig, bucket, point):
    """A cut of some seconds under writers and readers: they wait, none fails, nothing is lost."""
    wrong, sums, end = [], {}, time.monotonic() + 12

    def work(seed):
        folder, turn = os.path.join(point, "load%d" % seed), 0
        while time.monotonic() < end and not wrong:
            turn += 1
            part = os.path.join(folder, str(turn))
            try:
                made = _tree(part, seed * 1000 + turn, 12)
                found = _wrong(part, made)
            except OSError as err:
                wrong.append("%s: %s" % (part, err))
                return
            wrong.extend(found)
            sums.update({os.path.join("load%d" % seed, str(turn), name): wanted for name, wanted in made.items()})

    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
    for worker in workers:
        worker.start()
    time.sleep(3)
    bucket.away(4)
    for worker in workers:
        worker.join(120)
        check(not worker.is_alive(), "a worker hangs after the server came back")
    check(not wrong, "under load: %s" % wrong[:5])
    return sums


def s3(rig):
    """Format, a tree, cold reads, a cut under load, cold reads again, and an empty bucket at the end."""
    bucket = Bucket(rig)
    try:
        url = rig.meta_url()
        rig.call("format", "--trash-days", "0", "--storage", "minio", "--bucket", bucket.url(), "--access-key", "AK",
                 "--secret-key", SECRET, url, "suite")
        point = _secrets(rig, url)
        sums = _tree(os.path.join(point, "tree"), 41)
        point = rig.remount(point, url)
        check(not _wrong(os.path.join(point, "tree"), sums), "the tree differs after a cold remount")
        loaded = _under_load(rig, bucket, point)
        point = rig.remount(point, url)
        wrong = _wrong(point, loaded)
        check(not wrong, "after the cut and a cold remount: %s" % wrong[:5])
        blocks = [key for key in bucket.keys() if "/chunks/" in key]
        check(len(blocks) > 200, "%d blocks in the bucket" % len(blocks))
        headers, _body = bucket.object(blocks[0])
        check("crc32c" in " ".join(headers).lower(), "a block without checksum: %s" % headers)
        shutil.rmtree(os.path.join(point, "tree"))
        for seed in range(3):
            shutil.rmtree(os.path.join(point, "load%d" % seed), ignore_errors=True)
        deadline = time.monotonic() + 60
        while [key for key in bucket.keys() if "/chunks/" in key]:
            check(time.monotonic() < deadline, "deleted files leave objects: %s" % bucket.keys()[:5])
            time.sleep(0.5)
        rig.umount(point)
        _tiers(rig, bucket)
        _encrypted(rig, bucket)
        _other_words(rig, bucket)
        return "%d + %d files equal after cold remounts and a server that was away for 4 s" % (len(sums), len(loaded))
    finally:
        bucket.end()


def change_setting(url, change):
    """What `juicefs config` does: the stored setting with something changed."""
    if url.startswith("sqlite3://"):
        base = sqlite3.connect(url.split("://", 1)[1], timeout=30)
        raw = base.execute("select value from jfs_setting where name='format'").fetchone()[0]
    else:
        redis = loader.Connection(url)
        raw = redis.call("GET", "setting")
    setting = json.loads(raw)
    change(setting)
    text = json.dumps(setting, indent=1)
    if url.startswith("sqlite3://"):
        base.execute("update jfs_setting set value=? where name='format'", (text,))
        base.commit()
        base.close()
    else:
        redis.call("SET", "setting", text)


def _set_tier(url, ino, tier):
    """What `juicefs tier set` does to a node without access control lists."""
    if url.startswith("sqlite3://"):
        base = sqlite3.connect(url.split("://", 1)[1], timeout=30)
        base.execute("update jfs_node set tier_id=? where inode=?", (tier, ino))
        base.commit()
        base.close()
    else:
        redis = loader.Connection(url)
        redis.call("SET", "i%d" % ino, redis.call("GET", "i%d" % ino)[:71] + bytes([tier, 0]))


def _tiers(rig, bucket):
    """Objects of files in a tier have its class of storage, those of others have none."""
    url = rig.meta_url()
    rig.call("format", "--trash-days", "0", "--storage", "minio", "--bucket", bucket.url(), "--access-key", "AK",
             "--secret-key", SECRET, "--block-size", "64K", url, "tiers")

    def define(setting):
        setting["Tiers"] = {str(tier): {"ID": tier, "StorageClass": name, "Tag": ""}
                            for tier, name in enumerate(("", "STANDARD_IA", "GLACIER_IR"))}

    change_setting(url, define)
    point = rig.mount(url, where="mnt-tiers")
    for tier in (1, 2):
        folder = os.path.join(point, "tier%d" % tier)
        os.mkdir(folder)
        _set_tier(url, os.stat(folder).st_ino, tier)
    point = rig.remount(point, url)
    seen, classes = {key for key in bucket.keys()}, {}
    for name in ("plain", "tier1/small", "tier2/small", "tier1/large", "tier1/new/below"):
        path = os.path.join(point, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as out:
            out.write(os.urandom(200000 if name.endswith("large") else 5000))
        new = {key for key in bucket.keys()} - seen
        seen |= new
        classes[name] = sorted(bucket.object(key)[0].get("x-amz-storage-class", "") for key in new)
    wanted = {"plain": [""], "tier1/small": ["STANDARD_IA"], "tier2/small": ["GLACIER_IR"], "tier1/large": ["STANDARD_IA"] * 4,
              "tier1/new/below": ["STANDARD_IA"]}
    check(classes == wanted, "classes of storage are %s" % classes)
    check(volume.metadata(url).node(os.stat(os.path.join(point, "tier1/new/below")).st_ino)["tier"] == 1, "the tier is not inherited")
    rig.umount(point)
    change_setting(url, lambda setting: setting["Tiers"]["1"].update(Tag="a=b"))
    done = rig.call("mount", "-d", url, point, ok=False, timeout=60)
    check(done.returncode == 3 and "tags of objects" in done.stdout, "a tag: %d %r" % (done.returncode, done.stdout))
    rig.umount(rig.mount(url, "--read-only", where="mnt-tiers"))


def _encrypted(rig, bucket):
    """An encrypted volume in a bucket: equal after a cold remount, and nothing of it in the clear."""
    url, mark = rig.meta_url(), b"words that nobody else may read " * 100
    rig.call("format", "--trash-days", "0", "--storage", "minio", "--bucket", bucket.url(), "--access-key", "AK", "--secret-key", SECRET,
             "--block-size", "64K", "--encrypt-rsa-key", os.path.join(FIXTURES, "keys", "plain1.pem"), url, "sealed")
    point = rig.mount(url, where="mnt-sealed")
    before = set(bucket.keys())
    with open(os.path.join(point, "mark"), "wb") as out:
        out.write(mark)
    objects = [bucket.object(key)[1] for key in set(bucket.keys()) - before]
    # The length of the wrapped key, of the nonce, both, and a tag.
    check([len(body) for body in objects] == [len(mark) + 3 + 256 + 12 + 16], "objects of %s bytes" % list(map(len, objects)))
    check(mark[:32] not in objects[0] and objects[0][:3] == b"\x01\x00\x0c", "the object is not sealed")
    sums = _tree(os.path.join(point, "tree"), 43, 60)
    point = rig.remount(point, url)
    check(not _wrong(os.path.join(point, "tree"), sums), "the tree differs after a cold remount")
    with open(os.path.join(point, "mark"), "rb") as source:
        check(source.read() == mark, "the mark differs after a cold remount")
    rig.umount(point)


def _other_words(rig, bucket):
    """What is wrong with a bucket is one line with its cure."""
    cases = [(("refused",), "minio", "http://127.0.0.1:1/b"), (("no bucket",), "minio", "http://127.0.0.1:%d" % bucket.port),
             (("no address",), "s3", "ftp://127.0.0.1/b")]
    for words, storage, url in cases:
        done = rig.call("format", "--storage", storage, "--bucket", url, "--access-key", "AK", "--secret-key", SECRET,
                        rig.meta_url(), "other", ok=False, timeout=60)
        text = done.stdout.strip()
        check(done.returncode in (1, 2) and "\n" not in text, "%s: %d %r" % (url, done.returncode, text))
        check(any(word in text for word in words) and SECRET not in text, "%s says %r" % (url, text))
