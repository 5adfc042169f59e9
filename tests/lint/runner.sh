#!/bin/sh
# The test runner itself: in a tree of five little tests it tells apart what passed, failed, was
# skipped, hung and left a process behind, and counts each once.
. "$(dirname "$0")/lib.sh"

tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
mkdir -p "$tree/tests/integration"
cp tests/run "$tree/tests/run"

# A package whose build does nothing and that has no unit tests.
printf '#!/bin/sh\nprintf "all check:\\n" >Makefile\n' >"$tree/configure"
chmod +x "$tree/configure"

small() {
    printf '#!/bin/sh\n# selftest: timeout=2 builds=plain\n%s\n' "$2" >"$tree/tests/integration/test-$1.sh"
    chmod +x "$tree/tests/integration/test-$1.sh"
}
small passes '[ -d "$TEST_TMP" ] && [ -n "$RINGBLK_SEED" ] && [ "$RINGBLK_FULL" = 0 ]'
small fails 'echo the reason; exit 3'
small skips 'echo no such device; exit 77'
small hangs 'sleep 60'
small leaves 'set -m; sleep 60 & exit 0' # in a process group of its own

bad=0
demand() {
    grep -qE "$1" "$tree/output" || {
        echo "no line in the runner's output matches: $1"
        bad=1
    }
}
run() {
    status=0
    "$tree/tests/run" "$@" >"$tree/output" 2>&1 || status=$?
}

CI=false run --seed 7
[ $status -eq 1 ] || { echo "exit status $status, not 1" && bad=1; }
demand '^seed 7$'
demand '^ok .* integration/test-passes/plain$'
demand '^FAIL .* integration/test-fails/plain: exit status 3, seed 7'
demand '^    \| the reason$'
demand '^skip .* integration/test-skips/plain: no such device$'
demand '^FAIL .* integration/test-hangs/plain: no end after 2 s'
demand '^FAIL .* integration/test-leaves/plain: left processes running: sleep'
[ "$(tail -n 1 "$tree/output")" = "5 passed, 3 failed, 1 skipped" ] ||
    { echo "wrong last line" && bad=1; }

CI=true run test-skips
[ $status -eq 1 ] || { echo "a skip that nothing allows passed under CI" && bad=1; }
echo "integration/test-skips/plain: there is none here" >"$tree/tests/skips.txt"
CI=true run test-skips
[ $status -eq 0 ] || { echo "a skip that tests/skips.txt allows failed under CI" && bad=1; }

[ $bad -eq 0 ] || cat "$tree/output"
exit $bad
