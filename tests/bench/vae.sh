#!/bin/sh
# vae.sh [PYTHON]: compares the autoencoder of Stable Diffusion at full size, with random weights on
# all processors, with PyTorch, in float32 and in bfloat16: the results, and the times in turn, each of
# the fastest of four passes, as the first provides memory and makes plans. Then
# it trains and samples through it. Needs a Python with PyTorch; takes some minutes.
# SPDX-License-Identifier: MIT
# Run from the top of the tree: PATH=build/bin:$PATH tests/bench/vae.sh
set -eu
python=${1:-python3}
build=${B:-build}
rounds=${ROUNDS:-2}
if ! "$python" -c 'import torch' 2>/dev/null; then
    echo "vae.sh: skipped: $python has no PyTorch" >&2
    exit 0
fi
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
version=$("$python" -c 'import torch; print(torch.__version__)')
weights=$tmp/vae.safetensors
"$python" tests/bench/vae.py make "$weights"

best() {
    sort -n "$tmp/seconds.$1" | head -n 1
}
for side in 256 512; do
    for what in encode decode; do
        "$python" tests/bench/vae.py input $what $side "$tmp/in"
        rm -f "$tmp"/seconds.*
        for _ in $(seq "$rounds"); do
            for precision in f32 bf16; do
                "$build/tests/tools/kl-network" $what "$weights" $side "$tmp/in" "$tmp/ours.$precision" \
                    cpu,$precision >>"$tmp/seconds.ours.$precision"
                "$python" tests/bench/vae.py $what "$weights" $side "$tmp/in" "$tmp/peer.$precision" \
                    $precision >>"$tmp/seconds.peer.$precision"
            done
        done
        error=$("$python" tests/bench/vae.py compare "$tmp/ours.f32" "$tmp/peer.f32" 1e-4)
        narrow=$("$python" tests/bench/vae.py compare "$tmp/ours.bf16" "$tmp/peer.f32" 4e-2)
        echo "$(best ours.f32) $(best ours.bf16) $(best peer.f32) $(best peer.bf16)" |
            awk -v what=$what -v side=$side -v error="$error" -v narrow="$narrow" -v version="$version" '{
                printf "%s at %d: f32 %.2f s, bf16 %.2f s, PyTorch %s f32 %.2f s, bf16 %.2f s: ", what, side, $1,
                    $2, version, $3, $4
                printf "f32 %.2f and %.2f times as fast, bf16 %.2f times its bf16; relative errors %s, %s\n",
                    $3 / $1, $4 / $1, $4 / $2, error, narrow
            }'
    done
done

"$build/tests/tools/make-stream" images 4 256 4 >"$tmp/images"
vae-encode -q --vae "$weights" "$tmp/images" |
    dit-train -q --depth 1 --hidden 64 --heads 2 --patch 4 --classes 10 --batch 2 --steps 4 \
        --run "$tmp/run"
dit-sample -q --weights "$tmp/run/latest.safetensors" --vae "$weights" --count 2 --steps 4 |
    npz-pack -q >"$tmp/samples.npz"
"$python" -c "
import numpy
samples = numpy.load('$tmp/samples.npz')['arr_0']
assert samples.shape == (2, 256, 256, 3) and samples.std() > 1
print('vae-encode | dit-train, dit-sample | npz-pack at 256: done')"
