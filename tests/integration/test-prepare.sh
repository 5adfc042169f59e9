#!/bin/bash
# What ./quickstart and ./selftest do before a build: refuse where io_uring is refused, saying why;
# and with packages missing install them as root, by sudo where that asks nothing, or else name
# the command, exit 2 and change nothing.  dpkg-query, apt-get, sudo and id are stand-ins here;
# tests/full/bare-root.sh has the real ones.
# selftest: builds=plain
set -euo pipefail
cd "$TEST_TMP"

fail() {
    echo "$*"
    cat output
    exit 1
}

# expect STATUS PATTERN COMMAND...
expect() {
    local status=0 wanted=$1 pattern=$2
    shift 2
    "$@" >output 2>&1 || status=$?
    [ $status -eq "$wanted" ] || fail "exit status $status, not $wanted: $*"
    grep -qE -- "$pattern" output || fail "no word of $pattern: $*"
}

without_io_uring=$RINGBLK_SRC/tests/integration/without-io-uring.py
for script in quickstart selftest; do
    case $(</proc/sys/kernel/io_uring_disabled) in
    0) expect 1 'a seccomp filter forbids io_uring' "$without_io_uring" 1 "$RINGBLK_SRC/$script" ;;
    *) expect 1 'io_uring is disabled here \(kernel.io_uring_disabled' "$RINGBLK_SRC/$script" ;;
    esac
    expect 1 'has no io_uring, or a seccomp filter hides it' "$without_io_uring" 38 "$RINGBLK_SRC/$script"
done

# stand_in NAME TEXT - a command of that name, which also notes its arguments in calls
mkdir bin
stand_in() {
    printf '#!/bin/bash\necho "%s $*" >>"%s/calls"\n%s\n' "$1" "$PWD" "$2" >"bin/$1"
    chmod +x "bin/$1"
}
need() {
    rm -f calls
    PATH=$PWD/bin:$PATH bash -c ". '$RINGBLK_SRC/scripts/prepare.sh'; need_packages gcc socat fio; echo went on" script
}
stand_in dpkg-query 'case "${@: -1}" in gcc) echo installed ;; socat) echo config-files ;; *) exit 1 ;; esac'
stand_in apt-get ''

stand_in id 'echo 0'
stand_in sudo 'exit 1'
expect 0 'went on' need
grep -qx 'apt-get -qq -y install --no-install-recommends socat fio' calls || fail "root: $(<calls)"
! grep -q sudo calls || fail "root used sudo"

stand_in id 'echo 1000'
expect 2 '^    apt-get install --no-install-recommends socat fio$' need
! grep -q '^apt-get' calls || fail "changed something: $(<calls)"

stand_in sudo 'shift; exec "$@"'
expect 0 'went on' need
grep -qx 'apt-get -qq -y install --no-install-recommends socat fio' calls || fail "sudo: $(<calls)"

stand_in apt-get 'exit 100'
expect 1 'the packages could not be installed' need

stand_in dpkg-query 'echo installed'
expect 0 '^went on$' need
! grep -q '^apt-get' calls || fail "installed although nothing is missing"
