#!/bin/sh
# dit-train: killed at any moment, it goes on as if it had not been. SPDX-License-Identifier: MIT
# shellcheck disable=SC2317 # functions that are arguments of others
. tests/tap.sh

draws "$(date +%s)"
export SEED="$seed"
for signal in KILL TERM; do
    exits "a training that SIG$signal ends five times" 0 sh tests/bench/kill.sh 5 $signal
    ok '... ends with the files of the unbroken one' grep -q 'are the same as the uninterrupted one' "$tmp/out"
    sed 's/^/# /' "$tmp/out"
done
done_testing
