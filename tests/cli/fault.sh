#!/bin/sh
# Every program, when memory, threads, files or a disk fail it, says so or does its work all the same.
# SPDX-License-Identifier: MIT
. tests/tap.sh

if [ -n "${SAN-}" ]; then
    skip 'a fault ends in the same output or in a message' 'sanitizers allocate for themselves'
else
    exits 'a fault ends in the same output or in a message' 0 tests/fault/inject.sh '1 2 4 8 15 27 40 160'
    sed 's/^/# /' "$tmp/out"
    # jansson would drop keys, and libtiff says it in many ways or not at all.
    for range in 80-130:convert-classes 230-280:decode-tiff; do
        exits "memory that ends within a library, in ${range#*:}," 0 tests/fault/inject.sh "${range%:*}" "${range#*:}"
        sed 's/^/# /' "$tmp/out"
    done
fi
done_testing
