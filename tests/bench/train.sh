#!/bin/sh
# train.sh [PYTHON]: steps of training and of guided sampling of DiT-S/2 on all processors, against
# PyTorch, eager and in float32, taking turns. Needs a Python with PyTorch; takes a minute or two.
# SPDX-License-Identifier: MIT
# Run from the top of the tree: PATH=build/bin:$PATH tests/bench/train.sh
set -eu
python=${1:-python3}
steps=2
rounds=2
if ! "$python" -c 'import torch' 2>/dev/null; then
    echo "train.sh: skipped: $python has no PyTorch" >&2
    exit 0
fi
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${B:-build}/tests/tools/make-stream" latents 64 32 32 >"$tmp/latents"

peer() { # peer train|sample BATCH
    "$python" tests/bench/train.py "$1" 12 384 6 2 4 32 "$2" $steps >>"$tmp/$1.peer"
}
ours_train() {
    rm -rf "$tmp/run"
    dit-train -q --model DiT-S/2 --classes 1000 --batch 8 --log-every 1 --steps $((steps + 1)) \
        --run "$tmp/run" "$tmp/latents"
    sed -n '2,$s/.*"images_per_second":\([^,}]*\).*/\1/p' "$tmp/run/log.jsonl" |
        awk '{ print 8 / $1 }' >>"$tmp/train.ours"
}
# The seconds that a run with more steps takes longer.
seconds() { # seconds STEPS
    seconds_start=$(date +%s%N)
    dit-sample -q --weights "$tmp/run/latest.safetensors" --count 4 --batch 4 --latents \
        --steps "$1" >"$tmp/samples"
    echo $((($(date +%s%N) - seconds_start) / 1000))
}
ours_sample() {
    few=$(seconds 1)
    many=$(seconds $((steps + 1)))
    awk "BEGIN { print ($many - $few) / $steps / 1e6 }" >>"$tmp/sample.ours"
}
median() {
    sort -n "$1" |
        awk '{ v[NR] = $1 } END { print (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2 }'
}

for _ in $(seq $rounds); do
    ours_train
    peer train 8
    ours_sample
    peer sample 4
done
version=$("$python" -c 'import torch; print(torch.__version__)')
for what in train sample; do
    awk -v what=$what -v ours="$(median "$tmp/$what.ours")" -v peer="$(median "$tmp/$what.peer")" \
        -v version="$version" 'BEGIN {
            name = what == "train" ? "training, batch 8" : "sampling, batch 4, guided"
            printf "DiT-S/2, %-26s dit-%s %.3f s a step, PyTorch %s %.3f s: %.2f times as fast\n",
                name, what, ours, version, peer, peer / ours
        }'
done
