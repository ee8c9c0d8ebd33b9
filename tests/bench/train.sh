#!/bin/sh
# train.sh [PYTHON]: compares training steps and guided sampling steps, on all processors in
# float32, with PyTorch, eager and compiled, in turn; and the peak memory of each. Needs a Python
# with PyTorch. SPDX-License-Identifier: MIT
# Run from the top of the tree: PATH=build/bin:$PATH tests/bench/train.sh
#   WORKS="train:S/2:8 sample:B/2:4"   what to measure, as WHAT:MODEL:BATCH
#   MODES="eager compile"              modes of PyTorch, of which the faster one counts
#   ROUNDS=3 STEPS=3                   rounds, and steps in each; the median counts
set -eu
python=${1:-python3}
works=${WORKS:-train:S/8:32 train:S/4:16 train:S/2:8 sample:S/2:4 sample:B/2:4}
modes=${MODES:-eager compile}
rounds=${ROUNDS:-3}
steps=${STEPS:-3}
if ! "$python" -c 'import torch' 2>/dev/null; then
    echo "train.sh: skipped: $python has no PyTorch" >&2
    exit 0
fi
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${B:-build}/tests/tools/make-stream" latents 64 32 32 >"$tmp/latents"

sizes() { # sizes MODEL: depth, width, heads and patch
    case $1 in
    S/*) echo "12 384 6 ${1#*/}" ;;
    B/*) echo "12 768 12 ${1#*/}" ;;
    esac
}
peer() { # peer MODE WHAT MODEL BATCH
    # shellcheck disable=SC2046 # words
    "$python" tests/bench/train.py "$1" "$2" $(sizes "$3") 4 32 "$4" "$steps" >"$tmp/said"
    sed '/memory/d' "$tmp/said" >>"$tmp/seconds.$1"
    sed -n 's/memory //p' "$tmp/said" >>"$tmp/memory.$1"
}
# Runs a command, and appends its peak memory in bytes to memory.ours.
measure_memory() {
    "$python" -c 'import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)' "$@" >>"$tmp/memory.ours"
}
train() { # train MODEL BATCH STEPS
    rm -rf "$tmp/run"
    measure_memory dit-train -q --model "DiT-$1" --classes 1000 --batch "$2" --log-every 1 --steps "$3" \
        --run "$tmp/run" "$tmp/latents"
}
# The microseconds that a run of sampling takes.
sample() { # sample MODEL BATCH STEPS
    start=$(date +%s%N)
    dit-sample -q --weights "$tmp/weights.$(echo "$1" | tr / -)" --count "$2" --batch "$2" \
        --latents --steps "$3" >"$tmp/samples"
    echo $((($(date +%s%N) - start) / 1000))
}
ours() { # ours WHAT MODEL BATCH
    case $1 in
    train)
        train "$2" "$3" $((steps + 1))
        sed -n '2,$s/.*"images_per_second":\([^,}]*\).*/\1/p' "$tmp/run/log.jsonl" |
            awk -v n="$3" '{ print n / $1 }' >>"$tmp/seconds.ours"
        ;;
    sample)
        [ -e "$tmp/weights.$(echo "$2" | tr / -)" ] || {
            train "$2" 1 1
            cp -L "$tmp/run/latest.safetensors" "$tmp/weights.$(echo "$2" | tr / -)"
        }
        few=$(sample "$2" "$3" 1)
        many=$(sample "$2" "$3" $((steps + 1)))
        awk "BEGIN { print ($many - $few) / $steps / 1e6 }" >>"$tmp/seconds.ours"
        ;;
    esac
}
median() {
    sort -n "$1" |
        awk '{ v[NR] = $1 } END { print (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2 }'
}

version=$("$python" -c 'import torch; print(torch.__version__)')
echo "PyTorch $version, $(nproc) processors, float32; seconds a step, peak memory in GB"
echo '| work | dit-tools | peak memory | PyTorch | mode | peak memory | times as fast | of its memory |'
echo '|---|---|---|---|---|---|---|---|'
for work in $works; do
    what=${work%%:*} batch=${work##*:} model=${work#*:}
    model=${model%:*}
    rm -f "$tmp"/seconds.* "$tmp"/memory.*
    for _ in $(seq "$rounds"); do
        ours "$what" "$model" "$batch"
        for mode in $modes; do
            peer "$mode" "$what" "$model" "$batch"
        done
    done
    best=
    for mode in $modes; do
        seconds=$(median "$tmp/seconds.$mode")
        if [ -z "$best" ] || [ "$(awk "BEGIN { print ($seconds < $best) }")" = 1 ]; then
            best=$seconds
            memory=$(median "$tmp/memory.$mode")
            fastest=$mode
        fi
    done
    own=-
    [ "$what" = sample ] || own=$(median "$tmp/memory.ours")
    awk -v what="$what" -v model="$model" -v batch="$batch" -v ours="$(median "$tmp/seconds.ours")" \
        -v own="$own" -v peer="$best" -v memory="$memory" -v mode="$fastest" 'BEGIN {
            name = what == "train" ? "training step" : "guided sampling step"
            printf "| DiT-%s, %s, batch %d | %.3f | %s | %.3f | %s | %.2f | %.2f | %s |\n", model,
                name, batch, ours, own == "-" ? "-" : sprintf("%.2f", own / 1e9), peer, mode,
                memory / 1e9, peer / ours, own == "-" ? "-" : sprintf("%.2f", own / memory)
        }'
done
