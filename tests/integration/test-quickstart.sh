#!/bin/bash
# ./quickstart does what it prints: every command that it names works as printed, an IMAGE is
# read-only unless --writable, and nothing is left at the end.
# selftest: builds=plain
set -euo pipefail
export TMPDIR=$TEST_TMP
daemon=
trap '[ -z "$daemon" ] || kill -TERM $daemon 2>/dev/null || :; wait' EXIT

fail() {
    echo "$*"
    cat "$TEST_TMP/output"
    exit 1
}

start() {
    rm -f "$TEST_TMP/output" # an earlier start's would be taken for this one's
    "$RINGBLK_SRC/quickstart" "$@" >"$TEST_TMP/output" 2>&1 &
    daemon=$!
    for _ in $(seq "${QUICKSTART_WAIT:-30}0"); do
        ! grep -qs UNIX-CONNECT "$TEST_TMP/output" || return 0
        kill -0 $daemon 2>/dev/null || fail "quickstart $* ended"
        sleep 0.1
    done
    fail "quickstart $* said nothing"
}

# $1: the signal that ends it; it must end well and take its folder with it.
stop() {
    local status=0
    kill -"$1" $daemon
    wait $daemon || status=$?
    daemon=
    [ $status -eq 0 ] || fail "exit status $status after SIG$1"
    ! compgen -G "$TEST_TMP/ringblk.*" || fail "left its folder behind"
}

# $1: a pattern that the output of a printed command must match; $2: a word of that command
try() {
    local command
    command=$(grep -m 1 -E "^    .*$2" "$TEST_TMP/output" || :)
    [ -n "$command" ] || fail "no command with $2 was printed"
    sh -c "$command" >"$TEST_TMP/answer" 2>&1 || { cat "$TEST_TMP/answer" && fail "failed: $command"; }
    [ -z "$1" ] || grep -qE "$1" "$TEST_TMP/answer" || { cat "$TEST_TMP/answer" && fail "not $1: $command"; }
}

start
[ "$(stat -c %a "$TEST_TMP"/ringblk.*)" = 700 ] || fail "its folder is open to others"
try 'export-size: 67108864' nbdinfo
try 'This file lies in a file system' nbdcopy
try 'virtual size: 64 MiB' qemu-img
try '"type": *"nbd"' socat
try 'disk +raw +64 MiB +rw +export disk' ringblkctl
stop TERM

image="$TEST_TMP/a, b = 'c'%d.raw"
truncate -s 3M "$image"
start "$image"
try 'is_read_only: true' nbdinfo
try '' nbdcopy
stop HUP

start --writable "$image"
try 'is_read_only: false' nbdinfo
uri=$(grep -m 1 -oE "nbd\+unix[^']*" "$TEST_TMP/output")
head -c 3M /dev/zero | tr '\0' x | nbdcopy - "$uri"
stop TERM
[ "$(tr -d x <"$image" | wc -c)" -eq 0 ] || fail "what was written is not in the image"

! "$RINGBLK_SRC/quickstart" "$TEST_TMP/no-such-image" >"$TEST_TMP/output" 2>&1 || fail "took a missing image"
grep -q "there is no image $TEST_TMP/no-such-image" "$TEST_TMP/output" || fail "no word of the missing image"
