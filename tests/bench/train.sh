#!/bin/sh
# train.sh [PYTHON]: compares training steps and guided sampling steps, on all processors, with
# PyTorch, eager and compiled, in turn; and the peak memory of each. Needs a Python with PyTorch.
# SPDX-License-Identifier: MIT
# Run from the top of the tree: PATH=build/bin:$PATH tests/bench/train.sh
#   WORKS="train:S/2:8 sample:B/2:4"   what to measure, as WHAT:MODEL:BATCH; the model demo has
#                                      width 192, depth 6 and 16 tokens
#   PRECISIONS="f32 bf16"              in which, PyTorch by autocast
#   MODES="eager compile"              modes of PyTorch, of which the faster one counts
#   ROUNDS=3 STEPS=3                   rounds, and steps in each; the median counts
set -eu
python=${1:-python3}
works=${WORKS:-train:demo:32 train:S/8:32 train:S/4:16 train:S/2:8 train:B/2:4 sample:S/2:4 sample:B/2:4}
precisions=${PRECISIONS:-f32 bf16}
modes=${MODES:-eager compile}
rounds=${ROUNDS:-3}
steps=${STEPS:-3}
if ! "$python" -c 'import torch' 2>/dev/null; then
    echo "train.sh: skipped: $python has no PyTorch" >&2
    exit 0
fi
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${B:-build}/tests/tools/make-stream" latents 64 32 32 >"$tmp/latents.32"
"${B:-build}/tests/tools/make-stream" latents 64 4 32 >"$tmp/latents.4"

sizes() { # sizes MODEL: depth, width, heads, patch, channels and side
    case $1 in
    demo) echo "6 192 3 1 4 4" ;;
    S/*) echo "12 384 6 ${1#*/} 4 32" ;;
    B/*) echo "12 768 12 ${1#*/} 4 32" ;;
    esac
}
peer() { # peer MODE PRECISION WHAT MODEL BATCH
    # shellcheck disable=SC2046 # words
    "$python" tests/bench/train.py "$1" "$2" "$3" $(sizes "$4") "$5" "$steps" >"$tmp/said"
    sed '/memory/d' "$tmp/said" >>"$tmp/seconds.$1"
    sed -n 's/memory //p' "$tmp/said" >>"$tmp/memory.$1"
}
# Runs a command, and appends its peak memory in bytes to memory.ours.
measure_memory() {
    "$python" -c 'import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)' "$@" >>"$tmp/memory.ours"
}
train() { # train PRECISION MODEL BATCH STEPS
    train_precision=$1 train_batch=$3 train_steps=$4
    # shellcheck disable=SC2046 # words
    set -- $(sizes "$2")
    rm -rf "$tmp/run"
    measure_memory dit-train -q --device cpu --precision "$train_precision" --depth "$1" --hidden "$2" --heads "$3" \
        --patch "$4" --classes 1000 --batch "$train_batch" --log-every 1 --steps "$train_steps" --run "$tmp/run" \
        "$tmp/latents.$6"
}
# The microseconds that a run of sampling takes.
sample() { # sample PRECISION MODEL BATCH STEPS
    start=$(date +%s%N)
    dit-sample -q --device cpu --precision "$1" --weights "$tmp/weights.$(echo "$2" | tr / -)" \
        --count "$3" --batch "$3" --latents --steps "$4" >"$tmp/samples"
    echo $((($(date +%s%N) - start) / 1000))
}
ours() { # ours PRECISION WHAT MODEL BATCH
    case $2 in
    train)
        train "$1" "$3" "$4" $((steps + 1))
        sed -n '2,$s/.*"images_per_second":\([^,}]*\).*/\1/p' "$tmp/run/log.jsonl" |
            awk -v n="$4" '{ print n / $1 }' >>"$tmp/seconds.ours"
        ;;
    sample)
        [ -e "$tmp/weights.$(echo "$3" | tr / -)" ] || {
            train f32 "$3" 1 1
            cp -L "$tmp/run/latest.safetensors" "$tmp/weights.$(echo "$3" | tr / -)"
        }
        few=$(sample "$1" "$3" "$4" 1)
        many=$(sample "$1" "$3" "$4" $((steps + 1)))
        awk "BEGIN { print ($many - $few) / $steps / 1e6 }" >>"$tmp/seconds.ours"
        ;;
    esac
}
median() {
    sort -n "$1" |
        awk '{ v[NR] = $1 } END { print (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2 }'
}

version=$("$python" -c 'import torch; print(torch.__version__)')
echo "PyTorch $version, $(nproc) processors; seconds a step, peak memory in GB"
echo '| work | precision | dit-tools | peak memory | PyTorch | mode | peak memory | times as fast | of its memory |'
echo '|---|---|---|---|---|---|---|---|---|'
measure() { # measure PRECISION WHAT MODEL BATCH
    rm -f "$tmp"/seconds.* "$tmp"/memory.*
    for _ in $(seq "$rounds"); do
        ours "$@"
        for mode in $modes; do
            peer "$mode" "$@"
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
    [ "$2" = sample ] || own=$(median "$tmp/memory.ours")
    awk -v precision="$1" -v what="$2" -v model="$3" -v batch="$4" -v ours="$(median "$tmp/seconds.ours")" \
        -v own="$own" -v peer="$best" -v memory="$memory" -v mode="$fastest" 'BEGIN {
            name = what == "train" ? "training step" : "guided sampling step"
            printf "| %s, %s, batch %d | %s | %.4f | %s | %.4f | %s | %.2f | %.2f | %s |\n",
                model == "demo" ? "demo" : "DiT-" model, name, batch, precision, ours,
                own == "-" ? "-" : sprintf("%.2f", own / 1e9), peer, mode, memory / 1e9, peer / ours,
                own == "-" ? "-" : sprintf("%.2f", own / memory)
        }'
}
for work in $works; do
    what=${work%%:*} batch=${work##*:} model=${work#*:}
    for precision in $precisions; do
        measure "$precision" "$what" "${model%:*}" "$batch"
    done
done
