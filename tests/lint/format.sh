#!/bin/sh
# clang-format 14 has nothing to change.  Other versions lay out differently: skipped.
. "$(dirname "$0")/lib.sh"

tool=$(command -v clang-format-14 || command -v clang-format) || tool=
case $([ -z "$tool" ] || "$tool" --version) in
*"version 14."*) ;;
*) echo "clang-format 14 is not installed" && exit 77 ;;
esac
c_files $folders tests | xargs "$tool" --dry-run -Werror
