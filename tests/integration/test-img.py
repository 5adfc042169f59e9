#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# selftest: timeout=900
"""ringblk-img against qemu-img: each command line goes to both, each in a folder of its own with the same
files.  The exit status, what is said on both outputs (but for the program's name), and afterwards all
files must be the same; JSON of ours may have more keys.  Ours never takes more space."""

import json
import os
import random
import shutil
import subprocess

from harness import BUILD, TMP, daemon

OURS, THEIRS = f"{BUILD}/ringblk-img", "qemu-img"
FOLDERS = {OURS: f"{TMP}/ours", THEIRS: f"{TMP}/theirs"}
KIB, MIB = 1 << 10, 1 << 20
seed = int(os.environ["RINGBLK_SEED"])
random.seed(seed)


def fresh():
    """The files that command lines name."""
    for folder in FOLDERS.values():
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
    noise = random.Random(seed).randbytes(512 * KIB)
    make("a", 3 * MIB, {256 * KIB: noise[:192 * KIB], 2 * MIB: noise[192 * KIB:200 * KIB]})
    make("same", 3 * MIB, {256 * KIB: noise[:192 * KIB], 2 * MIB: noise[192 * KIB:200 * KIB]})
    make("differs", 3 * MIB, {256 * KIB: noise[:192 * KIB], 2 * MIB + 999: b"x"})
    make("longer", 4 * MIB, {256 * KIB: noise[:192 * KIB], 2 * MIB: noise[192 * KIB:200 * KIB]})
    make("longer-data", 4 * MIB, {256 * KIB: noise[:192 * KIB], 2 * MIB: noise[192 * KIB:200 * KIB],
                                  4 * MIB - 1: b"y"})
    make("zeroes", MIB, {0: bytes(MIB)})
    make("holes-in-data", MIB, {0: b"".join(noise[i:i + 4096] + bytes(4096 * (i // 4096 % 5))
                                            for i in range(0, 200 * KIB, 4096))})
    make("odd", 100001, {0: noise[:100001]})
    make("empty", 0, {})


def make(name, size, data):
    for folder in FOLDERS.values():
        with open(f"{folder}/{name}", "wb") as file:
            file.truncate(size)
            for offset, content in data.items():
                file.seek(offset)
                file.write(content)
            os.fsync(file.fileno())


def run(program, arguments):
    done = subprocess.run([program, *arguments], cwd=FOLDERS[program], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, check=False)
    name = os.path.basename(program)
    said = done.stderr.replace(f"{name}:", "PROGRAM:").replace(f"{name} ", "PROGRAM ")
    return done.returncode, done.stdout, said


def files(program):
    out = {}
    for name in sorted(os.listdir(FOLDERS[program])):
        with open(f"{FOLDERS[program]}/{name}", "rb") as file:
            out[name] = file.read()
    return out


def holds(ours, theirs, where):
    """Every key and value of theirs is in ours."""
    if isinstance(theirs, dict):
        for key, value in theirs.items():
            assert key in ours, f"{where}: no {key}"
            holds(ours[key], value, f"{where}.{key}")
    elif isinstance(theirs, list):
        assert len(ours) == len(theirs), f"{where}: {ours} is not {theirs}"
        for index, (a, b) in enumerate(zip(ours, theirs)):
            holds(a, b, f"{where}[{index}]")
    else:
        assert ours == theirs, f"{where}: {ours} is not {theirs}"


def check(line, said=True, kept=True):
    """said=False: only statuses and files must agree; kept=False: what is left in the files is not looked at."""
    arguments = line.split()
    ours, theirs = run(OURS, arguments), run(THEIRS, arguments)
    where = f"ringblk-img {line}"
    assert ours[0] == theirs[0], f"{where}: exit status\n{ours}\nqemu-img:\n{theirs}"
    if "--output=json" in arguments and theirs[0] == 0:
        holds(json.loads(ours[1]), json.loads(theirs[1]), where)
    elif said:
        assert ours[1] == theirs[1], f"{where}:\n{ours[1]}qemu-img:\n{theirs[1]}"
    if said:
        assert ours[2] == theirs[2], f"{where}:\n{ours[2]}qemu-img:\n{theirs[2]}"
    mine, other = (files(OURS), files(THEIRS)) if kept else ({}, {})
    assert mine.keys() == other.keys(), f"{where}: {mine.keys()} {other.keys()}"
    for name, content in mine.items():
        assert content == other[name], f"{where}: {name} differs"
        blocks = [os.stat(f"{FOLDERS[p]}/{name}").st_blocks for p in (OURS, THEIRS)]
        assert blocks[0] <= blocks[1] + 16, f"{where}: {name} takes {blocks} blocks"


def blocks(name):
    return os.stat(f"{FOLDERS[OURS]}/{name}").st_blocks * 512


def test_create():
    check("create new 1M")
    check("create -f raw new 1000")
    check("create -q -f raw new 3G")
    check("create -f raw -o preallocation=full new 1M")
    assert blocks("new") == MIB
    check("create -f raw -o size=2M new")
    check("create -f raw -o preallocation=falloc,nocow=on new 1M", said=False)
    check("create -f raw -o preallocation=falloc -o extent_size_hint=64k new 1M", said=False)
    assert blocks("new") == MIB
    for wrong in ("create", "create new", "create new 1x", "create new -- -5", "create -f nope new 1M",
                  "create -f raw -o colour=red new 1M", "create -f raw -b a new 1M",
                  "create -f raw nowhere/new 1M", "create new 1M 2M"):
        check(wrong)
    check("create -f raw -o preallocation=some new 1M", said=False)
    check("create --object secret,id=s,data=x new 1M")
    check("create --object nonsense,id=s new 1M", said=False)


def test_info():
    for name in ("a", "zeroes", "odd", "empty"):
        for options in ("", "-f raw ", "--output=json ", "-U --output=json --backing-chain ",
                        "--image-opts driver=raw,file.driver=file,file.filename="):
            check(f"info {options}{name}")
    check("info --image-opts driver=raw,file.filename=a")
    check("info --output=json json:{\"driver\":\"raw\",\"file\":{\"driver\":\"file\",\"filename\":\"a\"}}")
    check("info null-co://")
    check("info file:a", said=False)
    for wrong in ("info", "info a same", "info nothing", "info --output=xml a", "info nope:a"):
        check(wrong)
    check("info -f nope a", said=False)
    check("info -f raw --image-opts driver=raw,file.filename=a")
    check("info --nope a")


def test_map():
    # Not "odd": what is read past the end of the file belongs to its last block here, to a hole there;
    # nor "empty", of which qemu-img shows a piece of no length.
    for name in ("a", "zeroes", "holes-in-data", "longer-data"):
        check(f"map {name}")
        check(f"map --output=json {name}")
        check(f"map --output=json -f raw -s 100k -l 300k {name}")
    check("map empty")
    check("map --output=json --start-offset=1M --max-length=1500k -U a")
    check("map --output=json --image-opts driver=raw,offset=4096,file.driver=file,file.filename=a",
          said=False)
    for wrong in ("map", "map nothing", "map -s x a", "map -l -5 a"):
        check(wrong)


def test_measure_and_check():
    for line in ("measure a", "measure -O raw odd", "measure --size 5M", "measure --size 1000",
                 "measure --output=json a", "measure --output=json --size 1T", "measure",
                 "measure a same", "measure --size 1M a", "measure nothing", "measure --size x",
                 "measure -O nope a", "check a", "check -f raw a", "check --output=json a",
                 "check nothing", "check", "check -q a"):
        check(line)


def test_compare():
    for other in ("a", "same", "differs", "longer", "longer-data", "zeroes", "nothing"):
        for options in ("", "-s ", "-q ", "-f raw -F raw -U "):
            check(f"compare {options}a {other}")
            check(f"compare {options}{other} a")
    check("compare -T none a same")
    check("compare a")
    check("compare -T nonsense a same")
    line = run(OURS, ["compare", "-p", "a", "same"])[1]
    assert line.endswith("(100.00/100%)\r\n") or "(100.00/100%)" in line, line


def test_resize():
    for line in ("resize -f raw a 4M", "resize -f raw a +1M", "resize -f raw --shrink a 1M",
                 "resize -f raw --shrink a -1M", "resize -f raw --shrink a -- -64k", "resize -f raw a 1",
                 "resize a 8M", "resize -q -f raw a +1k", "resize -f raw a 10000000",
                 "resize -f raw --preallocation=full a +1M",
                 "resize -f raw --preallocation=falloc a +1M",
                 "resize -f raw --preallocation=metadata a +1M",
                 "resize -f raw a -100M", "resize -f raw a +1x", "resize a", "resize",
                 "resize -f raw nothing 1M",
                 "resize --image-opts driver=raw,file.filename=same +1k"):
        check(line)


def test_dd():
    for line in ("dd if=a of=new", "dd if=a of=new bs=64k", "dd -f raw -O raw if=a of=new bs=1M count=2",
                 "dd if=a of=new bs=64k skip=3", "dd if=a of=new bs=64k skip=3 count=7",
                 "dd if=a of=new bs=1000 count=3", "dd if=a of=new bs=64k skip=4 count=2",
                 "dd if=a of=new skip=1000000", "dd if=odd of=new bs=4k", "dd if=empty of=new",
                 "dd -U if=a of=new count=0", "dd if=a", "dd", "dd if=a of=new bs=0", "dd if=a of=new bs=x",
                 "dd if=a of=new colour=3", "dd if=nothing of=new", "dd -O nope if=a of=new"):
        check(line, said="nope" not in line)


def test_convert():
    for name in ("zeroes", "empty", "longer-data"):
        check(f"convert {name} new")
        check(f"convert -S 0 {name} new")
        check(f"convert -n {name} longer")
        fresh()
    for name in ("a", "odd", "holes-in-data"):
        for options in ("", "-f raw -O raw", "-S 0", "-S 64k", "-m 1 -W", "-C", "-t writeback -T none",
                        "-t none -T writeback", "-t writethrough", "-t directsync", "-r 1G",
                        "-o preallocation=full", "-o preallocation=falloc -U"):
            check(f"convert {options} {name} new")
        check(f"convert -n {name} longer")
        check(f"convert -n -W -S 0 {name} longer-data")
        fresh()
    check("convert a odd longer new")
    check("convert --image-opts driver=raw,file.filename=a new")
    check("convert -n --target-image-opts a driver=raw,file.filename=longer")
    make("blank", 4 * MIB, {})
    check("convert -n --target-is-zero a blank")
    check("convert -q -p a new")
    for wrong in ("convert", "convert a", "convert nothing new", "convert -n a nothing", "convert -n a zeroes",
                  "convert -O nope a new", "convert -S 5 a new", "convert -S 1G a new", "convert -m 17 a new",
                  "convert -m 0 a new", "convert -c a new", "convert -C -S 4k a new", "convert -C -c a new",
                  "convert -t nope a new", "convert -T nope a new", "convert -B x -O raw a new",
                  "convert --target-image-opts a driver=raw,file.filename=new",
                  "convert --target-is-zero a new", "convert -f nope a new", "convert a nowhere/new",
                  "convert -o colour=red a new"):
        check(wrong, said="-f nope" not in wrong and "nowhere" not in wrong and "colour" not in wrong,
              kept=False)  # ours makes no target for options that it refuses


def test_random_images_stay_what_they_are():
    """Pieces of data, zeroes and holes of any length, converted in several ways; and again by -C."""
    for number in range(20):
        size = random.randrange(1, 8 * MIB)
        data = {}
        for _ in range(random.randrange(12)):
            at = random.randrange(size)
            length = min(size - at, random.choice((1, 511, 4096, 70000, MIB)))
            data[at] = random.choice((bytes(length), random.randbytes(length)))
        make("random", size, data)
        sparse = random.choice(("0", "512", "4k", "1M"))
        check(f"convert -S {sparse} -m {random.randrange(1, 17)} random new{number % 3}")
        check("convert -C random copy")
        check("compare random copy")


def qcow2_images():
    """A compressed one, a plain one, and one over the first with data and zeroes of its own."""
    for line in ("convert -O qcow2 -c a base", "convert -O qcow2 holes-in-data other",
                 "create -q -f qcow2 -b base -F qcow2 overlay"):
        assert run(THEIRS, line.split())[0] == 0
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -P 7 1M 100k", "-c", "write -z 300k 70k",
                    "overlay"], cwd=FOLDERS[THEIRS], check=True, stdout=subprocess.DEVNULL)
    for name in ("base", "other", "overlay"):
        subprocess.run(["cp", "--sparse=always", f"{FOLDERS[THEIRS]}/{name}", FOLDERS[OURS]], check=True)
    return "base", "other", "overlay"


def test_qcow2_is_read():
    for name in qcow2_images():
        check(f"convert -f qcow2 {name} new")
        check(f"convert -f qcow2 -O raw -S 0 -m 1 {name} new")
        check(f"convert -C -f qcow2 {name} new")
        check(f"compare -f qcow2 -F raw {name} new")
        check(f"compare -f qcow2 -F qcow2 {name} base")
        check(f"map -f qcow2 --output=json {name}")
        check(f"dd -f qcow2 -O raw bs=100k skip=2 if={name} of=new")
        check(f"measure -f qcow2 -O raw {name}")
    check("convert other new")
    # Nobody said that it is one: the file that it names is not opened.
    status, _, said = run(OURS, ["convert", "overlay", "new"])
    assert status == 1 and "names 'base' as its backing file" in said, said


def test_locks():
    """An image that the daemon writes to is not looked at, unless by force; nor is it overwritten."""
    path = f"{FOLDERS[OURS]}/a"
    with daemon("--blockdev", f"file,node-name=n,filename={path}",
                "--nbd-server", f"addr.type=unix,addr.path={TMP}/d.nbd",
                "--export", "nbd,id=e,node-name=n,writable=on"):
        for command in (["info", "a"], ["convert", "same", "a"], ["convert", "a", "new"],
                        ["resize", "-f", "raw", "a", "8M"], ["create", "a", "1M"]):
            status, _, said = run(OURS, command)
            assert status == 1 and "is another process or node using the image" in said, said
        assert run(OURS, ["info", "-U", "a"])[0] == 0
    assert files(OURS)["a"] == files(THEIRS)["a"]


def test_nowhere_to_write():
    """A full disk is an error with its reason, as is a target that takes no more."""
    done = subprocess.run(["sh", "-c", f"ulimit -f 1000; exec {OURS} convert -S 0 a new"], cwd=FOLDERS[OURS],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "File too large" in done.stderr, done
    done = subprocess.run(["sh", "-c", f"{OURS} info a >/dev/full"], cwd=FOLDERS[OURS],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "cannot write the output" in done.stderr, done


def test_help():
    status, said, _ = run(OURS, ["--help"])
    assert status == 0
    for command in ("check", "compare", "convert", "create", "dd", "info", "map", "measure", "resize"):
        assert f"\n  {command} " in said, command
    assert run(OURS, ["--version"])[1].startswith("ringblk-img version ")
    check("nonsense")
    check("")


for name, test in list(globals().items()):
    if name.startswith("test_"):
        print(name, flush=True)
        fresh()
        test()
