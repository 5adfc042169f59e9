#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Does ringblkd's query-qmp-schema have what the reference schema has, with the same types?

schema-members.txt holds the reference as facts.  From every command and event on, the reference's
types and ringblkd's are walked side by side: each member, enumeration value, branch and
alternative must be there, and have the type that the reference gives it; what a client may leave
out must not be demanded, and what it may rely on must not be optional.  What is still to come
stands in schema-todo.txt; a line there that has come is an error too, so that the list shrinks.

usage: schema.py [--schema FILE] [--missing] [TREE]
--schema takes query-qmp-schema's answer from a file; --missing prints what schema-todo.txt should be.
"""
import argparse
import collections
import json
import os
import socket
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
JSON_TYPES = {"str": "string", "bool": "boolean", "number": "number", "any": "value", "int": "int",
              "size": "int", "int32": "int", "uint32": "int", "uint64": "int"}
Fact = collections.namedtuple("Fact", "kind type member member_type role")


def read_facts(path):
    facts = collections.defaultdict(list)
    with open(path, encoding="utf-8") as file:
        for line in file:
            if not line.startswith("#"):
                fact = Fact(*line.split())
                facts[fact.type].append(fact)
    return facts


def read_todo(path):
    if not os.path.exists(path):
        return set()
    with open(path, encoding="utf-8") as file:
        return {line.strip() for line in file if line.strip() and not line.startswith("#")}


def ask_daemon(daemon):
    """Start the daemon with a monitor and return what it answers to query-qmp-schema."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "qmp.sock")
        process = subprocess.Popen([daemon, "--chardev", f"socket,id=c,path={path},server=on,wait=off",
                                    "--monitor", "chardev=c"], stdin=subprocess.DEVNULL)
        try:
            with connect(path, process) as sock, sock.makefile("rw") as stream:
                stream.readline()
                for command in ("qmp_capabilities", "query-qmp-schema"):
                    stream.write(json.dumps({"execute": command}) + "\n")
                    stream.flush()
                    answer = json.loads(stream.readline())
                return answer["return"]
        finally:
            process.terminate()
            process.wait(10)


def connect(path, process):
    for _ in range(100):
        try:
            sock = socket.socket(socket.AF_UNIX)
            sock.settimeout(20)
            sock.connect(path)
            return sock
        except OSError:
            if process.poll() is not None:
                break
            time.sleep(0.1)
    sys.exit("schema.py: the daemon did not open its monitor")


class Comparison:
    def __init__(self, facts, schema):
        self.facts = facts
        self.schema = {entity["name"]: entity for entity in schema}
        self.missing, self.wrong, self.seen = set(), [], set()

    def run(self):
        for name, facts in self.facts.items():
            if facts[0].kind in ("command", "event"):
                self.command_or_event(name, facts)

    def command_or_event(self, name, facts):
        kind = facts[0].kind
        entity = self.schema.get(name)
        if not entity or entity["meta-type"] != kind:
            self.missing.add(f"{kind} {name}")
            return
        self.object(name, entity["arg-type"], "in" if kind == "command" else "out")
        for fact in facts:
            if fact.role == "returns":
                self.compare(fact.member_type, entity["ret-type"], "out", f"what {name} returns")

    def compare(self, ours, theirs, way, where):
        """ours: a type of the reference; theirs: a name in the schema; way: who sends it."""
        if (ours, theirs, way) in self.seen:
            return
        self.seen.add((ours, theirs, way))
        entity = self.schema[theirs]
        meta = entity["meta-type"]
        if ours.startswith("["):
            if self.demand(meta == "array", where, "a list", entity):
                self.compare(ours[1:-1], entity["element-type"], way, where)
        elif ours in JSON_TYPES:
            self.demand(meta == "builtin" and entity["json-type"] == JSON_TYPES[ours], where, ours, entity)
        elif ours in self.facts:
            kind = self.facts[ours][0].kind
            if kind == "enum":
                if self.demand(meta == "enum", where, "an enum", entity):
                    for fact in self.facts[ours]:
                        if fact.member not in entity["values"]:
                            self.missing.add(f"enum {ours} {fact.member}")
            elif kind == "alternate":
                if self.demand(meta == "alternate", where, "an alternate", entity):
                    self.alternate(ours, entity, way)
            elif self.demand(meta == "object", where, f"an object ({ours})", entity):
                self.object(ours, theirs, way)

    def demand(self, holds, where, what, entity):
        if not holds:
            self.wrong.append(f"{where} is not {what} but {entity.get('json-type', entity['meta-type'])}")
        return holds

    def object(self, ours, theirs, way):
        entity = self.schema[theirs]
        members = {member["name"]: member for member in entity["members"]}
        variants = {variant["case"]: variant["type"] for variant in entity.get("variants", [])}
        for fact in self.facts[ours]:
            key = f"{fact.kind} {fact.type} {fact.member}"
            if fact.role in ("required", "optional"):
                self.member(fact, members.get(fact.member), way, key)
            elif fact.role == "base":
                self.object(fact.member_type, theirs, way)
            elif fact.role == "tag" and entity.get("tag") != fact.member:
                self.wrong.append(f"{ours} is not told apart by its member {fact.member}")
            elif fact.role in ("branch", "wrapped") and fact.member not in variants:
                self.missing.add(key)
            elif fact.role == "branch" and fact.member_type in self.facts:
                self.object(fact.member_type, variants[fact.member], way)
            elif fact.role == "wrapped":
                inner = {m["name"]: m["type"] for m in self.schema[variants[fact.member]]["members"]}
                if "data" in inner:
                    self.compare(fact.member_type, inner["data"], way, key)
                else:
                    self.missing.add(key)

    def member(self, fact, found, way, key):
        if found is None:
            self.missing.add(key)
            return
        if way == "in" and fact.role == "optional" and "default" not in found:
            self.wrong.append(f"{key} may be left out in the reference, but here it must be given")
        if way == "out" and fact.role == "required" and "default" in found:
            self.wrong.append(f"{key} is always there in the reference, but here it may be missing")
        self.compare(fact.member_type, found["type"], way, key)

    def alternate(self, ours, entity, way):
        choices = [self.schema[member["type"]] for member in entity["members"]]
        for fact in self.facts[ours]:
            wanted = JSON_TYPES.get(fact.member_type)
            kind = self.facts[fact.member_type][0].kind if fact.member_type in self.facts else None
            for choice in choices:
                if wanted:
                    fits = choice.get("json-type") == wanted
                else:
                    fits = (choice["meta-type"] == "enum") == (kind == "enum") and \
                        choice["meta-type"] in ("enum", "object")
                if fits:
                    self.compare(fact.member_type, choice["name"], way, f"{ours} {fact.member}")
                    break
            else:
                self.missing.add(f"alternate {ours} {fact.member}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--schema")
    parser.add_argument("--missing", action="store_true")
    parser.add_argument("tree", nargs="?", default=os.path.join(HERE, "..", ".."))
    options = parser.parse_args()
    lint = os.path.join(options.tree, "tests", "lint")
    daemon = os.path.join(os.environ.get("RINGBLK_BUILD", "."), "ringblkd")
    if options.schema:
        with open(options.schema, encoding="utf-8") as file:
            schema = json.load(file)
    elif os.path.exists(daemon):
        schema = ask_daemon(daemon)
    else:
        print(f"there is no {daemon}; set RINGBLK_BUILD")
        return 77
    comparison = Comparison(read_facts(os.path.join(lint, "schema-members.txt")), schema)
    comparison.run()
    if options.missing:
        print("\n".join(sorted(comparison.missing)))
        return 0
    todo = read_todo(os.path.join(lint, "schema-todo.txt"))
    complaints = comparison.wrong
    complaints += [f"missing: {key}" for key in sorted(comparison.missing - todo)]
    complaints += [f"has come, strike it out of schema-todo.txt: {key}"
                   for key in sorted(todo - comparison.missing)]
    print("\n".join(complaints))
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
