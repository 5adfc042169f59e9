#!/bin/bash
# Whole images through NBD and back, in requests of many sizes and over one and several
# connections: what arrives is what was sent.
set -euo pipefail
cd "$TEST_TMP"
head -c 40M /dev/urandom >source.raw
truncate -s 48M source.raw # and a hole
truncate -s 48M target.raw

"$RINGBLK_BUILD/ringblkd" \
    --blockdev driver=file,node-name=f,filename=source.raw,read-only=on \
    --blockdev driver=raw,node-name=source,file=f,read-only=on \
    --blockdev driver=file,node-name=g,filename=target.raw \
    --blockdev driver=raw,node-name=target,file=g \
    --nbd-server "addr.type=unix,addr.path=$PWD/nbd.sock" \
    --export type=nbd,id=source,node-name=source \
    --export type=nbd,id=target,node-name=target,writable=on \
    --pidfile pid &
daemon=$!
trap 'kill $daemon 2>/dev/null || :; wait' EXIT
for _ in $(seq 300); do
    [ ! -s pid ] || break
    sleep 0.1
done

uri() {
    echo "nbd+unix:///$1?socket=$PWD/nbd.sock"
}
for size in 4096 65536 131072 262144 524288 1048576 33554432; do
    for connections in 1 4; do
        echo "requests of $size bytes, connections: $connections"
        timeout 60 nbdcopy --request-size=$size --connections=$connections "$(uri source)" copy.raw
        cmp source.raw copy.raw
    done
    timeout 60 nbdcopy --request-size=$size copy.raw "$(uri target)"
    timeout 60 nbdcopy --request-size=$size --flush "$(uri target)" copy.raw
    cmp source.raw copy.raw
    timeout 60 nbdcopy "$(uri target)" null:
    head -c 48M /dev/zero | timeout 60 nbdcopy - "$(uri target)"
done
kill $daemon
wait $daemon
