# SPDX-License-Identifier: MIT
"""Arguments made from the schema that the daemon prints, first valid, then spoilt; and a check that a
result is what the schema promises.

Nothing here may lead out of the test's folder: every document passes confine() before it is sent.
"""

import json
import random
import string

EXTREMES = ("0", "-0", "1", "-1", "511", "512", "4294967295", "4294967296", "-2147483649",
            "9223372036854775807", "-9223372036854775808", "9223372036854775808",
            "18446744073709551615", "18446744073709551616", "-9223372036854775809", "0.5", "1.0",
            "1e3", "1e18", "1e19", "-1e308", "1e309", "1e-400", "1e99999999", "0e0", "1" * 400)
STRINGS = (b'""', b'" "', b'"a"', b'"\\u0000"', b'"a\\u0000b"', b'"\\ud800"', b'"\\udc00\\ud800"',
           b'"\xff"', b'"\xc0\x80"', b'"\xf4\x90\x80\x80"', b'"\xed\xa0\x80"', b'"\xe2\x82"',
           b'"%s%n%d"', b'"\\n\\r\\t\\u001b"', b'"#block1"', b'"-"', b'"a,b=c"', b'"{}"', b'"null"',
           b'"true"', '"\u00e4\u20ac\U0001f600"'.encode(), b'"\\', b'"')
WRONG = ("null", "true", "false", "0", "-1", "1.5", '""', '"x"', "[]", "{}", "[[]]", '[null]',
         '{"a": 1}', '{"type": "x"}', "[1, 2, 3]")
UNKNOWN = ("extra", "", "\u00e4", "x" * 300)  # no row has such a name
LATENCY_MAX = 1000 * 1000  # ns; a disk that answers in a year is what it was asked to be


class Raw(bytes):
    """A value that is printed as it stands."""


class Twice(dict):
    """An object whose first member stands there twice."""


def dump(value):
    if isinstance(value, Raw):
        return bytes(value)
    if isinstance(value, dict):
        members = [json.dumps(k).encode() + b": " + dump(v) for k, v in value.items()]
        return b"{" + b", ".join(members + (members[:1] if isinstance(value, Twice) else [])) + b"}"
    if isinstance(value, list):
        return b"[" + b", ".join(map(dump, value)) + b"]"
    return json.dumps(value).encode()


class Confinement:
    """Names of files and addresses stay where the test may make a mess."""

    def __init__(self, folder):
        self.folder = folder

    def text(self, key, value):
        if key == "host":
            return value if value in ("127.0.0.1", "::1") else "127.0.0.1"
        if key == "str" and value[:1].isdigit():  # one of the daemon's own descriptors
            return "99999"
        if ".." in value:
            return "x"
        if "/" in value and not value.startswith((self.folder + "/", "/dev/fdset/", "/objects")):
            return f"{self.folder}/x"
        return value

    def __call__(self, value, key=None):
        if isinstance(value, Raw):
            # Whoever listens on a host that is no text gets an error; "" would be every address.
            return Raw(b'"127.0.0.1"') if key == "host" and value[:1] == b'"' else value
        if isinstance(value, str):
            return self.text(key, value)
        if isinstance(value, dict):
            return type(value)((k, self(v, k)) for k, v in value.items())
        if isinstance(value, list):
            return [self(v, key) for v in value]
        return value


class Generator:
    def __init__(self, schema, rng, folder):
        self.types = {t["name"]: t for t in schema}
        self.commands = {t["name"]: t for t in schema if t["meta-type"] == "command"}
        self.rng = rng
        self.folder = folder
        self.confine = Confinement(folder)
        self.names = [f"n{i}" for i in range(6)]
        self.depth = 0

    # ---- valid values ----

    def word(self, name):
        r = self.rng
        if name in ("filename", "path", "file", "dir"):
            return r.choice([f"{self.folder}/{x}" for x in ("a.raw", "b.raw", "none", "s1", "s2")]
                            + ["a.raw", "/dev/fdset/1", f"{self.folder}"])
        if name == "host":
            return r.choice(("127.0.0.1", "::1"))
        if name in ("port", "cid"):
            return r.choice(("0", "1", "x", "70000", "10809"))
        if name in ("name", "description", "data", "opaque", "str"):
            return r.choice(self.names + ["x", "e0", "a name"])
        if name == "id":
            return r.choice(("e0", "e1", "e2", "t0", "t1", "n0"))
        return r.choice(self.names + ["e0", "t0", "s0", "nope"])

    def value(self, type_name, name=""):
        t = self.types[type_name]
        kind = t["meta-type"]
        self.depth += 1
        try:
            if kind == "object":
                return self.object(t)
            if kind == "array":
                return [self.value(t["element-type"], name) for _ in range(self.rng.choice((0, 1, 1, 2, 5)))]
            if kind == "enum":
                return self.rng.choice([m["name"] for m in t["members"]])
            if kind == "alternate":
                choices = [m["type"] for m in t["members"]]
                if self.depth > 6 and "str" in choices:
                    choices = ["str"]
                return self.value(self.rng.choice(choices), name)
            return self.builtin(t["json-type"], name)
        finally:
            self.depth -= 1

    def builtin(self, kind, name):
        r = self.rng
        if kind == "string":
            return self.word(name)
        if kind == "int":
            return r.choice((0, 1, 2, 512, 4096, 1 << 20, r.randrange(1 << 16), r.randrange(1 << 40)))
        if kind == "number":
            return r.choice((0, 1.5, 10))
        if kind == "boolean":
            return r.random() < 0.5
        if kind == "null":
            return None
        return r.choice((None, 1, "x", {}, []))

    def object(self, t, fixed=None):
        out, rate = {}, self.rng.choice((0.1, 0.4, 0.9))
        for m in t.get("members", []):
            if "default" not in m or self.rng.random() < rate:
                out[m["name"]] = self.value(m["type"], m["name"])
        out.update(fixed or {})
        for v in t.get("variants", []):
            if v["case"] == out.get(t["tag"]):
                out.update(self.object(self.types[v["type"]]))
        return out

    def arguments(self, command):
        """Valid as far as the schema tells, for a command; every branch of its union in turn."""
        t = self.types[self.commands[command]["arg-type"]]
        fixed = {}
        if t.get("variants"):
            fixed[t["tag"]] = self.rng.choice([m["name"] for m in
                                               self.types[self.type_of(t, t["tag"])]["members"]])
        return self.object(t, fixed)

    @staticmethod
    def type_of(t, name):
        return next(m["type"] for m in t["members"] if m["name"] == name)

    # ---- spoiling them ----

    def places(self, value):
        """All (container, key) below a value."""
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, below in list(items):
            yield value, key
            if isinstance(below, (dict, list)):
                yield from self.places(below)

    def nested(self, depth):
        open_, close = self.rng.choice(((b"[", b"]"), (b'{"file": ', b"}"),
                                        (b'{"driver": "raw", "file": ', b"}")))
        return Raw(open_ * depth + b"1" + close * depth)

    def spoil(self, value):
        """One change to a value, in place; returns the value to use."""
        r = self.rng
        places = list(self.places(value))
        if not places or r.random() < 0.05:
            value[r.choice((*UNKNOWN, "node-name"))] = r.choice((1, "x", None, {}))
            return value
        container, key = r.choice(places)
        change = r.randrange(12)
        if change == 0:
            del container[key]
        elif change == 1:
            container[key] = Raw(r.choice(WRONG).encode())
        elif change in (2, 3):
            container[key] = Raw(r.choice(EXTREMES).encode())
        elif change in (4, 5):
            container[key] = Raw(r.choice(STRINGS))
        elif change == 6:
            container[key] = r.choice(string.ascii_letters) * r.choice((31, 32, 255, 4096, 4097, 70000))
        elif change == 7:
            container[key] = self.nested(r.choice((5, 100, 513, 1000, 1023, 1030)))
        elif change == 8:
            container[key] = r.choice(([container[key]], {"x": container[key]}, {str(key): container[key]}))
        elif change == 9:
            other, other_key = r.choice(places)
            container[key] = json.loads(json.dumps(other[other_key], default=lambda _: None)
                                        ) if not isinstance(other[other_key], Raw) else None
        elif change == 10:
            container[key] = [container[key]] * r.choice((2, 1000))
        elif isinstance(container, dict):
            return self.doubled(value, container)
        return value

    def doubled(self, value, target):
        if value is target:
            return Twice(value)
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, below in list(items):
            if isinstance(below, (dict, list)):
                value[key] = self.doubled(below, target)
        return value

    def limit_latency(self, value):
        for container, key in self.places(value):
            if key == "latency-ns" and not isinstance(container[key], (dict, list)):
                try:
                    n = float(container[key])
                except (TypeError, ValueError):
                    continue
                if LATENCY_MAX < n < 2.0**64:
                    container[key] = LATENCY_MAX
        return value

    def spoilt(self, value):
        for _ in range(self.rng.choice((1, 1, 1, 2, 3))):
            value = self.spoil(value)
        return value

    def document(self, command, identity):
        """The bytes of one request."""
        arguments = self.arguments(command)
        if self.rng.random() < 0.6:
            arguments = self.spoilt(arguments)
        arguments = self.limit_latency(self.confine(arguments))
        return dump({"execute": command, "arguments": arguments, "id": identity})

    # ---- results ----

    def conforms(self, value, type_name, path="return"):
        """Complain when a value is not of a type of the schema."""
        t = self.types[type_name]
        kind = t["meta-type"]
        if kind == "object":
            self.conforms_object(value, t, path)
        elif kind == "array":
            assert isinstance(value, list), f"{path} is no list: {value!r:.200}"
            for i, v in enumerate(value):
                self.conforms(v, t["element-type"], f"{path}[{i}]")
        elif kind == "enum":
            assert value in [m["name"] for m in t["members"]], f"{path}: {value!r:.200}"
        elif kind == "alternate":
            for m in t["members"]:
                try:
                    return self.conforms(value, m["type"], path)
                except AssertionError:
                    continue
            raise AssertionError(f"{path} is none of the alternatives: {value!r:.200}")
        else:
            python = {"string": str, "int": int, "number": (int, float), "boolean": bool,
                      "null": type(None), "value": object}[t["json-type"]]
            is_bool = isinstance(value, bool) and t["json-type"] in ("int", "number")
            assert isinstance(value, python) and not is_bool, f"{path}: {value!r:.200}"
            assert t["json-type"] != "int" or value >= 0, f"{path} is negative: {value}"

    def conforms_object(self, value, t, path):
        assert isinstance(value, dict), f"{path} is no object: {value!r:.200}"
        members = {m["name"]: m for m in t.get("members", [])}
        for v in t.get("variants", []):
            if v["case"] == value.get(t["tag"]):
                members |= {m["name"]: m for m in self.types[v["type"]].get("members", [])}
        for name, m in members.items():
            assert name in value or "default" in m, f"{path} lacks {name}"
        for name, v in value.items():
            assert name in members, f"{path} has {name}, which the schema does not know"
            self.conforms(v, members[name]["type"], f"{path}.{name}")


def generator(schema, seed, folder):
    return Generator(schema, random.Random(seed), folder)
