#!/bin/sh
# convert.sh [PYTHON]: checks convert-weights with PyTorch itself: it converts trainings to PyTorch
# and back, and weights of the size of DiT-XL/2. Needs a Python with PyTorch and 12 GB in $TMPDIR;
# takes a minute or two. SPDX-License-Identifier: MIT
# Run from the top of the tree: PATH=build/bin:$PATH tests/bench/convert.sh
set -eu
python=${1:-python3}
if ! "$python" -c 'import torch' 2>/dev/null; then
    echo "convert.sh: skipped: $python has no PyTorch" >&2
    exit 0
fi
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${B:-build}/tests/tools/make-stream" latents 64 8 10 >"$tmp/latents"
PYTHONPATH=tests/tools PYTHONDONTWRITEBYTECODE=1 "$python" tests/bench/convert.py "$tmp"
