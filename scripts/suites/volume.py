"""A second opinion: read a volume's metadata and objects without any client, as rows.

Knows only the documented formats (docs/formats/juicefs.md); shares no code with the client.
"""
import base64
import hashlib
import os
import sqlite3
import struct
import subprocess

from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from .loader import Connection
from .rows import TYPES, put_bytes

CHUNK = 64 << 20
KINDS = ["", "file", "dir", "symlink", "fifo", "block", "char", "socket"]
TRASH = 0x7FFFFFFF10000000
FIELDS = ("kind", "mode", "uid", "gid", "atime", "mtime", "ctime", "nlink", "length", "rdev")


def _number(raw, start, end, signed=False):
    return int.from_bytes(raw[start:end], "big", signed=signed)


def _stamp(raw, at):
    return _number(raw, at, at + 8, True) * 10**9 + _number(raw, at + 8, at + 12)


UNSET = 0xFFFF


def _named(raw):
    return tuple(struct.iter_unpack(">IH", raw))


def acl_value(rule):
    """A rule (owner, group, mask, other, users, groups) as the kernel shows it, acl(5)."""
    owner, group, mask, other, users, groups = rule
    entries = [(1, owner, 0xFFFFFFFF)] + [(2, perm, who) for who, perm in users] + [(4, group, 0xFFFFFFFF)] + \
        [(8, perm, who) for who, perm in groups] + ([(16, mask, 0xFFFFFFFF)] if mask != UNSET else []) + [(32, other, 0xFFFFFFFF)]
    return struct.pack("=I", 2) + b"".join(struct.pack("=HHI", *entry) for entry in entries)


class FromRedis:
    def __init__(self, url):
        self.redis = Connection(url)

    def node(self, ino):
        raw = self.redis.call("GET", "i%d" % ino)
        assert len(raw) in (72, 73, 80, 81), "a record of %d bytes" % len(raw)
        word = _number(raw, 1, 3)
        return dict(zip(FIELDS, (word >> 12, word & 0xFFF, _number(raw, 3, 7), _number(raw, 7, 11), _stamp(raw, 11),
                                 _stamp(raw, 23), _stamp(raw, 35), _number(raw, 47, 51), _number(raw, 51, 59),
                                 _number(raw, 59, 63))),
                    acls=(_number(raw, 71, 75), _number(raw, 75, 79)) if len(raw) >= 80 else (0, 0),
                    tier=raw[-2] if len(raw) in (73, 81) else 0)

    def rule(self, number):
        raw = self.redis.call("HGET", "acl", number)
        users_end = 12 + 6 * _number(raw, 8, 12)
        assert len(raw) == users_end + 4 + 6 * _number(raw, users_end, users_end + 4), "a rule of %d bytes" % len(raw)
        return (*struct.unpack(">4H", raw[:8]), _named(raw[12:users_end]), _named(raw[users_end + 4:]))

    def rules(self):
        return [self.rule(int(number)) for number in self.redis.call("HKEYS", "acl")]

    def entries(self, ino):
        flat = self.redis.call("HGETALL", "d%d" % ino)
        return {name: _number(raw, 1, 9) for name, raw in zip(flat[::2], flat[1::2])}

    def target(self, ino):
        return self.redis.call("GET", "s%d" % ino)

    def xattrs(self, ino):
        flat = self.redis.call("HGETALL", "x%d" % ino)
        return dict(zip(flat[::2], flat[1::2]))

    def slices(self, ino, index):
        return b"".join(self.redis.call("LRANGE", "c%d_%d" % (ino, index), 0, -1))

    def counters(self):
        return {name: int(self.redis.call("GET", name) or 0) for name in ("usedSpace", "totalInodes")}


class FromSqlite:
    def __init__(self, url):
        self.base = sqlite3.connect("file:%s?mode=ro" % url.split("://", 1)[1], uri=True)
        self.base.text_factory = bytes

    def node(self, ino):
        row = self.base.execute(
            "select type, mode, uid, gid, atime, atimensec, mtime, mtimensec, ctime, ctimensec, nlink, length, rdev,"
            " access_acl_id, default_acl_id, tier_id"
            " from jfs_node where inode=?", (ino,)).fetchone()
        times = [row[at] * 1000 + row[at + 1] for at in (4, 6, 8)]
        return dict(zip(FIELDS, (*row[:4], *times, *row[10:12], row[12] or 0)), acls=(row[13] or 0, row[14] or 0), tier=row[15] or 0)

    def _rules(self, where, *values):
        rows = self.base.execute('select owner, "group", mask, other, cast(named_users as blob), cast(named_groups as blob)'
                                 " from jfs_acl" + where, values)
        return [(*row[:4], _named(row[4] or b""), _named(row[5] or b"")) for row in rows]

    def rule(self, number):
        return self._rules(" where id=?", number)[0]

    def rules(self):
        return self._rules("")

    def entries(self, ino):
        return dict(self.base.execute("select cast(name as blob), inode from jfs_edge where parent=?", (ino,)))

    def target(self, ino):
        return self.base.execute("select cast(target as blob) from jfs_symlink where inode=?", (ino,)).fetchone()[0]

    def xattrs(self, ino):
        return dict(self.base.execute("select name, value from jfs_xattr where inode=?", (ino,)))

    def slices(self, ino, index):
        row = self.base.execute("select cast(slices as blob) from jfs_chunk where inode=? and indx=?", (ino, index)).fetchone()
        return row[0] if row else b""

    def counters(self):
        rows = self.base.execute("select name, value from jfs_counter where name in ('usedSpace', 'totalInodes')")
        return {name.decode(): value for name, value in rows}


def _lz4(source, size):
    out, at = bytearray(), 0

    def more(length):
        nonlocal at
        while True:
            byte = source[at]
            at += 1
            length += byte
            if byte != 255:
                return length

    while at < len(source):
        token = source[at]
        at += 1
        literals = more(15) if token >> 4 == 15 else token >> 4
        out += source[at:at + literals]
        at += literals
        if at >= len(source):
            break
        distance = source[at] | source[at + 1] << 8
        at += 2
        length = 4 + (more(15) if token & 15 == 15 else token & 15)
        while length:
            piece = out[-distance:][:length] if distance >= length else out[-distance:]
            out += piece
            length -= len(piece)
    assert len(out) == size, "an LZ4 block of %d bytes, not %d" % (len(out), size)
    return bytes(out)


def _zstd(source, size):
    out = subprocess.run(["zstd", "-q", "-d", "-c"], input=source, stdout=subprocess.PIPE, check=True).stdout
    assert len(out) == size, "a zstd frame of %d bytes, not %d" % (len(out), size)
    return out


def _plain(source, size):
    assert len(source) == size, "an object of %d bytes, not %d" % (len(source), size)
    return source


class Sealed:
    """Objects of a volume with a private key: each has a key of its own, wrapped for that one."""

    AEADS = {"aes256gcm-rsa": AESGCM, "chacha20-rsa": ChaCha20Poly1305}

    def __init__(self, setting, passphrase):
        sealed = base64.b64decode(setting["EncryptKey"])
        pem = AESGCM(hashlib.md5(setting["UUID"].encode()).digest()).decrypt(sealed[:12], sealed[12:], None)
        self.key = load_pem_private_key(pem, passphrase.encode() or None)
        self.aead = self.AEADS[setting["EncryptAlgo"]]

    def open(self, raw):
        wrapped, nonce = _number(raw, 0, 2), raw[2]
        at = 3 + wrapped
        oaep = padding.OAEP(mgf=padding.MGF1(SHA256()), algorithm=SHA256(), label=b"keys")
        key = self.key.decrypt(raw[3:at], oaep)
        assert len(key) == 32 and nonce == 12, "a key of %d bytes, a nonce of %d" % (len(key), nonce)
        return self.aead(key).decrypt(raw[at:at + nonce], raw[at + nonce:], None)


DECODE = {"none": _plain, "": _plain, "lz4": _lz4, "zstd": _zstd}


def metadata(url):
    return FromSqlite(url) if url.startswith("sqlite3://") else FromRedis(url)


class Volume:
    def __init__(self, url, bucket, setting, passphrase=""):
        self.sealed = Sealed(setting, passphrase) if setting.get("EncryptKey") else None
        self.meta = metadata(url)
        self.decode = DECODE[setting.get("Compression", "none")]
        self.block = setting["BlockSize"] << 10
        self.hashed = setting.get("HashPrefix", False)
        self.folder = os.path.join(bucket, setting["Name"], "chunks")
        self.last = None, b""

    def _object(self, slice_id, index, size):
        name = "%d_%d_%d" % (slice_id, index, size)
        if self.last[0] != name:
            shelf = "%02X/%d" % (slice_id % 256, slice_id // 10**6) if self.hashed else \
                "%d/%d" % (slice_id // 10**6, slice_id // 1000)
            with open(os.path.join(self.folder, shelf, name), "rb") as source:
                raw = source.read()
            self.last = name, self.decode(self.sealed.open(raw) if self.sealed else raw, size)
        return self.last[1]

    def _piece(self, slice_id, size, start, length):
        out = bytearray()
        while length:
            index, inside = divmod(start, self.block)
            piece = self._object(slice_id, index, min(self.block, size - index * self.block))[inside:inside + length]
            out += piece
            start, length = start + len(piece), length - len(piece)
        return out

    def digest(self, ino, length):
        found = hashlib.sha256()
        for index in range((length + CHUNK - 1) // CHUNK):
            chunk = bytearray(min(CHUNK, length - index * CHUNK))
            records = self.meta.slices(ino, index)
            for at in range(0, len(records), 24):
                record = records[at:at + 24]
                pos, slice_id, size, off, count = (_number(record, *span) for span in ((0, 4), (4, 12), (12, 16), (16, 20), (20, 24)))
                count = min(count, len(chunk) - pos)
                if count > 0:
                    chunk[pos:pos + count] = self._piece(slice_id, size, off, count) if slice_id else bytes(count)
            found.update(chunk)
        return found.hexdigest()

    def _row(self, ino):
        node = self.meta.node(ino)
        kind = KINDS[node["kind"]]
        assert kind in TYPES.values(), "type %d" % node["kind"]
        blocks = 8 if kind == "dir" else -(-node["length"] // 512)
        row = dict(type=kind, mode="%04o" % node["mode"], uid=node["uid"], gid=node["gid"], ino=ino, nlink=node["nlink"],
                   size=node["length"], blocks=blocks, atime=node["atime"], mtime=node["mtime"], ctime=node["ctime"])
        if kind in ("block", "char"):
            row["rdev"] = [os.major(node["rdev"]), os.minor(node["rdev"])]
        if kind == "symlink":
            put_bytes(row, "target", self.meta.target(ino))
        xattrs = self.meta.xattrs(ino)
        for name, number in zip((b"system.posix_acl_access", b"system.posix_acl_default"), node["acls"]):
            if number:
                xattrs[name] = acl_value(self.meta.rule(number))
        if xattrs:
            row["xattrs"] = {name.decode(): base64.b64encode(value).decode() for name, value in sorted(xattrs.items())}
        if kind == "file":
            row["sha256"] = self.digest(ino, node["length"])
        return row

    def rows(self):
        """The whole tree with the trash, as a mount shows it."""
        found, stack = {}, [(b"", 1)]
        trash = self.meta.entries(TRASH)
        found[b".trash"] = dict(type="dir", mode="0555", uid=0, gid=0, ino=TRASH)
        stack += [(b".trash/" + name, ino) for name, ino in trash.items()]
        while stack:
            path, ino = stack.pop()
            found[path] = self._row(ino)
            if found[path]["type"] == "dir":
                stack += [(path + b"/" + name if path else name, child) for name, child in self.meta.entries(ino).items()]
        return found
