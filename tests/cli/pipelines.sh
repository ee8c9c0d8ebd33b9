#!/bin/sh
# imagenet256.sh and sample-50k.sh on a few pictures: stopped anywhere and run again, they continue
# and give the same result as an uninterrupted run.
# SPDX-License-Identifier: MIT
# shellcheck disable=SC2317,SC2030,SC2031 # functions are arguments of others, also in subshells
. tests/tap.sh
unset DIT_VAE SEED

until_there() { # until_there FILE: waits until FILE has content or the process $pid has ended
    until [ -s "$1" ]; do
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.02
    done
}
# Runs FUNCTION in the background; its standard error goes to $tmp/err.
start() { # start FUNCTION [ARGUMENT]...
    (
        replace='exec'
        "$@" >"$tmp/out" 2>"$tmp/err" </dev/null
    ) &
    pid=$!
}
stopped() { # stopped NAME
    kill -TERM $pid
    wait $pid
    is "$1 (exit 75)" $? 75
}

ok 'pictures are drawn' "$BUILD/tests/tools/draw-shapes" -q -o "$tmp/pictures" -n 60 -s 40 || done_testing
echo 'no picture' >"$tmp/pictures/ring/text.jpg"

train() { # train WORK
    ${replace-} env WORK="$tmp/$1" SIZE=32 PARTS=12 SHARD_SIZE=32K STEPS=300 BATCH=8 MODEL=DiT-S/2 \
        TRAIN_OPTIONS='-@ 1 --depth 1 --hidden 64 --heads 2 --log-every 10' \
        pipelines/imagenet256.sh "$tmp/pictures"
}
start train broken
until_there "$tmp/broken/latents/000002.tstream"
stopped 'imagenet256.sh is stopped while it encodes'
says 'and says how to continue' 'imagenet256.sh: stopped; run the same command again to continue'
ok 'the last part was not encoded yet' [ ! -e "$tmp/broken/latents/000012.tstream" ]
is 'no half-written part of the latents is left' "$(find "$tmp/broken/latents" ! -name '*.tstream' -type f)" ''
exits 'the parts that are left are complete' 0 dit-info --check "$tmp"/broken/latents/*.tstream
ls -i "$tmp/broken/latents/000001.tstream" >"$tmp/before"
start train broken
until_there "$tmp/broken/shards.list"
until_there "$tmp/broken/run/log.jsonl"
stopped 'imagenet256.sh is stopped while it trains'
ok 'complete parts are not encoded again' [ "$(ls -i "$tmp/broken/latents/000001.tstream")" = \
    "$(cat "$tmp/before")" ]
exits 'imagenet256.sh, run again, trains to the end' 0 train broken
is 'training continues where it was stopped' \
    "$(grep -c 'step     10 ' "$tmp/err") $(grep -c 'step    300 ' "$tmp/err")" '0 1'
ok 'complete stages are skipped' [ "$(grep -c '^== ' "$tmp/err")" = 1 ]
exits 'an uninterrupted imagenet256.sh' 0 train whole
says 'names a file that is no picture' 'text.jpg'
ok 'interrupted and uninterrupted training give the same weights' python '
a, b = (tensors(tmp + n + "/run/latest.safetensors") for n in ("broken", "whole"))
assert a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)
assert [line["step"] for line in log(tmp + "broken/run")][-1] == 300
'
is 'the shards hold all pictures' \
    "$(tstream-cat "$tmp"/whole/shards/*.tstream | dit-info --json |
        grep -o '"records": *[0-9]*' | grep -o '[0-9]*$')" 60
other_size() {
    SIZE=64
    export SIZE
    WORK=$tmp/broken pipelines/imagenet256.sh "$tmp/pictures"
}
exits 'imagenet256.sh refuses other settings in the same folder' 64 other_size
says 'and says what to do' 'choose another WORK'

weights=$tmp/whole/run/latest.safetensors
draw() { # draw WORK
    ${replace-} env WORK="$tmp/$1" COUNT=30 PARTS=8 CFG_SCALE=2 SAMPLE_STEPS=5 \
        SAMPLE_OPTIONS='-@ 1' pipelines/sample-50k.sh "$weights"
}
start draw samples
until_there "$tmp/samples/000002.tstream"
stopped 'sample-50k.sh is stopped while it samples'
ok 'the last part was not drawn yet' [ ! -e "$tmp/samples/000008.tstream" ]
head -c 100 "$tmp/samples/000001.tstream" >"$tmp/cut"
cp "$tmp/cut" "$tmp/samples/000001.tstream"
exits 'sample-50k.sh, run again, draws the missing and damaged parts' 0 draw samples
dit-sample -q -@ 1 -w "$weights" -n 30 -c random -s 2 --steps 5 | npz-pack -q >"$tmp/direct.npz"
ok 'the parts make the same samples as one dit-sample' python '
a, b = (np.load(tmp + n)["arr_0"] for n in ("samples/samples.npz", "direct.npz"))
assert a.shape == (30, 32, 32, 3) and a.dtype == np.uint8 and np.array_equal(a, b)
'
exits 'sample-50k.sh with complete samples' 0 draw samples
says 'says that they are complete' 'is already complete'
other_weights() {
    WORK=$tmp/samples pipelines/sample-50k.sh "$tmp/broken/run/latest.safetensors"
}
exits 'sample-50k.sh refuses other weights in the same folder' 64 other_weights
says 'and says what to do' 'choose another WORK'

"$BUILD/tests/tools/inception-network" make 4 "$tmp/inception.safetensors"
"$BUILD/tests/tools/make-stream" images 6 32 3 | npz-pack -q -o "$tmp/reference.npz"
evaluate() { # evaluate OPTIONS
    WORK=$tmp/evaluated COUNT=6 PARTS=2 SAMPLE_STEPS=2 REFERENCE=$tmp/reference.npz EVALUATE_OPTIONS=$1 \
        SAMPLE_OPTIONS='-@ 1 --vae tests/data/vae-diffusers-half.safetensors' \
        DIT_INCEPTION=$tmp/inception.safetensors pipelines/evaluate-50k.sh tests/data/dit-a.safetensors
}
exits 'evaluate-50k.sh' 0 evaluate '-m fid'
ok '... prints the FID of its samples' grep -q '"fid": ' "$tmp/out"
exits 'evaluate-50k.sh once more' 0 evaluate '-m fid'
ok '... prints what it has' cmp -s "$tmp/out" "$tmp/evaluated/evaluation.json"
exits 'evaluate-50k.sh with other options' 64 evaluate '-m kid'
says 'is refused' "$tmp/evaluated holds an evaluation made with another reference or other settings"

top=$PWD
elsewhere() { # with no programs on the PATH
    cd "$tmp" && env PATH="$(getconf PATH)" "$top/pipelines/$1" "$2"
}
for script in imagenet256.sh sample-50k.sh evaluate-50k.sh; do
    exits "$script --help" 0 elsewhere $script --help
    exits "$script with an unknown option" 64 elsewhere $script --unknown
    exits "$script with a missing operand" 64 elsewhere $script "$tmp/no"
    says "names it" "$script: $tmp/no: no such"
done
for script in sample-50k.sh evaluate-50k.sh; do
    exits "$script with two files of weights" 64 "$top/pipelines/$script" one two
    says "names them" "$script: expected one file of weights, found one two"
done
done_testing
