#!/bin/sh
# DIT_CUDA_PROFILE measures each operation of one pass on a (simulated) GPU and changes no result.
# SPDX-License-Identifier: MIT
. tests/tap.sh
export DIT_CUDA_PLUGIN="$BUILD/lib/dit-cuda-sim.so"
"$BUILD/tests/tools/make-stream" latents 16 8 10 >"$tmp/latents"

train() { # train RUN MICRO-BATCH
    dit-train -q -@ 1 --depth 2 --hidden 72 --heads 1 --patch 4 --classes 10 --batch 4 --micro-batch "$2" \
        --steps 4 --device cuda --deterministic --run "$tmp/$1" "$tmp/latents"
}
# row OPERATION COUNT GFLOP: the table has a line with these numbers, and a time.
row() {
    awk -v name="$1" -v count="$2" -v each="$3" '
        $1 == name && $2 == count && $5 == each && $3 > 0 { found = 1 }
        END { exit !found }' "$tmp/profile"
}
ok 'trains unmeasured' train plain 4
DIT_CUDA_PROFILE=$tmp/profile exits 'training is measured' 0 train measured 4
ok '... and changes no bit' cmp "$tmp/plain/latest.safetensors" "$tmp/measured/latest.safetensors"
is '... for one pass' "$(grep -c 'one pass on simulated GPU' "$tmp/profile")" 1
ok '... with each operation, its count and work' row attention 2 1.843e-05 # 4 B H T^2 D, B = T = 4
ok '... up to the update' grep -q '^adamw  *1 ' "$tmp/profile"
DIT_CUDA_PROFILE=$tmp/profile exits 'training in micro-batches is measured' 0 train micro 2
is '... for a pass of its own' "$(grep -c 'one pass on simulated GPU' "$tmp/profile")" 2
DIT_CUDA_PROFILE=$tmp/profile exits 'sampling is measured' 0 dit-sample -q --device cuda --latents --count 4 \
    --steps 4 --weights "$tmp/plain/latest.safetensors" -o "$tmp/samples"
ok '... with its steps' grep -q '^sample_step  *1 ' "$tmp/profile"
done_testing
