#!/bin/sh
# dit-train: after a power cut at any moment a run is resumed from what it said was saved, and ends as if
# nothing had happened. SPDX-License-Identifier: MIT
. tests/tap.sh

if [ -n "${SAN-}" ]; then
    skip 'a training survives power cuts' 'sanitizers do not go with preloads'
else
    exits 'a training survives power cuts' 0 tests/fault/power-cut.py 8
    sed 's/^/# /' "$tmp/out"
fi
done_testing
