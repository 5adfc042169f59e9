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
        qmp.close()
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

TREE = [
    ("qom-list", {"path": "/"}), ("qom-list", {"path": "/objects"}), ("qom-list", {"path": "objects"}),
    ("qom-list", {"path": "//objects//given"}), ("qom-list", {"path": "given"}),
    ("qom-list", {"path": "objects/given"}), ("qom-list", {"path": "/objects/given/x"}),
    ("qom-list", {"path": "/given"}), ("qom-list", {"path": ""}), ("qom-list", {}),
    get("given", "type"), get("given", "file"), get("given", "keyid"), get("sometimes", "rules"),
    get("sometimes", "policy"), get("io", "thread-pool-max"), get("none", "type"),
    ("qom-get", {"path": "/", "property": "objects"}), ("qom-get", {"path": "/objects", "property": "io"}),
    ("qom-get", {"path": "/objects", "property": "type"}), ("qom-get", {"path": "/objects", "property": "x"}),
    put_member("given", "type", "x"), put_member("none", "type", "x"), put_member("io", "nope", 1),
    put_member("io", "poll-max-ns", 5), get("io", "poll-max-ns"), put_member("io", "poll-max-ns", "x"),
    put_member("io", "poll-max-ns", None), put_member("io", "poll-max-ns", -1), get("io", "poll-max-ns"),
    put_member("sometimes", "policy", "allow"), put_member("sometimes", "policy", "maybe"),
    get("sometimes", "policy"),
    ("qom-set", {"path": "/objects", "property": "io", "value": "x"}),
    ("qom-list-properties", {"typename": "secret"}), ("qom-list-properties", {"typename": "authz-list"}),
    ("qom-list-properties", {"typename": "iothread"}), ("qom-list-properties", {"typename": "authz"}),
    ("qom-list-properties", {"typename": "container"}), ("qom-list-properties", {"typename": "nope"}),
    ("qom-list-types", {"implements": "secret"}), ("qom-list-types", {"implements": "container"}),
    ("qom-list-types", {"implements": "nope"}), ("qom-list-types", {"implements": 1}),
]
# What the two have that the other has not: places, types and properties.
OTHERS = {"chardevs", "loaded", "secret_keyring", "authz-listfile", "authz-list-file"}


def plain(answer):
    """Without order, help and what only one of the two has."""
    if isinstance(answer, harness.QmpError):
        return answer.kind
    if isinstance(answer, list):
        return sorted((i["name"], i.get("type"), i.get("parent"), i.get("abstract"))
                      for i in answer if i["name"] not in OTHERS)
    return answer


def tree(daemon):
    path = os.path.join(TMP, "tree.sock")
    process = subprocess.Popen([
        daemon, "--object", "secret,id=given,data=hello", "--object", "iothread,id=io",
        "--object", '{"qom-type": "authz-list", "id": "sometimes", "policy": "deny"}',
        "--chardev", f"socket,id=c,path={path},server=on,wait=off", "--monitor", "chardev=c"])
    try:
        for _ in range(300):
            if os.path.exists(path):
                break
            time.sleep(0.1)
        qmp = harness.Qmp(path)
        answers = []
        for step in TREE:
            try:
                answers.append(qmp.execute(*step))
            except harness.QmpError as error:
                answers.append(error)
        qmp.close()
    finally:
        process.terminate()
        process.wait(20)
    if os.path.exists(path):
        os.unlink(path)
    return answers


for step, our, peer in zip(TREE, tree(os.path.join(harness.BUILD, "ringblkd")), tree("qemu-storage-daemon")):
    assert plain(our) == plain(peer), (step, plain(our), plain(peer))

# Many clients make and remove the same object, whose file is read meanwhile: one at a time succeeds.
with harness.daemon("--object", "secret,id=given,data=hunter2") as d:
    types = {t["name"]: t for t in d.qmp()("qom-list-types", implements="authz", abstract=True)}
    assert set(types) == {"authz", "authz-simple", "authz-list", "authz-listfile"}, types
    assert types["authz"]["abstract"] and "abstract" not in types["authz-list"], types
    creatable = {t["name"] for t in d.qmp()("qom-list-types", implements="user-creatable")}
    assert {"secret", "iothread", "authz-simple"} <= creatable and "container" not in creatable, creatable
    clients = [d.qmp() for _ in range(8)]
    for _ in range(20):
        for q in clients:
            q.send('{"execute": "object-add", "arguments": {"qom-type": "secret", "id": "same", "file": "%s"}}\n'
                   % os.path.join(TMP, "text"))
        replies = [q.reply() for q in clients]
        assert sum("return" in r for r in replies) == 1, replies
        assert all("duplicate" in r["error"]["desc"] for r in replies if "error" in r), replies
        for q in clients:
            q.send('{"execute": "object-del", "arguments": {"id": "same"}}\n')
        assert sum("return" in q.reply() for q in clients) == 1
    q = clients[0]
    harness.fails("GenericError", "Property 'secret.data' is not writable", q.execute,
                  *put_member("given", "data", "x"))
    harness.fails("GenericError", "Property 'secret.file' is not writable", q.execute,
                  *put_member("given", "file", "x"))
    for q in clients:
        q.close()
    assert "hunter2" not in d.said()

for text, said in [
        ("secret,id=s", "Either 'file' or 'data' must be provided"),
        ("secret,data=x", "Parameter 'id' is missing"),
        ("secret,id=s,file=/nonexistent/x", "No such file or directory"),
        ('{"qom-type": "secret", "id": "s", "data": 1}', "expected: string"),
        ("nope,id=s", "does not accept value 'nope'")]:
    result = subprocess.run([os.path.join(harness.BUILD, "ringblkd"), "--object", text],
                            stderr=subprocess.PIPE, timeout=60, check=False)
    assert result.returncode == 1 and said in result.stderr.decode(), (text, result)
