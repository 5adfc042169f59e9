#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# selftest: timeout=500 builds=plain
"""Another kernel boots, and ringblkd does there what it does here: an NBD export on a unix socket."""

import os

import machine
from machine import run


def is_the_other_kernel():
    assert os.uname().nodename == "vm", os.uname()
    assert os.uname().release.startswith("6.12."), os.uname()


def bytes_go_in_and_out_over_nbd():
    import harness
    os.chdir(harness.TMP)
    with open("wanted", "wb") as f:
        f.write(os.urandom(4 << 20) + bytes(4 << 20))
    with open("image", "wb") as f:
        f.truncate(8 << 20)
    with harness.daemon("--blockdev", "driver=file,node-name=file,filename=image",
                        "--blockdev", "driver=raw,node-name=disk,file=file",
                        "--nbd-server", f"addr.type=unix,addr.path={harness.TMP}/d.nbd",
                        "--export", "type=nbd,id=disk,node-name=disk,writable=on") as d:
        run("nbdcopy", "--flush", "wanted", d.uri("disk"))
        run("cmp", "wanted", "image")
        run("nbdcopy", d.uri("disk"), "copy")
        run("cmp", "wanted", "copy")


machine.main([is_the_other_kernel, bytes_go_in_and_out_over_nbd])
