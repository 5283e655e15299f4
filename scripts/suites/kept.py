"""What this client does not know stays as it is, through mounts with all their duties, a repair and a format."""
import json
import os
import sqlite3
import subprocess
import time

from . import loader
from .rig import check

# Keys that the official client would read; the text of the setting is JSON.
SETTING = {"RangerRestUrl": "http://ranger", "RangerService": "hive", "KerbConf": "[libdefaults]\n<&>", "ChangeLogMaxAge": 7200,
           "ChangeLogMaxLines": 100, "Partitions": 3,
           "Tiers": {"0": {"ID": 0, "StorageClass": "", "Tag": "a=b"}, "2": {"ID": 2, "StorageClass": "GLACIER", "Tag": ""}}}
SIXTEEN = b"\0\0\0\0\0\x10\0\0\0\0\0\0\0\0\0\x09"
REDIS = (
    ("ZADD", "detachedNodes", "1000", "77"), ("SET", "k9_4096", "1"), ("SET", "lastCleanupChangelog", "1000"),
    ("HSET", "userQuota", "1000", SIXTEEN), ("HSET", "userQuotaUsedSpace", "1000", "4096"), ("HSET", "userQuotaUsedInodes", "1000", "1"),
    ("HSET", "groupQuota", "100", SIXTEEN), ("HSET", "groupQuotaUsedSpace", "100", "4096"), ("HSET", "groupQuotaUsedInodes", "100", "1"),
    ("HSET", "krbToken", "1", b"\1\2\3"), ("SET", "krbTokenMaxId", "1"), ("RPUSH", "txnLog", "1.000000001|ACCESS(1)|(1,1)"),
    ("SET", "txnLastLog", "1"), ("ZADD", "sessions", "99999999999", "70"), ("HSET", "of-another-program", "a", "b"),
)
SQLITE = (
    ("jfs_detached_node", (77, 1000)), ("jfs_user_group_quota", (1, 1000, 4096, 9, 4096, 1)), ("jfs_delegation_token", (1, b"\1\2\3")),
    ("jfs_change_log", (1, "1.000000001|ACCESS(1)|(1,1)")), ("jfs_session", (70, 99999999999, b"{}")),
    ("jfs_setting", ("other", "row")), ("jfs_counter", ("lastCleanupChangelog", 1000)), ("of_another_program", (1,)),
)


def _sql(url, words, values=()):
    base = sqlite3.connect(url.split("://", 1)[1])
    found = base.execute(words, values).fetchall()
    base.commit()
    base.close()
    return found


def _setting(rig, url, text=None):
    """The stored setting, or a new one."""
    if rig.redis:
        redis = loader.Connection(url)
        return redis.call("GET", "setting") if text is None else redis.call("SET", "setting", text)
    if text is None:
        return _sql(url, "SELECT value FROM jfs_setting WHERE name = 'format'")[0][0]
    return _sql(url, "UPDATE jfs_setting SET value = ? WHERE name = 'format'", (text,))


def _plant(rig, url):
    if rig.redis:
        redis = loader.Connection(url)
        for words in REDIS:
            redis.call(*words)
    else:
        _sql(url, "CREATE TABLE of_another_program (n INTEGER)")
        for table, row in SQLITE:
            _sql(url, "INSERT INTO %s VALUES (%s)" % (table, ", ".join("?" * len(row))), row)
    known = json.loads(_setting(rig, url))
    _setting(rig, url, json.dumps({**known, **SETTING}, indent=0))


def _seen(rig, url):
    """All that was planted, as it is now."""
    setting = json.loads(_setting(rig, url))
    kept = [(key, setting.get(key)) for key in SETTING]
    if rig.redis:
        redis = loader.Connection(url)
        return kept + [(words[1], redis.call("DUMP", words[1])) for words in REDIS]
    return kept + [(table, row in _sql(url, "SELECT * FROM " + table)) for table, row in SQLITE]


def _work(point):
    """Names of every fate."""
    os.mkdir(os.path.join(point, "d"))
    for number in range(30):
        with open(os.path.join(point, "d", "f%d" % number), "wb") as out:
            out.write(os.urandom(5000))
    os.link(os.path.join(point, "d", "f0"), os.path.join(point, "hard"))
    os.setxattr(os.path.join(point, "hard"), "user.x", b"1")
    for number in range(1, 30):
        os.unlink(os.path.join(point, "d", "f%d" % number))


def kept(rig):
    """Keys, tables, settings and objects of others are byte for byte what they were."""
    url, bucket = rig.volume(), rig.path("objects1")
    _plant(rig, url)
    backup = os.path.join(bucket, "suite", "meta", "dump-2026-01-01-000000.json.gz")
    strange = os.path.join(bucket, "suite", "chunks", "notes")
    for path in (backup, strange):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="ascii") as out:
            out.write("not ours")
    before = _seen(rig, url)
    check(all(value not in (None, False) for _key, value in before), "not planted: %s" % before)
    point = rig.mount(url, "--heartbeat", "1s")
    _work(point)
    time.sleep(4.5)  # some heartbeats, with two looks for dead sessions
    rig.umount(point)
    done = rig.call("fsck", "--deep", "--repair", url, ok=False)
    check(done.returncode == 0, "fsck: " + done.stdout)
    rig.call("format", "--storage", "file", "--bucket", bucket, "--capacity", "10G", url, "suite")
    now = _seen(rig, url)
    check(now == before, "changed: %s" % [pair for pair in zip(before, now) if pair[0] != pair[1]])
    check(os.path.exists(backup) and os.path.exists(strange), "objects of others are gone")
    subprocess.run(["cmp", backup, strange], check=True)
    return "%d keys of the setting, %d of others, 2 objects" % (len(SETTING), len(before) - len(SETTING))
