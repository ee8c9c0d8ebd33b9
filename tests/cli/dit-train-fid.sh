#!/bin/sh
# dit-train --eval-every: FID while training, on one rank and on several. SPDX-License-Identifier: MIT
# shellcheck disable=SC2317 # functions that are arguments of others
. tests/tap.sh
. tests/training.sh
unset DIT_INCEPTION

network=$BUILD/tests/tools/inception-network
"$network" make 4 "$tmp/net.safetensors"
"$BUILD/tests/tools/draw-shapes" -q -o "$tmp/shapes" -n 40 -s 32
find "$tmp/shapes" -type f | sort | decode-images -q -s 32 -o "$tmp/images"
evaluate-images -q -m fid --inception "$tmp/net.safetensors" --save "$tmp/ref.npz" "$tmp/images" >"$tmp/out" 2>&1
vae-encode -q "$tmp/images" -o "$tmp/data"
fid="--reference $tmp/ref.npz --inception $tmp/net.safetensors --eval-count 20"
steps_with_fid() { # the steps of a run's log whose lines have a FID
    python "print(*[l['step'] for l in log(tmp + '$1') if l.get('fid', -1) >= 0])"
}
last_fid() {
    python "print(log(tmp + '$1')[-1]['fid'])"
}

exits 'a training without FID' 0 tiny plain --steps 13 --log-every 3 "$tmp/data"
# shellcheck disable=SC2086 # a list of words
exits 'a training with FID' 0 tiny fid --steps 13 --log-every 3 --eval-every 5 $fid "$tmp/data"
is '... warns once of too few images' "$(grep -c 'eval-count 20: so few images give 256 features' "$tmp/err")" 1
is '... logs it after every N steps and at the end' "$(steps_with_fid fid)" '6 12 13'
ok '... trains the same bits' same_tensors plain fid
dit-sample -q -w "$tmp/fid" --cfg-scale 1 --steps 50 -n 20 |
    evaluate-images -q --inception "$tmp/net.safetensors" -m fid -r "$tmp/ref.npz" >"$tmp/figures" 2>"$tmp/null"
ok '... logs the FID of what dit-sample draws' python "
a, b = log(tmp + 'fid')[-1]['fid'], json.load(open(tmp + 'figures'))['fid']
assert abs(a - b) <= 1e-6 * b, (a, b)"
exits 'resuming a training with FID' 0 tiny fid --resume --steps 19 "$tmp/data"
is '... goes on to log it' "$(steps_with_fid fid)" '6 12 13 15 19'
cp -r "$tmp/fid" "$tmp/copied"
exits 'resuming a copy of its folder' 64 tiny copied --resume --steps 20 "$tmp/data"
says 'opens no reference by a path that others may have written' "its --reference is $tmp/ref.npz, but it was not"
exits 'resuming without FID' 0 tiny fid --resume --steps 20 --eval-every 0 "$tmp/data"
is '... logs none' "$(steps_with_fid fid)" '6 12 13 15 19'
through_pipe() {
    # shellcheck disable=SC2002,SC2086 # a pipe it must be
    cat "$tmp/data" | tiny pipe --log-every 5 --eval-every 100 $fid
}
exits 'a pipe that ends with a line of the log' 0 through_pipe
is '... ends with a FID' "$(steps_with_fid pipe)" 5
# shellcheck disable=SC2086 # a list of words
exits 'sheets and FID' 0 tiny both --steps 4 --log-every 2 --eval-every 4 --eval-steps 9 --sample-every 2 \
    --sample-count 4 $fid "$tmp/data"
# shellcheck disable=SC2086 # a list of words
tiny sheets --steps 4 --sample-every 2 --sample-count 4 "$tmp/data" 2>"$tmp/null"
ok '... draw the sheets that are drawn without FID' cmp "$tmp/both/samples/0000004.png" "$tmp/sheets/samples/0000004.png"

# shellcheck disable=SC2086 # a list of words
dit-train -q -@ 1 --batch 8 --init "$tmp/fid" --steps 9 --log-every 1 --eval-every 1 $fid --eval-count 100000000 \
    --run "$tmp/stopped" "$tmp/data" 2>"$tmp/err" &
pid=$!
until [ -e "$tmp/stopped/config.json" ] || ! kill -0 $pid 2>/dev/null; do sleep 0.1; done
sleep 0.3
kill -TERM $pid
wait $pid
is 'SIGTERM while FID is computed stops with status 75' $? 75

# All is checked before the first step.
while IFS='|' read -r name status options text; do
    # shellcheck disable=SC2086 # a list of words
    exits "$name" "$status" tiny wrong --steps 1 --eval-count 20 $options "$tmp/data"
    says 'is refused by name' "$text"
done <<END
FID without a reference|64|--eval-every 1 --inception $tmp/net.safetensors|--eval-every needs a --reference
FID without a network|64|--eval-every 1 --reference $tmp/ref.npz|--eval-every needs the Inception network: --inception
a reference without FID|64|--reference $tmp/ref.npz|--reference needs --eval-every
too many sampling steps|64|--eval-every 1 $fid --eval-steps 1001|--eval-steps: 
a reference that is not there|66|--eval-every 1 $fid --reference $tmp/none.npz|--reference: $tmp/none.npz: 
a network that is something else|65|--eval-every 1 $fid --inception tests/data/dit-a.safetensors|--inception: tests/data/dit-a.safetensors: not an Inception network
END
python '
a = dict(np.load(sys.argv[1]))
def save(name, **changed):
    np.savez(tmp + name, **{k: v for k, v in {**a, **changed}.items() if v is not None})
save("bare.npz", mu=None, arr_0=np.zeros((5, 32, 32, 3), np.uint8))
save("large.npz", image_size=np.array([64, 64]))
save("narrow.npz", mu=a["mu"][:64], sigma=a["sigma"][:64, :64])
save("nan.npz", sigma=a["sigma"] * np.nan)' "$tmp/ref.npz"
while IFS='|' read -r name reference text; do
    # shellcheck disable=SC2086 # a list of words
    exits "$name" 65 tiny wrong --steps 1 --eval-every 1 $fid --reference "$tmp/$reference" "$tmp/data"
    says 'is refused by name' "--reference: $tmp/$reference: $text"
done <<'END'
a reference of images alone|bare.npz|expected the arrays mu and sigma
a reference of images of another size|large.npz|its images are of 64x64 pixels, those to be drawn of 32x32
a reference of another network|narrow.npz|expected mu of [256], found [64]
a reference with NaN|nan.npz|mu or sigma holds numbers that are not finite
END
"$BUILD/tests/tools/make-stream" latents 40 4 16 >"$tmp/unnamed"
# shellcheck disable=SC2086 # a list of words
exits 'FID of latents that name no autoencoder' 65 tiny wrong --steps 1 --eval-every 1 $fid --classes 1000 "$tmp/unnamed"
says 'is refused with what is needed' '--eval-every: the latents: no autoencoder is named'

if ! command -v mpirun >/dev/null || [ ! -e "$BUILD/lib/dit-tools/dit-mpi.so" ]; then
    skip 'FID on several ranks' 'there is no MPI'
    done_testing
fi
export ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
ranked() { # ranked RANKS RUN [OPTION]...: with weights that stay as they are
    ranked_n=$1 ranked_run=$2
    shift 2
    # shellcheck disable=SC2086 # a list of words
    mpirun --oversubscribe -n "$ranked_n" dit-train -q -@ 1 --batch 8 --lr 0 --init "$tmp/fid" --steps 2 \
        --eval-every 2 $fid --run "$tmp/$ranked_run" "$@" "$tmp/data"
}
exits 'FID on one rank' 0 ranked 1 one
exits 'FID on three ranks' 0 ranked 3 three
is '... is that of one' "$(last_fid three)" "$(last_fid one)"
exits "FID on two ranks that share the optimizer's state" 0 ranked 2 shared --shard-optimizer
is '... is that of one' "$(last_fid shared)" "$(last_fid one)"
exits 'FID on two ranks with a reference that is not there' 66 ranked 2 wrong --reference "$tmp/none.npz"
is '... is told once' "$(grep -c "$tmp/none.npz" "$tmp/err")" 1
done_testing
