"""--metrics: what Prometheus scrapes, read by its own parser, against .stats and what was done."""
import contextlib
import os
import socket
import sys
import urllib.error
import urllib.request

from .rig import check, free_ports, venv

FILES, SIZE = 40, 70000
CLIENT = "prometheus-client==0.22.1"
# Names that dashboards of the official client ask for, and whether they are histograms with these numbers of bounds.
COUNTERS = ("fuse_ops_total", "fuse_ops_durations_seconds", "fuse_ops_io_errors", "transaction_restart", "blockcache_hits", "blockcache_miss",
            "blockcache_hit_bytes", "blockcache_writes", "blockcache_write_bytes", "blockcache_drops", "blockcache_evicts", "object_request_errors",
            "object_request_data_bytes")
GAUGES = ("uptime", "cpu_usage", "memory", "used_space", "used_inodes", "total_space", "total_inodes", "used_buffer_size_bytes",
          "store_cache_size_bytes", "blockcache_blocks", "blockcache_bytes", "object_request_uploading",
          "last_successful_backup", "last_backup_duration")
SPREADS = {"fuse_ops_durations_histogram_seconds": (29, 1e-5, 1.8), "fuse_read_size_bytes": (32, 4096, None), "fuse_written_size_bytes": (32, 4096, None),
           "meta_ops_durations_histogram_seconds": (30, 1e-4, 1.5), "transaction_durations_histogram_seconds": (30, 1e-4, 1.5),
           "object_request_durations_histogram_seconds": (25, 0.01, 1.5)}


def _parser():
    """Prometheus's own, installed once."""
    folder = venv("prometheus", CLIENT)
    (found,) = [path for path, _, _ in os.walk(folder) if path.endswith("site-packages/prometheus_client")]
    if os.path.dirname(found) not in sys.path:
        sys.path.append(os.path.dirname(found))
    from prometheus_client.parser import text_string_to_metric_families
    return text_string_to_metric_families


def _scrape(port, parse):
    """Families by name; samples by name and labels."""
    with urllib.request.urlopen("http://127.0.0.1:%d/metrics" % port, timeout=10) as reply:
        check(reply.headers["Content-Type"].startswith("text/plain; version=0.0.4"), "the type is %s" % reply.headers["Content-Type"])
        text = reply.read().decode()
    families = {family.name: family for family in parse(text)}
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    check(len(lines) == sum(len(family.samples) for family in families.values()), "lines are lost on the parser")
    return families


def _named(families, name):
    """The parser leaves out `_total` of counters."""
    whole = "juicefs_" + name
    return families.get(whole) or families.get(whole.removesuffix("_total"))


def _value(families, name, **labels):
    family = _named(families, name)
    found = [sample.value for sample in family.samples if labels.items() <= sample.labels.items() and "le" not in sample.labels]
    check(len(found) == 1, "%s %s is there %d times" % (name, labels, len(found)))
    return found[0]


def _judge_form(families, point):
    """Names, kinds, common labels and bounds are those of the official client."""
    for kind, names in (("counter", COUNTERS), ("gauge", GAUGES), ("histogram", SPREADS)):
        for name in names:
            family = _named(families, name)
            check(family and family.samples, "%s is missing" % name)
            check(family.type == kind, "%s is a %s" % (name, family.type))
            for sample in family.samples:
                check({"mp": point, "vol_name": "suite", "instance": socket.gethostname()}.items() <= sample.labels.items(), "labels of %s: %s" % (name, sample.labels))
                check(sample.labels["juicefs_version"].startswith("1."), "the version is %s" % sample.labels["juicefs_version"])
    for name, (count, first, factor) in SPREADS.items():
        groups = {}
        for sample in _named(families, name).samples:
            groups.setdefault(sample.labels.get("method"), []).append(sample)
        wanted = {"GET", "PUT", "DELETE"} if name.startswith("object_") else {None}
        check(set(groups) == wanted, "%s has the methods %s" % (name, set(groups)))
        for samples in groups.values():
            buckets = [(float(sample.labels["le"]), sample.value) for sample in samples if sample.name.endswith("_bucket")]
            bounds, counts = [bound for bound, _ in buckets], [value for _, value in buckets]
            golden, bound = [], first
            for number in range(count):
                golden.append(bound)
                bound = bound * factor if factor else first * (number + 2)
            check(bounds == [*golden, float("inf")], "bounds of %s: %s" % (name, bounds))
            check(counts == sorted(counts), "%s goes down: %s" % (name, counts))
            (total,) = [sample.value for sample in samples if sample.name.endswith("_count")]
            check(counts[-1] == total, "%s: %d in all, %d below infinity" % (name, total, counts[-1]))
            check(len([sample for sample in samples if sample.name.endswith("_sum")]) == 1, "%s has no sum" % name)


def _work(folder):
    os.mkdir(folder)
    for number in range(FILES):
        path = os.path.join(folder, "f%d" % number)
        with open(path, "wb") as out:
            out.write(b"x" * SIZE)
        with open(path, "rb") as source:
            check(len(source.read()) == SIZE, "%s is short" % path)
    with contextlib.suppress(FileNotFoundError):
        os.stat(os.path.join(folder, "none"))


def _judge_counts(before, after):
    def more(name, **labels):
        first = _named(before, name)
        known = first and any(labels.items() <= sample.labels.items() for sample in first.samples)
        return _value(after, name, **labels) - (_value(before, name, **labels) if known else 0)

    check(more("fuse_ops_total", method="create") == FILES, "%d creates" % more("fuse_ops_total", method="create"))
    check(more("fuse_ops_io_errors", errno="ENOENT") >= 1, "no error is counted")
    check(more("object_request_data_bytes", method="PUT") == FILES * SIZE, "%d bytes stored" % more("object_request_data_bytes", method="PUT"))
    check(more("used_inodes") == FILES + 1, "%d inodes" % more("used_inodes"))
    sizes = _named(after, "fuse_written_size_bytes").samples
    old = {sample.labels.get("le"): sample.value for sample in _named(before, "fuse_written_size_bytes").samples if "le" in sample.labels}
    grown = {sample.labels["le"]: sample.value - old[sample.labels["le"]] for sample in sizes if "le" in sample.labels}
    check((grown["69632"], grown["73728"]) == (0, FILES), "writes of %d bytes are spread as %s" % (SIZE, grown))
    puts = [sample for sample in _named(after, "object_request_durations_histogram_seconds").samples
            if sample.labels["method"] == "PUT" and sample.labels.get("le") == "+Inf"]
    check(puts[0].value >= FILES, "%d objects are spread" % puts[0].value)


def _judge_stats(families, point):
    """Each name of .stats is scraped, too."""
    with open(os.path.join(point, ".stats"), encoding="ascii") as lines:
        for line in lines:
            name = line.split()[0].removeprefix("juicefs_")
            known = any(name.startswith(family.name.removeprefix("juicefs_")) for family in families.values())
            check(known, "%s is in .stats alone" % name)


def _bad_requests(port):
    for path, code in (("/", 404), ("/metrics/more", 404)):
        try:
            urllib.request.urlopen("http://127.0.0.1:%d%s" % (port, path), timeout=10).close()
            check(False, "%s is served" % path)
        except urllib.error.HTTPError as error:
            check(error.code == code, "%s is answered %d" % (path, error.code))
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(4)]
    for request in (b"\0" * 9000, b"POST /metrics HTTP/1.1\r\n\r\n", b"\r\n\r\n", b"GET /metrics"):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as line, contextlib.suppress(ConnectionResetError):
            line.sendall(request)
            line.shutdown(socket.SHUT_WR)
            got = line.recv(1 << 16)
            check(not got or got.startswith(b"HTTP/1.1 400 "), "%r is answered %r" % (request[:20], got[:40]))
    for line in silent:
        line.close()


def metrics(rig):
    """Names, kinds, labels, bounds and numbers of a scrape; strange requests; an address that is taken."""
    parse, (port,) = _parser(), free_ports(1)
    url = rig.volume()
    point = rig.mount(url, "--metrics", "127.0.0.1:%d" % port)
    _work(os.path.join(point, "warm"))
    before = _scrape(port, parse)
    _work(os.path.join(point, "counted"))
    after = _scrape(port, parse)
    _judge_form(after, point)
    _judge_counts(before, after)
    _judge_stats(after, point)
    _bad_requests(port)
    _scrape(port, parse)
    other = rig.mount(url, "--metrics", "127.0.0.1:%d" % port, where="far")
    with open(rig.path("far.log"), encoding="utf-8") as log:
        check("no metrics at --metrics 127.0.0.1:%d" % port in log.read(), "the log does not tell of an address that is taken")
    rig.umount(other)
    rig.umount(point)
    refused = rig.call("mount", "--metrics", "9567", url, point, ok=False)
    check(refused.returncode == 2 and "127.0.0.1:9567" in refused.stdout, "a port alone: %s" % refused.stdout)
    return "%d names, %d numbers" % (len(after), sum(len(family.samples) for family in after.values()))
