# Shared by the lint scripts.  Each takes the root of a source tree as its only
# argument (default: the one it lies in), so that mutants.sh can run it on a copy.
set -eu
cd "${1:-$(dirname "$0")/../..}"
folders="base uring crypto block drivers jobs exports qmp daemon tools"

# The C files below the folders given that exist.
c_files() {
    for d in "$@"; do
        [ ! -d "$d" ] || find "$d" -name '*.[ch]'
    done | sort
}
