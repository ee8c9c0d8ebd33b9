#!/bin/sh
# dit-sample: a sample depends on its number, not on batch, part or thread; what its options do;
# damaged weights.
# SPDX-License-Identifier: MIT
# shellcheck disable=SC2317 # functions that are arguments of others
. tests/tap.sh
unset DIT_VAE

# get(STREAM, TENSOR) returns a tensor of a stream.
python_prelude="
get = lambda name, tensor='latent': read(tmp + name)[0][tensor]
"
# One thread, few steps.
sample() {
    dit-sample -q -@ 1 -w "$weights" --steps 6 "$@"
}
same() {
    cmp "$tmp/$1" "$tmp/$2"
}

"$BUILD/tests/tools/make-stream" images 60 32 10 | vae-encode -q >"$tmp/data"
dit-train -q -@ 1 --depth 2 --hidden 36 --heads 3 --patch 1 --classes 10 -b 16 --lr 3e-3 \
    --ema-decay 0.9 --steps 30 --run "$tmp/run" "$tmp/data"
weights=$tmp/run/latest.safetensors

exits 'sampling with --quiet' 0 sample -n 9 -o "$tmp/images"
is '... prints nothing' "$(cat "$tmp/err")" ''
ok "... gives images of the right size, balanced classes, and the model's metadata" python '
t, m = read(tmp + "images")
assert sorted(t) == ["image", "label"] and t["image"].dtype == np.uint8
assert t["image"].shape == (9, 32, 32, 3) and list(t["label"]) == list(range(9))
assert len(np.unique(t["image"])) > 20
assert m["kind"] == "images" and m["count"] == "9" and m["image_size"] == "32", m
assert "autoencoder" not in m and "latent_scale" not in m, m
assert m["classes"] == "[\"a\",\"b\"]" and m["pg.0"].startswith("dit-sample "), m
'
sample -n 9 --no-pg >"$tmp/nopg"
ok 'standard output and -o are the same' python '
assert np.array_equal(get("images", "image"), get("nopg", "image"))
assert "pg.0" not in read(tmp + "nopg")[1]
'
exits '--latents' 0 sample -n 9 --latents -o "$tmp/latents"
ok '... gives latents' python '
t, m = read(tmp + "latents")
assert t["latent"].shape == (9, 16, 4, 4) and t["latent"].dtype == np.float32
assert m["kind"] == "latents" and m["autoencoder"].startswith("dct"), m
'
vae-decode -q <"$tmp/latents" >"$tmp/decoded"
ok '--latents | vae-decode gives the images' python '
for tensor in "image", "label":
    assert np.array_equal(get("decoded", tensor), get("images", tensor))
'

for batch in 1 2 7 64; do
    sample -n 9 --latents --batch $batch >"$tmp/batch$batch"
done
sample -n 9 --latents -@ 2 >"$tmp/threads"
ok '--batch and --threads change no bit' python '
for other in "batch1", "batch2", "batch7", "batch64", "threads":
    assert np.array_equal(get(other), get("latents")), other
'
for of in 3 4 20; do
    for part in $(seq $of); do
        sample -n 9 --latents --no-pg --batch 2 --part "$part/$of"
    done >"$tmp/parts$of"
done
ok '--part changes no bit' python '
for of in 3, 4, 20:
    for tensor in "latent", "label":
        assert np.array_equal(get("parts%d" % of, tensor), get("latents", tensor)), of
'
ok 'parts joined are a valid stream' zstd -tq "$tmp/parts20"
sample -n 4 --latents >"$tmp/four"
sample -n 9 --latents --seed 1 >"$tmp/seed1"
ok 'fewer are the first of more; another seed gives others' python '
assert np.array_equal(get("four"), get("latents")[:4])
assert not (get("seed1") == get("latents")).any()
'

labels() { # labels ARGUMENT...: one line
    sample --steps 1 --latents "$@" >"$tmp/labels" && python 'print(*get("labels", "label"))'
}
is 'classes by name, number and none' "$(labels -n 7 -c b,7,none)" '1 7 -1 1 7 -1 1'
is 'classes that are balanced' "$(labels -n 12 -c balanced)" '0 1 2 3 4 5 6 7 8 9 0 1'
all=$(labels -n 40 -c random -b 40)
is 'random classes do not depend on the part' "$(labels -n 40 -c random --part 1/2) $(
    labels -n 40 -c random --part 2/2
)" "$all"
ok 'random classes are nearly all classes' [ "$(echo "$all" | tr ' ' '\n' | sort -u | wc -l)" -ge 9 ]
ok 'random classes follow the seed' [ "$(labels -n 40 -c random --seed 1)" != "$all" ]
exits 'an unknown class' 64 sample -c a,cat
says 'is refused with the names that there are' 'no class is called "cat"; the model has 10 classes: a, b'
exits 'a number over the classes' 64 sample -c 10
says 'is refused with the range' 'class 10: the model has classes 0 to 9'
exits 'an empty class' 64 sample -c a,

sample -n 3 --latents -c none -s 4 >"$tmp/none4"
sample -n 3 --latents -c none -s 1 >"$tmp/none1"
sample -n 3 --latents -c 4 -s 1 >"$tmp/plain"
sample -n 3 --latents -c 4 -s 1.000001 >"$tmp/guided"
sample -n 3 --latents -c 4 -s 0 >"$tmp/zero"
sample -n 3 --latents -c 4 -s 3 --cfg-channels 3 >"$tmp/three"
sample -n 3 --latents -c 4 -s 3 >"$tmp/threedefault"
sample -n 3 --latents -c 4 -s 3 --cfg-channels all >"$tmp/threeall"
ok 'a guidance of 1 is the class alone, and others change the channels that they guide' python '
assert np.array_equal(get("none4"), get("none1"))
assert np.abs(get("plain") - get("guided")).max() < 1e-3
assert np.abs(get("plain") - get("three")).max() > 1e-2
assert np.abs(get("threeall") - get("three")).max() > 1e-2
assert not np.array_equal(get("zero"), get("plain"))
assert np.array_equal(get("threedefault"), get("threeall")) # of 16 channels; of 4 it is three
'
sample -n 3 --latents --which model >"$tmp/model"
ok '--which model takes the last weights' python '
assert not np.array_equal(get("model"), get("latents")[:3])
'
exits 'the folder of a run' 0 dit-sample -q -@ 1 -w "$tmp/run" --steps 6 -n 9 -o "$tmp/folder"
ok 'stands for its newest weights' python '
assert np.array_equal(get("folder", "image"), get("images", "image"))
'
exits 'a folder without weights' 66 dit-sample -w "$tmp" -o "$tmp/none"
says 'is named' "$tmp: expected diffusion_pytorch_model"
# The line comes after a tenth of a second: so many steps that a fast machine takes longer, too.
if script -qec true /dev/null >/dev/null 2>&1; then
    exits 'on a terminal' 0 env TERM=xterm script -qec \
        "dit-sample -@ 1 -w $tmp/run --latents -n 8 -b 2 --steps 1000 -o $tmp/shown" /dev/null
    tr '\r' '\n' <"$tmp/out" | grep -o 'dit-sample: .*' >"$tmp/lines"
    ok 'the steps of all samples are counted' grep -q '8000/8000 steps 100%' "$tmp/lines"
    ok '... with the time left' grep -q 'steps .* left, [0-7] of 8 latents' "$tmp/lines"
else
    skip 'on a terminal' 'no script(1) or no pseudo-terminal here'
fi

# Pictures without labels.
"$BUILD/tests/tools/draw-shapes" -o "$tmp/shapes" --count 20 --size 32
find "$tmp/shapes" -type f | decode-images -q --no-labels -s 32 | vae-encode -q >"$tmp/unlabelled"
exits 'a model without classes' 0 dit-train -q -@ 1 --depth 1 --hidden 32 --heads 2 --patch 1 -b 4 \
    --lr 1e-3 --steps 8 --sample-every 8 --sample-count 2 --valid "$tmp/unlabelled" --run "$tmp/plain-run" "$tmp/unlabelled"
sample -w "$tmp/plain-run" -n 2 --latents >"$tmp/plain4"
sample -w "$tmp/plain-run" -n 2 --latents -s 1 -c none >"$tmp/plain1"
sample -w "$tmp/plain-run" -n 2 --latents -c random >"$tmp/plainrandom"
ok 'draws no class, and has nothing to guide' python '
m = metadata(tmp + "plain-run/latest.safetensors")
assert (m["num_classes"], m["classes"]) == ("0", "[]"), m
assert list(get("plain4", "label")) == [-1, -1]
for other in "plain1", "plainrandom":
    assert np.array_equal(get("plain4"), get(other)), other
'
dit-sample -q -@ 1 -w "$tmp/plain-run" -n 2 --steps 50 | tile-images -q -c 2 >"$tmp/plain.png"
ok 'nor have its sheets' cmp "$tmp/plain.png" "$tmp/plain-run/samples/0000008.png"
exits 'a class of it' 64 sample -w "$tmp/plain-run" -c 0
says 'is refused' 'class 0: the model has no classes'
exits 'a name' 64 sample -w "$tmp/plain-run" -c cat
says 'is refused, too' 'no class is called "cat"; the model has 0 classes'
exits 'labels for it' 65 dit-train -q -@ 1 --init "$tmp/plain-run" --steps 1 --resume \
    --run "$tmp/plain-run" --accept-data "$tmp/data"
says 'are refused' '0 classes are named in '

i=0
for options in '--steps 10' '--steps ddim10' '--steps 3,4,5' '--sampler ddim' \
    '--sampler ddim --eta 0.5' '--sampler ddim --eta 1' '--sampler ddim --steps 1000 -n 1'; do
    i=$((i + 1))
    # shellcheck disable=SC2086 # options are words
    exits "sampling with $options" 0 sample -n 2 --latents $options -o "$tmp/variant$i"
done
ok 'sampling by each method gives finite samples of its own' python '
found = [get("variant%d" % i)[0] for i in range(1, 8)]
for i, a in enumerate(found):
    assert np.isfinite(a).all() and not any(np.array_equal(a, b) for b in found[:i]), i
'
for steps in 0 1001 x ddim999 1,,2 -3; do
    exits "--steps $steps" 64 sample --steps="$steps" -o "$tmp/none"
done
ok 'refused --steps leave no file' [ ! -e "$tmp/none" ]

quietly() {
    { sample -n 500 --steps 1 --latents 2>"$tmp/pipe-err" || :; } | head -c 100 >/dev/null
    [ ! -s "$tmp/pipe-err" ]
}
ok 'dit-sample ends quietly when its reader leaves' quietly
full() {
    sample -n 1 --steps 1 >/dev/full
}
exits 'a full disk' 74 full
exits 'a folder that is not there' 73 sample -o "$tmp/no/file"
exits 'missing weights' 66 dit-sample -w "$tmp/no"
says 'are refused by name' "$tmp/no: "
exits 'an operand' 64 sample "$weights"
exits 'an unknown device' 64 sample --device gpu
exits 'an autoencoder of other channels' 65 sample --vae dct:4

# Copies of the weights, damaged by the Python in $1, where d is all bytes and h where data begins.
damaged() {
    python "
d = bytearray(open('$weights', 'rb').read())
h = 8 + int.from_bytes(d[:8], 'little')
d = d.replace(b'\"crc32', b'\"crc_x') # without checksums, which would tell of any change
$1
open(tmp + 'damaged', 'wb').write(d)"
    weights=$tmp/damaged
}
good=$weights
damage() { # damage NAME CODE TEXT
    weights=$good
    damaged "$2"
    exits "$1" 65 sample --latents -n 1 -o "$tmp/none"
    says 'is refused by name' "$tmp/damaged: "
    says 'is refused with the reason' "$3"
    weights=$good
}
damage 'a file of weights cut short' 'd = d[:-1]' 'bytes of data, the tensors take'
damage 'a file of weights cut short in its header' 'd = d[:h // 2]' 'a header of'
damage 'an empty file of weights' 'd = d[:0]' 'expected weights'
damage "another length of the weights' header" 'd[6] ^= 1' 'a header of'
damage 'a header of weights that is no JSON' 'd[20] = 0' 'header, byte'
damage 'an unknown dtype in the weights' 'd = d.replace(b"F32", b"F31", 1)' 'tensor pos_embed is of type F31, which is not supported'
damage 'a tensor missing in the weights' 'd = d.replace(b"\"blocks.1.mlp.fc1.bias", b"\"blocks.1.mlp.fc1.bi_s")' \
    'no tensor blocks.1.mlp.fc1.bias'
damage 'heads that divide no width' 'd = d.replace(b"num_heads\":\"3", b"num_heads\":\"5")' 'heads'
damage 'heads that are no number' 'd = d.replace(b"num_heads\":\"3", b"num_heads\":\"x")' \
    'expected a whole number'
damage "weights that are no DiT's" 'd = d.replace(b"\"x_embedder.proj.weight", b"\"x_embedder.proj.w_ight")' \
    'not the weights of a DiT'
damaged 'n = (len(d) - h) // 32 * 28; d[-n:] = np.full(n // 4, np.nan, "<f4").tobytes()'
exits 'weights that are not finite' 65 sample --latents -n 1 -o "$tmp/none"
says 'are refused' 'sample 0 came out as'
ok 'damaged weights leave no file' [ ! -e "$tmp/none" ]
weights=$good
sample --steps 1 -n 1 --latents -w "$good" >"$tmp/unflipped"
draws 1
ok 'a flipped bit in the header is an error or changes no sample' python "
import random
d = open('$good', 'rb').read()
h = 8 + int.from_bytes(d[:8], 'little')
random.seed($seed)
for i in range(60):
    at, bit = random.randrange(h) if i else 0, random.randrange(8)
    e = bytearray(d)
    e[at] ^= 1 << bit
    open(tmp + 'flipped', 'wb').write(e)
    command = 'dit-sample -q -@ 1 --steps 1 -n 1 --latents -w'.split() + [tmp + 'flipped']
    with open(tmp + 'sampled', 'wb') as out:
        rc = subprocess.run(command, stdout=out, stderr=subprocess.DEVNULL).returncode
    where = 'bit %d of byte %d, in %r' % (bit, at, bytes(d[max(at - 20, 0):at + 20]))
    assert rc in (0, 65), (rc, where)
    assert rc == 65 or np.array_equal(get('sampled'), get('unflipped')), where
"
done_testing
