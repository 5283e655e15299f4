"""The commands as a person meets them: foreground and signals, fstab's helper, users, passwords, doctor."""
import glob
import json
import os
import re
import signal
import socket
import subprocess
import time

from .rig import check, run


def _until(holds, text, seconds=15):
    deadline = time.monotonic() + seconds
    while not holds():
        check(time.monotonic() < deadline, text)
        time.sleep(0.02)


def _foreground(rig, url):
    """Without -d the mount answers while the command runs, and a signal ends both, cleanly."""
    point = rig.path("front")
    os.mkdir(point)
    for number in (signal.SIGINT, signal.SIGTERM):
        with open(rig.path("front.log"), "wb") as log:
            process = subprocess.Popen([rig.binary, "mount", "--cache-dir", rig.path("cache"), url, point],
                                       stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        _until(lambda: os.path.ismount(point), "the foreground mount does not answer")
        with open(os.path.join(point, "signal"), "w", encoding="ascii") as out:
            out.write(str(number))
        process.send_signal(number)
        check(process.wait(30) == 0, "a mount ended by %s returned %s" % (number, process.returncode))
        check(not os.path.ismount(point), "still mounted after %s" % number)
        point = rig.mount(url, where="front")
        with open(os.path.join(point, "signal"), encoding="ascii") as told:
            check(told.read() == str(number), "what was written before the signal is lost")
        rig.umount(point)


def _helper(rig, url):
    """/sbin/mount.jfs-uring by its name, with options of fstab."""
    link, point = rig.path("mount.jfs-uring"), rig.path("fstab")
    os.symlink(rig.binary, link)
    os.mkdir(point)
    options = "rw,_netdev,nofail,attrcacheto=3,enable-xattr,cache-dir=%s,log=%s" % (rig.path("cache"), rig.path("fstab.log"))
    run(link, url, point, "-o", options, timeout=60)
    check(os.path.ismount(point), "the helper returned and nothing is mounted")
    rig.mounts.append(point)
    os.setxattr(point, "user.x", b"1")
    rig.umount(point)
    _helper_words(rig, url, link, point)
    done = run(link, url, point, "-o", "all-squash=1:1", ok=False)
    check(done.returncode == 2 and "--all-squash" in done.stdout, "a refused option passed: %s" % done.stdout)


def _helper_words(rig, url, link, point):
    """Letters and options that mount(8) passes to every helper."""
    places = "cache-dir=%s,log=%s" % (rig.path("cache"), rig.path("fstab.log"))
    run(link, url, point, "-f", "-o", "noatime", timeout=60)
    check(not os.path.ismount(point), "a fake mount is a mount")
    done = run(link, url, point, "-o", "remount,ro", ok=False)
    check(done.returncode == 2 and "umount and mount again" in done.stdout, "remount: %s" % done.stdout)
    run(link, url, point, "-r", "-o%s,noatime,relatime,nodiratime,sync,dirsync,lazytime,noexec,group,owner,comment=x" % places, timeout=60)
    rig.mounts.append(point)
    check(os.statvfs(point).f_flag & os.ST_RDONLY, "-r mounts for writing")
    rig.umount(point)


def _links(rig, url):
    """A mount point may be named through a link or with `..`; status tells the real place, and who serves it."""
    point, link = rig.mount(url, where="real"), rig.path("link")
    rig.umount(point)
    os.symlink(point, link)
    rig.call("mount", "-d", "--cache-dir", rig.path("cache"), "--log", rig.path("link.log"), url, link)
    rig.mounts.append(point)
    check(os.path.ismount(point), "a link leads elsewhere")
    sessions = json.loads(rig.call("status", url).stdout)["Sessions"]
    check([s["MountPoint"] for s in sessions] == [os.path.realpath(point)], "status shows %s" % sessions)
    check(sessions[0]["ProcessID"] == rig.pid(link), "status shows a process that does not serve")
    rig.call("umount", os.path.join(point, "..", "link"))
    rig.mounts.remove(point)
    check(not os.path.ismount(point), "still mounted")
    _until(lambda: not rig.serving(link), "the process outlives umount", 1)
    check(not json.loads(rig.call("status", url).stdout)["Sessions"], "umount returned before the session ended")


def _early(rig):
    """A signal ends a mount whose metadata does not answer yet."""
    point = rig.path("early")
    os.mkdir(point)
    for number in (signal.SIGINT, signal.SIGTERM):
        # One for each: what the first mount has tried again would look like the second one's first try.
        silent, where = socket.socket(socket.AF_UNIX), rig.path("silent%d.sock" % number)
        silent.bind(where)
        silent.listen()
        process = subprocess.Popen([rig.binary, "mount", "--cache-dir", rig.path("cache"), "unix://" + where, point],
                                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        silent.accept()
        process.send_signal(number)
        check(process.wait(5) == 128 + number, "an early %s returned %s" % (number, process.returncode))
        silent.close()


def _in_use(rig, url):
    """umount of a mount in use says by whom to ask, --force ends it."""
    point = rig.mount(url, where="busy")
    held = open(os.path.join(point, "held"), "wb")
    done = rig.call("umount", point, ok=False)
    check(done.returncode == 1 and "in use" in done.stdout, "busy: %s" % done.stdout)
    rig.call("umount", "--force", point)
    held.close()
    rig.mounts.remove(point)
    _until(lambda: not rig.serving(point), "the process outlives its last user")


def _servers(point):
    """The processes that serve mounts at a place, the oldest first."""
    found = []
    for name in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            with open(name, "rb") as text:
                if {os.fsencode(point), b"mount"} <= set(text.read().split(b"\0")):
                    found.append(int(name.split("/")[2]))
        except OSError:
            continue
    return sorted(found)


def _stacked(rig, url):
    """Of two mounts at one place umount ends the one that is seen, and waits for that; a signal to the other spares it."""
    point = rig.mount(url, where="stacked")
    with open(os.path.join(point, "below"), "w", encoding="ascii"):
        below = _servers(point)[0]
    rig.mount("memory://above", "--force", where="stacked")
    check(len(_servers(point)) == 2, "two mounts have %s" % _servers(point))
    check(not os.path.exists(os.path.join(point, "below")), "the first mount is seen")
    began = time.monotonic()
    rig.umount(point)
    check(time.monotonic() - began < 20, "umount waited for the wrong process")
    _until(lambda: _servers(point) == [below], "umount returned before its process ended", 1)
    check(os.path.exists(os.path.join(point, "below")), "the first mount went, too")
    rig.mount("memory://again", "--force", where="stacked")
    os.kill(below, signal.SIGTERM)
    time.sleep(1)
    check(not os.path.exists(os.path.join(point, "below")), "a signal to the lower mount ended the upper one")
    rig.umount(point)
    check(os.path.exists(os.path.join(point, "below")), "the lower mount is gone")
    rig.umount(point)
    _until(lambda: not _servers(point), "umount returned before the last process ended", 1)


def _listed(point):
    """Whether something is mounted there; root itself may not look into a user's mount."""
    with open("/proc/self/mounts", encoding="utf-8") as table:
        return any(line.split(" ")[1] == point for line in table)


def _user(rig):
    """A user mounts through fusermount3 what is hers."""
    home = rig.path("home")
    os.mkdir(home, 0o755)
    run("chown", "tests:", home)
    os.chmod("/dev/fuse", 0o666)
    as_user = ["setpriv", "--reuid=tests", "--regid=tests", "--init-groups", "env", "HOME=" + home]
    program = os.path.join(home, "jfs-uring")
    run("cp", rig.binary, program)
    os.chmod(program, 0o755)
    url, point = "sqlite3://%s/meta.db" % home, home + "/mnt"
    run(*as_user, program, "format", url, "mine")
    run(*as_user, "mkdir", point)
    run(*as_user, program, "mount", "-d", "--log", home + "/log", url, point, timeout=60)
    check(_listed(point), "the user's mount is not there")
    run(*as_user, "sh", "-c", "echo hers > %s/f && cat %s/f" % (point, point))
    check(run("cat", point + "/f", ok=False).returncode != 0, "root looks into a user's mount without allow_other")
    run(*as_user, program, "umount", point, timeout=60)
    check(not _listed(point), "still mounted")


def _passwords(rig):
    """A password shows nowhere: not in the list of processes, the log or status; a wrong one is told."""
    secret, login = "s3@cr3t-%d" % os.getpid(), rig.path("password")
    with open(login, "w", encoding="ascii") as out:
        out.write(secret + "\n")
    url = rig.volume()
    subprocess.run(["redis-cli", "-s", rig.redis.socket, "CONFIG", "SET", "requirepass", secret], check=True, stdout=subprocess.DEVNULL)
    try:
        open_url = url.replace("unix://", "unix://:%s@" % secret.replace("@", "%40"))
        point = rig.mount(open_url, where="secret")
        for name in glob.glob("/proc/[0-9]*/cmdline"):
            try:
                with open(name, "rb") as text:
                    check(b"cr3t-%d" % os.getpid() not in text.read(), "%s shows the password" % name)
            except OSError:
                continue
        with open(rig.path("secret.log"), encoding="utf-8") as log:
            check(secret not in log.read(), "the log shows the password")
        check(secret not in rig.call("status", open_url).stdout, "status shows the password")
        rig.umount(point)
        copy = rig.path("copy/mount.jfs-uring")
        os.mkdir(os.path.dirname(copy))
        run("cp", rig.binary, copy)
        run(copy, open_url, point, "-o", "cache-dir=%s,log=%s" % (rig.path("cache"), rig.path("secret.log")), timeout=60)
        rig.mounts.append(point)
        rig.umount(point)
        run(rig.binary, "status", url, env={**os.environ, "META_PASSWORD_FILE": login})
        run(rig.binary, "status", url, env={**os.environ, "META_PASSWORD": secret})
        for wrong in (url, url.replace("unix://", "unix://:wrong@")):
            done = rig.call("status", wrong, ok=False)
            check(done.returncode != 0 and re.search("password|WRONGPASS|NOAUTH", done.stdout), "wrong password: %s" % done.stdout)
    finally:
        run("redis-cli", "-s", rig.redis.socket, "-a", secret, "--no-auth-warning", "CONFIG", "SET", "requirepass", "")


def _doctor(rig, url):
    """All is well here; what is not has a cure."""
    found = json.loads(rig.call("doctor", "--json", "--cache-dir", rig.path("cache"), url).stdout)
    check({"kernel", "io_uring", "/dev/fuse", "cache disk", "metadata", "persistence", "objects"} <= {f["check"] for f in found}, str(found))
    check(all(f["status"] == "OK" or f["cure"] for f in found), "a finding without a cure: %s" % found)
    done = rig.call("doctor", "sqlite3:///nowhere/at/all.db", ok=False)
    check(done.returncode == 1 and "FAIL" in done.stdout and "->" in done.stdout, done.stdout)


def commands(rig):
    """Foreground, signals, fstab, users, passwords, doctor, completions and man page."""
    url = rig.volume()
    _foreground(rig, url)
    _helper(rig, url)
    _links(rig, url)
    _early(rig)
    _in_use(rig, url)
    _stacked(rig, url)
    _user(rig)
    _doctor(rig, url)
    if rig.redis:
        _passwords(rig)
    for words, needle in ((("version",), "jfs-uring"), (("completions", "bash"), "complete"), (("man",), ".TH"), (("mount", "--help"), "--buffer-size")):
        check(needle in rig.call(*words).stdout, "%s shows no %r" % (" ".join(words), needle))
    for words, code in ((("mount", "--no-such-flag", url, "/"), 2), (("status", "mysql://x"), 2), (("umount", rig.folder), 1)):
        done = rig.call(*words, ok=False)
        check(done.returncode == code and done.stdout.count("\n") == 1, "%s: %d, %r" % (words, done.returncode, done.stdout))
    return "foreground, signals, fstab, links, in use, stacked, a user, doctor, %scompletions, man, exit codes" % ("passwords, " if rig.redis else "")
