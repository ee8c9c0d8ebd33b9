#!/bin/sh
# Measures the Inception network of FID against PyTorch in turn, with random weights of the published
# sizes: five turns of 32 images. SPDX-License-Identifier: MIT
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
"$python" tests/bench/inception.py bench "$tmp/weights.safetensors" 32 "$build/tests/tools/inception-network" 2>/dev/null
