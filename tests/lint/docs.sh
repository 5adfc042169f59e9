#!/bin/sh
# Links from page to page lead somewhere, and man has no complaint about a manual page.
. "$(dirname "$0")/lib.sh"

bad=0
for page in *.md doc/*.md; do
    [ -e "$page" ] || continue
    for link in $(grep -oE '\]\([^)]+\)' "$page" | sed 's/^](//; s/)$//; s/#.*//' | grep -v '^[a-z]*:' || :); do
        [ -e "$(dirname "$page")/$link" ] || {
            echo "$page: a link to $link, which does not exist"
            bad=1
        }
    done
done
for page in doc/*.[1-9]; do
    [ -e "$page" ] || continue
    complaints=$(LC_ALL=C.UTF-8 MANWIDTH=80 man --warnings=w,mac,font -E UTF-8 -l "$page" 2>&1 >/dev/null)
    [ -z "$complaints" ] || {
        echo "$page: $complaints"
        bad=1
    }
done
exit $bad
