#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""query-qmp-schema is sound in itself, describes its own answers, and says of every command and event
that the installed qemu-storage-daemon has too what that one says: programs probe for features there."""
# selftest: builds=plain

import os
import shutil
import subprocess
import sys
import time

from harness import TMP, Qmp, daemon

KINDS = {
    # meta-type: its members, and whether each must be there
    "builtin": {"json-type": True},
    "enum": {"members": True, "values": True},
    "array": {"element-type": True},
    "object": {"members": True, "tag": False, "variants": False},
    "alternate": {"members": True},
    "command": {"arg-type": True, "ret-type": True, "allow-oob": False},
    "event": {"arg-type": True},
}
JSON_TYPES = {"string", "number", "int", "boolean", "null", "object", "array", "value"}

# What qemu-storage-daemon has and ringblkd has not, or has otherwise; each with its reason.  A path is a
# command's or event's name, then members; "*" at the end stands for whatever follows.
EXCEPTIONS = {
    # What is to come, command by command and driver by driver, is counted in tests/lint/schema-todo.txt.
    "blockdev-add.driver=*": "not every driver is there yet",
    "blockdev-add<qcow2>.lazy-refcounts": "refcounts are never lazy",
    "blockdev-add<qcow2>.overlap-check": "there is one way to check",
    "blockdev-add<qcow2>.pass-discard-snapshot": "internal snapshots can't be deleted yet",
    "blockdev-add<qcow2>.refcount-cache-size": "few refcount blocks are kept",
    "blockdev-create.options<qcow2>*": "qcow2 images are not created yet",
    "blockdev-add<qcow2>.encrypt": "encrypted qcow2 images are refused yet",
    "block-export-add.type=*": "NBD is the only kind of export yet",
    "query-block-exports ->[].type=*": "NBD is the only kind of export yet",
    "query-jobs ->[].type=*": "not every kind of job is there yet",
    "block-export-add<nbd>.bitmaps[]": "there are no dirty bitmaps yet",
    "query-block ->[].inserted.image.format-specific": "no format has anything to tell yet",
    "query-blockstats ->[].driver-specific": "no driver has counters of its own yet",
    # What makes no sense here.
    "object-add.qom-type=*": "most kinds of objects belong to virtual machines",
    "object-add<secret>.loaded": "deprecated there, and without use",
    "object-add<tls-creds-anon>.loaded": "deprecated there, and without use",
    "object-add<tls-creds-psk>.loaded": "deprecated there, and without use",
    "object-add<tls-creds-x509>.loaded": "deprecated there, and without use",
    "qom-list ->[].default-value": "optional: no property has a default",
    "query-block ->[].inserted.image.snapshots[].icount": "optional: there is no guest whose instructions are counted",
    "query-block ->[].qdev": "optional: there are no guest devices",
    "query-blockstats ->[].qdev": "optional: there are no guest devices",
}


# ---- sound in itself ----

def demand(holds, where, what):
    if not holds:
        raise AssertionError(f"{where}: {what}")


def unique(names, where):
    demand(len(names) == len(set(names)), where, f"twice the same among {sorted(names)}")


def check_shape(info):
    where = info["name"]
    allowed = KINDS[info["meta-type"]]
    for key in info:
        demand(key in allowed or key in ("name", "meta-type", "features"), where, f"has {key}")
    for key, needed in allowed.items():
        demand(key in info or not needed, where, f"lacks {key}")
    demand(set(info.get("features", ["x"])) != set(), where, "an empty list of features")
    if info["meta-type"] == "builtin":
        demand(info["json-type"] in JSON_TYPES, where, info["json-type"])


def check_members(info, types):
    where = info["name"]
    names = [m["name"] for m in info["members"]]
    unique(names, where)
    for m in info["members"]:
        demand(set(m) <= {"name", "type", "default", "features"}, where, m)
        demand(m["type"] in types, where, f"member {m['name']} has unknown type {m['type']}")
        demand(m.get("default") is None, where, f"default of {m['name']}")
    demand(("tag" in info) == ("variants" in info), where, "a tag without variants, or these without")
    if "tag" not in info:
        return
    tag = next((m for m in info["members"] if m["name"] == info["tag"]), None)
    demand(tag and "default" not in tag, where, "its tag is no required member")
    values = types[tag["type"]]["values"]
    unique([v["case"] for v in info["variants"]], where)
    demand({v["case"] for v in info["variants"]} == set(values), where, "its variants are not the tag's values")
    for v in info["variants"]:
        branch = types.get(v["type"])
        demand(branch and branch["meta-type"] == "object", where, f"variant {v['case']} is no object")
        unique(names + [m["name"] for m in branch["members"]], f"{where} with {v['case']}")


def told_apart_by(info):
    """The kind of JSON value by which an alternate's member is known."""
    return {"enum": "string", "object": "object", "array": "array"}.get(info["meta-type"]) or info["json-type"]


def check_sound(schema):
    unique([info["name"] for info in schema], "schema")
    types = {i["name"]: i for i in schema if i["meta-type"] not in ("command", "event")}
    used = set()
    for info in schema:
        check_shape(info)
        for key in ("arg-type", "ret-type", "element-type"):
            if key in info:
                demand(info[key] in types, info["name"], f"unknown {key} {info[key]}")
                used.add(info[key])
        if "arg-type" in info:
            demand(types[info["arg-type"]]["meta-type"] == "object", info["name"], "arguments are no object")
        if info["meta-type"] == "array":
            demand(info["name"] == f"[{info['element-type']}]", info["name"], "a list's name")
        if info["meta-type"] == "object":
            check_members(info, types)
            used |= {m["type"] for m in info["members"]} | {v["type"] for v in info.get("variants", [])}
        if info["meta-type"] == "enum":
            unique(info["values"], info["name"])
            demand([m["name"] for m in info["members"]] == info["values"], info["name"], "members and values differ")
        if info["meta-type"] == "alternate":
            unique([told_apart_by(types[m["type"]]) for m in info["members"]], info["name"])
            used |= {m["type"] for m in info["members"]}
    unused = {n for n, i in types.items() if n not in used and i["meta-type"] != "builtin"}
    demand(not unused, "schema", f"types that nothing leads to: {unused}")


# ---- answers are what the schema says ----

def fits(value, name, types, where):
    info = types[name]
    kind = info["meta-type"]
    if kind == "builtin":
        python = {"string": str, "int": int, "number": (int, float), "boolean": bool, "null": type(None),
                  "value": object}[info["json-type"]]
        demand(isinstance(value, python) and (info["json-type"] not in ("int", "number") or
                                              not isinstance(value, bool)), where, f"{value!r} is no {name}")
    elif kind == "enum":
        demand(value in info["values"], where, f"{value!r} is none of {info['values']}")
    elif kind == "array":
        demand(isinstance(value, list), where, "no list")
        for i, element in enumerate(value):
            fits(element, info["element-type"], types, f"{where}[{i}]")
    elif kind == "object":
        demand(isinstance(value, dict), where, "no object")
        members = list(info["members"])
        inner = info
        while "tag" in inner:
            inner = types[next(v["type"] for v in inner["variants"] if v["case"] == value[inner["tag"]])]
            members += inner["members"]
        known = {m["name"]: m for m in members}
        for key in value:
            demand(key in known, where, f"member {key} is not in the schema")
        for key, m in known.items():
            demand(key in value or "default" in m, where, f"lacks {key}")
            if key in value:
                fits(value[key], m["type"], types, f"{where}.{key}")
    else:
        json_type = {str: "string", dict: "object", list: "array", bool: "boolean", int: "int",
                     type(None): "null"}[type(value)]
        m = [m for m in info["members"] if told_apart_by(types[m["type"]]) == json_type]
        demand(m, where, f"no alternative for {value!r}")
        fits(value, m[0]["type"], types, where)


def check_answers(q, schema):
    types = {info["name"]: info for info in schema}
    with open(f"{TMP}/image", "wb") as f:
        f.truncate(1 << 20)
    q.execute("blockdev-add", {"driver": "null-co", "node-name": "n", "size": 1 << 20})
    q.execute("blockdev-add", {"driver": "raw", "node-name": "r",
                               "file": {"driver": "file", "filename": f"{TMP}/image"}})
    q("nbd-server-start", addr={"type": "unix", "data": {"path": f"{TMP}/d.nbd"}})
    for node in ("n", "r"):
        q.execute("block-export-add", {"type": "nbd", "id": node, "node-name": node, "stats-intervals": [1, 60]})
    q("block-latency-histogram-set", id="r", boundaries=[1000])
    asked = 0
    for info in schema:
        if info["meta-type"] == "command" and info["name"].startswith("query-") and \
                all("default" in m for m in types[info["arg-type"]]["members"]):
            fits(q(info["name"]), info["ret-type"], types, info["name"])
            asked += 1
    assert asked > 5, asked
    ret = next(info["ret-type"] for info in schema if info["name"] == "query-blockstats")
    fits(q.execute("query-blockstats", {"query-nodes": True}), ret, types, "query-blockstats of nodes")


# ---- as qemu-storage-daemon has it ----

class Comparison:
    def __init__(self, theirs, ours):
        self.theirs = {i["name"]: i for i in theirs}
        self.ours = {i["name"]: i for i in ours}
        self.differ, self.seen, self.common = {}, set(), 0

    def complain(self, path, what):
        self.differ.setdefault(path, what)

    def run(self):
        for name, t in self.theirs.items():
            o = self.ours.get(name)
            if t["meta-type"] not in ("command", "event") or not o:
                continue
            self.common += 1
            if t["meta-type"] != o["meta-type"]:
                self.complain(name, f"{o['meta-type']}, not {t['meta-type']}")
                continue
            if t.get("allow-oob", False) and not o.get("allow-oob", False):
                self.complain(f"{name} (oob)", "may not run out of band")
            self.features(name, t, o)
            self.types(name, t["arg-type"], o["arg-type"], t["meta-type"] == "command")
            if "ret-type" in t:
                self.types(f"{name} ->", t["ret-type"], o["ret-type"], False)

    def features(self, path, t, o):
        for feature in set(t.get("features", [])) - set(o.get("features", [])):
            self.complain(f"{path} ({feature})", "lacks the feature")

    def types(self, path, theirs, ours, given):
        """given: clients send it, else they get it"""
        if (theirs, ours, given) in self.seen:
            return
        self.seen.add((theirs, ours, given))
        t, o = self.theirs[theirs], self.ours[ours]
        if t["meta-type"] != o["meta-type"]:
            self.complain(path, f"{o['meta-type']}, not {t['meta-type']}")
            return
        if t["meta-type"] == "builtin" and t["json-type"] != o["json-type"]:
            self.complain(path, f"{o['json-type']}, not {t['json-type']}")
        elif t["meta-type"] == "array":
            self.types(f"{path}[]", t["element-type"], o["element-type"], given)
        elif t["meta-type"] == "enum":
            for value in set(t["values"]) - set(o["values"]):
                self.complain(f"{path}={value}", "no such value")
        elif t["meta-type"] == "alternate":
            self.alternate(path, t, o, given)
        elif t["meta-type"] == "object":
            self.features(path, t, o)
            self.object(path, t, o, given)

    def alternate(self, path, t, o, given):
        choices = {told_apart_by(self.ours[m["type"]]): m["type"] for m in o["members"]}
        for m in t["members"]:
            kind = told_apart_by(self.theirs[m["type"]])
            if kind not in choices:
                self.complain(f"{path}|{kind}", "no such alternative")
            else:
                self.types(f"{path}|{kind}", m["type"], choices[kind], given)

    def object(self, path, t, o, given):
        members = {m["name"]: m for m in o["members"]}
        for m in t["members"]:
            name = f"{path}.{m['name']}"
            if m["name"] not in members:
                self.complain(name, "no such member")
                continue
            mine = members[m["name"]]
            if given and "default" in m and "default" not in mine:
                self.complain(f"{name} (optional)", "must be given")
            if not given and "default" not in m and "default" in mine:
                self.complain(f"{name} (optional)", "may be missing")
            self.features(name, m, mine)
            self.types(name, m["type"], mine["type"], given)
        if t.get("tag") != o.get("tag"):
            self.complain(path, f"its tag is {o.get('tag')}, not {t.get('tag')}")
            return
        variants = {v["case"]: v["type"] for v in o.get("variants", [])}
        for v in t.get("variants", []):
            if v["case"] in variants:  # else the tag's enum lacks the value
                self.types(f"{path}<{v['case']}>", v["type"], variants[v["case"]], given)


def excepted(path):
    for key in EXCEPTIONS:
        if path == key or (key.endswith("*") and path.startswith(key[:-1])):
            return key
    return None


def ask_storage_daemon():
    path = f"{TMP}/qsd.qmp"
    with subprocess.Popen(["qemu-storage-daemon", "--chardev", f"socket,id=c,path={path},server=on,wait=off",
                           "--monitor", "chardev=c", "--pidfile", f"{TMP}/qsd.pid"]) as process:
        try:
            deadline = time.monotonic() + 60
            while not os.path.exists(f"{TMP}/qsd.pid"):
                assert process.poll() is None and time.monotonic() < deadline, "qemu-storage-daemon does not start"
                time.sleep(0.02)
            q = Qmp(path)
            schema = q("query-qmp-schema")
            q.close()
            return schema
        finally:
            process.terminate()


def check_oracle(schema):
    comparison = Comparison(ask_storage_daemon(), schema)
    comparison.run()
    assert comparison.common > 15, comparison.common
    used = {excepted(path) for path in comparison.differ}
    complaints = [f"{path}: {what}" for path, what in sorted(comparison.differ.items()) if not excepted(path)]
    complaints += [f"{key}: an exception for nothing" for key in EXCEPTIONS if key not in used]
    assert not complaints, "\n" + "\n".join(complaints)


# ---- the checks themselves notice what they are for ----

def notices(fn, *arguments):
    try:
        fn(*arguments)
    except (AssertionError, KeyError):
        return True
    return False


def check_checks():
    def schema(**changes):
        infos = {
            "str": {"name": "str", "meta-type": "builtin", "json-type": "string"},
            "c": {"name": "c", "meta-type": "command", "arg-type": "0", "ret-type": "[str]"},
            "0": {"name": "0", "meta-type": "object", "tag": "t",
                  "members": [{"name": "t", "type": "1"}], "variants": [{"case": "a", "type": "2"}]},
            "1": {"name": "1", "meta-type": "enum", "members": [{"name": "a"}], "values": ["a"]},
            "2": {"name": "2", "meta-type": "object", "members": [{"name": "m", "type": "str"}]},
            "[str]": {"name": "[str]", "meta-type": "array", "element-type": "str"},
        }
        for name, change in changes.items():
            infos[name] = dict(infos[name], **change)
        return list(infos.values())

    assert not notices(check_sound, schema())
    for bad in ({"c": {"arg-type": "7"}}, {"c": {"ret-type": "7"}}, {"c": {"arg-type": "str"}},
                {"c": {"x": 1}}, {"2": {"members": [{"name": "m", "type": "7"}]}},
                {"2": {"members": [{"name": "t", "type": "str"}]}}, {"1": {"values": ["a", "b"]}},
                {"0": {"tag": "x"}}, {"[str]": {"element-type": "int"}}, {"c": {"name": "str"}}):
        assert notices(check_sound, schema(**bad)), bad
    optional = {"2": {"members": [{"name": "m", "type": "str", "default": None}]}}
    event = {"c": {"meta-type": "event"}}
    for theirs, ours, path in (({}, {"2": {"members": []}}, "c<a>.m"), ({}, {"c": {"ret-type": "str"}}, "c ->"),
                               (optional, {}, "c<a>.m (optional)"), (event, optional | event, "c<a>.m (optional)"),
                               ({}, {"1": {"values": []}}, "c.t=a"), ({}, event, "c"),
                               ({"1": {"features": ["f"]}, "2": {"features": ["f"]}}, {}, "c<a> (f)")):
        comparison = Comparison(schema(**theirs), schema(**ours))
        comparison.run()
        assert path in comparison.differ, (path, comparison.differ)


check_checks()
with daemon() as d:
    monitor = d.qmp()
    answer = monitor("query-qmp-schema")
    check_sound(answer)
    check_answers(monitor, answer)
    if shutil.which("qemu-storage-daemon"):
        check_oracle(answer)
    monitor.close()
if not shutil.which("qemu-storage-daemon"):
    print("sound, but there is no qemu-storage-daemon to compare with")
    sys.exit(77)
