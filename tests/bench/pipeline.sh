#!/bin/sh
# pipeline.sh [FOLDER]: compares the rate of `decode | vae-encode > file`, with the built-in
# autoencoder, with the rate of its slower stage alone. It runs decode into /dev/null, vae-encode
# from a file to a file, then both, in turn, and takes the medians of the elapsed times. It reads
# the pictures in FOLDER; without it, it draws some of 500x500 pixels. $THREADS is the number of
# threads of each program. SPDX-License-Identifier: MIT
# Run from the top of the tree: PATH=build/bin:$PATH tests/bench/pipeline.sh
set -eu
rounds=7 threads=${THREADS:-0} least=1500
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
folder=${1:-$tmp/drawn}
[ $# -gt 0 ] || "${B:-build}/tests/tools/draw-shapes" -q -s 500 -n 300 -o "$folder"

# Repeats a short list.
find "$folder" -type f >"$tmp/once"
n=0
while [ "$n" -lt "$least" ]; do
    cat "$tmp/once"
    n=$((n + $(wc -l <"$tmp/once")))
done >"$tmp/list"
n=$(wc -l <"$tmp/list")

decode_list() {
    decode -q --no-labels -@ "$threads" "$@" <"$tmp/list"
}
encode() {
    vae-encode -q --vae dct -@ "$threads" >"$tmp/latents"
}
encode_file() {
    encode <"$tmp/images"
}
pipeline() {
    decode_list | encode
}
# clock FILE COMMAND...: appends how long it took, in microseconds.
clock() {
    file=$1
    shift
    start=$(date +%s%N)
    "$@"
    echo $((($(date +%s%N) - start) / 1000)) >>"$file"
}
median() {
    sort -n "$1" | sed -n "$(((rounds + 1) / 2))p"
}

decode_list -z -512 >"$tmp/images"
round=0
while [ "$round" -lt "$rounds" ]; do
    clock "$tmp/decode" decode_list >/dev/null
    clock "$tmp/encode" encode_file
    clock "$tmp/both" pipeline
    round=$((round + 1))
done
awk -v n="$n" -v decode="$(median "$tmp/decode")" -v encode="$(median "$tmp/encode")" \
    -v both="$(median "$tmp/both")" 'BEGIN {
    slowest = decode > encode ? decode : encode
    printf "images/s: decode %.0f, vae-encode (dct) %.0f, both in a pipe %.0f: ", n / decode * 1e6,
        n / encode * 1e6, n / both * 1e6
    printf "%.2f of the slowest stage alone\n", slowest / both
}'
