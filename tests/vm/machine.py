# SPDX-License-Identifier: MIT
"""Tests that need another kernel than this machine's: one file runs on both sides.

Started by the suite, main() boots an emulated machine and runs the same file again inside it, as root
of a kernel that the test may do anything to.  There main() runs the checks, one after the other in one
boot, and says how long each took.  Files under TEST_TMP are in the emulated machine's memory.
"""

import os
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
INSIDE = "RINGBLK_INSIDE_VM"

if INSIDE in os.environ:
    os.environ["TEST_TMP"] = tempfile.mkdtemp(dir="/run")
sys.path.insert(0, os.path.join(HERE, "..", "integration"))


def run(*command, **keywords):
    """Run a command that must succeed; return what it said."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300,
                          check=False, **keywords)
    assert done.returncode == 0, f"{command}: exit status {done.returncode}: {done.stdout}"
    return done.stdout


def refused(*command):
    """Run a command that must fail; return what it said."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300,
                          check=False)
    assert done.returncode != 0, f"{command} did not fail: {done.stdout}"
    return done.stdout


def wait_until(true, what, seconds=120):
    """Until true() is."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"waited {seconds} s in vain: {what}"
        time.sleep(0.05)


def main(checks, kernel="6.12", seconds=400, memory=1024):
    """Run the checks, which are functions, in a machine with that kernel."""
    if INSIDE not in os.environ:
        os.environ[INSIDE] = kernel
        command = [os.path.join(HERE, "vm-run"), "--kernel", kernel, "--timeout", str(seconds),
                   "--mem", str(memory), "--", sys.executable, "-B", os.path.abspath(sys.argv[0])]
        os.execv(command[0], command)
    for check in checks:
        began = time.monotonic()
        check()
        print(f"{time.monotonic() - began:6.1f} s  {check.__name__}", flush=True)
