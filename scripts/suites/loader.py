"""Put a fixture into an empty Redis database or a SQLite file, and its objects into a folder."""
import json
import os
import shutil
import socket
import sqlite3
import subprocess
from urllib.parse import parse_qs, urlsplit

from .rig import FIXTURES, check


def encode(*words):
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        raw = word if isinstance(word, bytes) else str(word).encode()
        parts.append(b"$%d\r\n%s\r\n" % (len(raw), raw))
    return b"".join(parts)


class Connection:
    """The few words of RESP that loading and reading need."""

    def __init__(self, url):
        where = urlsplit(url)
        check(where.scheme == "unix", "suites speak to Redis on a unix socket, not " + url)
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(where.path)
        self.stream = self.socket.makefile("rb")
        self.call("SELECT", parse_qs(where.query)["db"][0])

    def reply(self):
        line = self.stream.readline()[:-2]
        kind, rest = line[:1], line[1:]
        check(kind != b"-", "redis: " + rest.decode())
        if kind == b"$":
            return None if rest == b"-1" else self.stream.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return [self.reply() for _ in range(int(rest))]
        return int(rest) if kind == b":" else rest

    def call(self, *words):
        self.socket.sendall(encode(*words))
        return self.reply()


def rewritten(raw, bucket):
    """The setting with the bucket in another folder; a shard pattern keeps its last part."""
    setting = json.loads(raw)
    last = os.path.basename(setting["Bucket"].rstrip("/"))
    setting["Bucket"] = os.path.abspath(bucket) + "/" + (last + "/" if "%d" in last else "")
    return json.dumps(setting, indent=1)


def load(fixture, url, bucket):
    folder = os.path.join(FIXTURES, fixture)
    if url.startswith("sqlite3://"):
        path = url.split("://", 1)[1]
        shutil.copyfile(os.path.join(folder, "meta.sqlite3"), path)
        base = sqlite3.connect(path)
        raw = base.execute("select value from jfs_setting where name='format'").fetchone()[0]
        base.execute("update jfs_setting set value=? where name='format'", (rewritten(raw, bucket),))
        base.commit()
        base.close()
    else:
        redis = Connection(url)
        check(redis.call("DBSIZE") == 0, "the database is not empty")
        with open(os.path.join(folder, "meta.redis"), "rb") as stream:
            redis.socket.sendall(stream.read() + encode("ECHO", "loaded"))
        while redis.reply() != b"loaded":
            pass
        redis.call("SET", "setting", rewritten(redis.call("GET", "setting"), bucket))
    os.makedirs(bucket, exist_ok=True)
    archive = os.path.join(folder, "objects.tar.zst")
    if os.path.exists(archive):
        subprocess.run(["sh", "-c", 'zstd -q -d -c "$0" | tar -xpf - -C "$1"', archive, bucket], check=True)


def digest(url):
    """One value that changes with any key of the database."""
    if url.startswith("sqlite3://"):
        base = sqlite3.connect(url.split("://", 1)[1])
        text = "\n".join(base.iterdump())
        base.close()
        return text
    redis = Connection(url)
    return sorted((key, redis.call("DUMP", key)) for key in redis.call("KEYS", "*"))
