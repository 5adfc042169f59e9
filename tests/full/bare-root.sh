#!/bin/bash
# ./quickstart and ./selftest in bare Debian 12 systems (chroots with the required packages only):
# as root, who gets installed what is missing; as a user without rights, who is told what is
# missing and finds nothing changed; as a user whom sudo asks nothing.
# Mounts live in mount namespaces and go with them.
# selftest: timeout=1500 builds=plain
set -euo pipefail
cd "$TEST_TMP"

skip() {
    echo "$*"
    exit 77
}
[ "$(id -u)" = 0 ] || skip "needs root"
command -v mmdebstrap >/dev/null || command -v debootstrap >/dev/null || skip "needs mmdebstrap or debootstrap"
unshare --mount --pid --fork true 2>/dev/null || skip "may not make namespaces here"

# The mirror that this machine uses for Debian 12.
mirror=$(apt-get indextargets --format '$(ORIGIN) $(CODENAME) $(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
    awk '$1 == "Debian" && $2 == "bookworm" { print $3; exit }') || mirror=
[ -n "$mirror" ] || skip "apt names no mirror of Debian 12 (bookworm)"

# What a clone of the source tree would hold, with what is not committed yet.
git -c safe.directory='*' -C "$RINGBLK_SRC" ls-files -co --exclude-standard -z |
    tar -C "$RINGBLK_SRC" --null -T - -cf tree.tar --ignore-failed-read

# system NAME - a bare system with the source tree in the homes of root and of the user "tester"
system() {
    mkdir "$1"
    if [ -e bare.tar ]; then
        tar -C "$1" -xf bare.tar
    else
        if command -v mmdebstrap >/dev/null; then
            mmdebstrap -q --variant=minbase bookworm "$1" "$mirror"
        else
            debootstrap --variant=minbase bookworm "$1" "$mirror" >debootstrap.log
        fi
        tar -C "$1" -cf bare.tar .
    fi
    cp /etc/resolv.conf /etc/hosts "$1/etc/"
    mkdir "$1/root/ringblk"
    tar -C "$1/root/ringblk" -xf tree.tar
    inside "$1" root 'useradd -m tester && cp -R ringblk /home/tester && chown -R tester: /home/tester'
}

# inside SYSTEM USER COMMAND - run it in the user's home
inside() {
    unshare --mount --pid --fork --kill-child bash -ec '
        mount -t proc proc "$1/proc"
        mount --rbind /sys "$1/sys"
        mount --rbind /dev "$1/dev"
        exec chroot "$1" su - "$2" -s /bin/bash -c "export LANG=C.UTF-8; $3"' bash "$TEST_TMP/$1" "$2" "$3"
}

# All that quickstart prints works.  It may install and build first.
quickstart='export TEST_TMP=$(mktemp -d) RINGBLK_SRC=~/ringblk QUICKSTART_WAIT=1200
    ~/ringblk/tests/integration/test-quickstart.sh && rm -rf "$TEST_TMP"'

# selftest SYSTEM USER - the suite passes (or the part of it that RINGBLK_BARE_TESTS names), and what root is
# needed for is skipped and no more
selftest() {
    echo "== selftest as $2"
    inside "$1" "$2" "cd ringblk && ./selftest --seed $RINGBLK_SEED ${RINGBLK_BARE_TESTS-}" | tee selftest.log
    tail -n 1 selftest.log | grep -qE '^[1-9][0-9]* passed, 0 failed, [0-9]+ skipped$'
}

# refused SCRIPT - without rights: exit status 2, one apt-get line (left in the file wanted), no change
refused() {
    local status=0
    echo "== $1 as a user without rights"
    inside user tester 'find ringblk | sort; dpkg-query -l' >before
    inside user tester "ringblk/$1" >output 2>&1 || status=$?
    cat output
    [ $status -eq 2 ]
    inside user tester 'find ringblk | sort; dpkg-query -l' | cmp before -
    grep -E '^ +apt-get install ' output >wanted
    [ "$(wc -l <wanted)" -eq 1 ]
}

system root
echo "== quickstart as root"
inside root root "$quickstart"
selftest root root
rm -rf root

system user
refused selftest
refused quickstart
echo "== quickstart as a user, after the command that it named"
inside user root "apt-get -qq update && DEBIAN_FRONTEND=noninteractive $(<wanted) -qq -y"
inside user tester "$quickstart"
inside user root "DEBIAN_FRONTEND=noninteractive apt-get install -qq -y sudo &&
    echo 'tester ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/tester"
selftest user tester
