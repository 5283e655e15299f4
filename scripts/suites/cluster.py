"""A Redis Cluster: the volume's slot moves under work, its master dies; the work waits, goes on, and nothing is lost."""
import contextlib

from .rig import check, free_ports
from .sentinel import HOSTS, PASSWORD, Node, await_, disturbed, under_work

DB, STEP, SLOTS = 1, 50, ((0, 5460), (5461, 10922), (10923, 16383))


class Cluster:
    """Three masters, and a replica of the last one."""

    def __init__(self, rig, ends):
        ports = free_ports(8)
        self.nodes = []
        ends.callback(lambda: [node.end() for node in self.nodes])
        for number, (port, bus) in enumerate(zip(ports[:4], ports[4:])):
            node = Node(rig.path("node%d" % number), port, "--cluster-enabled", "yes", "--cluster-port", str(bus),
                        "--cluster-node-timeout", "2000", "--cluster-replica-validity-factor", "0")
            self.nodes.append(node)
            if number < 3:
                node.call("CLUSTER", "SET-CONFIG-EPOCH", str(number + 1))
                node.call("CLUSTER", "ADDSLOTSRANGE", *map(str, SLOTS[number]))
            if number:
                self.nodes[0].call("CLUSTER", "MEET", HOSTS[0], str(port), str(bus))
        self.ready(4)
        self.nodes[3].call("CLUSTER", "REPLICATE", self.id(2))
        await_(lambda: "master_link_status:up" in self.nodes[3].call("INFO", "replication"), 20, "the replica does not follow")
        self.slot = self.nodes[0].call("CLUSTER", "KEYSLOT", "{%d}" % DB).strip()

    def ready(self, count):
        for node in self.nodes:
            await_(lambda n=node: "cluster_state:ok" in n.call("CLUSTER", "INFO")
                   and "cluster_known_nodes:%d" % count in n.call("CLUSTER", "INFO"), 30, "the cluster does not stand")

    def id(self, number):
        return self.nodes[number].call("CLUSTER", "MYID").strip()

    def url(self, *numbers):
        return "redis://:%s@%s/%d" % (PASSWORD, ",".join("%s:%d" % (HOSTS[0], self.nodes[number].port) for number in numbers), DB)

    def home(self):
        """Which master has the slot."""
        key = "{%d}none" % DB
        found = [number for number in range(3) if "MOVED" not in self.nodes[number].call("EXISTS", key)]
        check(len(found) == 1, "the slot has %d masters" % len(found))
        return found[0]

    def move(self, to):
        """Move the slot as redis-cli does, in small steps; how many keys it has."""
        source, target, count = self.home(), self.nodes[to], 0
        target.call("CLUSTER", "SETSLOT", self.slot, "IMPORTING", self.id(source))
        self.nodes[source].call("CLUSTER", "SETSLOT", self.slot, "MIGRATING", self.id(to))
        while keys := self.nodes[source].call("CLUSTER", "GETKEYSINSLOT", self.slot, str(STEP)).split():
            told = self.nodes[source].call("MIGRATE", HOSTS[0], str(target.port), "", "0", "5000", "AUTH", PASSWORD, "KEYS", *keys)
            check(told.strip() == "OK", "MIGRATE: " + told)
            count += len(keys)
        for number in (to, source):
            self.nodes[number].call("CLUSTER", "SETSLOT", self.slot, "NODE", self.id(to))
        check(self.home() == to, "the slot is not where it went")
        return count

    def lose(self, number):
        """A master dies with what its replica has; the replica takes over."""
        self.nodes[number].die(self.nodes[3])
        await_(lambda: "role:master" in self.nodes[3].call("INFO", "replication")
               and "cluster_state:ok" in self.nodes[3].call("CLUSTER", "INFO"), 40, "the replica does not take over")


def cluster(rig):
    """The slot moves twice and its master dies once under work: operations wait and none fails; after a cold remount all is there."""
    with contextlib.ExitStack() as ends:
        nodes = Cluster(rig, ends)
        url = nodes.url(0, 1)
        told, files = under_work(rig, url, lambda workers: _moved_and_lost(nodes, workers), nodes.url(0))
        return "%s; moves of %d and %d keys and a fail-over; the longest operation took %s" % (
            files, told[0][0], told[1][0], " and ".join("%.1f s" % pause for _, pause in told))


def _moved_and_lost(nodes, workers):
    first = (nodes.home() + 1) % 3
    if first == 2:
        first = (first + 1) % 3
    steps = [lambda: nodes.move(first), lambda: nodes.move(2), lambda: nodes.lose(2)]
    return [disturbed(workers, step) for step in steps]
