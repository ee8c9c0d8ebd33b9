#!/bin/sh
# gpu.sh [PART]...: measures this machine's GPU. PART is environment (what is there), ops (every operation),
# train (training steps), sample (250 guided steps), vae (the autoencoder), counters (both kernels of
# attention under ncu), torch-flash and torch-cudnn (training in PyTorch, if $PYTHON has it, with
# either kind of attention), torch-sample, torch-vae, or torch (all of PyTorch); all but counters by
# default. Each measurement has a time limit, and all end at $END, in seconds since 1970 (default:
# in 9 minutes). What was measured by then is kept: $OUT/gpu.md has the table ($TABLE names
# another file, $RATES one that keeps the rates between calls), the other files there are
# logs. SPDX-License-Identifier: MIT
# Run from the top of the tree with the programs on the PATH (make bench-gpu does).
set -u
build=${B:-build}
out=${OUT:-$build/gpu-results}
python=${PYTHON:-python3}
end=${END:-$(($(date +%s) + 540))}
# The models that are trained, the images per step; the models that are sampled from, the steps.
training=${TRAIN:-DiT-XL/2}
batch=${BATCH:-256}
sampling=${SAMPLE:-DiT-XL/2}
steps=${STEPS:-250}
train_steps=${TRAIN_STEPS:-24}
# Further options of dit-train, such as a smaller depth where the GPU is a simulated one.
options=${TRAIN_OPTIONS:-}
rates=${RATES:-}
table=${TABLE:-$out/gpu.md}
export DIT_CUDA_LOG="$out/products.txt"
export PYTHONDONTWRITEBYTECODE=1
mkdir -p "$out" || exit 73
. tests/gpu/need.sh

# A training of DiT-XL/2 writes 11 GB: into memory if there is enough of it.
has_room() {
    [ "$(df -Pk "$1" 2>/dev/null | awk 'NR == 2 { print int($4 / 1e6) }')" -ge 40 ] 2>/dev/null
}
if has_room /dev/shm; then TMPDIR=/dev/shm; fi
export TMPDIR="${TMPDIR:-/tmp}"
tmp=$(mktemp -d) || exit 73
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' INT TERM
if [ -z "$rates" ]; then
    rates=$tmp/rates
    : >"$rates"
fi

left() {
    echo $((end - $(date +%s)))
}
# limited LOG SECONDS COMMAND...: runs it with a time limit and stderr to LOG, and reports a failure.
limited() {
    limited_log=$out/$1
    limited_most=$2
    shift 2
    limited_left=$(left)
    if [ "$limited_left" -lt 15 ]; then
        echo "no time is left for: $*" | tee -a "$limited_log" >&2
        return 75
    fi
    [ "$limited_most" -lt "$limited_left" ] || limited_most=$limited_left
    timeout -k 5 "$limited_most" "$@" 2>>"$limited_log"
    limited_status=$?
    [ $limited_status = 0 ] || {
        echo "exit $limited_status: $*"
        tail -n 3 "$limited_log"
    } >&2
    return $limited_status
}
# result WHO CASE RATE NOTE: records a rate in images per second.
result() {
    printf '%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "$4" >>"$rates"
    echo "$1, $2: $3 images/s ($4)"
}
sizes() { # sizes MODEL: depth, width, heads, patch
    case $1 in
    DiT-S/*) sizes_are='12 384 6' ;;
    DiT-B/*) sizes_are='12 768 12' ;;
    DiT-L/*) sizes_are='24 1024 16' ;;
    *) sizes_are='28 1152 16' ;;
    esac
    echo "$sizes_are ${1#*/}"
}
run_folder() {
    echo "$tmp/$(echo "$1" | tr / -)"
}
latents() {
    [ -s "$tmp/latents" ] || "$build/tests/tools/make-stream" latents 1024 32 64 >"$tmp/latents"
}
# dit_train MODEL OPTION...: takes the place of this process
dit_train() {
    dit_train_model=$1
    shift
    # shellcheck disable=SC2086 # a list of words
    exec dit-train --device cuda --no-progress --model "$dit_train_model" $options --classes 1000 \
        --log-every 1 --save-every 1000000 --run "$(run_folder "$dit_train_model")" "$@" "$tmp/latents"
}
# steps_done MODEL: the number of steps in its log.
steps_done() {
    steps_log=$(run_folder "$1")/log.jsonl
    if [ -e "$steps_log" ]; then grep -c '"images_per_second"' "$steps_log"; else echo 0; fi
}
# train MODEL BATCH STEPS SECONDS: trains for that many steps and then kills the training, so that it writes
# no checkpoint, which is 11 GB of DiT-XL/2.
train() {
    latents
    train_until=$(($(date +%s) + ($4 < $(left) ? $4 : $(left))))
    rm -rf "$(run_folder "$1")"
    (dit_train "$1" --batch "$2" --steps 1000000) 2>>"$out/measured.txt" &
    trained=$!
    while kill -0 $trained 2>/dev/null && [ "$(date +%s)" -lt $train_until ] &&
        [ "$(steps_done "$1")" -lt "$3" ]; do
        sleep 0.1
    done
    if kill -KILL $trained 2>/dev/null; then
        wait $trained 2>/dev/null
        [ "$(steps_done "$1")" -ge 6 ] && return
        echo "$1: only $(steps_done "$1") steps in time"
        return 1
    else
        wait $trained
        echo "$1: the training ended with status $?"
        tail -n 3 "$out/measured.txt"
        return 1
    fi
}
# weights MODEL: trains one step, which writes them.
weights() {
    [ ! -e "$(run_folder "$1")/latest.safetensors" ] || return 0
    latents
    rm -rf "$(run_folder "$1")"
    (dit_train "$1" --batch 8 --steps 1) 2>>"$out/measured.txt"
}
median() {
    sort -n | awk '{ v[NR] = $1 } END { if (NR) print (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2 }'
}

part_environment() {
    {
        date -u +%Y-%m-%d
        nvidia-smi
        nvidia-smi -q -d CLOCK,POWER,PERFORMANCE
        df -h /dev/shm /tmp
        command -v nvcc ncu compute-sanitizer mpirun
        nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm,clocks.max.mem,power.limit \
            --format=csv
        nvcc --version | tail -n 2
        ldd "$build/lib/dit-tools/dit-cuda.so" | grep cublas
        "$python" -c 'import torch; print("PyTorch", torch.__version__, torch.version.cuda)'
        nproc
        free -g
    } >"$out/device.txt" 2>&1
    timeout -k 3 30 "$build/tests/check-ops" --backend cuda,bf16 --bench --only silu --case nothing |
        sed -n 's/^# at most \([0-9.]*\) GFLOP.*/\1/p' >"$rates.peak"
    nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
}
part_ops() {
    limited measured.txt 200 "$build/tests/check-ops" --backend cuda,bf16 --bench --limit 30 \
        ${BENCH_OPERATIONS:+--only "$BENCH_OPERATIONS"} >"$tmp/ops"
    ops_status=$?
    cat "$tmp/ops" >>"$out/measured.txt"
    grep '^# [a-z]' "$tmp/ops"
    step_of_xl >"$tmp/step"
    echo "$(grep -c ' ms ' "$tmp/ops") operations measured"
    return $ops_status
}
# Adds up the measured operations of a training step of DiT-XL/2 with 256 images. Each line of its
# input has the number of times and the operation.
step_of_xl() {
    echo '| of a training step of DiT-XL/2, 256 images | times | ms each | ms |'
    echo '|---|---|---|---|'
    awk '
        NR == FNR { times[substr($0, index($0, " ") + 1)] = $1; next }
        match($0, /}  */) {
            name = substr($0, 1, index($0, "}"))
            split(substr($0, RSTART + RLENGTH), rest, " ")
            if (name in times) {
                ms = times[name] * rest[1]
                total += ms
                printf "| %s | %s | %.3f | %.1f |\n", name, times[name], rest[1], ms
            }
        }
        END { printf "| all, without recomputing | | | %.1f |\n", total }' - "$tmp/ops" <<'STEP'
28 linear {65536, 1152, 3456, 0, 0, flags 1}
28 linear {65536, 1152, 1152, 0, 0, flags 1}
28 linear {65536, 4608, 1152, 0, 0, flags 1}
28 linear_gelu {65536, 1152, 4608, 0, 0, flags 3}
1 linear {65536, 1152, 32, 0, 0, flags 1}
1 linear {256, 1152, 193536, 0, 0, flags 1}
28 linear_backward_input {65536, 1152, 3456, 0, 0, flags 0}
28 linear_backward_input {65536, 1152, 1152, 0, 0, flags 0}
28 linear_backward_input {65536, 1152, 4608, 0, 0, flags 0}
28 linear_backward_input_gelu {65536, 4608, 1152, 0, 0, flags 0}
1 linear_backward_input {256, 1152, 193536, 0, 0, flags 0}
28 linear_backward_weight {65536, 1152, 3456, 0, 0, flags 1}
28 linear_backward_weight {65536, 1152, 1152, 0, 0, flags 1}
28 linear_backward_weight {65536, 1152, 4608, 0, 0, flags 1}
28 linear_backward_weight {65536, 4608, 1152, 0, 0, flags 1}
1 linear_backward_weight {256, 1152, 193536, 0, 0, flags 1}
28 attention {256, 256, 16, 72, 0, flags 1}
28 attention_backward {256, 256, 16, 72, 0, flags 0}
56 gate_residual_norm_modulate {256, 256, 1152, 0, 0, flags 1}
56 gate_residual_norm_modulate_backward {256, 256, 1152, 0, 0, flags 3}
10 sum_squares {67108864, 0, 0, 0, 0, flags 0}
10 adamw {67108864, 10, 0, 0, 0, flags 2}
STEP
}
part_train() {
    train_failed=0
    for model in $training; do
        if [ -z "${profiled:-}" ]; then # the first model's second step
            export DIT_CUDA_PROFILE="$out/profile.txt"
            profiled=1
        fi
        train "$model" "$batch" "$([ "$model" = DiT-XL/2 ] && echo "$train_steps" || echo 100)" 150
        trained_well=$?
        unset DIT_CUDA_PROFILE
        if [ $trained_well != 0 ]; then
            train_failed=1
            continue
        fi
        # The first steps choose algorithms and record the graph.
        rate=$(sed -n '5,$s/.*"images_per_second":\([^,}]*\).*/\1/p' \
            "$(run_folder "$model")/log.jsonl" | median)
        [ "$rate" ] || continue
        note=$(sed -n 's/.*; batch \([^;]*\); \([^;]*\);.*/\1, \2/p' "$out/measured.txt" | tail -n 1)
        result dit-tools "$model, training" "$rate" "batch $note"
    done
    return $train_failed
}
# seconds LOG FILE COMMAND...: the seconds that COMMAND takes to read FILE.
seconds() {
    seconds_log=$1
    seconds_from=$2
    shift 2
    seconds_start=$(date +%s%N)
    limited "$seconds_log" 150 "$@" <"$seconds_from" >"$tmp/output" || return
    echo $((($(date +%s%N) - seconds_start) / 1000000)) | awk '{ print $1 / 1000 }'
}
# rate FEW MANY COUNT: COUNT over the difference of the seconds of a longer and a shorter run.
rate() {
    awk -v few="$1" -v many="$2" -v count="$3" \
        'BEGIN { if (few == "" || many <= few) exit 1; printf "%.2f\n", count / (many - few) }'
}
part_sample() {
    for model in $sampling; do
        weights=$(run_folder "$model")/latest.safetensors
        weights "$model" || return
        for count in ${COUNTS:-32}; do
            few=$(seconds measured.txt /dev/null dit-sample --device cuda -q --weights "$weights" \
                --count "$count" --batch "$count" --latents --steps 10)
            many=$(seconds measured.txt /dev/null dit-sample --device cuda -q --weights "$weights" \
                --count "$count" --batch "$count" --latents --steps $((10 + steps)))
            per_second=$(rate "$few" "$many" "$count") || continue
            result dit-tools "$model, $steps guided steps, batch $count" "$per_second" \
                "whole run $many s"
        done
    done
}
part_vae() {
    vae=$tmp/vae.safetensors
    [ -s "$vae" ] || limited measured.txt 60 "$python" tests/bench/vae.py make "$vae" || return
    for n in 16 144; do
        "$build/tests/tools/make-stream" images $n 256 16 >"$tmp/images-$n"
        vae-encode -q --device cuda --vae "$vae" <"$tmp/images-$n" >"$tmp/codes-$n" \
            2>>"$out/measured.txt"
    done
    for what in encode decode; do
        input=$([ $what = encode ] && echo images || echo codes)
        few=$(seconds measured.txt "$tmp/$input-16" vae-$what -q --device cuda --vae "$vae")
        many=$(seconds measured.txt "$tmp/$input-144" vae-$what -q --device cuda --vae "$vae")
        per_second=$(rate "$few" "$many" 128) || continue
        result dit-tools "autoencoder, $what, 256 pixels" "$per_second" 'batch 16, with streams'
    done
}
peer() { # peer SECONDS CASE NOTE ARGUMENT...: tests/bench/gpu.py
    peer_most=$1
    peer_case=$2
    peer_note=$3
    shift 3
    peer_got=$(limited torch.txt "$peer_most" "$python" tests/bench/gpu.py "$@") || return
    result "PyTorch $version" "$peer_case" "${peer_got%% *}" "batch ${peer_got##* }, $peer_note"
}
# Sets $version; fails without PyTorch.
has_torch() {
    version=$(timeout 60 "$python" -c 'import torch; print(torch.__version__)' 2>&1) && return
    echo "SKIP: PyTorch is not measured: $python does not have it"
    return 1
}
# torch_train KIND: with that attention. Compiled by blocks it starts soonest; then as a whole.
torch_train() {
    has_torch || return 0
    memory=$(nvidia-smi --query-gpu=memory.total --format=csv,noheader,nounits 2>/dev/null | head -n 1)
    for model in $training; do
        tried=$batch # without checkpointing, 256 images do not fit into 80 GB
        [ "$model" != DiT-XL/2 ] || [ "${memory:-0}" -gt 100000 ] || tried=$((batch / 2))
        # shellcheck disable=SC2046
        ATTENTION=$1 COMPILE=blocks peer 90 "$model, training" "$1, compiled by blocks" \
            train $(sizes "$model") 4 32 "$tried" 12 || return
        [ "$(left)" -gt 40 ] || continue
        # shellcheck disable=SC2046
        ATTENTION=$1 COMPILE=whole peer 240 "$model, training" "$1, compiled as a whole" \
            train $(sizes "$model") 4 32 "$tried" 12 || :
    done
}
part_torch_flash() { torch_train flash; }
part_torch_cudnn() { torch_train cudnn; }
part_torch_sample() {
    has_torch || return 0
    for model in $sampling; do
        for count in ${COUNTS:-32}; do
            # shellcheck disable=SC2046
            got=$(COMPILE=blocks limited torch.txt 150 "$python" tests/bench/gpu.py sample $(sizes "$model") 4 32 \
                "$count" 20) || return
            result "PyTorch $version" "$model, $steps guided steps, batch $count" \
                "$(awk -v a="${got%% *}" -v steps="$steps" 'BEGIN { printf "%.3f", a / steps }')" \
                '20 steps measured'
        done
    done
}
part_torch_vae() {
    has_torch || return 0
    for what in encode decode; do
        peer 100 "autoencoder, $what, 256 pixels" 'without streams' "$what" 256 16 10 || return
    done
}
part_torch() {
    for torch_part in flash cudnn sample vae; do
        "part_torch_$torch_part"
    done
}
# One launch of each attention of DiT-XL/2. The clocks stay as they are.
part_counters() {
    if ! command -v ncu >/dev/null; then
        echo 'SKIP: ncu is not here'
        return
    fi
    for operation in attention attention_backward; do
        echo "== $operation" >>"$out/profile.txt"
        limited profile.txt 60 ncu --clock-control none --set detailed --target-processes all \
            --kernel-name "regex:$operation" --launch-skip 2 --launch-count 1 --kill yes \
            "$build/tests/check-ops" --backend cuda,bf16 --bench --only $operation \
            --case '{256, 256, 16, 72,' >>"$out/profile.txt"
    done
    grep -E 'Duration|Compute \(SM\) Throughput|DRAM Throughput|Achieved Occupancy' "$out/profile.txt" | tr -s ' '
}

# forward: floating-point operations of one image (dit_forward_flops of lib/model/dit-config.c). A
# training step takes three times as many.
table() {
    awk -F'\t' -v peak="$(cat "$rates.peak" 2>/dev/null)" -v steps="$steps" '
        function forward(name, D, L, p, T) {
            D = name ~ /-S/ ? 384 : name ~ /-B/ ? 768 : name ~ /-L/ ? 1024 : 1152
            L = name ~ /-[SB]/ ? 12 : name ~ /-L/ ? 24 : 28
            p = substr(name, index(name, "/") + 1, 1)
            T = (32 / p) ^ 2
            tokens = T * (12 * p * p * D + L * 12 * D * D) + 2 * L * T * T * D
            return 2 * (tokens + (6 * L + 3) * D * D + 256 * D)
        }
        function share(name, a_second) {
            if (name !~ /^DiT/ || !(peak > 0) || a_second == "")
                return ""
            passes = name ~ /training/ ? 3 : 2 * steps
            return sprintf("%.1f%%", a_second * forward(name) * passes / (peak * 1e9) * 100)
        }
        !seen[$2]++ { order[++n] = $2 }
        { who = $1 ~ /^PyTorch/ ? "PyTorch" : $1 }
        who != $1 { version = substr($1, 9) }
        $3 > rate[who, $2] { rate[who, $2] = $3; note[who, $2] = $4 } # the better of several
        END {
            if (n == 0)
                exit
            print "| work | dit-tools, images/s | of peak | | PyTorch " version \
                  ", images/s | of peak | | ratio |"
            print "|---|---|---|---|---|---|---|---|"
            for (i = 1; i <= n; i++) {
                c = order[i]
                a = rate["dit-tools", c]
                b = rate["PyTorch", c]
                ratio = a && b ? sprintf("%.2f", a / b) : ""
                printf "| %s | %s | %s | %s | %s | %s | %s | %s |\n", c, a, share(c, a),
                    note["dit-tools", c], b, share(c, b), note["PyTorch", c], ratio
            }
        }' "$rates"
    [ ! -s "$tmp/step" ] || {
        echo
        cat "$tmp/step"
    }
}

[ $# -gt 0 ] || set -- environment ops train sample vae torch
status=0
for part; do
    case $part in
    environment | ops | train | sample | vae | torch | torch-flash | torch-cudnn | torch-sample | torch-vae | counters) ;;
    *)
        echo "gpu.sh: no part is called $part" >&2
        exit 64
        ;;
    esac
    [ $# = 1 ] || echo "== $part ($(left) s left)"
    "part_$(echo "$part" | tr - _)" || status=1
    table >"$table.new" && mv "$table.new" "$table"
done
[ $# = 1 ] || cat "$table"
[ $status = 0 ]
