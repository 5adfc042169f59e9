#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# selftest: timeout=240 builds=plain,address,thread
"""TLS in the NBD server, with clients that use GnuTLS (libnbd, qemu-img) and Python's OpenSSL: X.509 with and
without a client's certificate, pre-shared keys, nobody's names; who is let in; hostile and lazy clients."""

import os
import random
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time

import nbd

from harness import TMP, daemon, fails, receive
import nbdclient
from nbdclient import (ERR_INVALID, ERR_POLICY, ERR_TLS_REQD, OPT_ABORT, OPT_EXPORT_NAME, OPT_GO, OPT_INFO,
                       OPT_LIST, OPT_STARTTLS, OPT_STRUCTURED, REP_ACK)

SIZE = 8 << 20
SEED = int(os.environ.get("RINGBLK_SEED", "0"))


def run(*argv, **keywords):
    return subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120, check=False,
                          **keywords)


def must(*argv, **keywords):
    done = run(*argv, **keywords)
    assert done.returncode == 0, (argv, done.stdout.decode())
    return done.stdout.decode()


# ---- certificates ----

def authority(folder):
    os.makedirs(folder, exist_ok=True)
    must("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=test authority", "-addext", "keyUsage=critical,keyCertSign,cRLSign",
         "-keyout", f"{folder}/ca-key.pem", "-out", f"{folder}/ca-cert.pem")


def certificate(folder, authority_folder, role, subject, days="2", password=None):
    """DIR/ROLE-cert.pem and -key.pem."""
    key, request, out = (f"{folder}/{role}-{x}.pem" for x in ("key", "request", "cert"))
    os.makedirs(folder, exist_ok=True)
    must("openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-subj", subject,
         "-keyout", key, "-out", request, *(["-passout", f"pass:{password}"] if password else ["-nodes"]))
    with open(f"{folder}/extensions", "w", encoding="ascii") as f:
        f.write(f"basicConstraints=critical,CA:FALSE\nextendedKeyUsage={role}Auth\n"
                "keyUsage=digitalSignature\nsubjectAltName=DNS:localhost,IP:127.0.0.1\n")
    must("openssl", "x509", "-req", "-in", request, "-CA", f"{authority_folder}/ca-cert.pem",
         "-CAkey", f"{authority_folder}/ca-key.pem", "-CAcreateserial", "-days", days, "-out", out,
         "-extfile", f"{folder}/extensions")
    if folder != authority_folder:
        must("cp", f"{authority_folder}/ca-cert.pem", folder)


def make_files():
    authority(f"{TMP}/pki")
    certificate(f"{TMP}/pki", f"{TMP}/pki", "server", "/CN=localhost")
    certificate(f"{TMP}/alice", f"{TMP}/pki", "client", "/C=GB/O=Example, Home/CN=alice")
    certificate(f"{TMP}/bob", f"{TMP}/pki", "client", "/C=GB/O=Example/CN=bob")
    os.makedirs(f"{TMP}/nobody", exist_ok=True)
    must("cp", f"{TMP}/pki/ca-cert.pem", f"{TMP}/nobody")
    authority(f"{TMP}/other")
    certificate(f"{TMP}/mallory", f"{TMP}/other", "client", "/CN=alice")
    must("cp", f"{TMP}/pki/ca-cert.pem", f"{TMP}/mallory")  # trusts our server, is not trusted by it
    certificate(f"{TMP}/late", f"{TMP}/pki", "client", "/CN=late", days="-1")
    os.makedirs(f"{TMP}/psk", exist_ok=True)
    for folder, lines in (("psk", "alice:00112233445566778899aabbccddeeff\nbob:ffeeddccbbaa99887766554433221100\n"),
                          ("badpsk", "alice:ffffffffffffffffffffffffffffffff\ncarol:00112233445566778899aabbccddeeff\n")):
        os.makedirs(f"{TMP}/{folder}", exist_ok=True)
        with open(f"{TMP}/{folder}/keys.psk", "w", encoding="ascii") as f:
            f.write(lines)
    with open(f"{TMP}/disk.raw", "wb") as f:
        f.write(random.Random(SEED).randbytes(SIZE))


# ---- clients ----

def server(q, creds, **options):
    q.execute("nbd-server-start", {"addr": {"type": "unix", "data": {"path": f"{TMP}/tls.sock"}},
                                   "tls-creds": creds, **options})
    q.execute("block-export-add", {"type": "nbd", "id": "e", "node-name": "n", "name": "x", "writable": True})


def x509(folder, path=f"{TMP}/tls.sock"):
    h = nbd.NBD()
    h.set_tls(nbd.TLS_REQUIRE)
    h.set_tls_certificates(f"{TMP}/{folder}")
    h.set_tls_verify_peer(False)  # of a unix socket there is no host name to compare
    h.set_export_name("x")
    h.connect_unix(path)
    return h


def psk(user, folder="psk"):
    h = nbd.NBD()
    h.set_tls(nbd.TLS_REQUIRE)
    h.set_tls_psk_file(f"{TMP}/{folder}/keys.psk")
    h.set_tls_username(user)
    h.set_export_name("x")
    h.connect_unix(f"{TMP}/tls.sock")
    return h


def refused(connect, *arguments):
    try:
        h = connect(*arguments)
        h.pread(512, 0)  # TLS 1.3: a client hears of a refusal after its own end is done
    except nbd.Error:
        return
    raise AssertionError(f"let in: {arguments}")


def use(h):
    """All sizes, both ways, many at once; against a model."""
    rng = random.Random(SEED)
    model = bytearray(h.pread(SIZE, 0))
    with open(f"{TMP}/disk.raw", "rb") as f:
        assert bytes(model) == f.read()
    for _ in range(60):
        length = rng.choice((1, 511, 512, 4096, 16383, 16384, 16385, 70000, 300000, 1 << 20, 3 << 20))
        offset = rng.randrange(SIZE - length)
        if rng.random() < 0.5:
            data = rng.randbytes(length)
            h.pwrite(data, offset, nbd.CMD_FLAG_FUA if rng.random() < 0.2 else 0)
            model[offset:offset + length] = data
        else:
            assert h.pread(length, offset) == model[offset:offset + length], (length, offset)
    buffers = [(nbd.Buffer(65536), i * 65536) for i in range(SIZE // 65536)]
    cookies = [h.aio_pread(b, at) for b, at in buffers]
    while cookies:
        h.poll(-1)
        cookies = [c for c in cookies if not h.aio_command_completed(c)]
    for b, at in buffers:
        assert b.to_bytearray() == model[at:at + 65536], at
    h.flush()
    assert h.block_status is not None
    h.shutdown()
    with open(f"{TMP}/disk.raw", "rb") as f:
        assert f.read() == bytes(model)


# ---- the tests ----

def options(q):
    """What credentials and servers refuse, each leaving nothing behind."""
    def add(**members):
        q.execute("object-add", {"id": "bad", **{k.replace("_", "-"): v for k, v in members.items()}})

    for kind in ("tls-creds-x509", "tls-creds-psk"):
        fails("GenericError", "TLS credentials 'bad': Missing 'dir' property value", add, qom_type=kind)
        fails("GenericError", "TLS credentials 'bad': priority 'NORMAL:-VERS-TLS1.3' is not understood...", add,
              qom_type=kind, dir=TMP, priority="NORMAL:-VERS-TLS1.3")
    fails("GenericError", f"TLS credentials 'bad': cannot load '{TMP}/none/ca-cert.pem'...", add,
          qom_type="tls-creds-x509", dir=f"{TMP}/none", endpoint="server")
    fails("GenericError", "TLS credentials 'bad': cannot load certificate...", add,
          qom_type="tls-creds-x509", dir=f"{TMP}/alice", endpoint="server")  # has no server's certificate
    fails("GenericError", "TLS credentials 'bad': certificate...", add,
          qom_type="tls-creds-x509", dir=f"{TMP}/late", endpoint="client")
    add(qom_type="tls-creds-x509", dir=f"{TMP}/late", endpoint="client", sanity_check=False)
    q("object-del", id="bad")
    fails("GenericError", f"TLS credentials 'bad': cannot read '{TMP}/pki/keys.psk': No such file or directory", add,
          qom_type="tls-creds-psk", dir=f"{TMP}/pki", endpoint="server")
    fails("GenericError", f"TLS credentials 'bad': '{TMP}/psk/keys.psk' has no key of 'carol'", add,
          qom_type="tls-creds-psk", dir=f"{TMP}/psk", username="carol")
    add(qom_type="tls-creds-psk", dir=f"{TMP}/psk", username="bob")
    start = {"addr": {"type": "unix", "data": {"path": f"{TMP}/no.sock"}}}
    for members, text in (
            ({"tls-creds": "none"}, "No TLS credentials with id 'none'"),
            ({"tls-creds": "bad"}, "Expecting TLS credentials with a server endpoint"),
            ({"tls-creds": "alice"}, "Object with id 'alice' is not TLS credentials"),
            ({"tls-authz": "alice"}, "NBD server: 'tls-authz' needs 'tls-creds' as well"),
            ({"tls-creds": "x509", "tls-authz": "none"}, "object 'none' not found"),
            ({"tls-creds": "x509", "tls-authz": "psk"},
             "object 'psk' is of type 'tls-creds-psk', which authorizes nobody")):
        fails("GenericError", text, q.execute, "nbd-server-start", {**start, **members})
        assert not os.path.exists(f"{TMP}/no.sock")
    q("object-del", id="bad")


def stop(q):
    q("nbd-server-stop")


def certificates(q):
    server(q, "x509")
    fails("GenericError", "object 'x509' is in use, can not be deleted", q, "object-del", id="x509")
    use(x509("alice"))
    refused(x509, "nobody")
    refused(x509, "mallory")
    refused(x509, "late")
    h = x509("bob")
    assert h.pread(512, 0)
    assert "localhost" not in must("nbdinfo", "--size",
                                   f"nbds+unix:///x?socket={TMP}/tls.sock&tls-certificates={TMP}/alice"
                                   "&tls-verify-peer=false")
    tls = ["--object", f"tls-creds-x509,id=t,dir={TMP}/alice,endpoint=client"]
    image = f"driver=nbd,server.type=unix,server.path={TMP}/tls.sock,export=x,tls-creds=t,tls-hostname=localhost"
    must("qemu-img", "convert", *tls, "--image-opts", image, "-O", "raw", f"{TMP}/copy.raw")
    must("cmp", f"{TMP}/copy.raw", f"{TMP}/disk.raw")
    assert run("qemu-img", "info", "--object", f"tls-creds-x509,id=t,dir={TMP}/nobody,endpoint=client",
               "--image-opts", image).returncode != 0
    stop(q)
    server(q, "lenient")
    use(x509("nobody"))
    assert x509("mallory").pread(512, 0)  # nobody is asked for a certificate
    stop(q)
    server(q, "lenient", **{"tls-authz": "alice"})
    refused(x509, "alice")  # so nobody has a name
    stop(q)


def tcp(q):
    """The server's name counts; several connections at once."""
    q.execute("nbd-server-start", {"addr": {"type": "inet", "data": {"host": "127.0.0.1", "port": "0"}},
                                   "tls-creds": "x509"})
    q.execute("block-export-add", {"type": "nbd", "id": "e", "node-name": "n", "name": "x", "writable": True})
    port = next(int(line.split()[1].split(":")[1], 16) for line in listening(q))
    uri = f"nbds://localhost:{port}/x?tls-certificates={TMP}/alice"
    must("nbdcopy", f"--connections=4", uri, f"{TMP}/copy.raw")
    must("cmp", f"{TMP}/copy.raw", f"{TMP}/disk.raw")
    must("nbdcopy", f"{TMP}/copy.raw", uri)
    must("cmp", f"{TMP}/copy.raw", f"{TMP}/disk.raw")
    stop(q)


def listening(q):
    """Lines of /proc/net/tcp of sockets on which the daemon listens."""
    pid = q.daemon.process.pid
    inodes = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            target = os.readlink(f"/proc/{pid}/fd/{fd}")
        except OSError:
            continue
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    with open(f"/proc/{pid}/net/tcp", encoding="ascii") as f:
        return [line for line in f if line.split()[3] == "0A" and line.split()[9] in inodes]


def keys(q):
    server(q, "psk")
    use(psk("alice"))
    assert psk("bob").pread(512, 0)
    refused(psk, "alice", "badpsk")
    refused(psk, "carol", "badpsk")
    refused(x509, "alice")
    refused(nbd_plain)
    must("nbdinfo", "--size", f"nbds+unix://alice@/x?socket={TMP}/tls.sock&tls-psk-file={TMP}/psk/keys.psk")
    must("qemu-img", "info", "--object", f"tls-creds-psk,id=t,dir={TMP}/psk,username=bob,endpoint=client",
         "--image-opts", f"driver=nbd,server.type=unix,server.path={TMP}/tls.sock,export=x,tls-creds=t")
    stop(q)


def nbd_plain():
    h = nbd.NBD()
    h.set_tls(nbd.TLS_DISABLE)
    h.set_export_name("x")
    h.connect_unix(f"{TMP}/tls.sock")
    return h


def anonymous(q):
    server(q, "anon")
    must("qemu-img", "convert", "--object", "tls-creds-anon,id=t,endpoint=client", "--image-opts",
         f"driver=nbd,server.type=unix,server.path={TMP}/tls.sock,export=x,tls-creds=t",
         "-O", "raw", f"{TMP}/copy.raw")
    must("cmp", f"{TMP}/copy.raw", f"{TMP}/disk.raw")
    refused(x509, "alice")
    stop(q)


def identities(q):
    """Who is let in, and that a name is written as the peer writes it."""
    server(q, "x509", **{"tls-authz": "alice"})
    fails("GenericError", "object 'alice' is in use, can not be deleted", q, "object-del", id="alice")
    assert x509("alice").pread(512, 0)
    refused(x509, "bob")
    q("qom-set", path="/objects/alice", property="identity", value="C=GB,O=Example,CN=bob")
    assert x509("bob").pread(512, 0)
    refused(x509, "alice")
    stop(q)
    q("qom-set", path="/objects/alice", property="identity", value=ALICE)
    server(q, "psk", **{"tls-authz": "alice"})  # a key is no certificate
    refused(psk, "alice")
    stop(q)
    peer = subprocess.Popen([
        "qemu-storage-daemon", "--object", f"tls-creds-x509,id=t,dir={TMP}/pki,endpoint=server",
        "--object", '{"qom-type": "authz-simple", "id": "a", "identity": "%s"}' % ALICE.replace("\\", "\\\\"),
        "--blockdev", "null-co,node-name=n,size=1048576,read-zeroes=on",
        "--nbd-server", f"addr.type=unix,addr.path={TMP}/peer.sock,tls-creds=t,tls-authz=a",
        "--export", "nbd,id=e,node-name=n,name=x"])
    try:
        for _ in range(300):
            if os.path.exists(f"{TMP}/peer.sock"):
                break
            time.sleep(0.1)
        assert x509("alice", f"{TMP}/peer.sock").pread(512, 0)
        refused(x509, "bob", f"{TMP}/peer.sock")
    finally:
        peer.terminate()
        peer.wait(60)


ALICE = "C=GB,O=Example\\, Home,CN=alice"


def in_the_clear(q):
    """Before TLS only STARTTLS and ABORT are answered."""
    server(q, "lenient")
    path = f"{TMP}/tls.sock"
    with nbdclient.Client(path) as c:
        for option in (OPT_LIST, OPT_INFO, OPT_GO, OPT_STRUCTURED, 77):
            assert c.outcome(option, nbdclient.names("x") if option in (OPT_INFO, OPT_GO) else b"") == ERR_TLS_REQD
        assert c.outcome(OPT_STARTTLS, b"data") == ERR_INVALID
        assert c.outcome(OPT_ABORT) == REP_ACK
    try:
        with nbdclient.Client(path) as c:
            c.put(b"IHAVEOPT" + struct.pack(">II", OPT_EXPORT_NAME, 1) + b"x")
            c.get(1)
        raise AssertionError("answered in the clear")
    except nbdclient.HungUp:
        pass
    # Bytes that came with STARTTLS, in the clear, are no part of what TLS protects.
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(60)
        s.connect(path)
        receive(s, 18)
        s.sendall(struct.pack(">I", 3) + b"IHAVEOPT" + struct.pack(">II", OPT_STARTTLS, 0)
                  + b"IHAVEOPT" + struct.pack(">II", OPT_LIST, 0))
        answer = receive(s, 20)
        assert struct.unpack(">QIII", answer)[1:] == (OPT_STARTTLS, REP_ACK, 0)
        rest = b""
        try:
            while piece := s.recv(4096):
                rest += piece
        except ConnectionResetError:
            pass
        assert b"IHAVEOPT" not in rest and struct.pack(">Q", 0x3e889045565a9) not in rest, rest
    # Structured replies agreed upon in the clear are forgotten: here nothing can be, but twice TLS can't either.
    with tls_socket(path) as s:
        s.sendall(b"IHAVEOPT" + struct.pack(">II", OPT_STARTTLS, 0))
        assert struct.unpack(">QIII", s.recv(20))[2] == ERR_INVALID
    stop(q)
    q.execute("nbd-server-start", {"addr": {"type": "unix", "data": {"path": path}}})
    with nbdclient.Client(path) as c:
        assert c.outcome(OPT_STARTTLS) == ERR_POLICY
        assert c.outcome(OPT_LIST) == REP_ACK
    stop(q)


def tls_socket(path):
    """A TLS connection of Python's own, negotiation begun."""
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(60)
    s.connect(path)
    receive(s, 18)
    s.sendall(struct.pack(">I", 3) + b"IHAVEOPT" + struct.pack(">II", OPT_STARTTLS, 0))
    receive(s, 20)
    context = ssl.create_default_context(cafile=f"{TMP}/pki/ca-cert.pem")
    return context.wrap_socket(s, server_hostname="localhost")


def read_all(s, size):
    data = b""
    while len(data) < size:
        piece = s.recv(size - len(data))
        assert piece, "the server hung up"
        data += piece
    return data


def lazy_and_hostile(q):
    """Who stalls, breaks off or talks nonsense is cut off and hurts nobody."""
    server(q, "lenient", **{"handshake-max-seconds": 2})
    path = f"{TMP}/tls.sock"
    before = q.daemon.descriptors()
    good = x509("alice")
    hello = struct.pack(">I", 3) + b"IHAVEOPT" + struct.pack(">II", OPT_STARTTLS, 0)
    rng = random.Random(SEED)
    stalled = []
    for junk in (b"", b"\x16", b"\x16\x03\x01\x02", b"\x16\x03\x01\xff\xff", rng.randbytes(5000),
                 b"\x15\x03\x03\x00\x02\x02\x28", b"GET / HTTP/1.0\r\n\r\n"):
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(60)
        s.connect(path)
        s.sendall(hello)
        receive(s, 38)
        s.sendall(junk)
        stalled.append(s)
    assert good.pread(4096, 0)
    for s in stalled:  # each ends, at the latest with the time for a handshake
        try:
            while s.recv(4096):
                pass
        except ConnectionResetError:
            pass
        s.close()
    # A request right behind the negotiation, in the same record; then the connection is simply gone.
    for cut in (False, True):
        s = tls_socket(path)
        s.sendall(b"IHAVEOPT" + struct.pack(">II", OPT_EXPORT_NAME, 1) + b"x"
                  + b"".join(struct.pack(">IHHQQI", 0x25609513, 0, 0, i, 512 * i, 512) for i in range(50)))
        read_all(s, 10)
        for i in range(25 if cut else 50):
            assert struct.unpack(">IIQ", read_all(s, 16)) == (0x67446698, 0, i)
            read_all(s, 512)
        s.close()
    # A large write, broken off in the middle of its payload, and garbage instead of a record.
    for tail in (b"", rng.randbytes(100)):
        s = tls_socket(path)
        s.sendall(b"IHAVEOPT" + struct.pack(">II", OPT_EXPORT_NAME, 1) + b"x")
        read_all(s, 10)
        s.sendall(struct.pack(">IHHQQI", 0x25609513, 0, 1, 1, 0, 1 << 20) + bytes(300000))
        os.write(s.fileno(), tail) if tail else None
        s.close()
    # One that reads nothing of a great many replies.
    slow = tls_socket(path)
    slow.sendall(b"IHAVEOPT" + struct.pack(">II", OPT_EXPORT_NAME, 1) + b"x")
    read_all(slow, 10)
    slow.sendall(b"".join(struct.pack(">IHHQQI", 0x25609513, 0, 0, i, 0, 1 << 20) for i in range(100)))
    assert good.pread(SIZE, 0)
    for i in range(100):
        assert struct.unpack(">IIQ", read_all(slow, 16))[:2] == (0x67446698, 0)
        read_all(slow, 1 << 20)
    slow.close()
    good.shutdown()
    for _ in range(500):
        if q.daemon.descriptors() <= before:
            break
        time.sleep(0.02)
    assert q.daemon.descriptors() <= before, "descriptors are left open"
    stop(q)


def many(q):
    """Clients side by side, each with what it wrote."""
    server(q, "x509")

    def client(number):
        h = x509("alice")
        rng = random.Random(SEED + number)
        mine = number * (1 << 20)
        for _ in range(40):
            length = rng.choice((512, 4096, 100000))
            data, at = rng.randbytes(length), mine + rng.randrange((1 << 20) - length)
            h.pwrite(data, at)
            if h.pread(length, at) != data:
                failed.append(number)
        h.shutdown()

    failed = []
    threads = [threading.Thread(target=client, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failed, failed
    stop(q)


def main():
    make_files()
    with daemon("--object", f"tls-creds-x509,id=x509,dir={TMP}/pki,endpoint=server",
                "--object", f"tls-creds-x509,id=lenient,dir={TMP}/pki,endpoint=server,verify-peer=off",
                "--object", f"tls-creds-psk,id=psk,dir={TMP}/psk,endpoint=server",
                "--object", "tls-creds-anon,id=anon,endpoint=server",
                "--object", '{"qom-type": "authz-simple", "id": "alice", "identity": "%s"}'
                % ALICE.replace("\\", "\\\\"),
                "--blockdev", f"file,node-name=n,filename={TMP}/disk.raw") as d:
        q = d.qmp()
        q.daemon = d
        for test in (options, certificates, tcp, keys, anonymous, identities, in_the_clear, lazy_and_hostile, many):
            began = time.monotonic()
            test(q)
            print(f"{test.__name__}: {time.monotonic() - began:.1f} s", flush=True)
    # A key that is encrypted, and the command line.
    certificate(f"{TMP}/locked", f"{TMP}/pki", "server", "/CN=localhost", password="open sesame")
    creds = f"tls-creds-x509,id=t,dir={TMP}/locked,endpoint=server"
    arguments = ["--blockdev", "null-co,node-name=n,size=1048576", "--export", "nbd,id=e,node-name=n,name=x"]
    with daemon("--object", "secret,id=pw,data=open sesame", "--object", f"{creds},passwordid=pw",
                "--nbd-server", f"addr.type=unix,addr.path={TMP}/tls.sock,tls-creds=t", *arguments):
        assert x509("alice").get_size() == 1 << 20
    for password in ("", ",passwordid=wrong", ",passwordid=none"):
        done = run(f"{os.environ['RINGBLK_BUILD']}/ringblkd", "--object", "secret,id=wrong,data=no",
                   "--object", creds + password)
        assert done.returncode == 1 and b"TLS credentials 't'" in done.stdout, done


if __name__ == "__main__":
    sys.exit(main())
