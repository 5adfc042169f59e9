#!/bin/bash
# doc/qmp.md is what the program prints of its tables, and the manual page has the options of --help.
# selftest: builds=plain
set -euo pipefail

"$RINGBLK_BUILD/ringblkd" --qmp-reference >"$TEST_TMP/qmp.md"
diff -u "$RINGBLK_SRC/doc/qmp.md" "$TEST_TMP/qmp.md" ||
    { echo "doc/qmp.md is out of date: make update-reference" && exit 1; }

options() {
    grep -oE -e '--[a-z][a-z-]*' | sort -u
}
"$RINGBLK_BUILD/ringblkd" --help | sed '/^Options of/,$d' | options >"$TEST_TMP/help"
sed 's/\\-/-/g' "$RINGBLK_SRC/doc/ringblkd.8" | options >"$TEST_TMP/page"
diff -u "$TEST_TMP/help" "$TEST_TMP/page" ||
    { echo "the options of ringblkd --help and of doc/ringblkd.8 are not the same" && exit 1; }
[ "$(wc -l <"$TEST_TMP/help")" -gt 10 ] # both lists are real ones
