#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# selftest: timeout=240
"""Every command, driver, export and object with arguments made from the schema and then spoilt: the daemon
stays, answers each request with a result of the promised type or with an error, an error changes nothing,
and when all is taken apart no descriptor and no memory is left.  The same for the command line, which ends
with status 1 and a sentence.

RINGBLK_SEED repeats a run, RUN_SECONDS says how long one takes.
"""

import collections
import contextlib
import json
import os
import random
import resource
import socket
import subprocess
import time

import rowfuzz
from harness import BUILD, TMP, Qmp, daemon

SEED = int(os.environ.get("RINGBLK_SEED", "0"))
FULL = os.environ.get("RINGBLK_FULL") == "1"
SECONDS = int(os.environ.get("RUN_SECONDS", "600" if FULL else "40"))
CLASSES = {"GenericError", "CommandNotFound", "DeviceNotFound", "DeviceNotActive", "KVMMissingCap"}
NEVER = {"quit"}
ROUND = 150          # requests between one taking apart and the next
REPLY_SECONDS = 60   # a busy machine, and sanitizers
FILE_MAX = 64 << 20  # bytes that the daemon may make a file long
# Bytes; AddressSanitizer keeps what is freed, and looks for leaks at the end.
GROWTH_MAX = (4096 if os.environ.get("RINGBLK_FLAVOUR") == "address" else 200) << 20

sent = collections.deque(maxlen=25)  # what was asked last, for the report


def limits():
    os.chdir(TMP)
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_MAX, FILE_MAX))


class Client(Qmp):
    def __init__(self, path):
        super().__init__(path)
        self.socket.settimeout(REPLY_SECONDS)
        self.number = 0

    def ask(self, document, fds=()):
        """Send the bytes of a request, return its reply."""
        sent.append(document)
        text = document + b"\n"
        if fds:
            text = text[socket.send_fds(self.socket, [text], fds):]
        self.socket.sendall(text)
        reply = self.reply()
        sent.append(json.dumps(reply)[:500].encode())
        return reply

    def catch_up(self):
        """After text that was no JSON: it may have been taken for several values, each with its error, or
        for the beginning of one, which the byte 0xFF breaks off."""
        self.socket.sendall(b'\xff{"execute": "query-version", "id": "marker"}\n')
        while (reply := self.reply()).get("id") != "marker":
            check_refused_text(reply)

    def many(self, *commands):
        """The results of several queries."""
        self.socket.sendall(b"".join(json.dumps({"execute": c, "arguments": a}).encode()
                                     for c, a in commands))
        return [self.reply()["return"] for _ in commands]


def snapshot(q):
    """What is there: nodes, exports, sets of descriptors, objects."""
    return q.many(("query-named-block-nodes", {"flat": True}), ("query-block-exports", {}),
                  ("query-fdsets", {}), ("qom-list", {"path": "/objects"}))


def settled(q):
    """The same once it rests: an export that goes may take its time."""
    now = snapshot(q)
    for _ in range(200):
        time.sleep(0.005)
        before, now = now, snapshot(q)
        if before == now and not any(x["shutting-down"] for x in now[1]):
            return now
    raise AssertionError("what was removed does not go")


def take_apart(q, servers):
    """Remove everything; a thing that stays is a failure."""
    for x in q.execute("query-block-exports", {}):
        q.ask(rowfuzz.dump({"execute": "block-export-del", "arguments": {"id": x["id"], "mode": "hard"}}))
    for identity in servers:
        q.ask(rowfuzz.dump({"execute": "nbd-server-stop",
                            "arguments": {} if identity is None else {"id": identity}}))
    settled(q)
    for _ in range(100):
        nodes = [n["node-name"] for n in snapshot(q)[0]]
        removed = [n for n in nodes if "return" in q.ask(rowfuzz.dump(
            {"execute": "blockdev-del", "arguments": {"node-name": n}}))]
        if not removed:
            break
    for _ in range(100):
        removed = [o for o in snapshot(q)[3] if o["type"].startswith("child<") and "return" in q.ask(
            rowfuzz.dump({"execute": "object-del", "arguments": {"id": o["name"]}}))]
        if not removed:
            break
    for s in q.execute("query-fdsets", {}):
        q.execute("remove-fd", {"fdset-id": s["fdset-id"]})
    left = snapshot(q)
    assert not left[0] and not left[1] and not any(o["type"].startswith("child<") for o in left[3]), left


def check_reply(g, command, identity, reply):
    assert reply.pop("id", None) == identity, (identity, reply)
    assert len(reply) == 1, reply
    if "error" in reply:
        error = reply["error"]
        assert set(error) == {"class", "desc"} and error["class"] in CLASSES and error["desc"], error
        return False
    g.conforms(reply["return"], g.commands[command]["ret-type"], command)
    return True


def descriptor_to_pass(rng):
    """One for getfd and add-fd, and a file object that keeps it open till it is sent."""
    if rng.random() < 0.5:
        return open(f"{TMP}/a.raw", "r+b")
    return socket.socket(socket.AF_UNIX)


def has_unknown(value):
    """Is there a member that no row has?  (What stands in a member `value` may have any.)"""
    if isinstance(value, list):
        return any(map(has_unknown, value))
    return isinstance(value, dict) and any(k in rowfuzz.UNKNOWN or k != "value" and has_unknown(v)
                                           for k, v in value.items())


def check_granted(document):
    with contextlib.suppress(ValueError):  # it is more generous than we are: 1e999
        assert not has_unknown(json.loads(document).get("arguments")), f"granted: {document[:500]}"


def server_of(document):
    return json.loads(document)["arguments"].get("id")


def set_up(q):
    """Something for requests to refer to."""
    q.execute("nbd-server-start", {"addr": {"type": "unix", "data": {"path": f"{TMP}/nbd"}}})
    q.execute("blockdev-add", {"driver": "file", "node-name": "n0", "filename": f"{TMP}/a.raw"})
    q.execute("blockdev-add", {"driver": "null-co", "node-name": "n1", "size": 1 << 20})
    q.execute("blockdev-add", {"driver": "raw", "node-name": "n2", "file": "n0"})


def one_round(d, g, commands):
    """Some requests of all kinds, on a connection of their own."""
    q = Client(d.qmp_path)
    set_up(q)
    servers, before = {None}, settled(q)
    granted = collections.Counter()
    for number in range(ROUND):
        command = next(commands)
        document = g.document(command, number)
        passed = []
        if command in ("getfd", "add-fd") and g.rng.random() < 0.7:
            passed = [descriptor_to_pass(g.rng)]
        reply = q.ask(document, [f.fileno() for f in passed])
        for f in passed:
            f.close()
        assert d.process.poll() is None, "the daemon is gone"
        if "id" not in reply:  # it was no JSON to the daemon
            check_refused_text(reply)
            q.catch_up()
            ok = False
        else:
            ok = check_reply(g, command, number, reply)
        granted[command] += ok
        if ok:
            check_granted(document)
        if ok and command == "nbd-server-start":
            servers.add(server_of(document))
        if not ok:
            after = snapshot(q)
            assert after == before, f"an error has changed something: {before} {after}"
        else:
            before = settled(q)
    take_apart(q, servers)
    q.close()
    return granted


def check_refused_text(reply):
    assert set(reply) == {"error"} and reply["error"]["class"] in CLASSES and reply["error"]["desc"], reply


def resident(d):
    with open(f"/proc/{d.process.pid}/statm", encoding="ascii") as f:
        return int(f.read().split()[1]) * resource.getpagesize()


def open_files(d, most=None):
    """What the daemon's descriptors lead to, but for those of its rings, which start when they are needed: at
    once, or as soon as there are no more than `most` (those that are being closed are closed)."""
    deadline = time.monotonic() + REPLY_SECONDS
    while True:
        found = []
        for number in os.listdir(f"/proc/{d.process.pid}/fd"):
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                found.append(os.readlink(f"/proc/{d.process.pid}/fd/{number}"))
        found = [f for f in found if f not in ("anon_inode:[eventfd]", "anon_inode:[io_uring]")]
        if most is None or len(found) <= most or time.monotonic() > deadline:
            return sorted(found)
        time.sleep(0.01)


def in_turn(rng, names):
    """All commands, again and again, each time in another order; those with many branches more often."""
    names = names + ["blockdev-add"] * 6 + ["block-export-add"] * 3 + ["object-add"] * 3
    while True:
        rng.shuffle(names)
        yield from names


def make_images():
    for name, size in (("a.raw", 1 << 20), ("b.raw", 513)):
        with open(f"{TMP}/{name}", "wb") as f:
            f.truncate(size)


def over_qmp(seconds):
    rounds, granted = 0, collections.Counter()
    with daemon(before=limits) as d:
        q = d.qmp()
        schema = q("query-qmp-schema")
        q.close()
        g = rowfuzz.generator(schema, SEED, TMP)
        make_images()
        commands = in_turn(g.rng, sorted(set(g.commands) - NEVER))
        one_round(d, g, commands)  # threads, pools and rings are there after it
        d.settled()
        at_first, size = open_files(d), resident(d)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            make_images()
            granted += one_round(d, g, commands)
            rounds += 1
            now = open_files(d, len(at_first))
            assert len(now) <= len(at_first), f"open are {now} and were {at_first}"
            assert resident(d) < size + GROWTH_MAX, f"memory grew from {size} to {resident(d)}"
    print(f"{rounds * ROUND} requests, {granted.total()} granted: {dict(granted)}")
    never = [c for c in ("blockdev-add", "blockdev-del", "block-export-add", "nbd-server-start", "object-add",
                         "block_resize", "add-fd") if not granted[c]]
    assert rounds < 20 or not never, f"the skeletons are wrong: never granted: {never}"
    return schema


# ---- the command line ----

def flat(value, key=b""):
    """key=value text of a document; None: it has none."""
    if isinstance(value, rowfuzz.Raw):
        value = value.strip(b'"')
        return None if b"\0" in value else [key + b"=" + value.replace(b",", b",,")]
    if isinstance(value, dict) or isinstance(value, list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        parts = [flat(v, (key + b"." if key else b"") + str(k).encode()) for k, v in items]
        return None if None in parts else [p for part in parts for p in part]
    text = {True: "on", False: "off", None: ""}.get(value, value) if not isinstance(value, str) else value
    return [key + b"=" + str(text).replace(",", ",,").encode(errors="replace")]


def chardev(g):
    """Rows of which QMP knows nothing."""
    o = {"backend": g.rng.choice(("socket", "stdio", "socket")), "id": "c"}
    for name, values in (("path", (f"{TMP}/c1",)), ("host", ("127.0.0.1",)), ("port", ("0", "x")),
                         ("fd", ("99999", "x")), ("server", (True, False)), ("abstract", (True,)),
                         ("reconnect", (0, 1)), ("to", (1, 65536)), ("nodelay", (True,))):
        if g.rng.random() < 0.3:
            o[name] = g.rng.choice(values)
    return o


OPTIONS = {"blockdev": "blockdev-add", "export": "block-export-add", "object": "object-add",
           "nbd-server": "nbd-server-start", "chardev": None}


def option(g, name):
    value = g.arguments(OPTIONS[name]) if OPTIONS[name] else chardev(g)
    if name == "nbd-server" and isinstance(value.get("addr"), dict):
        data = value["addr"].pop("data", {})
        value["addr"].update(data)
    if g.rng.random() < 0.7:
        value = g.spoilt(value)
    value = g.limit_latency(g.confine(value))
    text = flat(value)
    if text is None or g.rng.random() < 0.5:
        text = [rowfuzz.dump(value)]
    if g.rng.random() < 0.1:
        text.append(g.rng.choice((b",", b"=", b"a.", b".a=1", b"a.b.c", b"=x", b"x", b"a.0=1,a.b=2")))
    text = b",".join(text)
    return [b"--" + name.encode(), text[:100000].replace(b"\0", b"")]


def one_command_line(g):
    arguments = [f"{BUILD}/ringblkd".encode()]
    for _ in range(g.rng.choice((1, 1, 2, 3))):
        arguments += option(g, g.rng.choice(list(OPTIONS)))
    # Whatever was said before: this does not do, so it ends.
    arguments += [b"--export", b"type=nbd,id=last,node-name=no-such-node"]
    sent.append(b" ".join(arguments)[:5000])
    done = subprocess.run(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=REPLY_SECONDS, preexec_fn=limits)
    text = done.stdout.decode(errors="replace")
    assert done.returncode == 1, f"exit status {done.returncode}: {text}"
    assert text.strip() and "Sanitizer" not in text and "runtime error" not in text, text


def over_command_line(schema, seconds):
    g = rowfuzz.generator(schema, SEED + 1, TMP)
    deadline, count = time.monotonic() + seconds, 0
    while time.monotonic() < deadline:
        one_command_line(g)
        count += 1
    print(f"{count} command lines")


print(f"seed {SEED} (RINGBLK_SEED)")
make_images()
try:
    rows = over_qmp(SECONDS * 0.7)
    over_command_line(rows, SECONDS * 0.3)
except BaseException:
    for line in sent:
        print(f"    {line[:1500]!r}")
    raise
