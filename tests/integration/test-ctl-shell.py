#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""ringblkctl's shell: lines from a pipe, and a terminal with completion, history, events, signals and servers that
end or misbehave; and the completion of bash."""
# selftest: builds=plain

import fcntl
import json
import os
import pty
import select
import signal
import struct
import termios
import threading

from ctl import CTL, GREETING, OK, ctl, fake
from harness import BUILD, TMP, daemon

SOURCE = os.environ["RINGBLK_SRC"]
STATE = f"{TMP}/state"
HISTORY = f"{STATE}/ringblk/history"
PROMPT = "ringblk> "


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, *command, **environment):
        self.process, self.fd = pty.fork()
        if self.process == 0:
            try:
                os.execvpe(command[0], command, {**os.environ, "TERM": "xterm", "LC_ALL": "C.UTF-8",
                                                 "XDG_STATE_HOME": STATE, "HOME": TMP, **environment})
            finally:
                os._exit(127)
        self.seen = ""  # what no expect() has taken yet

    def type(self, text):
        os.write(self.fd, text.encode())

    def read(self, seconds):
        """More of what it prints; False at its end."""
        if not select.select([self.fd], [], [], seconds)[0]:
            raise AssertionError(f"nothing more came after {self.seen!r}")
        try:
            data = os.read(self.fd, 65536)
        except OSError:  # EIO: it has gone
            data = b""
        self.seen += data.decode(errors="replace")
        return bool(data)

    def expect(self, text):
        """Wait until it prints text; what came before that."""
        while text not in self.seen:
            assert self.read(60), f"ended without {text!r}: {self.seen!r}"
        before, _, self.seen = self.seen.partition(text)
        return before

    def line(self, text, answer):
        """Type a line, wait for its answer and the next prompt."""
        self.type(text + "\r")
        self.expect(answer)
        self.expect(PROMPT)

    def end(self):
        """Wait for its end; (what it printed last, its wait status)."""
        while self.read(60):
            pass
        os.close(self.fd)
        return self.seen, os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])


def shell(path, *options):
    t = Terminal(CTL, "--socket", path, *options, "qmp")
    t.expect(PROMPT)
    return t


def assert_ended(t, wanted=0):
    said, status = t.end()
    assert status == wanted, f"{status}: {said}"


def pipe(d):
    """Lines from a pipe: one after another, until one fails."""
    path = d.qmp_path
    out = ctl("--json", "qmp", path=path, typed="# a comment\n\n  query-version\n"
              '{"execute": "query-named-block-nodes", "arguments": {"flat": true}}\nblock_resize node-name=raw size=8M')
    version, nodes, resized = map(json.loads, out.splitlines())
    assert "ringblk" in version["package"] and {n["node-name"] for n in nodes} == {"file", "raw"} and resized == {}
    assert os.stat(f"{TMP}/disk.raw").st_size == 8 << 20
    assert ctl("qmp", path=path) == "" and ctl("qmp", path=path, typed="exit\nnope\n") == ""
    text = ctl("qmp", path=path, typed="query-version\nnope\nblock_resize node-name=raw size=1M\n", status=1)
    assert text == "line 2: CommandNotFound: The command nope has not been found\n", text
    assert os.stat(f"{TMP}/disk.raw").st_size == 8 << 20, "it went on"
    for typed in ("query-version 'x\n", "{\n", "{}\n", '{"execute": 1}\n', "block_resize size\n"):
        assert ctl("qmp", path=path, typed=typed, status=2).startswith("ringblkctl: line 1: "), typed
    assert "help no-such" not in ctl("qmp", path=path, typed="help no-such\n", status=1)
    text = ctl("qmp", path=path, typed="help\nhelp block_resize\n")
    assert "query-named-block-nodes" in text and "size=<integer>" in text and "\r" not in text
    # What this program has no rows of is told from the server's schema.
    schema = json.dumps([{"name": "x", "meta-type": "command", "arg-type": "0", "ret-type": "0"},
                         {"name": "0", "meta-type": "object", "members": [{"name": "m", "type": "int"}]},
                         {"name": "int", "meta-type": "builtin", "json-type": "int"}])
    path = fake("schema", GREETING, OK, b'{"return": %s, "id": 2}\n' % schema.encode())
    assert ctl("qmp", path=path, typed="help x\n").split() == ["x", "m=<int>", "[needed]"]


def session(d):
    t = shell(d.qmp_path)
    t.type("block_\t")
    assert "block_passwd" in t.expect("block_resize")
    t.type("r\tnode-name=\t")
    assert "file" in t.expect("raw")
    t.line("ra\t size=4M", "{}")
    assert os.stat(f"{TMP}/disk.raw").st_size == 4 << 20
    t.line("blockdev-add driver=null-co node-name=n read-z\ton", "{}")
    t.type("blockdev-d\tnode-name=n\t\r")
    t.expect("{}")
    t.line("nope", "CommandNotFound: The command nope has not been found")
    t.line("query-version 'x", "a quote has no end")
    t.type("not this\x03")  # Ctrl-C gives a line up
    t.expect("^C\r\n" + PROMPT)
    t.line("help block_resize", "size=<integer>")
    t.line("object-add qom-type=secret id=s data=verysecret", "{}")
    # An event is shown while it waits for a key; what was typed stays.
    t.type("query-ver")
    ctl("qmp", "block-export-add", "type=nbd", "id=e", "node-name=raw", "name=e", path=d.qmp_path)
    ctl("qmp", "block-export-del", "id=e", path=d.qmp_path)
    t.expect('BLOCK_EXPORT_DELETED {"id": "e"}')
    t.expect(PROMPT + "query-ver")
    fcntl.ioctl(t.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 200, 0, 0))
    t.line("\t", '"package"')
    t.line("quit", "quit ends ringblkd itself")
    t.line("query-version", '"package"')
    t.line("quit", "quit ends ringblkd itself")  # said once more, as it was not at once
    t.type("\x04")  # Ctrl-D
    assert_ended(t)


def history(d):
    """Kept for the next shell, but no secrets; nobody else may read it."""
    with open(HISTORY) as f:
        lines = f.read().splitlines()
    assert lines[0].startswith("block_resize node-name=raw") and "nope" in lines, lines
    assert not any("verysecret" in line for line in lines), lines
    assert os.stat(HISTORY).st_mode & 0o777 == 0o600
    t = shell(d.qmp_path)
    t.type("\x1b[A\x1b[A")  # twice up: the line before the last one
    t.line("", '"package"')
    t.type("exit\r")
    assert_ended(t)
    # A shell works without.
    for environment, said in (({"XDG_STATE_HOME": "/dev/null/x"}, "Not a directory"),
                              ({"XDG_STATE_HOME": "", "HOME": ""}, "neither XDG_STATE_HOME nor HOME")):
        t = Terminal(CTL, "--socket", d.qmp_path, "qmp", **environment)
        t.expect("lines are not kept: ")
        t.expect(said)
        t.line("query-version", '"package"')
        t.type("exit\r")
        assert_ended(t)


def signals(d):
    for number in (signal.SIGTERM, signal.SIGHUP):
        t = shell(d.qmp_path)
        os.kill(t.process, number)
        assert_ended(t, -number)
    # A reply that does not come is given up on Ctrl-C, by the time limit only where one is said.
    asked = threading.Event()

    def say_nothing():
        asked.set()
        return b""

    t = shell(fake("slow", GREETING, OK, say_nothing, b'{"return": 1, "id": 2}\n{"return": "late", "id": 3}\n', stay=True))
    t.type("x\r")
    assert asked.wait(60)
    t.type("\x03")
    t.expect("No longer waiting")
    t.line("y", "late")
    t.type("exit\r")
    assert_ended(t)
    t = shell(fake("never", GREETING, OK, stay=True), "--timeout", "0.2")
    t.type("x\r")
    said, status = t.end()
    assert "does not answer" in said and status == 3, said


def bad_servers():
    for i, (last, said) in enumerate(((b"garbage\xff\n", "does not speak QMP"), (b"", "hung up"),
                                      (b'{"event": "E\\u001b[2J"}\n', "E\\x1b[2J"))):
        t = Terminal(CTL, "--socket", fake(f"bad{i}", GREETING, OK + last), "qmp")
        t.expect(said)
        assert_ended(t, 3)


def bash(d):
    """The completion file, in a bash on a terminal."""
    t = Terminal("bash", "--norc", "--noprofile", "-i", PATH=f"{BUILD}:{os.environ['PATH']}", PS1="bash> ",
                 RINGBLK_SOCKET=d.qmp_path, HISTFILE="")
    t.expect("bash> ")
    t.type(f"bind 'set enable-bracketed-paste off'; . {SOURCE}/tools/bash-completion/ringblkctl\r")
    t.expect("bash> ")
    for typed, wanted in (("ringblkctl --js\t exp\t", '"id"'),
                          (f"ringblkctl --socket {d.qmp_path} qmp block_r\tnode-name=r\t si\t2M", "{}"),
                          ("ringblkctl qmp blockdev-add driver=null-c\t,node-na\tb1,read-z\to\tn", "{}"),
                          ("ringblkctl qmp blockdev-d\tnode-n\tb\t", "{}"),
                          ("ringblkctl stats --no\t", "NODE")):
        t.type(typed + "\r")
        t.expect("\r\n" + wanted if wanted != '"id"' else wanted)
        t.expect("bash> ")
    assert os.stat(f"{TMP}/disk.raw").st_size == 2 << 20
    t.type("exit\r")
    assert_ended(t)


def ends():
    """The daemon ends while the shell waits: told to by it, and by others."""
    with daemon(name="quit") as d:
        t = shell(d.qmp_path)
        t.type("quit\r")
        t.expect("Once more")
        t.type("quit\r")
        said, status = t.end()
        assert status == 0 and "ringblkctl:" not in said, said
        assert d.process.wait(60) == 0
    with daemon(name="killed") as d:
        t = shell(d.qmp_path)
        d.process.terminate()
        t.expect("SHUTDOWN")
        t.expect("hung up; did ringblkd end?")
        assert_ended(t, 3)


with open(f"{TMP}/disk.raw", "wb") as f:
    f.truncate(1 << 20)
with daemon("--blockdev", f"driver=file,node-name=file,filename={TMP}/disk.raw",
            "--blockdev", "driver=raw,node-name=raw,file=file",
            "--nbd-server", f"addr.type=unix,addr.path={TMP}/d.nbd") as d:
    pipe(d)
    session(d)
    history(d)
    signals(d)
    ctl("qmp", "block-export-add", "type=nbd", "id=shown", "node-name=raw", "writable=on", path=d.qmp_path)
    bash(d)
bad_servers()
ends()
