"""One row per path: the shape shared by manifests, mounts and the independent reader."""
import base64
import errno
import hashlib
import json
import os
import stat

MIB = 1 << 20
LEFT_OUT = {b".accesslog", b".config", b".control", b".stats"}
TYPES = {stat.S_IFREG: "file", stat.S_IFDIR: "dir", stat.S_IFLNK: "symlink", stat.S_IFIFO: "fifo",
         stat.S_IFSOCK: "socket", stat.S_IFBLK: "block", stat.S_IFCHR: "char"}
COMPARED = ("type", "mode", "uid", "gid", "ino", "nlink", "size", "blocks", "atime", "mtime", "ctime",
            "rdev", "target", "target_b64", "xattrs", "sha256", "error")
VIRTUAL_TRASH = ("type", "mode", "uid", "gid", "ino")


def put_bytes(row, field, raw):
    """Bytes as text where they are UTF-8, else in base64 under another name."""
    try:
        row[field] = raw.decode()
    except UnicodeDecodeError:
        row[field + "_b64"] = base64.b64encode(raw).decode()


def path_of(row):
    return base64.b64decode(row["path_b64"]) if "path_b64" in row else row["path"].encode()


def load(path):
    with open(path, encoding="utf-8") as lines:
        return {path_of(row): row for row in map(json.loads, filter(str.strip, lines))}


def _xattrs(full):
    try:
        names = os.listxattr(full, follow_symlinks=False)
    except OSError as err:
        if err.errno in (errno.ENODATA, errno.ENOTSUP):
            return {}
        raise
    return {name: base64.b64encode(os.getxattr(full, name, follow_symlinks=False)).decode() for name in sorted(names)}


def _digest(full):
    digest = hashlib.sha256()
    with open(full, "rb", buffering=0) as source:
        while piece := source.read(MIB):
            digest.update(piece)
    return digest.hexdigest()


def describe(full):
    row = {}
    try:
        st = os.lstat(full)
        kind = TYPES[stat.S_IFMT(st.st_mode)]
        row.update(type=kind, mode="%04o" % stat.S_IMODE(st.st_mode), uid=st.st_uid, gid=st.st_gid, ino=st.st_ino,
                   nlink=st.st_nlink, size=st.st_size, blocks=st.st_blocks, atime=st.st_atime_ns,
                   mtime=st.st_mtime_ns, ctime=st.st_ctime_ns)
        if kind in ("block", "char"):
            row["rdev"] = [os.major(st.st_rdev), os.minor(st.st_rdev)]
        if kind == "symlink":
            put_bytes(row, "target", os.readlink(full))
        if xattrs := _xattrs(full):
            row["xattrs"] = xattrs
        if kind == "file":
            row["sha256"] = _digest(full)
    except OSError as err:
        row["error"] = os.strerror(err.errno)
    return row


def scan(mount):
    """All rows of a mounted tree by path; the virtual files of the root are left out."""
    root, found, stack = os.fsencode(mount), {}, [b""]
    while stack:
        rel = stack.pop()
        full = os.path.join(root, rel) if rel else root
        found[rel] = describe(full)
        if found[rel].get("type") == "dir":
            stack += [os.path.join(rel, name) if rel else name for name in os.listdir(full)
                      if rel or name not in LEFT_OUT]
    return found


def compare(want, have, skip=(), show=10):
    """How many paths are equal, and lines about those that are not."""
    equal, lines = 0, []
    for path in sorted(set(want) | set(have)):
        name = ascii(path.decode("utf-8", "surrogateescape"))
        if path not in have or path not in want:
            lines.append("%s: %s" % (name, "missing" if path not in have else "extra"))
            continue
        fields = VIRTUAL_TRASH if path == b".trash" else COMPARED
        wrong = ["%s: want %s, have %s" % (field, want[path].get(field), have[path].get(field))
                 for field in fields if field not in skip and want[path].get(field) != have[path].get(field)]
        if wrong:
            lines.append(name + ": " + "; ".join(wrong))
        else:
            equal += 1
    return equal, lines[:show] + (["... %d more" % (len(lines) - show)] if len(lines) > show else [])
