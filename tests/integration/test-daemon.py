#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# selftest: timeout=300 builds=plain,address
"""Start and stop of ringblkd when the surroundings are bad: signals at any moment, pidfiles and sockets of
living and dead daemons, the service manager, closed standard streams, low limits, places nobody may write to."""

import contextlib
import os
import random
import resource
import signal
import socket
import struct
import subprocess
import time

from harness import BUILD, TMP, Qmp
from nbdclient import READ, WRITE, HungUp, connect

RINGBLKD = f"{BUILD}/ringblkd"
MIB = 1 << 20


def fresh(name):
    folder = f"{TMP}/{name}"
    os.mkdir(folder)
    with open(f"{folder}/disk.raw", "wb") as f:
        f.truncate(8 * MIB)
    return folder


USUAL = ["--blockdev", "driver=file,node-name=f,filename=disk.raw", "--nbd-server", "addr.type=unix,addr.path=nbd.sock",
         "--export", "type=nbd,id=e,node-name=f,name=x,writable=on",
         "--chardev", "socket,id=c,path=qmp.sock,server=on,wait=off", "--monitor", "c", "--pidfile", "pid"]
WAITING = ["--chardev", "socket,id=w,path=wait.sock,server=on", "--monitor", "w"]  # not up before a client comes


def until(holds, process=None):
    deadline = time.monotonic() + 60
    while not holds():
        if process is not None and process.poll() is not None:
            raise AssertionError(f"it ended with {process.returncode}: {process.stderr and process.stderr.read()}")
        assert time.monotonic() < deadline, "it does not come"
        time.sleep(0.01)


@contextlib.contextmanager
def running(*arguments, cwd=TMP, up="pid", **keywords):
    """The daemon, once the file `up` is there; the caller ends it."""
    process = subprocess.Popen([RINGBLKD, *arguments], cwd=cwd, stderr=subprocess.PIPE, **keywords)
    try:
        until(lambda: os.path.exists(f"{cwd}/{up}"), process)
        yield process
    finally:
        process.kill()
        process.communicate()


def ended(process, status=0):
    """What it said on its way out."""
    said = process.communicate(timeout=60)[1].decode(errors="replace")
    assert process.returncode == status and "ERROR: " not in said and "runtime error" not in said, (process.returncode, said)
    return said


def failing(text, *arguments, cwd=TMP, **keywords):
    """It must end with status 1 and say this, and leave nothing behind."""
    before = sorted(os.listdir(cwd))
    done = subprocess.run([RINGBLKD, *arguments], cwd=cwd, stderr=subprocess.PIPE, stdout=subprocess.PIPE,
                          timeout=60, check=False, **keywords)
    said = done.stderr.decode(errors="replace")
    assert done.returncode == 1 and text in said, (arguments, done.returncode, said)
    assert sorted(os.listdir(cwd)) == before, (before, os.listdir(cwd))


def only_the_image(folder):
    assert os.listdir(folder) == ["disk.raw"], os.listdir(folder)


def signals_while_it_works():
    """Asked to stop several times, with a client that reads no answer and one that writes: what was answered
    stands in the image."""
    def block(i):
        return bytes([1 + i % 255]) * 4096

    for numbers in ((signal.SIGTERM, signal.SIGTERM, signal.SIGINT), (signal.SIGHUP, signal.SIGTERM)):
        folder = fresh(f"signals-{numbers[0]}")
        answered = []
        with running(*USUAL, cwd=folder) as process:
            with connect(f"{folder}/nbd.sock") as deaf, connect(f"{folder}/nbd.sock", style="simple") as c:
                deaf.put(b"".join(struct.pack(">IHHQQI", 0x25609513, 0, READ, i, 0, MIB) for i in range(200)))
                cookies = {c.send(WRITE, i * 4096, data=block(i)): i for i in range(500)}
                for number in numbers:
                    process.send_signal(number)
                with contextlib.suppress(HungUp):
                    while cookies:
                        _, error, cookie = struct.unpack(">IIQ", c.get(16))
                        i = cookies.pop(cookie)
                        if not error:
                            answered.append(i)
                ended(process)
        with open(f"{folder}/disk.raw", "rb") as f:
            for i in answered:
                f.seek(i * 4096)
                assert f.read(4096) == block(i), i
        only_the_image(folder)


def signals_that_change_nothing():
    folder = fresh("nothing")
    with running(*USUAL, cwd=folder) as process:
        for number in (signal.SIGPIPE, signal.SIGUSR1, signal.SIGXFSZ):
            process.send_signal(number)
        q = Qmp(f"{folder}/qmp.sock")
        q("query-version")
        q.close()
        process.terminate()
        assert "'signals'" in ended(process), "SIGUSR1 tells who waits"
    only_the_image(folder)


def stopped_at_start():
    """SIGTERM at any moment of the start: it ends well, or (before it could do anything) by the signal."""
    rng = random.Random(int(os.environ["RINGBLK_SEED"]))
    folder = fresh("start")
    arguments = [x for i in range(50) for x in ("--blockdev", f"driver=file,node-name=n{i},filename=disk.raw,read-only=on")]
    began = time.monotonic()
    with running(*arguments, *USUAL, cwd=folder) as process:
        takes = time.monotonic() - began
        process.terminate()
        ended(process)
    for _ in range(20):
        process = subprocess.Popen([RINGBLKD, *arguments, *USUAL], cwd=folder, stderr=subprocess.PIPE)
        time.sleep(rng.random() * takes)
        process.terminate()
        said = process.communicate(timeout=60)[1].decode()
        assert process.returncode in (0, -signal.SIGTERM), (process.returncode, said)
        assert "ERROR: " not in said and "runtime error" not in said and "unfinished" not in said, said
        only_the_image(folder)
    # What stands behind an option that waits is not begun any more.
    with running(*USUAL[:4], *WAITING, *USUAL[4:], cwd=folder, up="wait.sock") as process:
        process.terminate()
        ended(process)
    only_the_image(folder)


def pidfile():
    folder = fresh("pidfile")
    failing("cannot create the pidfile", "--pidfile", "no/such/folder", cwd=folder)
    failing("cannot create the pidfile", "--pidfile", ".", cwd=folder)
    failing("cannot write the pidfile '/dev/full'", "--pidfile", "/dev/full", cwd=folder)
    assert os.path.exists("/dev/full"), "it was not the daemon's to remove"
    failing("cannot write the pidfile", "--pidfile", "pid", cwd=folder,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)))
    # Of many that start at once one gets it.
    many = [subprocess.Popen([RINGBLKD, "--pidfile", "pid"], cwd=folder, stderr=subprocess.PIPE) for _ in range(6)]
    until(lambda: sum(p.poll() is None for p in many) == 1)
    until(lambda: os.path.exists(f"{folder}/pid") and os.path.getsize(f"{folder}/pid"))
    for process in many:
        if process.poll() is None:
            with open(f"{folder}/pid", encoding="ascii") as f:
                assert f.read() == f"{process.pid}\n"
            process.terminate()
            ended(process)
        else:
            assert "another daemon's" in ended(process, 1)
    only_the_image(folder)


def has_ended(pid):
    """It may stay a zombie where process 1 cares for no orphans."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as f:
            return f.read().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def daemonized():
    folder = fresh("daemonized")
    failing("No such file", "--daemonize", "--blockdev", "driver=file,node-name=f,filename=/no/such", cwd=folder)
    failing("cannot create the pidfile", "--daemonize", "--pidfile", "no/such/folder", cwd=folder)
    done = subprocess.run([RINGBLKD, "--daemonize", *USUAL], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, timeout=60, check=False)  # its pipes are at their end, too
    assert (done.returncode, done.stdout) == (0, b"") and b"ERROR" not in done.stderr, done
    with open(f"{folder}/pid", encoding="ascii") as f:
        pid = int(f.read())
    try:
        assert os.readlink(f"/proc/{pid}/cwd") == "/"
        assert {os.readlink(f"/proc/{pid}/fd/{i}") for i in range(3)} == {"/dev/null"}
        assert os.getsid(pid) == pid
        # Each of these is in use by the first one.
        failing("another daemon's", "--daemonize", "--pidfile", "pid", cwd=folder)
        failing("Failed to bind socket", "--daemonize", *USUAL[2:4], cwd=folder)
        failing("Failed to bind socket", "--daemonize", *USUAL[-6:-2], cwd=folder)
        with connect(f"{folder}/nbd.sock", "x") as c:
            c.write(0, b"d" * 4096)
    finally:
        os.kill(pid, signal.SIGTERM)
        until(lambda: has_ended(pid))
    only_the_image(folder)
    # The child is told to stop, or killed, before it is up: somebody waits for news of it.
    for number, text in ((signal.SIGTERM, "told to stop"), (signal.SIGKILL, "killed by signal 9")):
        parent = subprocess.Popen([RINGBLKD, "--daemonize", *WAITING], cwd=folder, stderr=subprocess.PIPE)
        until(lambda: os.path.exists(f"{folder}/wait.sock"), parent)
        with open(f"/proc/{parent.pid}/task/{parent.pid}/children", encoding="ascii") as f:
            os.kill(int(f.read()), number)
        assert text in ended(parent, 1)
        if number == signal.SIGTERM:
            only_the_image(folder)


def sockets():
    folder = fresh("sockets")
    with running(*USUAL, cwd=folder, preexec_fn=lambda: os.umask(0)):
        for name in ("nbd.sock", "qmp.sock"):
            assert os.stat(f"{folder}/{name}").st_mode & 0o777 == 0o600, name
    # That one was killed.  Its sockets and pidfile are in nobody's way ...
    assert sorted(os.listdir(folder)) == ["disk.raw", "nbd.sock", "pid", "qmp.sock"]
    os.unlink(f"{folder}/pid")
    with running(*USUAL, cwd=folder) as process:
        # ... those of a living daemon stay its own.
        failing("Failed to bind socket to 'nbd.sock'", *USUAL[2:4], cwd=folder)
        failing("Failed to bind socket to 'qmp.sock'", *USUAL[-6:-2], cwd=folder)
        failing("Failed to bind socket to 'qmp.sock'", "--qmp", "qmp.sock", "--nbd", "other.sock", "--read-only",
                "disk.raw", cwd=folder)
        Qmp(f"{folder}/qmp.sock").close()
        with connect(f"{folder}/nbd.sock", "x") as c:
            c.end()
        process.terminate()
        ended(process)
    only_the_image(folder)


def killed_and_started_again():
    """At once: the kernel is still busy with the dead one's rings, which hold its sockets."""
    folder = fresh("again")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    for _ in range(10):
        with running(*USUAL, "--nbd-server", f"id=t,addr.type=inet,addr.host=127.0.0.1,addr.port={port}", cwd=folder):
            with connect(f"{folder}/nbd.sock") as c:
                c.put(b"".join(struct.pack(">IHHQQI", 0x25609513, 0, READ, i, 0, 4096) for i in range(100)))
        os.unlink(f"{folder}/pid")  # that one was killed


def places_nobody_may_write_to():
    folder = fresh("places")
    image = ["--blockdev", "driver=file,node-name=f,filename=disk.raw"]
    for place in ("no/such/folder/s", "disk.raw/s", "/proc/s", "disk.raw", "x" * 200):
        for line in (["--nbd-server", f"addr.type=unix,addr.path={place}"],
                     ["--chardev", f"socket,id=c,path={place},server=on,wait=off", "--monitor", "c"],
                     ["--nbd", place, "--qmp", "q", "disk.raw"], ["--nbd", "n", "--qmp", place, "disk.raw"]):
            failing(place, *(image if line[0] != "--nbd" else []), *line, cwd=folder)
    assert os.path.getsize(f"{folder}/disk.raw") == 8 * MIB


def told_to_the_service_manager():
    folder = fresh("notify")
    for address in (f"{folder}/notify", f"@ringblk-test-{os.getpid()}"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(address.replace("@", "\0"))
            manager.settimeout(60)
            with running(*USUAL, *WAITING, cwd=folder, up="wait.sock",
                         env={**os.environ, "NOTIFY_SOCKET": address}) as process:
                manager.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    raise AssertionError(f"{manager.recv(100)} before it is up")
                manager.settimeout(60)
                q = Qmp(f"{folder}/wait.sock")
                assert manager.recv(100) == b"READY=1"
                assert os.path.exists(f"{folder}/pid")
                process.terminate()
                assert manager.recv(100) == b"STOPPING=1"
                ended(process)
                q.close()
    os.unlink(f"{folder}/notify")
    only_the_image(folder)
    # A manager that is gone is no reason to stop.
    with running(*USUAL, cwd=folder, env={**os.environ, "NOTIFY_SOCKET": f"{folder}/gone"}) as process:
        process.terminate()
        assert "cannot tell the service manager 'READY=1'" in ended(process)


def activated(arguments, sockets, names=None, for_whom="$$", cwd=TMP, **keywords):
    """A process that has these sockets as descriptors 3 and so on."""
    line = " ".join(f"{3 + i}<&{s.fileno()}" for i, s in enumerate(sockets))
    variables = f"LISTEN_PID={for_whom} LISTEN_FDS={len(sockets)}" + (f" LISTEN_FDNAMES={names}" if names else "")
    keep = [os.dup2(s.fileno(), 50 + i) for i, s in enumerate(sockets)]
    line = " ".join(f"{3 + i}<&{fd} {fd}<&-" for i, fd in enumerate(keep))
    try:
        return subprocess.Popen(["bash", "-c", f'export {variables}; exec "$@" {line}', "bash", RINGBLKD, *arguments],
                                cwd=cwd, pass_fds=keep, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, **keywords)
    finally:
        for fd in keep:
            os.close(fd)


def listening(path):
    s = socket.socket(socket.AF_UNIX)
    s.bind(path)
    s.listen()
    return s


def activation():
    folder = fresh("activation")
    nbd, qmp = listening(f"{folder}/a.nbd"), listening(f"{folder}/a.qmp")
    files = sorted(os.listdir(folder))
    plain = ["disk.raw", "--pidfile", "pid"]
    node = USUAL[:2] + ["--export", "type=nbd,id=e,node-name=f,name=disk.raw", "--pidfile", "pid"]
    chardev = ["--chardev", "socket,id=c,fd=qmp,server=on,wait=off", "--monitor", "c"]
    for arguments in (plain, ["--nbd-server", "addr.type=fd,addr.str=nbd", *chardev, *node],
                      ["--nbd-server", "addr.type=fd,addr.str=4", *chardev, *node]):
        process = activated(arguments, [qmp, nbd], "qmp:nbd", cwd=folder)
        try:
            with connect(f"{folder}/a.nbd", "disk.raw") as c:
                assert c.size == 8 * MIB
                c.end()
            q = Qmp(f"{folder}/a.qmp")
            assert [x["id"] for x in q("query-block-exports")] in (["e"], ["export1"])
            q("quit")
            q.close()
            ended(process)
        finally:
            process.kill()
            process.communicate()
        assert sorted(os.listdir(folder)) == files, "sockets of others were removed"

    def refuses(text, arguments, sockets, names=None, **keywords):
        assert text in ended(activated(arguments, sockets, names, cwd=folder, **keywords), 1)

    refuses("--nbd does not go with sockets passed", ["--nbd", "n", *plain], [nbd])
    refuses("--qmp does not go with sockets passed", ["--qmp", "q", *plain], [qmp, nbd], "qmp")
    refuses("nothing says what for", ["--pidfile", "pid"], [nbd])
    refuses("'nope' has not been found", ["--nbd-server", "addr.type=fd,addr.str=nope"], [nbd], "nbd")
    with open(f"{folder}/disk.raw", "rb") as f, socket.socket(socket.AF_UNIX) as deaf:
        refuses("is no listening socket", plain, [f])
        refuses("is no listening socket", plain, [deaf])
        refuses("is not a socket", ["--nbd-server", "addr.type=fd,addr.str=3"], [f])
    # Meant for somebody else.
    process = activated(["--nbd", "n", "--qmp", "q", *plain], [nbd], for_whom=1, cwd=folder)
    until(lambda: os.path.exists(f"{folder}/pid"), process)
    process.terminate()
    ended(process)
    nbd.close()
    qmp.close()


def closed_streams():
    """Whoever starts it without standard streams: the log must not be written into an image."""
    folder = fresh("streams")
    for closed in ("0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"):
        process = subprocess.Popen(["bash", "-c", f'exec "$@" {closed}', "bash", RINGBLKD, *USUAL], cwd=folder)
        try:
            until(lambda: os.path.exists(f"{folder}/pid"), process)
            streams = [os.readlink(f"/proc/{process.pid}/fd/{i}") for i in range(3)]
            for i in range(3):
                assert (f"{i}<&-" in closed or f"{i}>&-" in closed) <= (streams[i] == "/dev/null"), (closed, streams)
            process.send_signal(signal.SIGUSR1)  # this is logged
            q = Qmp(f"{folder}/qmp.sock")
            q("query-version")
            q.close()
            process.terminate()
            assert process.wait(60) == 0
        finally:
            process.kill()
            process.wait()
        with open(f"{folder}/disk.raw", "rb") as f:
            assert f.read() == bytes(8 * MIB)
        only_the_image(folder)


def limits_of(process):
    with open(f"/proc/{process.pid}/limits", encoding="ascii") as f:
        return {line[:26].strip(): line[26:].split()[:2] for line in f}


def limits():
    folder = fresh("limits")

    def low():
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, min(4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1])))
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, resource.getrlimit(resource.RLIMIT_MEMLOCK)[1]))

    with running(*USUAL, cwd=folder, preexec_fn=low) as process:
        for name in ("Max open files", "Max locked memory"):
            soft, hard = limits_of(process)[name]
            assert soft == hard, (name, soft, hard)
        process.terminate()
        assert ended(process) == ""
    # What can't be raised is told.  More clients than there is room for: they wait, the first ones work.
    with running(*USUAL, cwd=folder, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))) as process:
        first = Qmp(f"{folder}/qmp.sock")
        more = []
        for _ in range(100):
            s = socket.socket(socket.AF_UNIX)
            s.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                s.connect(f"{folder}/qmp.sock")
            more.append(s)
        first("query-version")
        first.execute("blockdev-add", {"driver": "null-co", "node-name": "n"})
        time.sleep(1)
        for s in more:
            s.close()
        last = Qmp(f"{folder}/qmp.sock")
        last("query-version")
        process.terminate()
        said = ended(process)
        assert "64 descriptors" in said and 1 <= said.count("Can't accept a QMP client") < 5, said
    if os.geteuid() == 0:  # who may lock memory without limit needs none
        done = subprocess.run(["setpriv", "--reuid", "65534", "--clear-groups", "prlimit", "--memlock=0:0", RINGBLKD,
                               "--pidfile", "/no/such/folder/pid"], stderr=subprocess.PIPE, timeout=60, check=False)
        said = done.stderr.decode()
        told = done.returncode == 1 and ("RLIMIT_MEMLOCK" in said or "pidfile" in said)
        assert told or "denied" in said, said  # he may not be let in to where the program lies


def log():
    """Where the journal reads along each line begins with its level; less important ones can be left out."""
    def said_with(*arguments, journal):
        reader, writer = os.pipe()
        st = os.fstat(writer)
        env = dict(os.environ)
        if journal:
            env["JOURNAL_STREAM"] = f"{st.st_dev}:{st.st_ino}"
        process = subprocess.Popen([RINGBLKD, *arguments], stderr=writer, stdout=subprocess.DEVNULL, env=env)
        os.close(writer)
        with os.fdopen(reader, encoding="utf-8") as f:
            said = f.read()
        assert process.wait(60) == 1
        return said

    def few_files():
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))

    wrong = ["--blockdev", "driver=file,node-name=f,filename=/no/such"]
    assert "\n<3>--blockdev: " in "\n" + said_with(*wrong, journal=True)
    assert "\nringblkd: error: --blockdev: " in "\n" + said_with(*wrong, journal=False)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for level, there in (("error", False), ("warning", True), ("info", True), ("debug", True)):
        done = subprocess.run([RINGBLKD, "--log-level", level, *wrong], stderr=subprocess.PIPE, timeout=60, check=False,
                              preexec_fn=few_files)
        said = done.stderr.decode()
        assert done.returncode == 1 and "error: --blockdev" in said and ("warning: " in said) == there, (level, said)
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == hard
    failing("--log-level takes error, warning, info or debug", "--log-level", "loud")


for test in (signals_while_it_works, signals_that_change_nothing, stopped_at_start, pidfile, daemonized, sockets,
             killed_and_started_again, places_nobody_may_write_to, told_to_the_service_manager, activation, closed_streams, limits, log):
    began = time.monotonic()
    test()
    print(f"{test.__name__}: {time.monotonic() - began:.1f} s", flush=True)
