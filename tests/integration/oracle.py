# SPDX-License-Identifier: MIT
"""qemu-storage-daemon, to be asked the same as ringblkd: what users of the one expect of the other."""

import contextlib
import json
import shutil
import subprocess

from harness import Daemon, QmpError, daemon

PROGRAM = "qemu-storage-daemon"


class Oracle(Daemon):
    program = PROGRAM


def there():
    return shutil.which(PROGRAM) is not None


class Pair:
    """Both daemons, with a QMP client each.  .ours, .theirs: the clients; .daemons: the daemons."""

    def __init__(self, ours, theirs):
        self.daemons = (ours, theirs)
        self.ours, self.theirs = ours.qmp(), theirs.qmp()
        self.ends = ((self.ours, ours), (self.theirs, theirs))

    @staticmethod
    def answer(q, command, arguments):
        try:
            return q.execute(command, arguments)
        except QmpError as error:
            return error

    @staticmethod
    def local(arguments, d):
        """The word NBD in an address is the daemon's own socket."""
        return json.loads(json.dumps(arguments).replace('"NBD"', json.dumps(d.nbd_path)))

    def both(self, command, **arguments):
        arguments = {k.replace("_", "-"): v for k, v in arguments.items()}
        return [self.answer(q, command, self.local(arguments, d)) for q, d in self.ends]

    def good(self, command, **arguments):
        """Both do it, with the same result."""
        mine, reference = self.both(command, **arguments)
        for answer, who in ((mine, "ringblkd"), (reference, PROGRAM)):
            assert not isinstance(answer, QmpError), f"{who}: {command} {arguments}: {answer}"
        return mine, reference

    def refused(self, command, arguments, text=None, kind=None):
        """Both refuse it, with one class and one sentence; @text and @kind are ours where they are to
        differ from the reference's."""
        mine, reference = self.both(command, **arguments)
        assert isinstance(mine, QmpError), f"{command} {arguments} is not refused: {mine}"
        assert isinstance(reference, QmpError), f"{PROGRAM} takes {command} {arguments}: {reference}"
        wanted = reference.kind if kind is None else kind, reference.text if text is None else text
        assert (mine.kind, mine.text) == wanted, f"{command} {arguments}: {mine} rather than {wanted}"

    def close(self):
        self.ours.close()
        self.theirs.close()


@contextlib.contextmanager
def pair(*arguments):
    """ringblkd and qemu-storage-daemon side by side."""
    with daemon(*arguments) as ours:
        theirs = Oracle(*arguments, name="oracle")
        try:
            both = Pair(ours, theirs)
            yield both
            both.close()
        finally:
            theirs.process.terminate()
            try:
                theirs.process.wait(60)
            except subprocess.TimeoutExpired:
                theirs.process.kill()
                theirs.process.wait()
