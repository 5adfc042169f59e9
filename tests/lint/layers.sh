#!/bin/sh
# A folder includes itself and the folders below it, never a sibling or one above;
# liburing is seen in uring/ only, json-c in base/, qmp/ and tools/ only.
. "$(dirname "$0")/lib.sh"

rank() {
    case $1 in
    base) echo 0 ;;
    uring | crypto) echo 1 ;;
    block) echo 2 ;;
    drivers | jobs | exports) echo 3 ;;
    qmp) echo 4 ;;
    daemon | tools) echo 5 ;;
    *) echo 9 ;; # not a folder of ours: nobody may include it
    esac
}

bad=0
fail() {
    echo "$1: includes $2"
    bad=1
}
for f in $(c_files $folders); do
    me=${f%%/*}
    for inc in $(sed -n 's,^ *# *include *["<]\([^">]*\)[">].*,\1,p' "$f" | sort -u); do
        case $inc in
        liburing.h | liburing/*) [ "$me" = uring ] || fail "$f" "$inc, which only uring/ may" ;;
        json-c/* | json.h) case $me in
            base | qmp | tools) ;;
            *) fail "$f" "$inc, which only base/, qmp/ and tools/ may" ;;
            esac ;;
        esac
    done
    for inc in $(sed -n 's,^ *# *include *"\([^"]*\)".*,\1,p' "$f" | sort -u); do
        to=${inc%%/*}
        [ "$inc" = config.h ] || [ "$to" = "$me" ] || [ "$(rank "$to")" -lt "$(rank "$me")" ] ||
            fail "$f" "$inc, which $me/ may not"
    done
done
exit $bad
