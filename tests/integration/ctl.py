# SPDX-License-Identifier: MIT
"""ringblkctl for tests: run once, and servers that are none."""

import os
import socket
import subprocess
import threading

from harness import BUILD, TMP

CTL = f"{BUILD}/ringblkctl"
OK = b'{"return": {}, "id": 1}\n'
GREETING = b'{"QMP": {"version": {}, "capabilities": []}}\r\n'


def ctl(*arguments, status=0, path=None, typed="", env=os.environ, user=None, **environment):
    """Run it; what it printed, or when it is to fail what it complained.  typed: its standard input."""
    command = [CTL, *(["--socket", path] if path else []), *arguments]
    done = subprocess.run(command, input=typed.encode(), capture_output=True, timeout=60, user=user,
                          env={**env, "LC_ALL": "C.UTF-8", **environment})
    out, errors = done.stdout.decode(), done.stderr.decode()
    assert done.returncode == status, f"{command}: {done.returncode}: {out}{errors}"
    assert (errors == "") == (status == 0), f"{command}: {errors}"
    return out if status == 0 else errors


def fake(name, *answers, stay=False):
    """A server that sends the first answer at once, each next one for a line that comes (a function is called
    for it), and hangs up (or stays, and says no more)."""
    path = f"{TMP}/{name}"
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(path)
    listening.listen()

    def serve():
        with listening, listening.accept()[0] as s, s.makefile("rb") as lines:
            try:
                s.sendall(answers[0])
                for answer in answers[1:]:
                    lines.readline()
                    s.sendall(answer() if callable(answer) else answer)
                if stay:
                    lines.read()
            except OSError:
                pass

    threading.Thread(target=serve, daemon=True).start()
    return path
