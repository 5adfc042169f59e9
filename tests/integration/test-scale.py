#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# selftest: timeout=240 builds=plain
"""Many nodes and many exports: how long they take, what memory they cost, that it comes back; and that a daemon
which nobody asks anything does nothing.  The figures are printed; what is demanded leaves room for slow machines."""

import json
import os
import time

from harness import TMP, daemon

NODES = 10000
EXPORTS = 1000
MIB = 1 << 20


def status(d, name):
    """A line of /proc/PID/status, as a number."""
    with open(f"/proc/{d.process.pid}/status", encoding="ascii") as f:
        return next(int(line.split()[1]) for line in f if line.startswith(name + ":"))


def resident(d):
    return status(d, "VmRSS") << 10


def settled(d, limit):
    """Resident bytes, once idle memory has been given back (within some seconds)."""
    deadline = time.monotonic() + 60
    while resident(d) > limit and time.monotonic() < deadline:
        time.sleep(0.2)
    return resident(d)


def all_of(q, commands):
    """Send commands as fast as they are taken and look at every reply."""
    window = 100
    for at in range(0, len(commands), window):
        part = commands[at:at + window]
        q.send("".join(json.dumps({"execute": name, "arguments": arguments}) for name, arguments in part))
        for _ in part:
            reply = q.reply()
            assert "return" in reply, reply


def many_nodes(d):
    q = d.qmp()
    names = [f"null{i}" for i in range(NODES)]
    all_of(q, [("blockdev-add", {"driver": "null-co", "node-name": n, "size": MIB}) for n in names[:100]])
    all_of(q, [("blockdev-del", {"node-name": n}) for n in names[:100]])
    before = resident(d)
    began = time.monotonic()
    all_of(q, [("blockdev-add", {"driver": "null-co", "node-name": n, "size": MIB}) for n in names])
    added = time.monotonic()
    high = resident(d)
    assert len(q("query-named-block-nodes", flat=True)) == NODES + 1
    asked = time.monotonic()
    all_of(q, [("blockdev-del", {"node-name": n}) for n in names])
    seconds = added - began + time.monotonic() - asked
    assert [n["node-name"] for n in q("query-named-block-nodes")] == ["n"]
    q.close()
    after = settled(d, before + 5 * MIB)
    print(f"{NODES} nodes: {seconds:.2f} s to add and remove; {(high - before) / NODES / 1024:.1f} KiB each; "
          f"{(after - before) / MIB:.1f} MiB left behind")
    assert seconds < 60
    assert after <= before + 5 * MIB, (before, after)


def many_exports(d):
    q = d.qmp()
    before = resident(d)
    all_of(q, [("blockdev-add", {"driver": "null-co", "node-name": f"node{i}", "size": MIB}) for i in range(EXPORTS)])
    all_of(q, [("block-export-add", {"type": "nbd", "id": f"e{i}", "node-name": f"node{i}", "writable": True})
               for i in range(EXPORTS)])
    each = (resident(d) - before) / EXPORTS
    print(f"{EXPORTS} exports of {EXPORTS} nodes: {each / 1024:.1f} KiB each")
    assert each < 64 << 10
    assert len(q("query-block-exports")) == EXPORTS + 1
    all_of(q, [("block-export-del", {"id": f"e{i}"}) for i in range(EXPORTS)])
    all_of(q, [("blockdev-del", {"node-name": f"node{i}"}) for i in range(EXPORTS)])
    q.close()


def spent(d):
    """Ticks of processor time and switches of all threads."""
    ticks = switches = 0
    for task in os.listdir(f"/proc/{d.process.pid}/task"):
        with open(f"/proc/{d.process.pid}/task/{task}/stat", encoding="ascii") as f:
            fields = f.read().rsplit(") ", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
        with open(f"/proc/{d.process.pid}/task/{task}/status", encoding="ascii") as f:
            switches += sum(int(line.split()[1]) for line in f if "ctxt_switches" in line)
    return ticks, switches


def idle(d, what):
    """Nothing happens: not even a tick.  Timers that still give back memory get their time to end."""
    time.sleep(12)
    first, seconds = spent(d), 5
    time.sleep(seconds)
    last = spent(d)
    print(f"{what}: {last[0] - first[0]} ticks and {last[1] - first[1]} switches in {seconds} s, "
          f"{resident(d) / MIB:.1f} MiB resident")
    assert last[0] - first[0] <= 2
    assert last[1] - first[1] <= 10 * seconds


with daemon("--blockdev", "null-co,node-name=n,size=1048576", "--nbd-server", f"addr.type=unix,addr.path={TMP}/d.nbd",
            "--export", "type=nbd,id=e,node-name=n") as fresh:
    idle(fresh, "idle")
    assert resident(fresh) < 20 * MIB
    many_nodes(fresh)
    many_exports(fresh)
    idle(fresh, "idle again")
