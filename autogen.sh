#!/bin/sh
# Makes ./configure from configure.ac.  Needed once after a checkout.
set -e
cd "$(dirname "$0")"
exec autoreconf -fi
