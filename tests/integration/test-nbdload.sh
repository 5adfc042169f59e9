#!/bin/bash
# SPDX-License-Identifier: MIT
# nbdload's own check: it accepts a server that keeps what it was given, over every kind of
# reply, split and whole, and it refuses one that loses writes or answers with errors.
# selftest: timeout=120 builds=plain,address,thread
set -eu
programs=$RINGBLK_BUILD/tests/bench
socket=$TEST_TMP/nbd.sock
server=

fail() {
    echo "FAILED: $*"
    exit 1
}
start() {
    "$programs/memserver" "$@" "$socket" 16 &
    server=$!
    for _ in $(seq 200); do
        [ -S "$socket" ] && return
        sleep 0.05
    done
    fail "memserver $* does not listen"
}
stop() {
    [ -z "$server" ] || { kill "$server" && wait "$server" || :; }
    server=
    rm -f "$socket"
}
trap stop EXIT
load() {
    timeout 60 "$programs/nbdload" --unix "$socket" --op mixed --seed "$RINGBLK_SEED" "$@"
}

for mode in "" --threads; do
    start $mode
    load --verify --count 20000
    load --verify --count 20000 --connections 4 --structured
    load --verify --count 20000 --connections 4 --threads --depth 1
    load --verify --count 300 --block-size 256K --depth 4 --structured
    load --verify --count 5000 --block-size 8K --receive-size 4K --structured
    load --verify --count 5000 --block-size 512 --depth 500 --receive-size 4K
    [ "$(load --destroy --count 1234 --json |
        python3 -c 'import json,sys; print(json.load(sys.stdin)["ios"])')" = 1234 ] ||
        fail "--count 1234 --json does not report 1234 requests"
    load --count 10 && fail "a write went ahead without --destroy"
    stop
done

start --lose-every 1000
load --verify --count 20000 && fail "lost writes were not noticed"
stop

if load --count 10 --destroy; then fail "a server that is not there was not noticed"; fi
echo passed
