#!/bin/sh
# sharing.sh [PART]...: measures what the threads of a program cost others, and how a program fares
# where others need the processors, as ratios of two runs in turn. Parts: pipe, load, quota, beside,
# idle (against the programs in $BEFORE). SPDX-License-Identifier: MIT
# Run from the top of the tree: PATH=build/bin:$PATH tests/bench/sharing.sh
#   BEFORE=FOLDER   where an earlier build's programs are, for the part idle
#   ROUNDS=3        rounds, of which the median counts
#   BUSY=10         busy loops of the part load
# The part quota needs control groups of version 1 or 2, and the right to make one.
# shellcheck disable=SC2317 # functions that are arguments of others
set -eu
rounds=${ROUNDS:-3} busy=${BUSY:-10}
tmp=$(mktemp -d) loops=
group=

start_loops() { # start_loops N: N processes that only compute
    for _ in $(seq "$1"); do
        sh -c 'while :; do :; done' &
        loops="$loops $!"
    done
}
stop_loops() {
    for loop in $loops; do
        kill "$loop"
        wait "$loop" || : # it ends by the signal
    done 2>"$tmp/killed"
    loops=
}
clean_up() {
    [ -z "$group" ] || echo $$ >"${group%/*}/cgroup.procs"
    stop_loops
    [ -z "$group" ] || rmdir "$group"
    rm -rf "$tmp"
}
trap clean_up EXIT
trap 'exit 1' INT TERM HUP

# clock FILE COMMAND...: appends how many seconds it took.
clock() {
    file=$tmp/$1
    shift
    start=$(date +%s%N)
    "$@"
    echo "$start $(date +%s%N)" | awk '{ print ($2 - $1) / 1e9 }' >>"$file"
}
median() { # median FILE
    sort -n "$tmp/$1" |
        awk '{ v[NR] = $1 } END { print (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2 }'
}
compare() { # compare TEXT FILE BASE: prints both medians and their ratio
    awk -v text="$1" -v a="$(median "$2")" -v b="$(median "$3")" \
        'BEGIN { printf "%s: %.4f s, %.4f s: %.2f\n", text, a, b, a / b }'
}

# clock_train FILE STEPS OPTION...: appends the mean seconds of a step after the first two. The
# model is a quarter of DiT-S/4: 64 tokens, depth 3. clock_demo is of the demo's model: 16 tokens.
"${B:-build}/tests/tools/make-stream" latents 64 32 32 >"$tmp/latents"
"${B:-build}/tests/tools/make-stream" latents 64 4 32 >"$tmp/small"
clock_steps() { # clock_steps FILE STEPS BATCH OPTION...
    file=$tmp/$1 steps=$2 batch=$3
    shift 3
    rm -rf "$tmp/run"
    dit-train -q --classes 10 --run "$tmp/run" --log-every 1 --steps "$steps" --batch "$batch" "$@"
    sed -n '3,$s/.*"images_per_second":\([^,}]*\).*/\1/p' "$tmp/run/log.jsonl" |
        awk -v n="$batch" '{ sum += n / $1 } END { print sum / NR }' >>"$file"
}
clock_train() {
    clock_steps "$1" "$2" 8 --depth 3 --hidden 384 --heads 6 --patch 4 -@ "$3" "$tmp/latents"
}
clock_demo() {
    clock_steps "$1" "$2" 32 --depth 6 --hidden 192 --heads 3 --patch 1 -@ "$3" "$tmp/small"
}
sample() { # sample THREADS
    dit-sample -q --weights "$tmp/weights" --which model --count 4 --batch 4 --latents --steps 4 -@ "$1" >"$tmp/samples"
}
# compare_programs TEXT THREADS: with so many threads (0: the default) and with one.
compare_programs() {
    for _ in $(seq "$rounds"); do
        for threads in "$2" 1; do
            clock_train "train.$threads" 6 "$threads"
            clock_demo "demo.$threads" 10 "$threads"
            clock "sample.$threads" sample "$threads"
        done
    done
    compare "$1 and -@ 1, training step" "train.$2" train.1
    compare "... training step of the demo's model" "demo.$2" demo.1
    compare "... dit-sample" "sample.$2" sample.1
    rm "$tmp"/train.* "$tmp"/demo.* "$tmp"/sample.*
}

bench_pipe() {
    "${B:-build}/tests/tools/draw-shapes" -q -s 500 -n 300 -o "$tmp/pictures"
    find "$tmp/pictures" -type f >"$tmp/list"
    decode_list() { cat "$tmp/list" "$tmp/list" "$tmp/list" "$tmp/list" | decode -q --no-labels "$@"; }
    encode() { vae-encode -q --vae dct >"$tmp/encoded"; }
    encode_file() { encode <"$tmp/images"; }
    pipeline() { decode_list | encode; }
    decode_list -z -512 >"$tmp/images"
    for _ in $(seq $((2 * rounds + 1))); do
        clock decode decode_list >/dev/null
        clock encode encode_file
        clock both pipeline
    done
    paste -d ' ' "$tmp/decode" "$tmp/encode" | awk '{ print $1 + $2 }' >"$tmp/sum"
    compare 'decode and vae-encode (dct) alone, added, and in a pipe' sum both
}
bench_load() {
    start_loops "$busy"
    compare_programs "$busy busy loops, default threads" 0
    stop_loops
}
# Half a core for this shell and what it starts. A program that sees the quota takes one thread by
# itself; so one thread is compared with one for each processor, which those take that don't see it.
bench_quota() {
    for folder in /sys/fs/cgroup /sys/fs/cgroup/cpu; do
        group=$folder/dit-sharing-$$
        mkdir "$group" 2>"$tmp/why" || continue
        if [ -e "$group/cpu.max" ]; then
            echo 50000 100000 >"$group/cpu.max"
            break
        elif [ -e "$group/cpu.cfs_quota_us" ]; then
            echo 50000 >"$group/cpu.cfs_quota_us"
            break
        fi
        rmdir "$group"
    done
    [ -d "$group" ] || { group='' && echo 'quota: skipped: no control group can be made here' && return; }
    echo $$ >"$group/cgroup.procs"
    compare_programs 'half a core, default threads' 0
    compare_programs 'half a core, a thread for each processor' "$(nproc)"
    echo $$ >"${group%/*}/cgroup.procs"
    rmdir "$group"
    group=
}
bench_beside() {
    for _ in $(seq "$rounds"); do
        clock_train train.alone 8 0
        clock_demo demo.alone 20 0
        start_loops "$(nproc)"
        clock_train train.beside 8 0
        clock_demo demo.beside 20 0
        stop_loops
    done
    compare 'training step alone and beside a busy loop for each processor' train.alone train.beside
    compare "... of the demo's model" demo.alone demo.beside
}
bench_idle() {
    now=$PATH
    for _ in $(seq "$rounds"); do
        for age in before after; do
            [ $age = after ] || PATH=${BEFORE:?}:$now
            clock_train train.$age 12 0
            clock_demo demo.$age 40 0
            PATH=$now
        done
    done
    compare 'training step before and now' train.before train.after
    compare "... of the demo's model" demo.before demo.after
}

[ $# -gt 0 ] || set -- pipe load quota beside ${BEFORE:+idle}
clock_train first 1 0
cp -L "$tmp/run/latest.safetensors" "$tmp/weights"
echo "$(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1), $(nproc) processors"
for part; do
    "bench_$part"
done
