#!/bin/sh
# vae-encode, vae-decode and dit-sample with the autoencoder of Stable Diffusion: a tiny one.
# SPDX-License-Identifier: MIT
# shellcheck disable=SC2317 # functions that are arguments of others
. tests/tap.sh
unset DIT_VAE
export OMP_WAIT_POLICY=passive
vae=${REFERENCE_DIR:-tests/data}/vae-diffusers-half.safetensors
dit=${REFERENCE_DIR:-tests/data}/dit-a.safetensors

# png(NAME, IMAGE) writes a picture, edit(NAME, ...) a changed copy of the autoencoder.
python_prelude="
def png(name, image):
    h, w = image.shape[:2]
    rows = np.zeros((h, 1 + 3 * w), np.uint8)
    rows[:, 1:] = image.reshape(h, -1)
    def chunk(kind, data):
        return len(data).to_bytes(4, 'big') + kind + data + zlib.crc32(kind + data).to_bytes(4, 'big')
    sizes = w.to_bytes(4, 'big') + h.to_bytes(4, 'big') + bytes([8, 2, 0, 0, 0])
    open(tmp + name, 'wb').write(b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', sizes)
        + chunk(b'IDAT', zlib.compress(rows.tobytes())) + chunk(b'IEND', b''))

# The autoencoder with other tensors (None: without one) and metadata.
def edit(name, metadata={}, **changes):
    head, data = header('$vae')
    head.pop('__metadata__', None)
    arrays = {n: np.frombuffer(data[slice(*t['data_offsets'])], '<f2').reshape(t['shape'])
              for n, t in head.items()}
    arrays.update({n.replace('__', '.'): a for n, a in changes.items()})
    out, at, parts = {'__metadata__': metadata} if metadata else {}, 0, []
    for n, a in arrays.items():
        if a is None:
            continue
        parts.append(np.asarray(a, '<f2').tobytes())
        out[n] = {'dtype': 'F16', 'shape': list(np.shape(a)), 'data_offsets': [at, at + len(parts[-1])]}
        at += len(parts[-1])
    text = json.dumps(out).encode()
    open(tmp + name, 'wb').write(len(text).to_bytes(8, 'little') + text + b''.join(parts))
"
encode() {
    vae-encode -q -@ 1 --no-pg "$@"
}
decode_latents() {
    vae-decode -q -@ 1 --no-pg "$@"
}
same() {
    cmp "$tmp/$1" "$tmp/$2"
}

# Five pictures and the first one's mirror image.
python '
y, x = np.mgrid[0:32, 0:32] / 32
for i in range(5):
    waves = [np.sin((3 + i + c) * x + (1 + c) * i * y) for c in range(3)]
    image = (127.5 + 127 * np.stack(waves, 2)).astype(np.uint8)
    png("%d.png" % i, image)
    if i == 0:
        png("9.png", image[:, ::-1])
'
printf '%s\t%d\n' "$tmp/0.png" 0 "$tmp/1.png" 1 "$tmp/2.png" 2 "$tmp/3.png" 0 "$tmp/4.png" 1 \
    "$tmp/9.png" 2 | decode-images -q --size 32 -o "$tmp/images"

exits 'images are encoded' 0 vae-encode -@ 1 --vae "$vae" "$tmp/images" -o "$tmp/latents"
ok 'into distributions, scaled, with what they are' python '
t, m = read(tmp + "latents")
assert sorted(t) == ["label", "latent_mean", "latent_std"], sorted(t)
assert t["latent_mean"].shape == (6, 4, 4, 4) and t["latent_mean"].dtype == np.float16
assert (t["latent_std"] > 0).all() and t["latent_std"].shape == (6, 4, 4, 4)
assert 0.01 < t["latent_mean"].std() < 1, t["latent_mean"].std()
assert m["autoencoder"] == "vae-diffusers-half.safetensors" and m["latent_scale"] == "0.18215", m
assert m["kind"] == "latents" and m["image_size"] == "32", m
'
exits '--flip' 0 encode --vae "$vae" --flip --dtype f32 "$tmp/images" -o "$tmp/flip"
ok 'a twin is what the mirrored image gives' python '
t = read(tmp + "flip")[0]
assert sorted(t) == ["label"] + ["latent_" + n for n in ("mean", "mean_flip", "std", "std_flip")]
for n in "latent_mean", "latent_std":
    assert np.array_equal(t[n + "_flip"][0], t[n][5]) and np.array_equal(t[n + "_flip"][5], t[n][0])
    assert not np.array_equal(t[n + "_flip"][1], t[n][1])
    assert np.array_equal(t[n].astype(np.float16), read(tmp + "latents")[0][n])
'
for batch in 1 4 16; do
    encode --vae "$vae" --flip --dtype f32 -b $batch "$tmp/images" -o "$tmp/flip-$batch"
    encode --vae "$vae" --sample --flip --seed 7 -b $batch "$tmp/images" -o "$tmp/sample-$batch"
    decode_latents --vae "$vae" -b $batch "$tmp/flip" -o "$tmp/decoded-$batch"
done
ok 'the size of a batch does not matter' python '
for kind in "flip", "sample", "decoded":
    one = read(tmp + kind + "-1")[0]
    for n in "-4", "-16":
        t = read(tmp + kind + n)[0]
        assert sorted(t) == sorted(one) and all(np.array_equal(t[k], one[k]) for k in t), (kind, n)
'
encode --vae "$vae" --sample --seed 8 --dtype f32 "$tmp/images" -o "$tmp/other"
ok '--sample writes draws, by their seed' python '
t, m = read(tmp + "sample-1")
assert sorted(t) == ["label", "latent", "latent_flip"], sorted(t)
flip = read(tmp + "flip")[0]
def noise(latent, twin=""):
    return (latent.astype(np.float64) - flip["latent_mean" + twin]) / flip["latent_std" + twin]
draws = [noise(t["latent"]), noise(t["latent_flip"], "_flip"), noise(read(tmp + "other")[0]["latent"])]
for d in draws:
    assert abs(d.mean()) < 0.2 and abs(d.std() - 1) < 0.15, (d.mean(), d.std())
for i in range(3):
    assert abs((draws[i] * draws[i - 1]).mean()) < 0.2
assert np.unique(np.round(draws[2], 4)).size > 370
'

exits 'latents are decoded' 0 vae-decode -@ 1 --vae "$vae" "$tmp/latents" -o "$tmp/back"
ok 'into images with their labels' python '
t, m = read(tmp + "back")
assert sorted(t) == ["image", "label"] and t["image"].shape == (6, 32, 32, 3), t["image"].shape
assert t["image"].std() > 5 and m["kind"] == "images" and "autoencoder" not in m, m
'
exits 'a stream names its autoencoder, not where it is' 66 vae-decode "$tmp/latents"
says 'an error says what to do' "$tmp/latents: its latents were made by the autoencoder vae-diffusers-half.safetensors, which is not in this folder; give its path with --vae"
exits 'DIT_VAE of that name is it' 0 env DIT_VAE="$vae" vae-decode -@ 1 "$tmp/latents" -o "$tmp/x"
ok 'with the same images' python '
assert np.array_equal(read(tmp + "x")[0]["image"], read(tmp + "back")[0]["image"])'
exits 'a DIT_VAE of another name is not' 66 env DIT_VAE="/other-$(basename "$vae")" vae-decode "$tmp/latents"
cp "$vae" "$tmp/"
exits 'a file here of that name is' 0 sh -c "cd '$tmp' && vae-decode -@ 1 latents -o y"
ok 'too' python '
assert np.array_equal(read(tmp + "y")[0]["image"], read(tmp + "back")[0]["image"])'
exits 'DIT_VAE encodes' 0 env DIT_VAE="$vae" vae-encode -@ 1 -q "$tmp/images" -o "$tmp/x"

mkdir -p "$tmp/folder/vae"
cp "$vae" "$tmp/folder/vae/diffusion_pytorch_model.safetensors"
echo '{"_class_name": "AutoencoderKL", "scaling_factor": 0.3643}' >"$tmp/folder/vae/config.json"
exits 'a folder of diffusers' 0 encode --vae "$tmp/folder/" --dtype f32 "$tmp/images" -o "$tmp/scaled"
ok 'its config.json has the scale' python '
t, m = read(tmp + "scaled")
assert m["autoencoder"] == "folder" and m["latent_scale"] == "0.3643", m
assert np.allclose(t["latent_mean"], 2 * read(tmp + "flip")[0]["latent_mean"], rtol=1e-5)
'
exits 'and decodes' 0 decode_latents --vae "$tmp/folder/vae" "$tmp/scaled" -o "$tmp/x"
ok 'to nearly the same images' python '
a, b = (read(tmp + n)[0]["image"].astype(int) for n in ("x", "decoded-1"))
assert np.abs(a - b).max() <= 1
'
echo '{"scaling_factor": 0}' >"$tmp/folder/vae/config.json"
exits 'a scale of 0' 65 encode --vae "$tmp/folder" "$tmp/images"
says 'is refused' "config.json beside $tmp/folder/vae/diffusion_pytorch_model.safetensors: scaling_factor is 0, expected a number above 0"
python 'edit("own", {"scaling_factor": "0.5"}); edit("text", {"scaling_factor": "half"})'
exits 'a scale in the metadata' 0 encode --vae "$tmp/own" "$tmp/images" -o "$tmp/x"
is 'is taken' "$(tstream-info "$tmp/x" | sed -n 's/^  latent_scale *//p')" 0.5
exits 'one that is no number' 65 encode --vae "$tmp/text" "$tmp/images"
says 'is named' "$tmp/text: scaling_factor is half, expected a number above 0"
mkdir "$tmp/empty"
exits 'a folder without weights' 66 encode --vae "$tmp/empty" "$tmp/images"
says 'is named, with what was expected' "$tmp/empty: a folder without diffusion_pytorch_model.safetensors"

python '
edit("missing", encoder__conv_in__bias=None)
edit("extra", encoder__extra__weight=np.zeros(3))
edit("shape", decoder__conv_in__weight=np.zeros((64, 4, 1, 1)))
edit("levels", encoder__down_blocks__1__resnets__0__conv1__weight=np.zeros((48, 32, 3, 3)))
edit("loud", quant_conv__bias=np.full(8, 60000), metadata={"scaling_factor": "2"})
edit("broken", quant_conv__bias=np.full(8, np.nan), decoder__conv_out__bias=np.full(3, np.inf))
'
exits 'a missing tensor' 65 encode --vae "$tmp/missing" "$tmp/images"
says 'is named' "$tmp/missing: no tensor encoder.conv_in.bias; expected, with shape [32]"
exits 'a tensor too many' 65 encode --vae "$tmp/extra" "$tmp/images"
says 'is named too' "$tmp/extra: tensor encoder.extra.weight has no place in this model"
exits 'a misshapen one' 65 encode --vae "$tmp/shape" "$tmp/images"
says 'with both shapes' "$tmp/shape: tensor decoder.conv_in.weight has shape [64, 4, 1, 1], expected [64, 4, 3, 3]"
exits 'sizes that no such autoencoder has' 65 encode --vae "$tmp/levels" "$tmp/images"
says 'are told' "$tmp/levels: level 1 of the autoencoder has 48 channels, expected a multiple of the norms' 32 groups"
exits 'weights of something else' 65 encode --vae "$dit" "$tmp/images"
says 'are told from it' "$dit: not an autoencoder: it has no tensor encoder.mid_block.attentions.0.to_q.weight"
exits 'no weights at all' 65 encode --vae "$tmp/0.png" "$tmp/images"

exits 'latents beyond float16' 65 encode --vae "$tmp/loud" "$tmp/images" -o "$tmp/x2"
says 'are an error' "$tmp/images: record 0: its latent: value"
says 'that names the type' 'expected a finite F16'
ok 'without an output' [ ! -e "$tmp/x2" ]
exits 'float32 holds them' 0 encode --vae "$tmp/loud" --dtype f32 "$tmp/images" -o "$tmp/x2"
exits 'latents that are not finite' 65 encode --vae "$tmp/broken" "$tmp/images"
says 'with their place' "$tmp/images: records from 0: broken: mean of latent 0 of the batch: the value at channel 0, row 0, column 0 is nan"
exits 'images that are not finite' 65 decode_latents --vae "$tmp/broken" "$tmp/latents" -o "$tmp/x3"
says 'are not black, but an error' "$tmp/latents: records from 0: broken: decoded image 0 of the batch: the value at channel 0, row 0, column 0 is inf"
ok 'and no output' [ ! -e "$tmp/x3" ]
"$BUILD/tests/tools/make-stream" images 2 20 2 >"$tmp/odd"
exits 'sides that are no multiple of 8' 65 encode --vae "$vae" "$tmp/odd"
says 'are refused' 'takes sides that are multiples of 8, and 3 channels'

# Pictures to a model to pictures.
exits 'training on the latents' 0 dit-train -q -@ 1 --depth 1 --hidden 32 --heads 2 --patch 2 \
    --batch 4 --steps 3 --run "$tmp/run" "$tmp/flip"
sample() { # sample WEIGHTS ARGUMENT...
    sample_weights=$1
    shift
    dit-sample -q -@ 1 --no-pg -w "$sample_weights" --steps 2 -n 3 "$@"
}
exits 'the model knows its autoencoder, not where it is' 66 sample "$tmp/run/latest.safetensors"
says 'and says so' 'its latents were made by the autoencoder vae-diffusers-half.safetensors, which is not in this folder; give its path with --vae (--latents needs no autoencoder)'
sample "$tmp/run/latest.safetensors" --vae "$vae" | npz-pack -q >"$tmp/samples.npz"
ok 'dit-sample --vae | npz-pack' python '
a = np.load(tmp + "samples.npz")["arr_0"]
assert a.shape == (3, 32, 32, 3) and a.dtype == np.uint8 and len(np.unique(a)) > 20
'
exits 'published weights name no autoencoder' 65 sample "$dit"
says 'what they need is said' "$dit: it names no autoencoder; latents of 4 channels are those of Stable Diffusion's: --vae sd-vae-ft-ema.safetensors (--latents needs no autoencoder)"
exits 'with it' 0 sample "$dit" --vae "$vae" -o "$tmp/drawn"
ok 'they draw images' python '
t, m = read(tmp + "drawn")
assert t["image"].shape == (3, 64, 64, 3) and m["image_size"] == "64", m
'
exits 'by DIT_VAE too' 0 env DIT_VAE="$vae" dit-sample -q -@ 1 --no-pg -w "$dit" --steps 2 -n 3 -o "$tmp/drawn2"
ok 'the same' same drawn drawn2
exits 'and latents without' 0 sample "$dit" --latents -o "$tmp/drawn-latents"
exits 'a built-in one does not fit' 65 sample "$dit" --vae dct
says 'as is said' "$dit: its latents have 4 channels, but those of the autoencoder dct:10,3 have 16"
done_testing
