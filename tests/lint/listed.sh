#!/bin/sh
# Every source file and page stands in its folder's Makemodule.am; what does not is built by
# nobody or is missing from the tarball.
. "$(dirname "$0")/lib.sh"

bad=0
list=$(cat Makefile.am $(find $folders tests doc -name Makemodule.am 2>/dev/null) | tr ' \t' '\n\n' | sort -u)
for f in $(c_files $folders tests) doc/*.md; do
    echo "$list" | grep -qxF "$f" || {
        echo "$f: in no Makemodule.am"
        bad=1
    }
done
exit $bad
