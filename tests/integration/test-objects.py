#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Objects over QMP and on the command line, beside qemu-storage-daemon, which must take and refuse the same."""
import base64
import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import harness  # noqa: E402

TMP = harness.TMP
KEY, IV = b"k" * 32, b"i" * 16


def b64(data):
    return base64.b64encode(data).decode()


SEALED = subprocess.run(
    ["openssl", "enc", "-aes-256-cbc", "-K", KEY.hex(), "-iv", IV.hex()],
    input=b"top secret", stdout=subprocess.PIPE, check=True).stdout


def put(name, text):
    path = os.path.join(TMP, name)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return path


def secret(name, **members):
    return "object-add", {"qom-type": "secret", "id": name, **members}


def sealed(name, data=SEALED, keyid="key", iv=IV):
    return secret(name, data=b64(data), format="base64", keyid=keyid, iv=b64(iv))


def get(name, member):
    return "qom-get", {"path": f"/objects/{name}", "property": member}


def put_member(name, member, value):
    return "qom-set", {"path": f"/objects/{name}", "property": member, "value": value}


os.mkfifo(os.path.join(TMP, "pipe"))
# A command, what ringblkd answers (a text: what the refusal says), and whether the peer agrees on taking it.
STEPS = [
    (secret("a", data="x"), {}, True),
    (secret("a", data="y"), "attempt to add duplicate property 'a' to object (type 'container')", True),
    (secret("b"), "Either 'file' or 'data' must be provided", True),
    (secret("b", data="x", file="y"), "'file' and 'data' are mutually exclusive", True),
    (secret("b", file=TMP + "/none"), "No such file or directory", True),
    (secret("b", file=TMP), "it is no regular file", True),
    (secret("b", file="/dev/zero"), "it is no regular file", None),  # the peer would never answer
    (secret("b", file=TMP + "/pipe"), "it is no regular file", None),
    (secret("b", data=3), "Invalid parameter type for 'data', expected: string", True),
    (secret("b", data="x", nope=1), "Parameter 'nope' is unexpected", True),
    (secret("9", data="x"), "Parameter 'id' expects an identifier", True),
    (secret("f", file=put("text", "from a file")), {}, True),
    (secret("key", data=b64(KEY), format="base64"), {}, True),
    (sealed("sealed"), {}, True),
    (sealed("b", keyid="nobody"), "object 'nobody' not found", True),
    (sealed("b", iv=b"short"), "the iv must be 16 bytes long, not 5", True),
    (sealed("b", keyid="a"), "the key 'a' must be 32 bytes long, not 1", True),
    (sealed("b", data=SEALED[:-1] + b"z"), "can't be decrypted", True),
    (sealed("b", data=SEALED[:-1]), "whole blocks of 16 bytes", True),
    (secret("b", data="!!", format="base64"), "is not valid base64", True),
    (("object-add", {"qom-type": "secret", "id": "old", "props": {"data": "x"}}), {}, None),
    (("object-add", {"qom-type": "nope", "id": "b"}),
     "Parameter 'qom-type' does not accept value 'nope'", True),
    (("object-add", {"qom-type": "authz-simple", "id": "one", "identity": "fred"}), {}, True),
    (("object-add", {"qom-type": "authz-simple", "id": "b"}), "Parameter 'identity' is missing", True),
    (("object-add", {"qom-type": "authz-list", "id": "many", "rules": [
        {"match": "f*", "policy": "allow", "format": "glob"}]}), {}, True),
    (("object-add", {"qom-type": "authz-listfile", "id": "file",
                     "filename": put("list.json", '{"policy": "allow", "rules": []}')}), {}, None),  # 7.2 knows it by another name
    (("object-add", {"qom-type": "authz-listfile", "id": "b",
                     "filename": put("bad.json", '["no list"]')}), "is no JSON object", None),
    (get("a", "format"), "raw", True),
    (get("a", "data"), "Property 'secret.data' is not readable", None),  # the peer shows it
    (get("one", "identity"), "fred", True),
    (get("one", "nope"), "Property 'authz-simple.nope' not found", True),
    (put_member("one", "identity", "joe"), {}, True),
    (get("one", "identity"), "joe", True),
    (put_member("one", "identity", 3), "Invalid parameter type for 'identity', expected: string", True),
    (get("one", "identity"), "joe", True),
    (("qom-list", {"path": "/nope"}), "Device '/nope' not found", True),
    (("object-del", {"id": "nobody"}), "object 'nobody' not found", True),
    (("object-del", {"id": "a"}), {}, True),
    (("object-del", {"id": "given"}), {}, True),
    (get("a", "format"), "Device '/objects/a' not found", True),
]


def run(daemon):
    """What a daemon answers to each step, and how many descriptors it holds at the end and at first."""
    path = os.path.join(TMP, "qmp.sock")
    process = subprocess.Popen([
        daemon, "--object", "secret,id=given,data=hello",
        "--chardev", f"socket,id=c,path={path},server=on,wait=off", "--monitor", "chardev=c"])
    answers = []
    try:
        for _ in range(300):
            if os.path.exists(path):
                break
            time.sleep(0.1)
        qmp = harness.Qmp(path)
        before = len(os.listdir(f"/proc/{process.pid}/fd"))
        for step, _, peer in STEPS:
            if peer is None and daemon == "qemu-storage-daemon":
                answers.append(None)
                continue
            try:
                answers.append(qmp.execute(*step))
            except harness.QmpError as error:
                answers.append(error)
        assert before == len(os.listdir(f"/proc/{process.pid}/fd")), "descriptors leaked"
    finally:
        process.terminate()
        process.wait(20)
    os.unlink(path) if os.path.exists(path) else None
    return answers


ours, peers = run(os.path.join(harness.BUILD, "ringblkd")), run("qemu-storage-daemon")
for (step, expected, agrees), our, peer in zip(STEPS, ours, peers):
    if isinstance(our, harness.QmpError):
        assert isinstance(expected, str) and expected in our.text, (step, our)
        if agrees:
            assert isinstance(peer, harness.QmpError) and peer.kind == our.kind, (step, our, peer)
    else:
        assert our == expected, (step, our)
        assert not agrees or our == peer, (step, our, peer)

for text, said in [
        ("secret,id=s", "Either 'file' or 'data' must be provided"),
        ("secret,data=x", "Parameter 'id' is missing"),
        ("secret,id=s,file=/nonexistent/x", "No such file or directory"),
        ('{"qom-type": "secret", "id": "s", "data": 1}', "expected: string"),
        ("nope,id=s", "does not accept value 'nope'")]:
    result = subprocess.run([os.path.join(harness.BUILD, "ringblkd"), "--object", text],
                            stderr=subprocess.PIPE, timeout=60, check=False)
    assert result.returncode == 1 and said in result.stderr.decode(), (text, result)
