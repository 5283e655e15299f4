"""Access control lists with the real setfacl and getfacl, against a twin directory that the kernel keeps by itself."""
import errno
import os
import random
import stat
import subprocess

from . import rows, volume
from .rig import FIXTURES, check, errno_of, run, setting_of
from .volumes import expect_equal, loaded

USER, OTHER, GROUP = 65533, 65532, 65531


def _facl(*words):
    run("setfacl", *words)


def _shown(path):
    """What getfacl says, numbers for names."""
    return run("getfacl", "-n", "-c", "-p", path).stdout.split()


def _as(user, *words, groups=()):
    """The exit status of a program that another user runs."""
    return subprocess.run(words, user=user, group=user, extra_groups=list(groups), stdin=subprocess.DEVNULL,
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False, timeout=60).returncode


def _made(path, mode=0o666, umask=0o077):
    _with_umask(umask, lambda: os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode)))


def _permissions(point):
    """The kernel lets in who is on the list, and keeps out who is not."""
    base = os.path.join(point, "who")
    os.mkdir(base, 0o755)
    name = os.path.join(base, "f")
    _made(name, 0o600)
    check(_as(USER, "cat", name) != 0, "a stranger reads a private file")
    _facl("-m", "u:%d:r,g:%d:rw" % (USER, GROUP), name)
    check(_shown(name) == ["user::rw-", "user:%d:r--" % USER, "group::---", "group:%d:rw-" % GROUP, "mask::rw-", "other::---"],
          "getfacl says %r" % _shown(name))
    check(stat.S_IMODE(os.stat(name).st_mode) == 0o660, "the group's bits are not the mask")
    check(_as(USER, "cat", name) == 0, "who is on the list does not read")
    check(_as(USER, "sh", "-c", "echo >>%s" % name) != 0, "who may only read writes")
    check(_as(OTHER, "cat", name) != 0, "who is not on the list reads")
    check(_as(OTHER, "sh", "-c", "echo >>%s" % name, groups=[GROUP]) == 0, "the group on the list does not write")
    os.chmod(name, 0o600)
    check("mask::---" in _shown(name), "chmod leaves the mask: %r" % _shown(name))
    check(_as(USER, "cat", name) != 0, "the mask does not hold")
    _facl("-b", name)
    check(_shown(name) == ["user::rw-", "group::---", "other::---"], "setfacl -b leaves %r" % _shown(name))
    check(_as(USER, "setfacl", "-m", "u:%d:rwx" % USER, name) != 0, "who is not the owner sets a list")
    check(errno_of(lambda: os.setxattr(name, "system.posix_acl_default", b"\2\0\0\0\1\0\6\0\xff\xff\xff\xff\4\0\6\0\xff\xff\xff\xff\40\0\6\0\xff\xff\xff\xff"))
          == errno.EACCES, "a file has a default list")


def _inherited(point):
    """What is made in a directory with a default list takes it, whatever the umask."""
    base = os.path.join(point, "heirs")
    os.mkdir(base, 0o755)
    _facl("-d", "-m", "u::rwx,u:%d:rwx,g::r-x,o::---" % USER, base)
    _made(os.path.join(base, "f"))
    check(stat.S_IMODE(os.stat(os.path.join(base, "f")).st_mode) == 0o660, "the umask counts beside a default list")
    inner = os.path.join(base, "d")
    os.mkdir(inner, 0o750)
    os.mkfifo(os.path.join(inner, "p"), 0o640)
    os.symlink("f", os.path.join(inner, "s"))
    check("default:user:%d:rwx" % USER in _shown(inner), "a directory in it has no default list: %r" % _shown(inner))
    check(stat.S_IMODE(os.stat(os.path.join(inner, "p")).st_mode) == 0o640, "a pipe in it")
    check(stat.S_IMODE(os.lstat(os.path.join(inner, "s")).st_mode) == 0o777, "a symlink in it")
    nameless = os.open(base, os.O_TMPFILE | os.O_RDWR, 0o666)
    check(stat.S_IMODE(os.fstat(nameless).st_mode) == 0o660, "a file without a name in it")
    os.close(nameless)
    _facl("-k", base)
    _made(os.path.join(base, "later"))
    check(stat.S_IMODE(os.stat(os.path.join(base, "later")).st_mode) == 0o600, "setfacl -k leaves a default list")


def _entries(chance):
    perm = lambda: "".join(letter if chance.random() < 0.6 else "-" for letter in "rwx")
    who = chance.sample(("u:%d" % USER, "u:%d" % OTHER, "g:%d" % GROUP, "g:0", "m:", "u:", "g:", "o:"), chance.randrange(1, 4))
    return ",".join("%s:%s" % (one.rstrip(":") + (":" if one.endswith(":") else ""), perm()) for one in who)


def _step(chance, folders, files):
    """One random step, as a function of the tree in which it is done."""
    kind = chance.choice(("list", "list", "default", "default", "chmod", "chmod", "file", "file", "dir", "drop", "chgrp", "move"))
    name, folder, number = chance.choice(files + folders), chance.choice(folders), len(files) + len(folders)
    if kind == "list":
        entries = _entries(chance)
        return lambda at: run("setfacl", "-m", entries, at(name), ok=False).returncode
    if kind == "default":
        entries = _entries(chance)
        return lambda at: run("setfacl", "-d", "-m", entries, at(folder), ok=False).returncode
    if kind == "chmod":
        mode = chance.randrange(0o10000)
        return lambda at: os.chmod(at(name), mode)
    if kind in ("file", "dir"):
        made, mode, umask = "%s/n%d" % (folder, number), chance.choice((0o666, 0o777, 0o600, 0o640)), chance.choice((0, 0o022, 0o077))
        if kind == "file":
            files.append(made)
            return lambda at: _made(at(made), mode, umask)
        folders.append(made)
        return lambda at: _with_umask(umask, lambda: os.mkdir(at(made), mode))
    if kind == "drop":
        word = chance.choice(("-b", "-k"))
        return lambda at: run("setfacl", word, at(name), ok=False).returncode
    if kind == "chgrp":
        owner = chance.choice((0, USER))
        return lambda at: os.chown(at(name), owner, GROUP)
    at_end = "%s/m%d" % (folder, number)
    if name in files:
        files[files.index(name)] = at_end
        return lambda at: os.rename(at(name), at(at_end))
    return lambda at: None


def _with_umask(umask, action):
    before = os.umask(umask)
    try:
        action()
    finally:
        os.umask(before)


def _said(base):
    """getfacl of a whole tree, sorted by path: listings come in any order."""
    return "\n\n".join(sorted(run("getfacl", "-R", "-n", ".", cwd=base).stdout.strip().split("\n\n")))


def _twins(rig, point, steps=400):
    """The same random steps in the mount and in a directory of the kernel's own leave the same lists and bits."""
    twin, chance = rig.path("twin"), random.Random("acl-1")
    os.mkdir(twin)
    run("setfacl", "-m", "u:%d:r" % USER, twin)
    run("setfacl", "-b", twin)
    base = os.path.join(point, "twin")
    os.mkdir(base)
    for each in (twin, base):
        os.chmod(each, 0o755)
    folders, files = ["."], ["f0"]
    for each in (twin, base):
        _made(os.path.join(each, "f0"))
    for number in range(steps):
        step = _step(chance, folders, files)
        ends = [step(lambda name, each=each: os.path.join(each, name)) for each in (twin, base)]
        check(ends[0] == ends[1], "step %d ends with %r in the twin and %r here" % (number, *ends))
    want, have = _said(twin), _said(base)
    wrong = [pair for pair in zip(want.split("\n\n"), have.split("\n\n")) if pair[0] != pair[1]]
    check(want == have, "after %d steps the twin has\n%s\nhere is\n%s" % (steps, *(wrong or [(want, have)])[0]))
    return len(files) + len(folders)


def _ids(url):
    """Every rule stored, in the reader's form."""
    return volume.metadata(url).rules()


def _fixture(rig):
    """Lists that the real client wrote are shown as it shows them."""
    url, bucket = loaded(rig, "quota-acl")
    want = rows.load(os.path.join(FIXTURES, "quota-acl", "manifest.jsonl"))
    lists = sum("system.posix_acl" in str(row.get("xattrs")) for row in want.values())
    check(lists > 5, "the fixture has no lists")
    point = rig.mount(url, "--read-only", where="mnt-fixture")
    expect_equal("quota-acl", want, rows.scan(point))
    rig.umount(point)
    ours = volume.Volume(url, bucket, setting_of("quota-acl")["setting"])
    expect_equal("quota-acl, independent reader", want, ours.rows())
    return lists


def _without(rig):
    """On a volume without lists nobody pretends to have them."""
    point = rig.mount(rig.volume(), where="mnt-without")
    _made(os.path.join(point, "f"))
    done = run("setfacl", "-m", "u:%d:r" % USER, os.path.join(point, "f"), ok=False)
    check(done.returncode != 0 and "not supported" in done.stdout, "setfacl says %r" % done.stdout)
    rig.umount(point)


def acl(rig):
    url = rig.volume("--enable-acl")
    bucket = rig.path("objects%d" % rig.count)
    point = rig.mount(url, where="mnt-acl")
    _permissions(point)
    _inherited(point)
    nodes = _twins(rig, point)
    said, seen, known = _said(point), rows.scan(point), _ids(url)
    check(len(set(known)) == len(known), "one mount stored a rule twice: %r" % sorted(known))
    point = rig.remount(point, url)
    check(_said(point) == said, "a cold mount shows other lists")
    cold = rows.scan(point)
    expect_equal("cold", seen, cold, skip=("atime",))
    setting = dict(Name="suite", BlockSize=4096, Compression="none")
    expect_equal("independent reader", volume.Volume(url, bucket, setting).rows(), cold, skip=("atime",))
    # A mount that has just begun knows the rules of the volume.
    copy = os.path.join(point, "who", "copy")
    _made(copy)
    _facl("-m", "u:%d:rwx,m::r" % USER, copy)
    _facl("-m", "m::rwx", copy)
    again = _ids(url)
    check(len(set(again)) == len(again), "a second mount stored a rule twice")
    rig.umount(point)
    lists = _fixture(rig)
    _without(rig)
    return "%d random steps leave %d nodes with %d rules as the kernel's own; %d lists of the real client read" % (400, nodes, len(known), lists)
