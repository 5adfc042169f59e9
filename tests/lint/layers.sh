#!/bin/sh
# A folder includes itself and the folders below it, never a sibling or one above;
# liburing is seen in uring/ only, json-c in base/, qmp/ and tools/ only.
. "$(dirname "$0")/lib.sh"

c_files $folders | xargs awk '
    BEGIN {
        rank["base"] = 0
        rank["uring"] = rank["crypto"] = 1
        rank["block"] = 2
        rank["drivers"] = rank["jobs"] = rank["exports"] = 3
        rank["qmp"] = 4
        rank["daemon"] = rank["tools"] = 5
    }
    function fail(what) {
        print FILENAME ":" FNR ": includes " name ", " what
        bad = 1
    }
    FNR == 1 { me = FILENAME; sub(/\/.*/, "", me) }
    /^ *# *include *["<]/ {
        ours = /^ *# *include *"/
        name = $0
        gsub(/^[^"<]*["<]|[">].*/, "", name)
        to = name
        sub(/\/.*/, "", to)
        if (name ~ /^liburing[.\/]/ && me != "uring")
            fail("which only uring/ may")
        if (name ~ /^json(-c\/|\.h$)/ && me != "base" && me != "qmp" && me != "tools")
            fail("which only base/, qmp/ and tools/ may")
        if (ours && name != "config.h" && to != me && (!(to in rank) || rank[to] >= rank[me]))
            fail("which " me "/ may not")
    }
    END { exit bad }'
