#!/bin/bash
# SPDX-License-Identifier: MIT
# Full queues of checked requests against ringblkd: every size class of the server (in line, short
# cut, payload that arrives in pieces, larger than a turn), simple and structured replies, several
# connections; more bytes over one connection than it may have in flight, many times over.
# selftest: timeout=180 builds=plain,address,thread
set -eu
image=$TEST_TMP/image
socket=$TEST_TMP/nbd.sock
head -c 64M /dev/urandom >"$image"
"$RINGBLK_BUILD/ringblkd" \
    --blockdev "driver=file,node-name=f,filename=$image" \
    --blockdev driver=raw,node-name=r,file=f \
    --nbd-server "addr.type=unix,addr.path=$socket" \
    --export type=nbd,id=e,node-name=r,name=x,writable=on &
server=$!
trap 'kill $server 2>/dev/null || :' EXIT
for _ in $(seq 200); do
    [ -S "$socket" ] && timeout 5 nbdinfo "nbd+unix:///x?socket=$socket" >"$TEST_TMP/info" 2>&1 &&
        break
    sleep 0.05
done

load() {
    echo "nbdload $*"
    timeout 60 "$RINGBLK_BUILD/tests/bench/nbdload" --unix "$socket" --export x --op mixed \
        --verify --seed "$RINGBLK_SEED" "$@" || {
        echo "FAILED: nbdload $*"
        exit 1
    }
}

load --count 20000
load --count 20000 --connections 4 --threads --structured
load --count 20000 --block-size 512 --depth 200
load --count 2000 --depth 1 --structured
load --count 3000 --block-size 24K --connections 2 --structured
load --count 2000 --block-size 64K --depth 64
load --count 1000 --block-size 256K --depth 16
load --count 500 --block-size 264K --depth 16 --structured
load --count 400 --block-size 1M --depth 4
load --count 400 --block-size 1M --depth 8 --structured --connections 2
load --count 100 --block-size 4M --depth 4 --receive-size 4K

kill $server
wait $server
trap - EXIT
echo passed
