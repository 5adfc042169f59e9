# Shared by ./quickstart and ./selftest: what must be there before a build, and the build.
# Sourced with bash; $src is the source tree.

build_packages=(gcc libc6-dev make autoconf automake pkg-config
    liburing-dev libjson-c-dev libssl-dev libedit-dev
    zlib1g-dev libzstd-dev)

die() {
    echo "${0##*/}: $*" >&2
    exit 1
}

# Ends the script, saying why and what to do, when this kernel or sandbox refuses io_uring.
check_io_uring() {
    local errno disabled=/proc/sys/kernel/io_uring_disabled
    # 425 is io_uring_setup(2) on every architecture but alpha; its second argument has 120 bytes.
    errno=$(perl -e '$p = "\0" x 120; print syscall(425, 1, $p) < 0 ? $! + 0 : 0')
    case $errno in
    0) return ;;
    1) # EPERM
        if [ -r $disabled ] && [ "$(<$disabled)" != 0 ]; then
            die "io_uring is disabled here (kernel.io_uring_disabled = $(<$disabled));" \
                "allow it as root: sysctl kernel.io_uring_disabled=0"
        fi
        die "a seccomp filter forbids io_uring, as container engines do by default;" \
            "start the container with a profile that allows it (--security-opt seccomp=...)"
        ;;
    38) # ENOSYS
        die "this kernel ($(uname -r)) has no io_uring, or a seccomp filter hides it;" \
            "Linux 5.15 or later outside of such a sandbox is needed"
        ;;
    12) # ENOMEM: kernels before 5.12 count rings as locked memory
        die "no memory for an io_uring: raise the limit of locked memory (ulimit -l)" ;;
    *) die "io_uring cannot be used here: error $errno of io_uring_setup" ;;
    esac
}

# need_packages PACKAGE... - say what is missing and install it where that takes no questions;
# else name the command that does and exit 2.
need_packages() {
    local missing=() package sudo=()
    command -v dpkg-query >/dev/null || {
        echo "This is not a Debian system.  Needed are what Debian calls: $*"
        return
    }
    for package; do
        case $(dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null) in
        installed*) ;;
        *) missing+=("$package") ;;
        esac
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    echo "Missing packages: ${missing[*]}"
    if [ "$(id -u)" != 0 ]; then
        sudo=(sudo -n)
        sudo -n true 2>/dev/null || {
            echo "Please install them, then start ${0##*/} again:"
            echo "    apt-get install --no-install-recommends ${missing[*]}"
            exit 2
        }
    fi
    echo "Installing them ..."
    "${sudo[@]}" apt-get -qq update || echo "The package lists could not be updated; trying the old ones."
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get -qq -y install --no-install-recommends "${missing[@]}" >/dev/null ||
        die "the packages could not be installed"
}

# Make ./configure where it is missing or older than what it is made from.
make_configure() {
    local output
    if [ ! -e "$src/Makefile.in" ] || [ -n "$(find "$src" -maxdepth 3 -newer "$src/Makefile.in" \
        \( -name configure.ac -o -name Makefile.am -o -name Makemodule.am \) -print -quit)" ]; then
        [ -w "$src" ] || die "cannot build: $src is not writable for $(id -un)"
        output=$("$src/autogen.sh" 2>&1) || die "autogen.sh failed:"$'\n'"$output"
    fi
}

# build_in FOLDER - configure there once and bring it up to date; quiet unless it fails.
# Who may not write there takes what has been built before.
build_in() {
    if [ ! -w "$src" ] && [ -x "$1/ringblkd" ]; then
        return
    fi
    make_configure
    mkdir -p "$1"
    echo "Building in $1 ..."
    (cd "$1" && { [ -e config.status ] || "$src/configure" -q; } && make -s -j"$(nproc)") \
        >"$1/build.log" 2>&1 || {
        tail -n 30 "$1/build.log"
        die "the build failed; all of it is in $1/build.log"
    }
}
