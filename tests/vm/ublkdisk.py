# SPDX-License-Identifier: MIT
"""A fresh image as /dev/ublkb0, for tests that run in an emulated machine."""

import contextlib
import glob
import os

import machine  # first: it sets the stage for harness
import harness

assert machine

MIB = 1 << 20
NODES = ("--blockdev", "driver=file,node-name=file,filename=image,discard=unmap",
         "--blockdev", "driver=raw,node-name=disk,file=file,discard=unmap")


def image(size=64 * MIB):
    """A fresh sparse image."""
    os.chdir(harness.TMP)
    with contextlib.suppress(FileNotFoundError):
        os.unlink("image")
    with open("image", "wb") as f:
        f.truncate(size)


@contextlib.contextmanager
def disk(*arguments, size=64 * MIB, options="writable=on"):
    """A daemon that shows a fresh image as /dev/ublkb0."""
    image(size)
    with harness.daemon(*NODES, *arguments, "--export", f"type=ublk,id=d,node-name=disk,{options}") as d:
        assert d.qmp()("query-block-exports")[0]["device"] == "/dev/ublkb0"
        yield d
    assert nothing_left(), leftovers()


def leftovers():
    """What there is of ublk disks."""
    return glob.glob("/dev/ublk[bc]*") + glob.glob("/sys/block/ublk*")


def nothing_left():
    return not leftovers()


def allocated():
    """Bytes that the image takes."""
    return os.stat("image").st_blocks * 512


def read_sys(name):
    """What /sys says about the disk."""
    with open(f"/sys/block/ublkb0/{name}", encoding="ascii") as f:
        return f.read().strip()
