#!/bin/sh
# full-size.sh [PYTHON]: measures how much memory dit-sample needs, and how much it reads, with
# random weights of DiT-XL/2 (2.7 GB) and of the autoencoder of Stable Diffusion. Needs a Python
# with PyTorch and 4 GB in $TMPDIR; takes a minute or two. SPDX-License-Identifier: MIT
# Run from the top of the tree: PATH=build/bin:$PATH tests/bench/full-size.sh
set -eu
python=${1:-python3}
if ! "$python" -c 'import torch' 2>/dev/null; then
    echo "full-size.sh: skipped: $python has no PyTorch" >&2
    exit 0
fi
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
export PYTHONDONTWRITEBYTECODE=1
"$python" tests/bench/vae.py make "$tmp/sd-vae-ft-ema.safetensors"
"$python" tests/bench/full-size.py "$tmp"
