#!/bin/sh
# Every driver and every export has its page in doc/ and a test that uses it.  Names are taken from
# the tables: struct driver and struct export_driver.  The page is doc/driver-NAME.md, or that of
# the file's stem (doc/driver-file.md for drivers/file.c) when it names the driver in backquotes.
. "$(dirname "$0")/lib.sh"

bad=0
complain() {
    echo "$*"
    bad=1
}

# names STRUCT FILE - the .name of every table of type STRUCT in FILE
names() {
    awk -v start="struct $1 [a-z0-9_]+ = [{]" '
        $0 ~ "(^| )" start { inside = 1 }
        inside && /\.name = "/ { split($0, part, "\""); print part[2] }
        /^};/ { inside = 0 }' "$2"
}

# check STRUCT KIND KEY FILE - KEY is the option by which tests choose it
check() {
    for name in $(names "$1" "$4"); do
        stem=$(basename "$4" .c)
        page=doc/$2-$name.md
        [ -e "$page" ] || page=doc/$2-$stem.md
        if [ ! -e "$page" ]; then
            complain "$4: no doc/$2-$name.md nor $page for $2 '$name'"
        elif ! grep -qF "\`$name\`" "$page"; then
            complain "$page: does not name $2 '$name' in backquotes"
        fi
        grep -rqE "$3[\\\\'\"]*[ ]*[:=][ ]*[\\\\'\"]*$name([^A-Za-z0-9_-]|\$)" \
            tests/unit tests/integration tests/vm || complain "$4: no test uses $2 '$name'"
    done
}

for f in $(c_files drivers); do
    check driver driver driver "$f"
done
for f in $(c_files exports); do
    check export_driver export type "$f"
done
exit $bad
