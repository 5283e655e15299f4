"""A volume in a Redis that speaks TLS, asks for certificates and knows users; a password stays out of sight."""
import glob
import os

from . import day
from .rig import Redis, check, free_ports, run

PASSWORD, OPERATIONS = "s3cr@t-word", 5000


class Authority:
    """Signs certificates; a folder holds all of them."""

    def __init__(self, folder):
        self.folder = folder
        os.mkdir(folder)
        with open(self.path("openssl.conf"), "w", encoding="ascii") as out:
            out.write("[req]\ndistinguished_name=dn\n[dn]\n")
        self._make("ca", "-addext", "basicConstraints=critical,CA:TRUE")
        for name in ("server", "client"):
            self._make(name, "-CA", "ca.pem", "-CAkey", "ca.key", "-addext", "subjectAltName=DNS:localhost")

    def path(self, name):
        return os.path.join(self.folder, name)

    def _make(self, name, *options):
        run("openssl", "req", "-x509", "-config", "openssl.conf", "-nodes", "-days", "2", "-newkey", "ec", "-pkeyopt",
            "ec_paramgen_curve:P-256", "-subj", "/CN=" + name, "-out", name + ".pem", "-keyout", name + ".key", *options,
            cwd=self.folder)


def _served(rig, authority):
    """A Redis that lets in the user `me` with a certificate; its port."""
    port = free_ports(1)[0]
    rig.redis.end()
    folder = rig.path("sealed")
    os.mkdir(folder)
    rig.redis = Redis(folder, "--tls-port", str(port), "--tls-cert-file", authority.path("server.pem"),
                      "--tls-key-file", authority.path("server.key"), "--tls-ca-cert-file", authority.path("ca.pem"))
    run("redis-cli", "-s", rig.redis.socket, "ACL", "SETUSER", "me", "on", ">" + PASSWORD, "~*", "&*", "+@all")
    return port


def _refused(rig, url, *words):
    """One line that names what cures it, and no password."""
    text = rig.call("status", url, ok=False, timeout=60).stdout
    check(text.count("\n") == 1 and all(word in text for word in words), "%s: %r does not name %s" % (url, text, words))
    check(PASSWORD not in text, "the password is told: " + text)


def _out_of_sight(rig, point, url):
    """The password is in no list of processes or mounts, no log, no help, and no file of the mount."""
    shown = {"help": rig.call("mount", "--help", env={**os.environ, "REDIS_PASSWORD": PASSWORD}).stdout,
             "status": rig.call("status", url).stdout, "doctor": rig.call("doctor", url).stdout}
    for path in [*glob.glob("/proc/[0-9]*/cmdline"), "/proc/mounts", point + ".log", os.path.join(point, ".config")]:
        try:
            with open(path, encoding="utf-8", errors="replace") as text:
                shown[path] = text.read()
        except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            continue
    check(point + ".log" in shown and any(point in text for path, text in shown.items() if "cmdline" in path), "nothing was looked at")
    for secret in (PASSWORD, PASSWORD.replace("@", "%40")):
        found = [path for path, text in shown.items() if secret in text]
        check(not found, "the password shows in %s" % found)


def tls(rig):
    """A small day over rediss:// with a client's certificate and a user of its own; who does not fit is told the cure."""
    authority, other = Authority(rig.path("authority")), Authority(rig.path("other"))
    port = _served(rig, authority)
    own = "tls-cert-file=%s&tls-key-file=%s" % (authority.path("client.pem"), authority.path("client.key"))
    ca, host = "tls-ca-cert-file=", "localhost:%d/1" % port
    entry = "rediss://me:%s@" % PASSWORD.replace("@", "%40")
    url = "%s%s?%s%s&%s" % (entry, host, ca, authority.path("ca.pem"), own)
    beside = rig.redis.url()
    rig.count += 1
    rig.call("format", "--trash-days", "0", "--storage", "file", "--bucket", rig.path("objects%d" % rig.count), url, "suite")
    _refused(rig, "%s%s?%s" % (entry, host, own), "tls-ca-cert-file", "insecure-skip-verify")
    _refused(rig, "%s%s?%s%s&%s" % (entry, host, ca, other.path("ca.pem"), own), "tls-ca-cert-file", "insecure-skip-verify")
    _refused(rig, "%s%s?%s%s" % (entry, host, ca, authority.path("ca.pem")), "tls-cert-file", "tls-key-file")
    _refused(rig, url.replace("rediss://", "redis://"), "rediss://")
    _refused(rig, url.replace("localhost", "127.0.0.1"), "tls-server-name")
    rig.call("status", "%s%s?insecure-skip-verify=1&%s" % (entry, host, own))
    point = rig.mount(url)
    _out_of_sight(rig, point, url)
    rig.umount(point)
    return day.worked(rig, url, beside, OPERATIONS)
