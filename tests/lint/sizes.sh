#!/bin/sh
# A file has at most 800 lines, a function at most 80 (from its { to its }, both in column 0).
. "$(dirname "$0")/lib.sh"

c_files $folders tests | xargs awk '
    FNR == 1 { open = 0 }
    FNR == 801 { print FILENAME ": more than 800 lines"; bad = 1 }
    /^\{/ { open = FNR }
    /^\}/ {
        if (open && FNR - open + 1 > 80) {
            print FILENAME ":" open ": a function of " FNR - open + 1 " lines"
            bad = 1
        }
        open = 0
    }
    END { exit bad }'
