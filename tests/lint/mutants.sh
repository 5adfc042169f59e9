#!/bin/sh
# Plants one violation after the other in a copy of the tree and demands that the
# lint for it fails, and that every lint passes on the copy as it was.
. "$(dirname "$0")/lib.sh"

lint=$PWD/tests/lint
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
bad=0

# Run lint $1 on the copy, expecting exit status $2 (0: clean, 1: fails; 77 is as good).
expect() {
    status=0
    "$lint/$1" "$copy" >"$copy/output" 2>&1 || status=$?
    [ $status -eq 77 ] || [ $((status != 0)) -eq "$2" ] || {
        echo "$1: exit status $status $3"
        cat "$copy/output"
        bad=1
    }
}

# mutant LINT FILE TEXT - FILE, which may be new, gets TEXT appended for one run of LINT.
mutant() {
    mkdir -p "$copy/$(dirname "$2")"
    [ ! -e "$copy/$2" ] || cp "$copy/$2" "$copy/saved"
    printf '%b' "$3" >>"$copy/$2"
    expect "$1" 1 "although $2 got: $(printf '%b' "$3" | head -n 3)"
    rm "$copy/$2"
    [ ! -e "$copy/saved" ] || mv "$copy/saved" "$copy/$2"
}

# repeat N TEXT
repeat() {
    awk -v n="$1" -v text="$2" 'BEGIN { while (n--) printf "%s", text }'
}

cp -R Makefile.am .clang-format *.md LICENSE $(for d in $folders tests doc; do [ ! -d "$d" ] || echo "$d"; done) "$copy"
for f in layers.sh sizes.sh format.sh listed.sh headers.sh docs.sh stems.sh schema.py; do
    expect $f 0 "on the tree as it is"
done

mutant layers.sh base/mutant.c '#include "uring/ring.h"\n'
mutant layers.sh uring/mutant.h '#include "crypto/cipher.h"\n'
mutant layers.sh drivers/mutant.c '#include "exports/export.h"\n'
mutant layers.sh drivers/deep/mutant.c '  #  include "qmp/server.h"\n'
mutant layers.sh block/mutant.c '#include <liburing.h>\n'
mutant layers.sh exports/mutant.c '#include <json-c/json.h>\n'
mutant layers.sh daemon/mutant.c '#include "tests/unit/helper.h"\n'
mutant layers.sh base/err.h '#include "tools/table.h"\n'
mutant sizes.sh block/mutant.c "$(repeat 801 '/**/\\n')"
mutant sizes.sh tests/unit/mutant.c "int f(void)\n{\n$(repeat 79 '/**/\\n')}\n"
mutant format.sh qmp/mutant.c 'int  x;\n'
mutant format.sh base/err.h 'struct x\n{\n};\n'
mutant listed.sh uring/mutant.c 'int x;\n'
mutant listed.sh tests/unit/mutant.h 'int x;\n'
mutant listed.sh doc/mutant.md 'A page.\n'
mutant headers.sh block/mutant.c '/* a file */\nint x;\n'
mutant headers.sh block/mutant.c '/* SPDX-License-Identifier: MIT */\nint x;\n'
mutant headers.sh tests/unit/mutant.h '/* SPDX-License-Identifier: MIT */\n/* What it is */\n#define MUTANT_H\n'
mutant docs.sh doc/mutant.md '[a page](no-such-page.md)\n'
mutant docs.sh README.md '[a page](doc/no-such-page.md#part)\n'
mutant docs.sh doc/mutant.8 '.TH MUTANT 8\n.NOSUCH macro\n'
mutant stems.sh drivers/mutant.c 'const struct driver d = {\n    .name = "mutant",\n};\n'
mkdir -p "$copy/doc" "$copy/tests/integration"
echo '`mutant`' >"$copy/doc/driver-mutant.md"
mutant stems.sh drivers/mutant.c 'const struct driver d = {\n    .name = "mutant",\n};\n'
echo 'driver="mutant"' >"$copy/tests/integration/mutant"
mutant stems.sh drivers/mutant.c 'const struct driver d = {\n    .name = "mutant-2",\n};\n'
rm "$copy/tests/integration/mutant"
mutant stems.sh exports/mutant.c 'static const struct export_driver e = {\n    .name = "mutant",\n};\n'
mutant schema.py tests/lint/schema-members.txt 'command block_resize mutant str required\n'
mutant schema.py tests/lint/schema-members.txt 'command block_resize size str required\n'
mutant schema.py tests/lint/schema-members.txt 'enum BlockdevDriver mutant - value\n'
mutant schema.py tests/lint/schema-todo.txt 'command block_resize\n'
exit $bad
