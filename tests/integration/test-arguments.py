#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# selftest: timeout=240 builds=plain,address
"""Every argument of every command, driver, export and object, one at a time missing, of a wrong type, of a value
that its type has not, or unknown: class and sentence, that nothing has changed, that no descriptor is left.
Beside qemu-storage-daemon, which must say the same of what it knows."""

import contextlib

import oracle
from harness import QmpError, daemon

GE = "GenericError"
JSON = {"string": "x", "int": 1, "number": 1.5, "boolean": True, "null": None, "object": {}, "array": []}
DEPTH = 2  # of nodes in nodes
# Members that only ringblkd has.
OURS = [f"Parameter '{m}' is unexpected" for m in (
    "account-invalid", "account-failed", "stats-intervals", "request-deadline", "rerror", "werror", "server",
    "handshake-max-seconds", "id")]
OURS += [f"Parameter 'type' does not accept value '{kind}'" for kind in ("nbd-device", "ublk")]
# The reference takes names of bitmaps in two forms by now.
OURS.append("Parameter 'bitmaps[0].node' is missing")


class Rows:
    """The arguments as query-qmp-schema tells of them."""

    def __init__(self, q):
        self.types = {t["name"]: t for t in q("query-qmp-schema")}
        self.commands = {n: t["arg-type"] for n, t in self.types.items() if t["meta-type"] == "command"}

    def members(self, t, tag):
        found = list(t["members"])
        for v in t.get("variants", ()):
            if v["case"] == tag:
                found += self.types[v["type"]]["members"]
        return found

    def tags(self, t):
        """The values of a union's tag; [None] for a type that is no union."""
        if "tag" not in t:
            return [None]
        (kind,) = (m["type"] for m in t["members"] if m["name"] == t["tag"])
        return [m["name"] for m in self.types[kind]["members"]]

    def good(self, name, tag=None):
        """The smallest value of a type, of a union's branch @tag."""
        t = self.types[name]
        kind = t["meta-type"]
        if kind == "object":
            tag = tag or self.tags(t)[0]
            value = {m["name"]: self.good(m["type"]) for m in self.members(t, tag) if "default" not in m}
            return value if tag is None else dict(value, **{t["tag"]: tag})
        if kind == "alternate":
            forms = [m["type"] for m in t["members"]]
            return self.good("str" if "str" in forms else forms[0])
        return {"enum": lambda: t["members"][0]["name"], "array": list,
                "builtin": lambda: JSON.get(t["json-type"])}[kind]()

    def json_types(self, name):
        """The JSON types of a type's values."""
        t = self.types[name]
        kind = t["meta-type"]
        if kind == "alternate":
            return set().union(*(self.json_types(m["type"]) for m in t["members"]))
        if kind == "builtin" and t["json-type"] == "value":
            return set(JSON)
        found = {"enum": "string", "builtin": t.get("json-type")}.get(kind, kind)
        return {found, "int"} if found == "number" else {found}

    def spoilt(self, name, label, depth=0):
        """(a value with one fault, the sentences one of which is to be said of it) for a type; @label: its full
        name.  Enumerations and alternates go by their last name, as in the reference."""
        t = self.types[name]
        kind, last = t["meta-type"], label.split(".")[-1]
        expected = {"enum": [f"Invalid parameter type for '{label}', expected: string"],
                    "alternate": [f"Invalid parameter type for '{last}', expected: ..."],
                    "int": [f"Invalid parameter type for '{label}', expected: integer",
                            f"Parameter '{label}' expects uint64"]}
        sentences = expected.get(t.get("json-type"), expected.get(kind)) or [
            f"Invalid parameter type for '{label}', expected: {t.get('json-type', kind)}"]
        for other, value in JSON.items():
            if other not in self.json_types(name):
                yield value, sentences
        if kind == "enum":
            for value in ("", "nope", t["members"][0]["name"].upper() + "!"):
                yield value, [f"Parameter '{last}' does not accept value '{value}'"]
        elif kind == "array":
            for bad, wanted in self.spoilt(t["element-type"], f"{label}[0]", depth):
                yield [bad], wanted
        elif kind == "alternate" and depth < DEPTH:
            for m in t["members"]:
                if self.types[m["type"]]["meta-type"] == "object":
                    yield from self.spoilt_object(m["type"], label, depth + 1)
        elif kind == "object":
            yield from self.spoilt_object(name, label, depth)

    def spoilt_object(self, name, label, depth):
        t = self.types[name]
        dot = label + "." if label else ""
        for tag in self.tags(t):
            good = self.good(name, tag)
            yield dict(good, nope=1), [f"Parameter '{dot}nope' is unexpected"]
            for m in self.members(t, tag):
                if "default" not in m:
                    without = {k: v for k, v in good.items() if k != m["name"]}
                    yield without, [f"Parameter '{dot}{m['name']}' is missing"]
                for bad, wanted in self.spoilt(m["type"], dot + m["name"], depth):
                    yield dict(good, **{m["name"]: bad}), wanted


def state(q):
    return [q(c) for c in ("query-named-block-nodes", "query-block-exports", "query-block", "query-fdsets")] + [
        q("qom-list", path="/objects")]


def said(error, wanted):
    """Is it one of these sentences?  (A list: any of them; what ends in ... is the beginning.)"""
    return error.kind == GE and any(error.text == w or w.endswith("...") and error.text.startswith(w[:-3])
                                    for w in wanted)


def refused(q, command, bad, wanted):
    try:
        q.execute(command, bad)
    except QmpError as error:
        assert said(error, wanted), f"{command} {bad}: {error} rather than {wanted}"
        return error
    raise AssertionError(f"{command} {bad} is taken")


def same(mine, reference, where):
    """Both say the same, unless the reference does not know the member, or does not know its name either."""
    assert isinstance(reference, QmpError), f"{oracle.PROGRAM} takes {where}"
    if reference.text in OURS or "'null'" in reference.text:
        return
    assert (mine.kind, mine.text) == (reference.kind, reference.text), f"{where}: {mine} rather than {reference}"


def is_to_come(arguments):
    """Images of that driver can't be made yet, so there are no options for them."""
    options = arguments.get("options")
    return isinstance(options, dict) and options.get("driver") != "file"


def main():
    with contextlib.ExitStack() as stack:
        p = stack.enter_context(oracle.pair()) if oracle.there() else None
        d = p.daemons[0] if p else stack.enter_context(daemon())
        q = p.ours if p else d.qmp()
        rows = Rows(q)
        theirs = Rows(p.theirs).commands if p else ()
        before, descriptors, count = state(q), d.descriptors(), 0
        for command, arguments in sorted(rows.commands.items()):
            for bad, wanted in rows.spoilt_object(arguments, "", 0):
                mine = refused(q, command, bad, wanted)
                count += 1
                if command in theirs and not (command == "blockdev-create" and is_to_come(bad)):
                    same(mine, p.answer(p.theirs, command, bad), (command, bad))
            assert state(q) == before and d.descriptors() == descriptors, f"{command}: a refusal has changed something"
        shared = len(rows.commands.keys() & set(theirs))
        print(f"{count} refusals of {len(rows.commands)} commands, {shared} of which {oracle.PROGRAM} has")
        assert count > 1500


if __name__ == "__main__":
    main()
