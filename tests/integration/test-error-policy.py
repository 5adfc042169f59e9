#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# selftest: timeout=240 builds=plain,address,thread
"""What an export does about a request that fails: report, ignore, stop.  A file system that is full, and a
limit on the size of files, make writes fail; freeing space and lifting the limit make them succeed.
"""

import contextlib
import os
import resource
import subprocess
import threading
import time

import nbdclient
from harness import TMP, QmpError, daemon, fails
from nbdclient import READ, WRITE

MIB = 1 << 20
IMAGE = f"{TMP}/image"
LIMIT = MIB  # bytes of a file beyond which nothing can be written while the limit is on
PAGE = b"\xa5" * 4096


def limit(d, on):
    top = LIMIT if on else resource.RLIM_INFINITY
    resource.prlimit(d.process.pid, resource.RLIMIT_FSIZE, (top, resource.RLIM_INFINITY))


def connect(d, name="x"):
    c = nbdclient.Client(d.nbd_path)
    c.go(name)
    return c


@contextlib.contextmanager
def serving(*exports, image=IMAGE):
    """A daemon with a raw file of 8 MiB, one NBD export of it for each (id, options)."""
    with open(image, "wb") as f:
        f.truncate(8 * MIB)
    with daemon("--blockdev", f"file,node-name=n,filename={image}", "--nbd-server",
                f"addr.type=unix,addr.path={TMP}/d.nbd",
                *(word for name, options in exports for word in
                  ("--export", f"nbd,id={name},node-name=n,name={name},writable=on{options}"))) as d:
        yield d


def on_disk(offset, size=4096):
    with open(IMAGE, "rb") as f:
        f.seek(offset)
        return f.read(size)


def status(q, name="x"):
    """(running, status, the export's io-status or None)"""
    said = q("query-status")
    device = next(x for x in q("query-block") if x["device"] == name)
    return said["running"], said["status"], device.get("io-status")


def silent(c, seconds=0.3):
    """No reply comes."""
    c.socket.settimeout(seconds)
    try:
        assert c.socket.recv(1) == b"never", "a reply came"
    except TimeoutError:
        pass
    c.socket.settimeout(60)


def reports():
    """The default: the client gets the error, and there is no io-status."""
    for options in ("", ",werror=auto", ",werror=report,rerror=report", ",werror=enospc"):
        with serving(("x", options)) as d, connect(d) as c:
            q = d.qmp()
            limit(d, True)
            assert c.error(WRITE, 2 * MIB, data=PAGE) == 28  # NBD has no word for EFBIG but ENOSPC
            event = q.wait_event("BLOCK_IO_ERROR")["data"]
            assert (event["device"], event["node-name"], event["operation"], event["action"]) == \
                ("x", "n", "write", "report"), event
            assert event["reason"] == "File too large" and ("nospace" in event) == ("enospc" in options), event
            assert status(q) == (True, "running", "ok" if "enospc" in options else None)
            limit(d, False)
            c.write(2 * MIB, PAGE)
            q.close()


def ignores():
    with serving(("x", ",werror=ignore")) as d, connect(d) as c:
        q = d.qmp()
        limit(d, True)
        c.write(2 * MIB, PAGE)
        event = q.wait_event("BLOCK_IO_ERROR")["data"]
        assert event["action"] == "ignore" and "nospace" not in event, event
        assert c.read(2 * MIB, 4096) == bytes(4096)
        q.close()


def stops():
    """The write that failed and all behind it wait, from all clients; every command still answers."""
    with serving(("x", ",werror=stop"), ("y", "")) as d, connect(d) as c, connect(d) as other, \
            connect(d, "y") as unhurt:
        q = d.qmp()
        assert status(q) == (True, "running", "ok") and status(q, "y")[2] is None
        limit(d, True)
        first = c.send(WRITE, 2 * MIB, data=PAGE)
        event = q.wait_event("BLOCK_IO_ERROR")["data"]
        assert (event["action"], event["nospace"]) == ("stop", False), event
        q.wait_event("STOP")
        assert status(q) == (False, "io-error", "failed")
        assert len([line for line in d.said().splitlines() if "has stopped" in line]) == 1, d.said()
        time.sleep(0.2)  # the other rings have been told, too
        behind = other.send(READ, 0, 4096)
        silent(c)
        silent(other)
        assert unhurt.read(0, 4096) == bytes(4096)

        q("block_resize", node_name="n", size=6 * MIB)
        fails("GenericError", "...", q, "block-export-del", id="x")
        fails("GenericError", "Export 'z' is not found", q, "x-ringblk-export-resume", id="z")
        fails("GenericError", "Export 'z' is not found", q, "x-ringblk-export-fail", id="z")
        q("query-block-exports"), q("query-blockstats"), q("query-named-block-nodes")

        q("cont")  # the limit is still there: it stops again
        q.wait_event("RESUME")
        q.wait_event("STOP")
        limit(d, False)
        q("x-ringblk-export-resume", id="x")
        q.wait_event("RESUME")
        assert other.take(READ, behind, 0, 4096).data == bytes(4096)
        error = c.take(WRITE, first, 2 * MIB, 4096).error
        assert error == 0, (error, q.events, d.said())
        assert on_disk(2 * MIB) == PAGE
        assert status(q) == (True, "running", "ok")
        q("cont"), q("x-ringblk-export-resume", id="x"), q("x-ringblk-export-fail", id="x")  # nothing to do
        c.write(4 * MIB, PAGE)
        stats = next(s for s in q("query-blockstats") if s.get("device") == "x")["stats"]
        assert (stats["wr_operations"], stats["failed_wr_operations"]) == (2, 0), stats
        q.close()


def fails_on_command():
    with serving(("x", ",werror=stop")) as d, connect(d) as c, connect(d) as other:
        q = d.qmp()
        limit(d, True)
        first = c.send(WRITE, 2 * MIB, data=PAGE)
        q.wait_event("STOP")
        time.sleep(0.2)
        behind = other.send(READ, 0, 4096)
        q("x-ringblk-export-fail", id="x")
        q.wait_event("RESUME")
        assert c.take(WRITE, first, 2 * MIB, 4096).error == 28
        reply = other.take(READ, behind, 0, 4096)
        assert reply.error == 28 or reply.data == bytes(4096)  # its ring may not have been told yet
        assert status(q) == (True, "running", "ok")
        assert c.read(0, 4096) == bytes(4096)
        q.close()


def only_errors(c):
    """What is still answered before the connection ends."""
    with contextlib.suppress(nbdclient.HungUp):
        while True:  # simple replies: magic, error, cookie
            assert c.get(16)[4:8] != bytes(4), "a write that failed is said to have succeeded"


def goes_while_stopped():
    """Removing the export, stopping the server, leaving, and stopping the daemon end what waits."""
    def removed(d, q, c):
        q("block-export-del", id="x", mode="hard")
        q.wait_event("BLOCK_EXPORT_DELETED")
        only_errors(c)
        assert q("query-status")["running"]

    def server_stopped(d, q, c):
        q("nbd-server-stop")
        only_errors(c)
        assert q("query-block-exports") == [] and q("query-status")["running"]

    def left(d, q, c):
        c.socket.close()
        deadline = time.monotonic() + 60
        while q("query-block")[0]["locked"]:
            assert time.monotonic() < deadline, "the client is not seen to have left"
        limit(d, False)
        q("cont")
        with connect(d) as again:  # it may be the same one, with newer data
            assert again.read(2 * MIB, 20 * 4096) == bytes(20 * 4096)

    def terminated(d, q, c):
        d.process.terminate()
        assert d.process.wait(60) == 0
        only_errors(c)

    for end in (removed, server_stopped, left, terminated):
        with contextlib.ExitStack() as stack:
            d = stack.enter_context(serving(("x", ",werror=stop")))
            q = d.qmp()
            c = connect(d)
            limit(d, True)
            for i in range(20):
                c.send(WRITE, 2 * MIB + i * 4096, data=PAGE)
            q.wait_event("STOP")
            end(d, q, c)
            c.socket.close()
            q.close()


@contextlib.contextmanager
def small_file_system():
    """A tmpfs of 2 MiB, or None where it can't be mounted."""
    folder = f"{TMP}/small"
    os.mkdir(folder)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2M", "none", folder], check=False,
                             capture_output=True).returncode == 0
    try:
        yield folder if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", folder], check=True)


def waits_for_space():
    """A thin image on a full file system: writers wait for space, and nothing is lost."""
    with small_file_system() as folder:
        if not folder:
            print("no tmpfs can be mounted: waits_for_space is left out")
            return
        with open(f"{folder}/filler", "wb") as f:
            f.write(bytes(MIB + MIB // 2))
        with serving(("x", ",werror=enospc"), image=f"{folder}/image") as d:
            q = d.qmp()

            def write(number):
                with connect(d) as c:
                    for i in range(64):
                        c.write((number * 64 + i) * 4096, bytes([number + 1]) * 4096)

            writers = [threading.Thread(target=write, args=(n,)) for n in range(4)]
            for w in writers:
                w.start()
            q.wait_event("STOP")
            assert status(q) == (False, "io-error", "nospace")
            assert q.wait_event("BLOCK_IO_ERROR")["data"]["nospace"] is True
            os.unlink(f"{folder}/filler")
            q("cont")
            for w in writers:
                w.join(60)
                assert not w.is_alive(), "a writer still waits"
            assert status(q) == (True, "running", "ok")
            q.close()
        with open(f"{folder}/image", "rb") as f:
            assert f.read(MIB) == b"".join(bytes([n + 1]) * 64 * 4096 for n in range(4))


def many_stops():
    """Writers against a limit that comes and goes, with edits of the graph all the while."""
    with serving(("x", ",werror=stop")) as d:
        q, watcher = d.qmp(), d.qmp()
        done = threading.Event()

        def write(number):
            with connect(d) as c:
                for i in range(300):
                    asked = [(c.send(WRITE, at, data=bytes([i % 251]) * 4096), at)
                             for at in range(number * MIB + LIMIT, number * MIB + LIMIT + 8 * 4096, 4096)]
                    left = dict(asked)
                    while left:  # replies come in any order
                        magic_error_cookie = c.get(16)
                        cookie = int.from_bytes(magic_error_cookie[8:], "big")
                        assert magic_error_cookie[4:8] == bytes(4) and left.pop(cookie) is not None

        def toggle():
            while not done.is_set():
                limit(d, True)
                time.sleep(0.002)
                limit(d, False)
                watcher("cont")
                time.sleep(0.002)
            limit(d, False)

        writers = [threading.Thread(target=write, args=(n,)) for n in range(4)]
        toggler = threading.Thread(target=toggle)
        for t in (*writers, toggler):
            t.start()
        for i in range(50):
            q("blockdev-add", driver="raw", node_name=f"r{i}", file="n", read_only=True)
            with contextlib.suppress(QmpError):
                q("block_resize", node_name="n", size=(8 + i % 3) * MIB)
            q("blockdev-del", node_name=f"r{i}")
        deadline = time.monotonic() + 100
        while any(w.is_alive() for w in writers):
            assert time.monotonic() < deadline, "a writer still waits"
            q("cont")
            time.sleep(0.01)
        done.set()
        toggler.join()
        q("cont")
        assert status(q) == (True, "running", "ok")
        q.close(), watcher.close()
    for n in range(4):
        assert on_disk(n * MIB + LIMIT, 8 * 4096) == bytes([299 % 251]) * (8 * 4096)


for test in (reports, ignores, stops, fails_on_command, goes_while_stopped, waits_for_space, many_stops):
    began = time.monotonic()
    test()
    print(f"{test.__name__}: {time.monotonic() - began:.1f} s", flush=True)
