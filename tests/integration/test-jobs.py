#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""blockdev-create of files, and the jobs' commands: the same answers, events and files as
qemu-storage-daemon gives, and where they differ, what is meant."""

import json
import os
import subprocess
import time

from harness import TMP, Daemon, Qmp, daemon, fails

SIZE = 1 << 20
PATH = f"{TMP}/a.img"
FILE = {"driver": "file", "filename": PATH, "size": SIZE}


class Session:
    """All that one daemon answers: replies, and the jobs' states in order."""

    def __init__(self, qmp):
        self.qmp = qmp
        self.log = []

    def ask(self, command, **arguments):
        arguments = {k.replace("_", "-"): v for k, v in arguments.items()}
        self.qmp.send(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        reply = self.qmp.reply()
        self.log.append(reply.get("error", reply.get("return")))
        return reply

    def create(self, job, **options):
        """The whole life of a creating job; a refused one has none."""
        if "error" in self.ask("blockdev-create", job_id=job, options=options):
            return
        while self.ask("query-jobs")["return"][0]["status"] != "concluded":
            self.log.pop()
            time.sleep(0.01)
        self.ask("job-dismiss", id=job)
        while len([e for e in self.qmp.events if e["data"]["status"] == "null"]) == 0:
            self.ask("query-jobs")
            self.log.pop()
        self.log.append([e["data"] for e in self.qmp.events])
        self.qmp.events.clear()
        if os.path.exists(PATH):
            self.log.append(("size", os.stat(PATH).st_size, oct(os.stat(PATH).st_mode)))
            os.unlink(PATH)


def script(s):
    """What both daemons are asked."""
    s.create("j", **FILE)
    s.create("j", **{**FILE, "size": 1000})
    s.create("j", **{**FILE, "preallocation": "full", "size": 3333333})
    s.create("j", **{**FILE, "preallocation": "falloc", "size": 77777})
    s.create("j", **{**FILE, "preallocation": "falloc", "size": 0})
    s.create("j", **{**FILE, "nocow": True, "extent-size-hint": 65536})
    s.create("j", **{**FILE, "extent-size-hint": 0})
    s.create("j", **{**FILE, "extent-size-hint": 1 << 40})
    s.create("j", **{**FILE, "preallocation": "falloc", "size": 1 << 60})
    s.create("j", **{**FILE, "size": 1 << 62})
    s.create("j", **{**FILE, "filename": "/nonexistent/x"})
    s.create("j", **{**FILE, "filename": TMP})
    s.create("1j", **FILE)
    s.create("", **FILE)
    s.create("j", driver="null-co")
    s.create("j", driver="raw")
    s.create("j", driver="host_device")
    s.create("j", driver="nope")
    s.create("j", driver="file")
    s.create("j", driver="file", filename=PATH)
    s.create("j", **{**FILE, "preallocation": "some"})
    s.create("j", **FILE, colour="red")
    s.ask("blockdev-create", job_id="j", options=FILE)
    while s.ask("query-jobs")["return"][0]["status"] != "concluded":
        s.log.pop()
    s.ask("blockdev-create", job_id="j", options=FILE)
    for verb in ("cancel", "pause", "resume", "complete", "finalize", "dismiss", "dismiss"):
        s.ask(f"job-{verb}", id="j")
    s.ask("job-pause")
    os.unlink(PATH)
    return s.log


def same_as_qemu():
    with daemon() as d:
        ours = script(Session(d.qmp()))
    path = f"{TMP}/qemu.sock"
    process = subprocess.Popen(["qemu-storage-daemon", "--chardev",
                                f"socket,id=c,path={path},server=on,wait=off", "--monitor", "chardev=c"])
    try:
        while not os.path.exists(path):
            assert process.poll() is None
            time.sleep(0.02)
        theirs = script(Session(Qmp(path)))
    finally:
        process.terminate()
        process.wait()
    for mine, other in zip(ours, theirs):
        assert mine == other, f"ringblkd says\n{mine}\nqemu-storage-daemon says\n{other}"
    assert len(ours) == len(theirs)


def create(qmp, job="j", **options):
    qmp("blockdev-create", job_id=job, options={**FILE, **options})
    while (info := qmp("query-jobs")[0])["status"] != "concluded":
        time.sleep(0.01)
    qmp("job-dismiss", id=job)
    return info.get("error")


def space_is_taken():
    with daemon() as d:
        qmp = d.qmp()
        assert create(qmp) is None
        assert os.stat(PATH).st_blocks == 0
        for preallocation in ("falloc", "full"):
            assert create(qmp, preallocation=preallocation) is None
            assert os.stat(PATH).st_blocks * 512 >= SIZE
        error = create(qmp, preallocation="metadata")
        assert error == "Unsupported preallocation mode 'metadata'", error


def an_image_in_use_is_left_alone():
    with open(PATH, "wb") as f:
        f.write(b"x" * SIZE)
    with daemon("--blockdev", f"file,node-name=n,filename={PATH}",
                "--nbd-server", f"addr.type=unix,addr.path={TMP}/d.nbd",
                "--export", "nbd,id=e,node-name=n,writable=on") as d:
        error = create(d.qmp())
        assert error == ('Failed to get "write" lock: is another process or node using the image '
                         f"'{PATH}'?"), error
    with open(PATH, "rb") as f:
        assert f.read() == b"x" * SIZE


def what_was_there_is_gone_and_the_file_keeps_its_mode():
    with open(PATH, "wb") as f:
        f.write(b"x" * 2 * SIZE)
    os.chmod(PATH, 0o600)
    with daemon() as d:
        assert create(d.qmp()) is None
    with open(PATH, "rb") as f:
        assert f.read() == bytes(SIZE)
    assert os.stat(PATH).st_mode & 0o777 == 0o600


def a_missing_descriptor_is_named():
    with daemon() as d:
        error = create(d.qmp(), filename="/dev/fdset/3")
        assert error.startswith("Could not open '/dev/fdset/3'"), error


def stopping_does_not_wait_for_terabytes_of_zeroes():
    """SIGTERM while zeroes are written: the job is cancelled and the file empty again."""
    d = Daemon()
    d.qmp()("blockdev-create", job_id="j", options={**FILE, "size": 1 << 43, "preallocation": "full"})
    while not os.path.exists(PATH) or os.stat(PATH).st_size == 0:
        time.sleep(0.01)
    d.stop()
    assert os.stat(PATH).st_size == 0


def a_job_can_be_cancelled():
    with daemon() as d:
        qmp = d.qmp()
        qmp("blockdev-create", job_id="j", options={**FILE, "size": 1 << 43, "preallocation": "full"})
        fails("GenericError", "Job 'j' in state 'running' cannot accept command verb 'dismiss'",
              qmp, "job-dismiss", id="j")
        qmp("job-cancel", id="j")
        while (info := qmp("query-jobs")[0])["status"] != "concluded":
            time.sleep(0.01)
        assert info["error"] == "Operation canceled", info
        assert os.stat(PATH).st_size == 0


for test in (same_as_qemu, space_is_taken, an_image_in_use_is_left_alone,
             what_was_there_is_gone_and_the_file_keeps_its_mode, a_missing_descriptor_is_named,
             stopping_does_not_wait_for_terabytes_of_zeroes, a_job_can_be_cancelled):
    print(test.__name__, flush=True)
    test()
    if os.path.exists(PATH):
        os.unlink(PATH)
