#!/bin/sh
# vae.sh [PYTHON]: compares the autoencoder of Stable Diffusion at full size, with random weights on
# all processors, with PyTorch: the results, and the times in turn. Then it trains and samples
# through it. Needs a Python with PyTorch; takes some minutes. SPDX-License-Identifier: MIT
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
    sort -n "$1" | head -n 1
}
for side in 256 512; do
    for what in encode decode; do
        "$python" tests/bench/vae.py input $what $side "$tmp/in"
        rm -f "$tmp"/seconds.*
        for _ in $(seq "$rounds"); do
            "$build/tests/tools/kl-network" $what "$weights" $side "$tmp/in" "$tmp/ours" \
                >>"$tmp/seconds.ours"
            "$python" tests/bench/vae.py $what "$weights" $side "$tmp/in" "$tmp/peer" \
                >>"$tmp/seconds.peer"
        done
        error=$("$python" tests/bench/vae.py compare "$tmp/ours" "$tmp/peer")
        awk -v what=$what -v side=$side -v ours="$(best "$tmp/seconds.ours")" -v error="$error" \
            -v peer="$(best "$tmp/seconds.peer")" -v version="$version" 'BEGIN {
                printf "%s at %d: %.2f s, PyTorch %s %.2f s: %.2f times as fast; relative error %s\n",
                    what, side, ours, version, peer, peer / ours, error
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
