#!/bin/bash
# `make install` puts programs, manual pages, pages and bash's completion where they belong below DESTDIR, what is
# installed runs, and `make uninstall` leaves nothing.
# selftest: builds=plain
set -euo pipefail
cd "$RINGBLK_BUILD"
root=$TEST_TMP/root
make -s install DESTDIR="$root" prefix=/usr >"$TEST_TMP/log" 2>&1 || { cat "$TEST_TMP/log" && exit 1; }

cat >"$TEST_TMP/want" <<END
usr/bin/ringblkctl
usr/sbin/ringblkd
usr/share/bash-completion/completions/ringblkctl
usr/share/man/man1/ringblkctl.1
usr/share/man/man8/ringblkd.8
END
(cd "$root" && find . -type f | cut -c 3- | grep -v '^usr/share/doc/ringblk/[a-z0-9-]*\.md$' | sort) >"$TEST_TMP/found"
grep -vxFf "$TEST_TMP/want" "$TEST_TMP/found" | grep -v '^usr/bin/ringblk-img$\|^usr/share/man/man1/ringblk-img.1$' &&
    { echo "installed what nobody expects" && exit 1; }
missing=$(grep -vxFf "$TEST_TMP/found" "$TEST_TMP/want" || :)
[ -z "$missing" ] || { echo "not installed: $missing" && exit 1; }
[ -s "$root/usr/share/doc/ringblk/qmp.md" ]
for program in bin/ringblkctl sbin/ringblkd; do
    "$root/usr/$program" --version | grep -q '[0-9]' || { echo "$program does not run" && exit 1; }
done
bash -n "$root/usr/share/bash-completion/completions/ringblkctl"

make -s uninstall DESTDIR="$root" prefix=/usr >"$TEST_TMP/log" 2>&1
left=$(find "$root" ! -type d)
[ -z "$left" ] || { echo "left behind: $left" && exit 1; }
