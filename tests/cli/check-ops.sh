#!/bin/sh
# The tests of operations name what a device did wrong, and one bad operation does not stop the others.
# SPDX-License-Identifier: MIT
. tests/tap.sh
export DIT_CUDA_PLUGIN="$BUILD/lib/dit-cuda-sim.so" CUDASIM_MULTIPROCESSORS=4
tool=$BUILD/tests/check-ops

few=silu,silu_backward,gelu,to_act

# finds NAME PATTERN: the tool's output has a line like it.
finds() {
    grep -q -- "$2" "$tmp/out"
    tap_result "$1" $? || grep -v '^ok ' "$tmp/out" | tap_comment
}
CUDASIM_FAULT=silu_backward:3 exits 'an operation that faults' 1 "$tool" --backend cuda,bf16 --only "$few"
finds '... is named with its case and the real fault' \
    '^# silu_backward {7, .* the GPU stopped: an illegal memory access was encountered'
is '... is the only one that fails' "$(grep -c '^not ok ' "$tmp/out")" 1
is '... does not keep others from being tested' "$(grep -c '^ok ' "$tmp/out")" 3
one() { # one SETTING...: some operations, of which silu_backward fails
    env CUDASIM_FAULT=silu_backward "$@" "$tool" --backend cuda,f32 --only "$few" --limit 3
}
exits 'an operation that crashes' 1 one CUDASIM_FAULT_IS=crash
finds '... is named' '^# silu_backward: the process ended by signal 6 (Aborted)'
finds '... does not keep others from being tested' '^ok .* gelu on cuda, f32'
exits 'an operation that hangs' 1 one CUDASIM_FAULT_IS=hang
finds '... is stopped' '^# silu_backward: stopped after 3 s'
finds '... does not keep others from being tested' '^ok .* gelu on cuda, f32'
CUDASIM_MEMORY=$(((64 << 20) + 1000)) exits 'a device without memory' 1 "$tool" --backend cuda --only gelu
finds '... is not taken for a fault' '^# gelu {1, .*the device has not enough memory$'
CUDASIM_FAULT=silu_backward exits 'a measurement of an operation that faults' 1 "$tool" --backend cuda --bench \
    --only silu_backward
finds '... names the fault' '^# silu_backward {1048576, .* the GPU stopped: '
exits 'a name that is none of the operations' 64 "$tool" --only silu,gel
says 'is named' '--only gel: there is no such operation'
done_testing
