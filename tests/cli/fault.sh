#!/bin/sh
# Every program, when memory, threads, files or a disk fail it, says so or does its work all the same.
# SPDX-License-Identifier: MIT
. tests/tap.sh

if [ -n "${SAN-}" ]; then
    skip 'a fault ends in the same output or in a message' 'sanitizers allocate for themselves'
else
    exits 'a fault ends in the same output or in a message' 0 tests/fault/inject.sh '1 2 4 8 15 27 40 160'
    sed 's/^/# /' "$tmp/out"
fi
done_testing
