#!/bin/bash
# A daemon under valgrind, with clients of every kind of request and of QMP: memcheck finds no error and no
# leak.  Built here, because what tells valgrind of the kernel's writes is compiled in only where its headers
# are.
# selftest: timeout=600 builds=plain
set -euo pipefail
cd "$TEST_TMP"

command -v valgrind >/dev/null && [ -e /usr/include/valgrind/memcheck.h ] || {
    echo "needs valgrind"
    exit 77
}
mkdir build
(cd build && "$RINGBLK_SRC/configure" -q --enable-werror && make -s -j2 ringblkd) >build.log 2>&1 || {
    cat build.log
    exit 1
}
truncate -s 64M disk.raw
valgrind --error-exitcode=9 --leak-check=full --show-leak-kinds=definite,possible --log-file=memcheck.log \
    build/ringblkd --rings 2 --nbd ./nbd.sock --qmp ./qmp.sock disk.raw >daemon.log 2>&1 &
daemon=$!
trap 'kill $daemon 2>/dev/null || :' EXIT
until grep -q "^QMP:" daemon.log; do
    kill -0 $daemon || {
        cat daemon.log memcheck.log
        exit 1
    }
    sleep 0.2
done

uri='nbd+unix:///disk.raw?socket=nbd.sock'
qemu-io -f raw "$uri" -c 'write -P 5 0 1M' -c 'read -P 5 0 1M' -c 'write -f -P 6 512 1k' -c 'write -z 4k 64k' \
    -c 'discard 1M 1M' -c flush -c 'read -P 6 512 1k' -c 'read 8M 20M' -c map
nbdinfo --map "$uri"
nbdcopy "$uri" null: # many connections
nbdinfo 'nbd+unix:///no-such-export?socket=nbd.sock' && exit 1
{
    echo '{"execute":"qmp_capabilities"}'
    for command in query-named-block-nodes query-block query-blockstats query-block-exports query-qmp-schema; do
        echo "{\"execute\":\"$command\"}"
    done
    echo '{"execute":"blockdev-add","arguments":{"driver":"null-co","node-name":"n","read-zeroes":true}}'
    echo '{"execute":"block_resize","arguments":{"node-name":"no-such-node","size":1}}'
    echo '{"execute":"blockdev-del","arguments":{"node-name":"n"}}'
    echo '{"execute":"quit"}'
} | socat -t 60 - UNIX-CONNECT:qmp.sock >qmp.log
[ "$(grep -c '^{"return"' qmp.log)" = 9 ]
[ "$(grep -c '^{"error"' qmp.log)" = 1 ]

status=0
wait $daemon || status=$?
[ $status = 0 ] || cat daemon.log memcheck.log
exit $status
