"""A master, its replica and three Sentinels: the master dies under work, twice; the work waits, goes on, and nothing is lost."""
import contextlib
import hashlib
import os
import subprocess
import threading
import time

from .rig import Redis, check, free_ports, run

PASSWORD, WRITERS, SECONDS = "pw", 3, 2
HOSTS = ("127.0.0.1", "127.0.0.2", "127.0.0.3")


class Node(Redis):
    """A server that may become master or replica."""

    def __init__(self, folder, port, *options):
        os.makedirs(folder, exist_ok=True)
        self.folder, self.port = folder, port
        super().__init__(folder, "--port", str(port), "--bind", HOSTS[0], "--requirepass", PASSWORD, "--masterauth", PASSWORD,
                         "--repl-diskless-sync-delay", "0", *options)

    def call(self, *words):
        return run("redis-cli", "--no-auth-warning", "-a", PASSWORD, "-s", self.socket, *words).stdout

    def die(self, replica):
        """Not before its replica has what it answered: replication is asynchronous, and its last instant would be lost.

        The replica is asked itself, for it tells its master only once a second: by then Sentinels, whose greetings wait with
        the writes, may take the master for dead and the replica for the new one.
        """
        self.call("CLIENT", "PAUSE", "60000", "WRITE")
        await_(lambda: replica.offset() == self.offset() or not self.leads(), 20, "the replica does not catch up")
        self.end()
        os.unlink(self.socket)

    def leads(self):
        """Whether it is a master. On a machine that stands still for a while Sentinels may make another one it."""
        return "role:master" in self.call("INFO", "replication")

    def offset(self):
        """How far it is in what the master wrote."""
        return next(line for line in self.call("INFO", "replication").split() if line.startswith("master_repl_offset:"))


class Watch:
    """Three Sentinels with one port on three addresses."""

    def __init__(self, rig, master):
        self.port, self.logs, self.processes = free_ports(1, "0.0.0.0")[0], [], []
        for number, host in enumerate(HOSTS):
            folder = rig.path("sentinel%d" % number)
            os.mkdir(folder)
            conf = os.path.join(folder, "sentinel.conf")
            with open(conf, "w", encoding="ascii") as out:
                out.write("port %d\nbind %s\nsentinel announce-ip %s\nsentinel announce-port %d\n"
                          "sentinel monitor mine 127.0.0.1 %d 2\nsentinel auth-pass mine %s\n"
                          "sentinel down-after-milliseconds mine 1000\nsentinel failover-timeout mine 1000\n"
                          % (self.port, host, host, self.port, master.port, PASSWORD))
            self.logs.append(open(os.path.join(folder, "log"), "wb"))
            self.processes.append(subprocess.Popen(["redis-server", conf, "--sentinel"], stdin=subprocess.DEVNULL,
                                                   stdout=self.logs[-1], stderr=self.logs[-1]))

        for host in HOSTS:  # they look at their servers more often than every 10 s
            await_(lambda h=host: "OK" in self.ask(h, "DEBUG", "info-period", "500"), 20, "a Sentinel does not start")

    def ask(self, host, *words):
        return run("redis-cli", "-h", host, "-p", self.port, "SENTINEL", *words, ok=False).stdout.split()

    def told(self, host):
        """What a Sentinel knows about the master."""
        words = self.ask(host, "MASTER", "mine")
        return dict(zip(words[::2], words[1::2]))

    def agreed(self, master, replica):
        """Until all know this master with a replica that is up, and one another."""
        def holds():
            seen = [self.told(host) for host in HOSTS]
            return (all(one.get("port") == str(master.port) and one.get("num-slaves") == "1"
                        and one.get("num-other-sentinels") == "2" for one in seen)
                    and "master_link_status:up" in replica.call("INFO", "replication")
                    and not any("s_down" in word for host in HOSTS for word in self.ask(host, "REPLICAS", "mine")))
        await_(holds, 40, "the Sentinels do not agree on %d" % master.port)

    def moved(self, master):
        """Until one names this master."""
        await_(lambda: str(master.port) in self.ask(HOSTS[0], "get-master-addr-by-name", "mine"), 40, "no fail-over to %d" % master.port)

    def end(self):
        for process, log in zip(self.processes, self.logs):
            process.kill()
            process.wait()
            log.close()


def await_(holds, seconds, text):
    deadline = time.monotonic() + seconds
    while not holds():
        check(time.monotonic() < deadline, text)
        time.sleep(0.1)


class Worker(threading.Thread):
    """Makes, appends to, renames and removes files in a folder of its own; knows what must be there."""

    def __init__(self, point, number, stop):
        super().__init__()
        self.folder, self.number, self.stop = os.path.join(point, "w%d" % number), number, stop
        self.there, self.error, self.count, self.longest = {}, None, 0, 0.0

    def run(self):
        try:
            os.mkdir(self.folder)
            while not self.stop.is_set():
                began = time.monotonic()
                self._step(self.count)
                self.longest = max(self.longest, time.monotonic() - began)
                self.count += 1
        except OSError as err:
            self.error = err

    def _step(self, number):
        name, data = "f%d" % number, hashlib.sha256(b"%d %d" % (self.number, number)).digest() * (10 + number % 500)
        path = os.path.join(self.folder, name)
        with open(path, "xb") as out:
            out.write(data)
        self.there[name] = data
        if number % 3 == 0:
            with open(path, "ab") as out:
                out.write(b"more")
            self.there[name] += b"more"
        if number % 4 == 0:
            os.rename(path, path + ".new")
            self.there[name + ".new"] = self.there.pop(name)
        if number % 5 == 4:
            old = next(iter(self.there))
            os.unlink(os.path.join(self.folder, old))
            del self.there[old]

    def judge(self, point):
        folder = os.path.join(point, os.path.basename(self.folder))
        found = set(os.listdir(folder))
        check(found == set(self.there), "lost %s, extra %s" % (sorted(set(self.there) - found)[:5], sorted(found - set(self.there))[:5]))
        for name, data in self.there.items():
            with open(os.path.join(folder, name), "rb") as source:
                check(hashlib.sha256(source.read()).digest() == hashlib.sha256(data).digest(), "%s is not what was closed" % name)


def progress(workers):
    """Until each of them has done something more."""
    before = [worker.count for worker in workers]
    await_(lambda: any(worker.error for worker in workers) or all(worker.count > count + 3 for worker, count in zip(workers, before)),
           60, "the work does not go on")
    for worker in workers:
        check(not worker.error, "an operation failed: %s" % worker.error)


def disturbed(workers, step):
    """What a step under work tells, and the longest operation."""
    time.sleep(SECONDS)
    progress(workers)
    for worker in workers:
        worker.longest = 0.0
    told = step()
    progress(workers)
    return told, max(worker.longest for worker in workers)


def under_work(rig, url, disturb, again):
    """What `disturb` tells of the workers, in words with their number of files; all is there after a cold remount by another URL."""
    rig.count += 1
    rig.call("format", "--trash-days", "0", "--storage", "file", "--bucket", rig.path("objects"), url, "suite")
    point, stop = rig.mount(url), threading.Event()
    workers = [Worker(point, number, stop) for number in range(WRITERS)]
    for worker in workers:
        worker.start()
    try:
        told = disturb(workers)
    finally:
        stop.set()
        for worker in workers:
            worker.join(60)
    for worker in workers:
        check(not worker.is_alive() and not worker.error, "an operation hangs or failed: %s" % worker.error)
    point = rig.remount(point, again)
    for worker in workers:
        worker.judge(point)
    rig.umount(point)
    found = rig.call("fsck", "--deep", again)
    check(found.returncode == 0, "fsck finds something: " + found.stdout)
    count, left = sum(worker.count for worker in workers), sum(len(worker.there) for worker in workers)
    return told, "%d files made, %d left and whole" % (count, left)


def sentinel(rig):
    """Two fail-overs under work: operations wait and none fails; after a cold remount everything closed is there."""
    ports = free_ports(2)
    with contextlib.ExitStack() as ends:
        nodes = [Node(rig.path("node0"), ports[0])]
        ends.callback(lambda: [node.end() for node in nodes])
        nodes.append(Node(rig.path("node1"), ports[1], "--replicaof", "127.0.0.1", str(ports[0])))
        watch = Watch(rig, nodes[0])
        ends.callback(watch.end)
        watch.agreed(*nodes)
        url = "redis://:%s@mine,%s:%d/1" % (PASSWORD, ",".join(HOSTS), watch.port)
        pauses, files = under_work(rig, url, lambda workers: [_failed_over(nodes, watch, workers) for _ in range(2)], url)
        return "%s; the longest operation took %s" % (files, " and ".join("%.1f s" % pause for pause in pauses))


def _failed_over(nodes, watch, workers):
    """The first of the nodes dies, the second takes over and the first comes back as its replica; the longest operation."""
    def fail_over():
        nodes.sort(key=lambda node: not node.leads())
        nodes[0].die(nodes[1])
        watch.moved(nodes[1])

    _, pause = disturbed(workers, fail_over)
    check(pause > 0.4, "nobody had to wait: %.2f s" % pause)
    nodes.append(Node(nodes[0].folder, nodes[0].port, "--replicaof", "127.0.0.1", str(nodes[1].port)))
    del nodes[0]
    watch.agreed(nodes[0], nodes[1])
    time.sleep(SECONDS)
    return pause
