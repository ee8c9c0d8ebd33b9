#!/bin/sh
# inject.sh NUMBERS [CASE...]: runs every program many times, and each time fails its n-th allocation,
# open, read, write, fsync, rename or start of a thread, for each n of NUMBERS ("1 5 20" or "1-200"),
# once or from then on. A run must give the same output and exit 0, or else print a message, exit with
# 64 to 75 and leave no half-written file: never 1 (inputs were skipped) for a fault that is not the
# input's, and never a crash. Without CASE, all cases run, as many at a time as $JOBS says.
# SPDX-License-Identifier: MIT
set -u
numbers=${1:?usage: inject.sh NUMBERS [CASE...]}
shift
build=$(realpath "${B:-build}")
PATH=$build/bin:$PATH
case $numbers in
*-*) list=$(seq "${numbers%-*}" "${numbers#*-}") ;;
*) list=$numbers ;;
esac
under= # what each program runs under

# What a case runs, in an empty folder. Inputs are in $in.
run_case() {
    case $1 in
    decode-images) $under decode-images -@ 2 -s 32 -o out "$in/pictures/a/1.jpg" "$in/pictures/b/2.png" ;;
    decode-tiff) $under decode-images -@ 1 -s 8 "$in/pictures/b/3.tif" "$in/pictures/a/1.jpg" ;;
    decode-list) $under decode-images -@ 2 -s 32 <"$in/list" ;;
    decode-tar) $under decode-images -@ 2 -s 32 "$in/pictures.tar" ;;
    decode-piped) $under decode-images -@ 2 -s 32 - <"$in/pictures.tar" ;;
    vae-encode) $under vae-encode -@ 2 --flip "$in/images" ;;
    vae-encode-kl) $under vae-encode -@ 2 --vae "$in/kl.safetensors" -b 2 -o out "$in/images" ;;
    vae-decode) $under vae-decode -@ 2 --vae dct:4 "$in/latents" ;;
    shard-latents) $under shard-latents -@ 2 --records-per-shard 10 -o shards "$in/latents" ;;
    tstream-cat) $under tstream-cat -@ 2 --rechunk 5 -o out "$in/latents" "$in/latents" ;;
    dit-info) $under dit-info -@ 2 -c -j "$in/latents" ;;
    dit-info-run) $under dit-info -c -j "$in/run" ;;
    evaluate-images) $under evaluate-images -@ 2 --inception "$in/inception.safetensors" -m fid,kid -r "$in/reference.npz" --save saved.npz -o out "$in/images" ;;
    npz-pack) $under npz-pack -@ 2 -l -o out.npz "$in/images" ;;
    npz-unpack) $under npz-unpack -@ 2 -o out "$in/images.npz" ;;
    encode-images) $under encode-images -@ 2 --by-class out "$in/images" ;;
    encode-jpeg) $under encode-images -@ 2 --format jpeg out "$in/images" ;;
    tile-images) $under tile-images -@ 2 "$in/images" ;;
    tile-show) $under tile-images -@ 2 --show-as kitty "$in/images" ;;
    import-features) $under import-features -@ 2 -o out "$in/features" ;;
    convert-to-pt) $under convert-weights "$in/run/latest.safetensors" out.pt ;;
    convert-from-pt) $under convert-weights --heads 3 "$in/train.pt" out.safetensors ;;
    convert-classes) $under convert-weights --names diffusers "$in/run/latest.safetensors" out.safetensors ;;
    convert-legacy) $under convert-weights --heads 3 --names diffusers "$in/legacy.pt" out.safetensors ;;
    average-weights) $under average-weights -l 0.06 -o out "$in"/run/snapshots/* ;;
    dit-sample) $under dit-sample -@ 2 -w "$in/run/latest.safetensors" -n 3 -b 2 --steps 2 --vae dct:4 -o out ;;
    dit-train) train --steps 4 "$in/latents" ;;
    dit-train-pipe) train --epochs 2 <"$in/latents" ;;
    dit-train-resume) cp -r "$in/run" . && train --steps 6 --resume "$in/latents" ;;
    esac
}
cases='decode-images decode-tiff decode-list decode-tar decode-piped vae-encode vae-encode-kl vae-decode shard-latents tstream-cat
    dit-info dit-info-run evaluate-images npz-pack npz-unpack encode-images encode-jpeg
    tile-images tile-show import-features convert-to-pt convert-from-pt convert-classes
    convert-legacy average-weights dit-sample dit-train dit-train-pipe dit-train-resume'
train() { # a path of --valid would make a checkpoint its folder's own
    [ -e latents ] || ln -s "$in/latents" latents
    $under dit-train -@ 2 --depth 1 --hidden 32 --heads 2 --patch 2 --batch 8 --classes 10 --vae dct:4 \
        --sample-every 2 --sample-count 2 --valid latents --valid-every 2 --valid-count 8 \
        --save-every 2 --log-every 1 --ema-power 0.05 --ema-snapshots --run run "$@"
}

make_inputs() {
    mkdir -p "$in/pictures/a" "$in/pictures/b"
    cp tests/data/images/small.jpg "$in/pictures/a/1.jpg"
    cp tests/data/images/palette.png "$in/pictures/b/2.png"
    /usr/bin/python3 -c "
import struct
tags = [(256, 8), (257, 8), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, 8), (279, 64)]
with open('$in/pictures/b/3.tif', 'wb') as f:
    f.write(struct.pack('<2sHI', b'II', 42, 72) + bytes(range(64)) + struct.pack('<H', len(tags)))
    f.write(b''.join(struct.pack('<HHII', tag, 3, 1, value) for tag, value in tags) + bytes(4))"
    printf '%s\n' "$in/pictures/a/1.jpg" "$in/pictures/b/2.png" >"$in/list"
    tar -cf "$in/pictures.tar" -C "$in/pictures" a b/2.png
    "$build/tests/tools/make-stream" images 6 16 3 >"$in/images"
    npz-pack -q -l -o "$in/images.npz" "$in/images"
    "$build/tests/tools/inception-network" make 4 "$in/inception.safetensors"
    evaluate-images -q --inception "$in/inception.safetensors" --save "$in/reference.npz" "$in/images" >"$in/figures" 2>&1
    "$build/tests/tools/make-stream" latents 24 4 6 \
        'classes=["a","b","c","d","e","f","g","h","i","j"]' >"$in/latents"
    cp tests/data/vae-diffusers-half.safetensors "$in/kl.safetensors"
    cp tests/data/dit-a-legacy.pt "$in/legacy.pt"
    cp tests/data/dit-a-train.pt "$in/train.pt"
    /usr/bin/python3 -c "
import os, numpy as np
for name, values in ('features', np.ones((3, 1, 4, 4, 4), 'f4')), ('labels', np.arange(3)[:, None]):
    folder = '$in/features/imagenet256_' + name
    os.makedirs(folder)
    for i, value in enumerate(values):
        np.save('%s/%d.npy' % (folder, i), value)"
    (cd "$in" && train -q --steps 4 "$in/latents")
}

# Runs a case in the folder. What differs from run to run, such as times, goes from what it leaves.
run_in() { # run_in FOLDER CASE
    rm -rf "$1" "$tmp/hit"
    mkdir "$1"
    (cd "$1" && run_case "$2") >"$tmp/out" 2>"$tmp/err"
    run_status=$?
    mv "$tmp/out" "$1/stdout"
    if [ -f "$1/run/log.jsonl" ]; then
        sed -i 's/,"\(images_per_second\|flops\|peak_share\|time\|memory\)":[^,}]*//g' "$1/run/log.jsonl"
    fi
    return $run_status
}

# The files of a run that failed are whole, or not there. What grows line by line may end early.
left_whole() {
    (cd "$tmp/bad" && find . -type f ! -path ./stdout ! -name log.jsonl) |
        while read -r file; do
            cmp -s "$tmp/good/$file" "$tmp/bad/$file" || cmp -s "$in/$file" "$tmp/bad/$file" || {
                echo "$file is left, other than after a good run"
                return 1
            }
        done
}

# What differs from a good run. A training goes on without a sheet of samples, or without a checkpoint
# but the last, if it says so.
other_output() {
    diff -r --no-dereference "$tmp/good" "$tmp/bad" | while read -r line; do
        name=${line##*: }
        case $line in
        "Only in $tmp/good/run"*) grep -q "training goes on\|no pictures of step\|$name: " "$tmp/err" || echo "$line" ;;
        *) echo "$line" ;;
        esac
    done
}

# verdict CASE KIND STATUS: says what is wrong with a run, if anything is.
verdict() {
    case $3 in
    0)
        other=$(other_output | head -c 300)
        [ -z "$other" ] || echo "other output: $other"
        ;;
    6[4-9] | 7[0-5]) if [ -s "$tmp/err" ]; then left_whole; else echo 'no message'; fi ;;
    1)
        case $2:$1 in
        read:decode-* | read:import-*) ;; # a picture that cannot be read is skipped
        *) echo 'inputs are said to be skipped' ;;
        esac
        ;;
    124) echo 'it hangs' ;;
    *) echo 'a crash' ;;
    esac
}

check_case() {
    tmp=$work/$1
    mkdir "$tmp"
    run_in "$tmp/good" "$1" || {
        echo "$1: fails without a fault: $(cat "$tmp/err")"
        return
    }
    runs=0
    for kind in malloc open read write fsync rename thread; do
        for later in '' +; do
            case $1:$kind$later in # a training waits for a disk that fails on, until a signal
            dit-train*:open+ | dit-train*:write+ | dit-train*:fsync+ | dit-train*:rename+) continue ;;
            esac
            [ $kind = thread ] && ns=$(seq 40) || ns=$list # programs start few threads
            for n in $ns; do
                under="timeout 60 env LD_PRELOAD=$build/tests/fault/fail.so"
                under="$under FAULT=$kind:$n$later FAULT_HIT=$tmp/hit"
                run_in "$tmp/bad" "$1"
                status=$?
                [ -e "$tmp/hit" ] || break # it has fewer calls of this kind
                runs=$((runs + 1))
                wrong=$(verdict "$1" $kind $status)
                [ -z "$wrong" ] ||
                    echo "$1: $kind:$n$later: exit $status: $wrong; $(tail -n 1 "$tmp/err" | head -c 300)"
            done
        done
    done
    echo "$1: $runs faults" >>"$work/counts"
}

if [ -n "${FAULT_WORK-}" ]; then # one of the cases that run side by side
    work=$FAULT_WORK in=$work/in
    check_case "$1"
    exit
fi
work=$(mktemp -d) in=$work/in
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
export FAULT_WORK="$work"
make_inputs || exit
# shellcheck disable=SC2086 # several words
[ $# -gt 0 ] || set -- $cases
printf '%s\n' "$@" | xargs -P "${JOBS:-2}" -n 1 "$0" "$numbers" >"$work/wrong"
cat "$work/wrong" "$work/counts"
[ ! -s "$work/wrong" ] && [ -s "$work/counts" ]
