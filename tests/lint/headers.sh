#!/bin/sh
# A C file begins with the licence's line and then, in a comment, what it is for; a header has an
# include guard named after its path.
. "$(dirname "$0")/lib.sh"

bad=0
complain() {
    echo "$*"
    bad=1
}
for f in $(c_files $folders tests); do
    [ "$(head -n 1 "$f")" = '/* SPDX-License-Identifier: MIT */' ] || complain "$f: line 1 is not the licence's"
    case $(sed -n 2p "$f") in
    '/*'*) ;;
    *) complain "$f: line 2 does not begin to say what the file is for" ;;
    esac
    case $f in
    *.h)
        guard=$(echo "$f" | tr 'a-z/.-' 'A-Z___')
        grep -qx "#define $guard" "$f" || complain "$f: no include guard $guard"
        ;;
    esac
done
exit $bad
