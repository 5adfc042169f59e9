# SPDX-License-Identifier: MIT
"""A ringblkd of one's own, and a QMP client, for tests in Python."""

import contextlib
import json
import os
import socket
import subprocess
import time

BUILD = os.environ["RINGBLK_BUILD"]
TMP = os.environ["TEST_TMP"]


def receive(s, size):
    """Exactly so many bytes, or fewer when the peer hung up.  (MSG_WAITALL does not wait on a socket that
    has a timeout.)"""
    data = memoryview(bytearray(size))
    have = 0
    while have < size:
        piece = s.recv_into(data[have:])
        if not piece:
            break
        have += piece
    return bytes(data[:have])


class QmpError(Exception):
    def __init__(self, error):
        super().__init__(f"{error['class']}: {error['desc']}")
        self.kind = error["class"]
        self.text = error["desc"]


class Qmp:
    """One client; events that come between replies are kept in .events."""

    def __init__(self, path, negotiate=True):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(60)
        self.socket.connect(path)
        self.file = self.socket.makefile("rb")
        self.events = []
        self.greeting = self.read()
        if negotiate:
            self("qmp_capabilities")

    def read(self):
        line = self.file.readline()
        if not line:
            raise EOFError("the monitor hung up")
        return json.loads(line)

    def send(self, text):
        self.socket.sendall(text.encode() if isinstance(text, str) else text)

    def reply(self):
        while True:
            message = self.read()
            if "event" not in message:
                return message
            self.events.append(message)

    def __call__(self, command, **arguments):
        arguments = {k.replace("_", "-"): v for k, v in arguments.items()}
        return self.execute(command, arguments)

    def execute(self, command, arguments):
        self.send(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        reply = self.reply()
        if "error" in reply:
            raise QmpError(reply["error"])
        return reply["return"]

    def wait_event(self, name):
        while True:
            for event in self.events:
                if event["event"] == name:
                    self.events.remove(event)
                    return event
            self.events.append(self.read())

    def close(self):
        self.file.close()
        self.socket.close()


def fails(kind, text, call, *arguments, **keywords):
    """The call must fail with this class and this sentence (a part of it when it ends with ...)."""
    try:
        call(*arguments, **keywords)
    except QmpError as error:
        assert error.kind == kind, f"{error} is not a {kind}"
        if text.endswith("..."):
            assert error.text.startswith(text[:-3]), f"{error.text!r} is not {text!r}"
        else:
            assert error.text == text, f"{error.text!r} is not {text!r}"
        return
    raise AssertionError(f"no error: {arguments} {keywords}")


class Daemon:
    program = f"{BUILD}/ringblkd"

    def __init__(self, *arguments, name="d", before=None):
        self.qmp_path = f"{TMP}/{name}.qmp"
        self.nbd_path = f"{TMP}/{name}.nbd"
        self.pidfile = f"{TMP}/{name}.pid"
        self.log = open(f"{TMP}/{name}.log", "w+")
        self.process = subprocess.Popen(
            [self.program, *arguments,
             "--chardev", f"socket,id=qmp,path={self.qmp_path},server=on,wait=off",
             "--monitor", "chardev=qmp", "--pidfile", self.pidfile],
            stderr=self.log, stdout=self.log, preexec_fn=before)
        deadline = time.monotonic() + 60
        while not os.path.exists(self.pidfile):
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, "the daemon does not come up"
            time.sleep(0.02)

    def said(self):
        self.log.flush()
        with open(self.log.name) as f:
            return f.read()

    def qmp(self, negotiate=True):
        return Qmp(self.qmp_path, negotiate)

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def settled(self, wanted=None):
        """How many descriptors there are once the daemon is done with clients that left: waits a moment, or until
        they are no more than wanted."""
        deadline = time.monotonic() + (1 if wanted is None else 60)
        while (wanted is None or self.descriptors() > wanted) and time.monotonic() < deadline:
            time.sleep(0.02)
        return self.descriptors()

    def uri(self, name):
        return f"nbd+unix:///{name}?socket={self.nbd_path}"

    def stop(self):
        """SIGTERM must end it well, with nothing left behind and nothing to complain about."""
        self.process.terminate()
        status = self.process.wait(60)
        said = self.said()
        self.log.close()
        assert status == 0, f"exit status {status}: {said}"
        assert "ERROR: " not in said and "runtime error" not in said, said
        for path in (self.qmp_path, self.nbd_path, self.pidfile):
            assert not os.path.exists(path), f"{path} is left behind"


@contextlib.contextmanager
def daemon(*arguments, name="d", before=None):
    d = Daemon(*arguments, name=name, before=before)
    try:
        yield d
        d.stop()
    finally:
        if d.process.poll() is None:
            d.process.kill()
            d.process.wait()
