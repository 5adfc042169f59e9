#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Where monitors find their clients: sockets of every kind that the daemon listens on, sockets that it
connects to (once, or again and again), passed descriptors, standard input and output; and what is refused."""

import contextlib
import json
import os
import socket
import subprocess
import time

from harness import BUILD, TMP

DAEMON = f"{BUILD}/ringblkd"


class Client:
    """Speaks QMP over a connected socket (the daemon may be the one who connected)."""

    def __init__(self, sock):
        sock.settimeout(60)
        self.socket = sock
        self.file = sock.makefile("rb")
        assert "QMP" in self.read()
        assert self("qmp_capabilities") == {}

    def read(self):
        return json.loads(self.file.readline())

    def __call__(self, command):
        self.socket.sendall(json.dumps({"execute": command}).encode())
        while True:
            reply = self.read()
            if "event" not in reply:
                return reply["return"]

    def works(self):
        assert "ringblk" in self("query-version")["package"]

    def ended(self):
        while self.file.readline():
            pass
        self.close()

    def close(self):
        self.file.close()
        self.socket.close()


def listener(path=None):
    s = socket.socket(socket.AF_UNIX if path else socket.AF_INET)
    s.bind(path or ("127.0.0.1", 0))
    s.listen()
    s.settimeout(60)
    return s


@contextlib.contextmanager
def running(*arguments, status=0, **keywords):
    """Terminated at the end, unless it ended by itself; leaves with this status."""
    process = subprocess.Popen([DAEMON, *arguments], stderr=subprocess.PIPE, **keywords)
    try:
        yield process
        process.terminate()
        said = process.communicate(timeout=60)[1].decode()
        assert process.returncode == status, (process.returncode, said)
        assert "ERROR: " not in said and "runtime error" not in said, said
    finally:
        process.kill()
        process.wait()


def monitor(options, *more):
    return "--chardev", f"socket,id=c,{options}", "--monitor", "chardev=c", *more


def refused(options, sentence, pass_fds=()):
    done = subprocess.run([DAEMON, *monitor(options)], stderr=subprocess.PIPE, timeout=60, check=False,
                          pass_fds=pass_fds)
    said = done.stderr.decode()
    assert done.returncode == 1, (options, done.returncode, said)
    assert sentence in said, (options, said)


def until(holds, what):
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def connect_to(address, process):
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    deadline = time.monotonic() + 60
    while True:
        s = socket.socket(family)
        try:
            s.connect(address)
            return Client(s)
        except OSError:
            s.close()
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline, f"nobody listens on {address}"
            time.sleep(0.02)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def sockets_of(process):
    """The inodes of its sockets."""
    folder = f"/proc/{process.pid}/fd"
    for name in os.listdir(folder):
        with contextlib.suppress(OSError):
            target = os.readlink(f"{folder}/{name}")
            if target.startswith("socket:["):
                yield target[8:-1]


def tcp_port(inodes):
    """The port on which one of these listens, or None."""
    with open("/proc/net/tcp", encoding="ascii") as table:
        for fields in (line.split() for line in table):
            if fields[3] == "0A" and fields[9] in inodes:
                return int(fields[1].split(":")[1], 16)
    return None


def listens():
    path = f"{TMP}/listen"
    with running(*monitor(f"path={path},server=on,wait=off")) as p:
        a, b = connect_to(path, p), connect_to(path, p)
        a.works()
        b.works()
        b.close()
        a.works()
        a.close()
        connect_to(path, p).close()
    assert not os.path.exists(path)
    name = f"test-chardev-{os.getpid()}"
    with running(*monitor(f"path={name},abstract=on,server=on,wait=off")) as p:
        connect_to("\0" + name, p).works()
    # Somebody may take the port in between; then it is one of the next.
    port = free_port()
    with running(*monitor(f"host=127.0.0.1,port={port},to={port + 20},server=on,wait=off,nodelay=on")) as p:
        inodes = set()
        until(lambda: inodes.update(sockets_of(p)) or tcp_port(inodes), "it does not listen")
        assert port <= tcp_port(inodes) <= port + 20
        connect_to(("127.0.0.1", tcp_port(inodes)), p).works()


def waits_for_a_client():
    path, pidfile = f"{TMP}/wait", f"{TMP}/wait.pid"
    with running(*monitor(f"path={path},server=on"), "--pidfile", pidfile) as p:
        until(lambda: os.path.exists(path), "it does not listen")
        time.sleep(0.3)
        assert not os.path.exists(pidfile), "it did not wait"
        c = connect_to(path, p)
        until(lambda: os.path.exists(pidfile), "it waits on")
        c.works()
        c.close()
    # Told to stop while it waits, it does not come up.
    with running(*monitor(f"path={path},server=on"), "--pidfile", pidfile, status=0) as p:
        until(lambda: os.path.exists(path), "it does not listen")
    assert not os.path.exists(pidfile) and not os.path.exists(path)


def listens_on_a_passed_socket():
    path = f"{TMP}/passed"
    s = listener(path)
    with running(*monitor(f"fd={s.fileno()},server=on,wait=off"), pass_fds=[s.fileno()]) as p:
        connect_to(path, p).works()
        connect_to(path, p).works()
    assert os.path.exists(path), "the socket's file was not the daemon's to remove"
    s.close()


def speaks_over_a_passed_connection():
    ours, theirs = socket.socketpair()
    with running(*monitor(f"fd={theirs.fileno()}"), pass_fds=[theirs.fileno()]) as p:
        theirs.close()
        c = Client(ours)
        c.works()
        p.terminate()
        c.ended()


def connects_once():
    for path in (f"{TMP}/once", None):
        s = listener(path)
        options = f"path={path}" if path else f"host=127.0.0.1,port={s.getsockname()[1]}"
        with running(*monitor(options + ",server=off")) as p:
            c = Client(s.accept()[0])
            c.works()
            c.close()
            time.sleep(0.3)
            assert p.poll() is None, "its client leaves, it stays"
            s.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                s.accept()
                raise AssertionError("it connected again")
        s.close()
    refused(f"path={TMP}/nobody", "Failed to connect")


def connects_again_and_again():
    path = f"{TMP}/again"
    pidfile = f"{TMP}/again.pid"
    # At startup nobody is there: it comes up all the same, and connects when somebody is.
    with running(*monitor(f"path={path},reconnect=1"), "--pidfile", pidfile) as p:
        until(lambda: os.path.exists(pidfile), "it waits for its peer")
        s = listener(path)
        c = Client(s.accept()[0])
        c.works()
        # The client goes, then the whole listener goes and comes back.
        for _ in range(2):
            c.close()
            c = Client(s.accept()[0])
            c.works()
        s.close()
        os.unlink(path)
        c.close()
        time.sleep(1.2)
        s = listener(path)
        c = Client(s.accept()[0])
        c.works()
        # One connection at a time.
        time.sleep(1.2)
        s.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            s.accept()
            raise AssertionError("two connections at once")
        p.terminate()
        c.ended()
        s.close()
    os.unlink(path)
    # It ends at once while nobody is there.
    began = time.monotonic()
    with running(*monitor(f"path={path},reconnect=1000"), "--pidfile", pidfile):
        until(lambda: os.path.exists(pidfile), "it waits for its peer")
    assert time.monotonic() - began < 100


def standard_input_and_output():
    with running("--chardev", "stdio,id=c", "--monitor", "chardev=c,pretty=on",
                 stdin=subprocess.PIPE, stdout=subprocess.PIPE) as p:
        lines = [p.stdout.readline() for _ in range(2)]
        assert [x.strip() for x in lines] == [b"{", b'"QMP": {'], lines
        p.stdin.write(b'{"execute": "qmp_capabilities"}{"execute": "quit"}')
        p.stdin.close()
        p.stdin = None
        rest = p.stdout.read()
        assert rest.count(b'"return": {}') == 2, rest
        assert p.wait(60) == 0


def refuses():
    refused("server=on", "exactly one of 'path', 'port' and 'fd' is needed")
    refused("path=x,port=1", "exactly one of 'path', 'port' and 'fd' is needed")
    refused("host=localhost", "no port given")
    refused("path=x,wait=off", "'wait' option is incompatible with socket in client connect mode")
    refused("path=x,server=on,reconnect=1", "'reconnect' option is incompatible")
    refused("path=x,mutant=1", "Parameter 'mutant' is unexpected")
    refused(f"path={TMP}/{'x' * 120},server=on,wait=off", "too long")
    refused("fd=999,server=on,wait=off", "999")
    refused("fd=999", "999")
    with open("/dev/null", "rb") as null:
        refused(f"fd={null.fileno()},server=on,wait=off", "is not a socket", [null.fileno()])
    refused("host=127.0.0.1,port=0,ipv4=off,ipv6=off,server=on,wait=off", "Cannot disable IPv4 and IPv6")
    for arguments, sentence in (
        (["--monitor", "chardev=c"], 'chardev "c" not found'),
        (["--chardev", "stdio,id=c", "--chardev", "stdio,id=c"], "Duplicate ID 'c' for chardev"),
        (["--chardev", "stdio,id=c,path=x"], "stdio takes no address"),
        (["--chardev", f"socket,id=c,path={TMP}/r,server=on,wait=off", "--monitor", "chardev=c",
          "--monitor", "chardev=c"], "Device 'c' is in use"),
        (["--chardev", f"socket,id=c,path={TMP}/r,server=on,wait=off", "--monitor", "chardev=c,mode=readline"],
         "only 'control' is"),
    ):
        done = subprocess.run([DAEMON, *arguments], stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
                              timeout=60, check=False)
        assert done.returncode == 1 and sentence in done.stderr.decode(), (arguments, done)
        assert not os.path.exists(f"{TMP}/r"), "a socket is left behind"


for part in (listens, waits_for_a_client, listens_on_a_passed_socket, speaks_over_a_passed_connection,
             connects_once, connects_again_and_again, standard_input_and_output, refuses):
    part()
