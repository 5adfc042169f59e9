#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# selftest: timeout=240 builds=plain,address,thread
"""NBD servers, exports and nodes come and go from several QMP clients at once while NBD clients connect, negotiate,
read, write and vanish: each command does what it says or gives one of its errors, a stopped server has no exports,
every export that was made is told to be gone exactly once, and nothing is left of any of it."""

import contextlib
import os
import random
import re
import threading
import time

from harness import TMP, QmpError, daemon
from nbdclient import OPT_LIST, READ, WRITE, Client, HungUp, connect, warm

SEED = int(os.environ.get("RINGBLK_SEED", "1"))
SECONDS = 60 if os.environ.get("RINGBLK_FULL") == "1" else 8
SECOND = f"{TMP}/second.nbd"

done = threading.Event()
wrong = []
counts = {}
made = {}  # export: how often
refusals = {
    "nbd-server-start": ("NBD server 'two' already running", "Failed to bind socket to .*: No such file or directory"),
    "nbd-server-stop": ("NBD server not running",), "blockdev-add": (),
    "blockdev-del": ("Node c is in use",),
    "block-export-add": ("NBD server not running", "NBD server 'two' not running", "Block export id '.*' is already in use",
                         "NBD server already has export named '.*'", "Cannot find device='' nor node-name='c'"),
    "nbd-server-add": ("NBD server not running", "Block export id '.*' is already in use",
                       "NBD server already has export named '.*'", "Cannot find device.*c.*"),
    "block-export-del": ("Export '.*' is not found", "export '.*' still in use", "Export '.*' is already shutting down"),
    "nbd-server-remove": ("Export '.*' is not found", "export '.*' still in use", "Export '.*' is already shutting down"),
}


def act(q, command, **arguments):
    """Is it done?  If not, for a reason that it may have."""
    try:
        q(command, **arguments)
    except QmpError as error:
        assert error.kind == "GenericError" and any(re.fullmatch(r, error.text) for r in refusals[command]), (
            command, arguments, error)
        return False
    counts[command] = counts.get(command, 0) + 1
    return True


def default_server(d, q, rng):
    """There is one who starts and stops it."""
    assert act(q, "nbd-server-start", addr={"type": "unix", "data": {"path": d.nbd_path}})
    time.sleep(rng.choice((0, 0, 0.01, 0.1)))
    assert os.path.exists(d.nbd_path)
    assert act(q, "nbd-server-stop") and not os.path.exists(d.nbd_path)
    left = [x for x in q("query-block-exports") if x.get("server") is None]
    assert left == [], f"a stopped server has exports: {left}"


def second_server(d, q, rng):
    """Whoever comes first."""
    if rng.random() < 0.5:
        act(q, "nbd-server-start", id="two", addr={"type": "unix", "data": {"path": rng.choice((SECOND, f"{TMP}/no/x"))}})
    else:
        act(q, "nbd-server-stop", id="two")


def exports(d, q, rng, mine):
    """One export after the other, of a node that stays or of one that comes and goes."""
    node, name = rng.choice(("n", "f", "c")), rng.choice(("x", "y", mine))
    if rng.random() < 0.3:
        added = act(q, "nbd-server-add", device=node, name=mine, writable=True)
    else:
        server = {"server": "two"} if rng.random() < 0.3 else {}
        added = act(q, "block-export-add", type="nbd", id=mine, node_name=node, name=name, writable=node != "f",
                    **server)
    made[mine] = made.get(mine, 0) + added
    time.sleep(rng.choice((0, 0, 0, 0.02)))
    command, key = rng.choice((("block-export-del", "id"), ("nbd-server-remove", "name")))
    act(q, command, **{key: mine}, mode=rng.choice(("safe", "hard", "hard")))


def nodes(d, q, rng):
    assert act(q, "blockdev-add", driver="raw", node_name="c", file={"driver": "file", "filename": f"{TMP}/c.raw"})
    time.sleep(rng.choice((0, 0, 0.01)))
    while not act(q, "blockdev-del", node_name="c"):
        assert "c" in [n["node-name"] for n in q("query-named-block-nodes")], "a refused removal has removed it"
        act(q, "block-export-del", id=rng.choice(("e0", "e1", "e2")), mode="hard")
    assert "c" not in [n["node-name"] for n in q("query-named-block-nodes")]


def questions(d, q, rng):
    for command in ("query-block-exports", "query-block", "query-blockstats", "query-named-block-nodes", "query-yank",
                    "x-ringblk-query-in-flight"):
        q(command)


def client(d, rng):
    """An NBD client that is cut off at any time, or leaves at any time."""
    path = rng.choice((d.nbd_path, d.nbd_path, SECOND))
    with contextlib.suppress(HungUp, OSError, AssertionError, KeyError):
        if rng.random() < 0.2:
            with Client(path) as c:
                c.option(OPT_LIST)
            return
        with connect(path, rng.choice(("x", "y", "e0", "e1", "e2"))) as c:
            for _ in range(rng.choice((0, 1, 20, 2000))):
                kind = rng.choice((READ, WRITE))
                c.send(kind, rng.randrange(256) * 4096, 4096, b"r" * 4096 if kind == WRITE else b"")
                if rng.random() < 0.5:
                    c.socket.recv(1 << 20)
                if done.is_set():
                    return


def work(d, number, task, *arguments):
    rng = random.Random(SEED * 100 + number)
    try:
        if task is client:
            while not done.is_set():
                client(d, rng)
            return
        with contextlib.closing(d.qmp()) as q:
            q.socket.settimeout(100)
            while not done.is_set():
                task(d, q, rng, *arguments)
    except Exception as error:
        wrong.append(error)
        done.set()
        raise


def ends_under_way():
    """Told to stop while clients make things as fast as they can: all of that goes, too."""

    def make(d, number):
        with contextlib.suppress(OSError, EOFError, ValueError), contextlib.closing(d.qmp()) as q:
            for i in range(100000):
                for command, arguments in (
                        ("blockdev-add", {"driver": "file", "node-name": f"n{number}-{i}", "filename": f"{TMP}/f.raw"}),
                        ("nbd-server-start", {"addr": {"type": "unix", "data": {"path": d.nbd_path}}}),
                        ("block-export-add", {"type": "nbd", "id": f"n{number}-{i}", "node-name": f"n{number}-{i}"})):
                    with contextlib.suppress(QmpError):
                        q.execute(command, arguments)

    for turn in range(5):
        with daemon(name="ends") as d:
            makers = [threading.Thread(target=make, args=(d, n)) for n in range(4)]
            for m in makers:
                m.start()
            time.sleep(0.2 * turn)
        for m in makers:
            m.join(60)
            assert not m.is_alive(), "a client is not told of the end"


def main():
    for name in ("f.raw", "c.raw"):
        with open(f"{TMP}/{name}", "wb") as f:
            f.truncate(1 << 20)
    ends_under_way()
    with daemon("--blockdev", "driver=null-co,node-name=n,size=1048576",
                "--blockdev", f"driver=file,node-name=f,filename={TMP}/f.raw,read-only=on") as d:
        warm(d)
        with contextlib.closing(d.qmp()) as q:
            before = d.settled()
            tasks = [(default_server,), (second_server,), (second_server,), *[(exports, f"e{i}") for i in range(3)], (nodes,), (questions,)] + [(client,)] * 6
            threads = [threading.Thread(target=work, args=(d, i, *t)) for i, t in enumerate(tasks)]
            for t in threads:
                t.start()
            done.wait(SECONDS)
            done.set()
            for t in threads:
                t.join(120)
                assert not t.is_alive(), "somebody waits for ever"
            assert not wrong, wrong
            act(q, "nbd-server-stop", id="two")
            assert q("query-block-exports") == [] and len(q("query-named-block-nodes")) == 2
            q("query-version")
            told = {}
            for event in q.events:
                assert event["event"] in ("BLOCK_EXPORT_DELETED", "BLOCK_IO_ERROR"), event
                if event["event"] == "BLOCK_EXPORT_DELETED":
                    told[event["data"]["id"]] = told.get(event["data"]["id"], 0) + 1
            assert told == made, (told, made)
            assert d.settled(before) == before
    print(f"seed {SEED}: {counts}, {sum(made.values())} exports")
    assert min(counts.get(c, 0) for c in refusals) > 3, counts


if __name__ == "__main__":
    main()
