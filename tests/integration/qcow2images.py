# SPDX-License-Identifier: MIT
"""qcow2 images of every kind, as qemu-img and qemu-io make them."""

import os
import random
import subprocess

KIB, MIB = 1 << 10, 1 << 20


def run(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=600)
    assert done.returncode == 0, f"{command}: {done.stdout.decode(errors='replace')}"
    return done.stdout.decode(errors="replace")


# What each image is made with: qemu-img's -o, and what the writers below do to it.
KINDS = {
    "v2": {"o": "compat=0.10", "size": 5 * MIB + 3 * 512},
    "v3": {"o": "compat=1.1", "size": 8 * MIB},
    "small": {"o": "cluster_size=512", "size": 3 * MIB},
    "v2small": {"o": "compat=0.10,cluster_size=1024", "size": 2 * MIB},
    "large": {"o": "cluster_size=2M", "size": 21 * MIB},
    "rc1": {"o": "refcount_bits=1,cluster_size=4k", "size": 4 * MIB},
    "rc64": {"o": "refcount_bits=64,cluster_size=4k", "size": 4 * MIB},
    "rcsmall": {"o": "refcount_bits=64,cluster_size=512", "size": 4 * MIB},
    "ext": {"o": "extended_l2=on,cluster_size=16k", "size": 6 * MIB},
    "ext64": {"o": "extended_l2=on", "size": 9 * MIB},
    "lazy": {"o": "lazy_refcounts=on", "size": 4 * MIB},
    "zlib": {"o": "cluster_size=64k", "size": 6 * MIB, "compressed": True},
    "zstd": {"o": "compression_type=zstd,cluster_size=32k", "size": 6 * MIB, "compressed": True},
    "zlib512": {"o": "cluster_size=512", "size": 1 * MIB, "compressed": True},
    "zlib2m": {"o": "cluster_size=2M", "size": 16 * MIB, "compressed": True},
    "zstdext": {"o": "compression_type=zstd,extended_l2=on", "size": 4 * MIB, "compressed": True},
    "pre": {"o": "preallocation=metadata", "size": 4 * MIB},
    "full": {"o": "preallocation=full,cluster_size=8k", "size": 1 * MIB},
    "data": {"o": "data_file={path}.data", "size": 5 * MIB},
    "dataraw": {"o": "data_file={path}.data,data_file_raw=on", "size": 5 * MIB},
    "dataext": {"o": "data_file={path}.data,extended_l2=on", "size": 5 * MIB},
    "snap": {"o": "cluster_size=4k", "size": 2 * MIB, "snapshot": True},
    "empty": {"o": "cluster_size=64k", "size": 0},
    "odd": {"o": "cluster_size=64k", "size": 512},
    "sparse": {"o": "cluster_size=4k", "size": 64 * MIB},
    "over": {"o": "cluster_size=16k", "size": 8 * MIB, "backing": "v3"},
    "overshort": {"o": "cluster_size=32k,compat=0.10", "size": 9 * MIB, "backing": "v2"},
    "overext": {"o": "extended_l2=on", "size": 4 * MIB, "backing": "zlib"},
    "overover": {"o": "cluster_size=1k", "size": 10 * MIB, "backing": "overshort"},
}


def scribble(path, kind, seed):
    """Random writes of every sort."""
    chance = random.Random(seed)
    size = kind["size"]
    commands = []
    for _ in range(40 if size else 0):
        length = min(chance.choice([512, 4 * KIB, 20 * KIB, 100 * KIB]), size)
        offset = chance.randrange(0, size - length + 1) // 512 * 512
        pattern = chance.randrange(1, 255)
        sort = chance.choice(["write", "write", "write -z", "write -z -u", "discard"])
        if "compat=0.10" in kind["o"] and "-z" in sort:
            sort = "write"
        value = f"-P {pattern} " if sort == "write" else ""
        commands += ["-c", f"{sort} {value}{offset} {length}"]
    if commands:
        run("qemu-io", "-t", "unsafe", "-d", "unmap", "-f", "qcow2", *commands, path)


def textual(path, size, seed):
    """A raw file with something to compress in it."""
    chance = random.Random(seed)
    words = [bytes(chance.randrange(256) for _ in range(chance.randrange(3, 60))) for _ in range(99)]
    with open(path, "wb") as f:
        while f.tell() < size:
            f.write(chance.choice(words))
        f.truncate(size)


def make(name, folder, seed):
    """Image @name; its path."""
    kind = KINDS[name]
    path = f"{folder}/{name}.qcow2"
    options = kind["o"].format(path=path)
    if kind.get("compressed"):
        source = f"{folder}/{name}.source"
        textual(source, kind["size"], seed)
        run("qemu-img", "convert", "-c", "-t", "unsafe", "-f", "raw", "-O", "qcow2", "-o", options, source, path)
        os.unlink(source)
    else:
        over = ["-b", f"{kind['backing']}.qcow2", "-F", "qcow2"] if "backing" in kind else []
        run("qemu-img", "create", "-q", "-f", "qcow2", "-o", options, *over, path, str(kind["size"]))
    scribble(path, kind, seed)
    if kind.get("snapshot"):
        run("qemu-img", "snapshot", "-c", "one", path)
        scribble(path, kind, seed + 1)
    return path
