#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# selftest: timeout=600 builds=fuzz
"""Do the fuzzers, model checks and comparisons find anything?  One bug after the other is planted in a copy of
the sources, and the harness that is there to find it must fail.

The fast tier draws two of the bugs, the full one takes all.  RINGBLK_MUTANTS=WORD,... takes those of the
harnesses with these names.  The lint scripts have their own planted violations (lint/mutants.sh).  So have
test-gate, test-gate-toys, test-align, test-flush and test-virtual: each of them switches a fault on and demands that
its own search finds it."""

import collections
import os
import random
import re
import shutil
import signal
import subprocess
import time

SRC, BUILD, TMP = (os.environ[name] for name in ("RINGBLK_SRC", "RINGBLK_BUILD", "TEST_TMP"))
COPY, COPIED_BUILD = f"{TMP}/src", f"{TMP}/build"
SECONDS = 60  # for the harness to find it

Mutant = collections.namedtuple("Mutant", "harness file good bad")
MUTANTS = [
    Mutant("fuzz/fuzz-parse", "base/parse.c", "bytes = (whole << shift) +", "bytes = ((whole & 0xffff) << shift) +"),
    Mutant("fuzz/fuzz-json", "base/json-reader.c", r"r->escaped = c == '\\' && !r->escaped;" + "\n    return",
           r"r->escaped = c == '\\';" + "\n    return"),
    Mutant("fuzz/fuzz-row", "base/row.c", "*row_has(row, out) = *row_has(row, in);", "*row_has(row, out) = false;"),
    Mutant("fuzz/fuzz-address", "base/address.c", "offsetof(struct sockaddr_un, sun_path) + 1 + n;",
           "offsetof(struct sockaddr_un, sun_path) + n;"),
    Mutant("fuzz/fuzz-filename", "drivers/null.c", '"size", "read-zeroes", NULL', '"read-zeroes", NULL'),
    Mutant("fuzz/fuzz-probe", "block/probe.c", "i < count && offset < PROBE_BYTES",
           "i < 1 && i < count && offset < PROBE_BYTES"),
    Mutant("fuzz/fuzz-monitor", "qmp/monitor-request.c", 'json_object_object_get_ex(value, "id", &id))',
           'json_object_object_get_ex(value, "id", &id) && !err->code)'),
    Mutant("fuzz/fuzz-nbd", "exports/nbd-reply.c", "put_be16(done ? NBD_CHUNK_FLAG_DONE : 0)",
           "put_be16(NBD_CHUNK_FLAG_DONE)"),
    Mutant("unit/test-track", "block/track.c", "(t->serialising || other->serialising)",
           "(t->serialising && other->serialising)"),
    Mutant("integration/test-row-fuzz", "base/row-parse.c",
           """return member_error(p, at, name, "Parameter '%s' is unexpected%s");""", "continue;"),
    Mutant("integration/test-nbd-protocol", "exports/nbd-status.c", "NBD_CMD_FLAG_REQ_ONE ? 1 : EXTENTS_MAX",
           "NBD_CMD_FLAG_REQ_ONE ? 2 : EXTENTS_MAX"),
    Mutant("integration/test-storm", "block/root.c", "while (!g->shut && (item = list_pop_front(&g->waiting)))",
           "if (!g->shut && (item = list_pop_front(&g->waiting)))"),
    Mutant("integration/test-schema", "qmp/cmd-export.c", 'ROW_REQ(struct export_info, "node-name"',
           'ROW_REQ(struct export_info, "node_name"'),
    Mutant("integration/test-arguments", "base/row-parse.c", "\"Parameter '%s' is missing%s\"",
           "\"Parameter '%s' is lacking%s\""),
    Mutant("integration/test-nbdinfo", "exports/nbd-hello.c", "NBD_FLAG_SEND_FUA |", "0 |"),
]


def copy():
    """Sources and build with their times, so that make builds only what a bug changes."""
    def left_out(folder, names):
        return [n for n in names if n in (".git", "__pycache__", "autom4te.cache") or
                (folder == SRC and os.path.exists(f"{folder}/{n}/config.status")) or n == "build-test" or
                (folder != SRC and os.access(f"{folder}/{n}", os.X_OK) and folder.startswith(BUILD) and
                 os.path.isfile(f"{folder}/{n}") and n != "config.status")]

    shutil.copytree(SRC, COPY, ignore=left_out, symlinks=True)
    shutil.copytree(BUILD, COPIED_BUILD, ignore=left_out, symlinks=True)
    for folder, _, names in os.walk(COPIED_BUILD):
        for path in (f"{folder}/{n}" for n in names if n == "Makefile" or n.endswith(".Po")):
            with open(path, encoding="utf-8") as f:
                text = f.read()
            with open(path, "w", encoding="utf-8") as f:
                f.write(re.sub(rf"{re.escape(SRC)}(?=[/\s:]|$)", COPY, text, flags=re.M))


def program(harness):
    """What make has to build, and the command that runs the harness."""
    folder = harness.split("/")[0]
    if folder == "integration":
        return "ringblkd", [f"{SRC}/tests/{harness}.py"]
    path = f"tests/{harness}"
    if folder == "unit":
        return path, [f"{COPIED_BUILD}/{path}"]
    words = f"{SRC}/{path}.dict"
    os.makedirs(f"{TMP}/new", exist_ok=True)
    return path, [f"{COPIED_BUILD}/{path}", f"-seed={os.environ['RINGBLK_SEED']}", f"-max_total_time={SECONDS}",
                  "-timeout=10", "-error_exitcode=1", *([f"-dict={words}"] if os.path.exists(words) else []), f"{TMP}/new",
                  f"{SRC}/{path}.corpus"]


def finds(command):
    """Does it fail, or hang?"""
    tmp = f"{TMP}/t"
    os.mkdir(tmp)
    environment = {**os.environ, "RINGBLK_BUILD": COPIED_BUILD, "RINGBLK_FLAVOUR": "address", "TEST_TMP": tmp}
    with open(f"{TMP}/log", "wb") as log:
        child = subprocess.Popen(command, env=environment, cwd=tmp, stdout=log, stderr=log, start_new_session=True)
        try:
            return child.wait(2 * SECONDS) not in (0, 77)
        except subprocess.TimeoutExpired:
            return True
        finally:
            try:
                os.killpg(child.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            child.wait()
            shutil.rmtree(tmp)


def survives(mutant):
    """Plant the bug, build, run; is it still not found?"""
    path = f"{COPY}/{mutant.file}"
    with open(path, encoding="utf-8") as f:
        text = f.read()
    target, command = program(mutant.harness)
    with open(path, "w", encoding="utf-8") as f:
        f.write(text.replace(mutant.good, mutant.bad))
    try:
        subprocess.run(["make", "-s", "-j2", "CFLAGS=-O1 -g -Wno-error", target], cwd=COPIED_BUILD, check=True,
                       timeout=1200)
        return not finds(command)
    finally:
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)


def chosen():
    if os.environ.get("RINGBLK_MUTANTS"):
        words = os.environ["RINGBLK_MUTANTS"].split(",")
        return [m for m in MUTANTS if any(word in m.harness for word in words)]
    if os.environ["RINGBLK_FULL"] == "1":
        return MUTANTS
    return random.Random(int(os.environ["RINGBLK_SEED"])).sample(MUTANTS, 2)


def check_list():
    for mutant in MUTANTS:
        with open(f"{SRC}/{mutant.file}", encoding="utf-8") as f:
            assert f.read().count(mutant.good) == 1, f"{mutant.file} has changed: {mutant.good!r} is not there once"


def main():
    check_list()
    copy()
    alive = []
    for mutant in chosen():
        began = time.monotonic()
        alive += [mutant] * survives(mutant)
        outcome = "NOT FOUND" if mutant in alive else "found"
        print(f"{mutant.harness}: {outcome} in {time.monotonic() - began:.1f} s", flush=True)
        if mutant in alive:
            with open(f"{TMP}/log", encoding="utf-8", errors="replace") as f:
                print(f.read()[-1000:], flush=True)
    assert not alive, f"bugs that nobody finds: {alive}"


main()
