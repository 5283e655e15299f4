"""Two clients at once on one volume: no update is lost, no error but those POSIX names, both see the same afterwards."""
import contextlib
import errno
import fcntl
import multiprocessing
import os
import random

from .rig import check
from .rows import LEFT_OUT

NAMES, RENAMES, RECORDS, TURNS = 1000, 600, 400, 400


def _storm(point, mark):
    """Make names that the other one makes too, each only where there is none; those that were won."""
    order, won = list(range(NAMES)), []
    random.Random(mark).shuffle(order)
    for number in order:
        path = os.path.join(point, "storm", "name%04d" % number)
        with contextlib.suppress(FileExistsError):
            made = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
            os.write(made, b"%d" % mark)
            os.close(made)
            won.append(number)
    return won


def _war(point, mark):
    """Rename files to and fro, also over each other; how many renames were done."""
    chance, done = random.Random(100 + mark), 0
    for _ in range(RENAMES):
        source, target = ("war/%d/f%02d" % (chance.randrange(2), chance.randrange(30)) for _ in range(2))
        try:
            os.rename(os.path.join(point, source), os.path.join(point, target))
            done += 1
        except OSError as err:
            if err.errno not in (errno.ENOENT, errno.ESTALE):
                raise
    return done


def _append(point, mark):
    """Append records to one file, each under a lock."""
    path = os.path.join(point, "log")
    for number in range(RECORDS):
        with open(os.path.join(point, "lock"), "wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with open(path, "ab") as out:
                out.write(b"%d %05d\n" % (mark, number))
    return RECORDS


def _ping_pong(point, _mark):
    """Count in one file under a lock of one byte that the other one wants, too."""
    for _ in range(TURNS):
        with open(os.path.join(point, "ball"), "r+b") as lock:
            fcntl.lockf(lock, fcntl.LOCK_EX, 1, 7)
            with open(os.path.join(point, "count"), "r+b") as both:
                number = int(both.read())
                both.seek(0)
                both.write(b"%08d" % (number + 1))
    return TURNS


def _told(action, point, mark, answers):
    try:
        answers.put((mark, action(point, mark)))
    except OSError as err:
        answers.put((mark, "%s: %s" % (action.__name__, err)))


def _both(action, points):
    """Do it through both mounts at once; what each tells."""
    fork, told = multiprocessing.get_context("fork"), {}
    answers = fork.Queue()
    players = [fork.Process(target=_told, args=(action, point, mark, answers)) for mark, point in enumerate(points)]
    for player in players:
        player.start()
    for _ in players:
        mark, told[mark] = answers.get(timeout=60)
    for player in players:
        player.join()
    for answer in told.values():
        check(not isinstance(answer, str), answer)
    return told[0], told[1]


def _tree(point):
    """Paths below a mount, with inode, links and content."""
    found = {}
    for folder, _, names in os.walk(point):
        for name in set(names) - ({os.fsdecode(name) for name in LEFT_OUT} if folder == point else set()):
            path = os.path.join(folder, name)
            with open(path, "rb") as source:
                told = os.fstat(source.fileno())
                found[os.path.relpath(path, point)] = (told.st_ino, told.st_nlink, source.read())
    return found


def _used(point):
    told = os.statvfs(point)
    return told.f_files - told.f_ffree


def _judge(tree, won, renamed):
    for number in range(NAMES):
        winner = 0 if number in won[0] else 1
        check((number in won[0]) != (number in won[1]), "name %d was made %s" % (number, "twice" if number in won[0] else "by nobody"))
        check(tree["storm/name%04d" % number][2] == b"%d" % winner, "name %d has the content of the other" % number)
    fought = [told for path, told in tree.items() if path.startswith("war/")]
    check(all(links == 1 for _, links, _ in fought), "a renamed file has more links than names")
    check(len({ino for ino, _, _ in fought}) == len({text for _, _, text in fought}) == len(fought), "a file has two names")
    check(fought and min(renamed) > 0, "nothing was left to rename")
    lines = tree["log"][2].splitlines()
    for mark in range(2):
        check([line for line in lines if line.startswith(b"%d " % mark)] == [b"%d %05d" % (mark, number) for number in range(RECORDS)],
              "records of client %d are lost, torn or out of order" % mark)
    check(tree["count"][2] == b"%08d" % (2 * TURNS), "updates are lost: %r of %d" % (tree["count"][2], 2 * TURNS))


def two_clients(rig):
    """Create storms, rename wars, appends under flock, counting under POSIX locks, through two mounts."""
    url = rig.volume()
    points = [rig.mount(url), rig.mount(url, where="far")]
    before = _used(points[0])
    for folder in ("storm", "war", "war/0", "war/1"):
        os.mkdir(os.path.join(points[0], folder))
    for number in range(60):
        with open(os.path.join(points[0], "war/%d/f%02d" % (number // 30, number % 30)), "wb") as out:
            out.write(b"file %d" % number)
    for name, text in (("ball", b"x" * 8), ("count", b"%08d" % 0)):
        with open(os.path.join(points[0], name), "wb") as out:
            out.write(text)
    won, renamed = _both(_storm, points), _both(_war, points)
    _both(_append, points)
    _both(_ping_pong, points)
    rig.umount(points[1])
    rig.remount(points[0], url)
    tree = _tree(points[0])
    _judge(tree, won, renamed)
    check(_used(points[0]) - before == len(tree) + 4, "%d inodes are counted, %d are there" % (_used(points[0]) - before, len(tree) + 4))
    far = rig.mount(url, where="far")
    check(_tree(far) == tree, "the two see different trees")
    rig.umount(far)
    rig.umount(points[0])
    done = rig.call("fsck", url, ok=False)
    check(done.returncode == 0, "counts and statistics do not add up: " + done.stdout[-2000:])
    return "%d + %d names won, %d + %d renames, %d records, %d turns" % (
        len(won[0]), len(won[1]), *renamed, 2 * RECORDS, 2 * TURNS)
