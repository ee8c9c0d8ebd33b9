#!/bin/sh
# Measures the Inception network of FID against PyTorch in turn, with random weights of the published
# sizes: the best of three turns of 32 images of 256x256. SPDX-License-Identifier: MIT
set -eu
python=${1:-python3}
build=${B:-build}
if ! "$python" -c 'import torch' 2>/dev/null; then
    echo "inception.sh: skipped: $python has no PyTorch" >&2
    exit 0
fi
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"$build/tests/tools/inception-network" make 32 "$tmp/weights.safetensors"
for _ in 1 2 3; do
    "$build/tests/tools/inception-network" time "$tmp/weights.safetensors" 32 >>"$tmp/ours"
    "$python" tests/bench/inception.py bench "$tmp/weights.safetensors" 32 2>/dev/null >>"$tmp/peer"
done
ours=$(sort -n "$tmp/ours" | head -n 1)
sed 's/.*: //' "$tmp/peer" | sort -n | head -n 1 |
    awk -v ours="$ours" '{
        printf "Inception, 32 images: %.2f s, PyTorch, the best of eager and compiled, %.2f s: %.2f times as fast\n",
            ours, $1, $1 / ours
    }'
