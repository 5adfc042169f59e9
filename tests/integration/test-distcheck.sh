#!/bin/sh
# The tarball is complete: it builds outside of its tree, passes its unit tests, installs and
# uninstalls without leaving anything.
# selftest: timeout=900 builds=plain
set -eu
mkdir "$TEST_TMP/build"
cd "$TEST_TMP/build"
"$RINGBLK_SRC/configure" -q
make -s -j2 distcheck
