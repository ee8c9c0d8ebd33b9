#!/bin/sh
# vae-encode, vae-decode and dit-sample with the autoencoder of Stable Diffusion: a tiny one.
# SPDX-License-Identifier: MIT
# shellcheck disable=SC2317 # functions that are arguments of others
. tests/tap.sh
unset DIT_VAE
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

exits 'encoding images' 0 vae-encode -@ 1 --vae "$vae" "$tmp/images" -o "$tmp/latents"
ok '... gives distributions, scaled, with what they are' python '
t, m = read(tmp + "latents")
assert sorted(t) == ["label", "latent_mean", "latent_std"], sorted(t)
assert t["latent_mean"].shape == (6, 4, 4, 4) and t["latent_mean"].dtype == np.float16
assert (t["latent_std"] > 0).all() and t["latent_std"].shape == (6, 4, 4, 4)
assert 0.01 < t["latent_mean"].std() < 1, t["latent_mean"].std()
assert m["autoencoder"] == "vae-diffusers-half.safetensors" and m["latent_scale"] == "0.18215", m
assert m["kind"] == "latents" and m["image_size"] == "32", m
'
exits '--flip' 0 encode --vae "$vae" --flip --dtype f32 "$tmp/images" -o "$tmp/flip"
ok '... adds what the mirrored images give' python '
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
ok 'the size of a batch changes no bit' python '
for kind in "flip", "sample", "decoded":
    one = read(tmp + kind + "-1")[0]
    for n in "-4", "-16":
        t = read(tmp + kind + n)[0]
        assert sorted(t) == sorted(one) and all(np.array_equal(t[k], one[k]) for k in t), (kind, n)
'
encode --vae "$vae" --sample --seed 8 --dtype f32 "$tmp/images" -o "$tmp/other"
ok '--sample writes draws that follow the seed' python '
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

exits 'decoding latents' 0 vae-decode -@ 1 --vae "$vae" "$tmp/latents" -o "$tmp/back"
ok '... gives images with their labels' python '
t, m = read(tmp + "back")
assert sorted(t) == ["image", "label"] and t["image"].shape == (6, 32, 32, 3), t["image"].shape
assert t["image"].std() > 5 and m["kind"] == "images" and "autoencoder" not in m, m
'
exits 'a stream whose autoencoder is not here' 66 vae-decode "$tmp/latents"
says 'is refused with what to do' "$tmp/latents: its latents were made by the autoencoder vae-diffusers-half.safetensors, which is not in this folder; give its path with --vae"
exits 'DIT_VAE of the name in the stream' 0 env DIT_VAE="$vae" vae-decode -@ 1 "$tmp/latents" -o "$tmp/x"
ok '... decodes to the same images' python '
assert np.array_equal(read(tmp + "x")[0]["image"], read(tmp + "back")[0]["image"])'
exits 'a DIT_VAE of another name than in the stream' 66 env DIT_VAE="/other-$(basename "$vae")" vae-decode "$tmp/latents"
cp "$vae" "$tmp/"
exits 'a file of the name in the stream in the working folder' 0 sh -c "cd '$tmp' && vae-decode -@ 1 latents -o y"
ok '... decodes to the same images' python '
assert np.array_equal(read(tmp + "y")[0]["image"], read(tmp + "back")[0]["image"])'
exits 'encoding with DIT_VAE' 0 env DIT_VAE="$vae" vae-encode -@ 1 -q "$tmp/images" -o "$tmp/x"

mkdir -p "$tmp/folder/vae"
cp "$vae" "$tmp/folder/vae/diffusion_pytorch_model.safetensors"
echo '{"_class_name": "AutoencoderKL", "scaling_factor": 0.3643}' >"$tmp/folder/vae/config.json"
exits 'encoding with a folder of diffusers' 0 encode --vae "$tmp/folder/" --dtype f32 "$tmp/images" -o "$tmp/scaled"
ok '... takes the scale from its config.json' python '
t, m = read(tmp + "scaled")
assert m["autoencoder"] == "folder" and m["latent_scale"] == "0.3643", m
assert np.allclose(t["latent_mean"], 2 * read(tmp + "flip")[0]["latent_mean"], rtol=1e-5)
'
exits 'decoding with a folder of diffusers' 0 decode_latents --vae "$tmp/folder/vae" "$tmp/scaled" -o "$tmp/x"
ok '... gives nearly the same images' python '
a, b = (read(tmp + n)[0]["image"].astype(int) for n in ("x", "decoded-1"))
assert np.abs(a - b).max() <= 1
'
echo '{"scaling_factor": 0}' >"$tmp/folder/vae/config.json"
exits 'a scale of 0' 65 encode --vae "$tmp/folder" "$tmp/images"
says 'is refused with its value' "config.json beside $tmp/folder/vae/diffusion_pytorch_model.safetensors: scaling_factor is 0, expected a number above 0"
python 'edit("own", {"scaling_factor": "0.5"}); edit("text", {"scaling_factor": "half"})'
exits 'a scale in the metadata' 0 encode --vae "$tmp/own" "$tmp/images" -o "$tmp/x"
is '... is taken' "$(dit-info "$tmp/x" | sed -n 's/^  latent_scale *//p')" 0.5
exits 'a scale that is no number' 65 encode --vae "$tmp/text" "$tmp/images"
says 'is refused with its value' "$tmp/text: scaling_factor is half, expected a number above 0"
mkdir "$tmp/empty"
exits 'a folder without weights' 66 encode --vae "$tmp/empty" "$tmp/images"
says 'is refused with what was expected' "$tmp/empty: expected diffusion_pytorch_model.safetensors"

python '
edit("missing", encoder__conv_in__bias=None)
edit("extra", encoder__extra__weight=np.zeros(3))
edit("shape", decoder__conv_in__weight=np.zeros((64, 4, 1, 1)))
edit("levels", encoder__down_blocks__1__resnets__0__conv1__weight=np.zeros((48, 32, 3, 3)))
edit("loud", quant_conv__bias=np.full(8, 60000), metadata={"scaling_factor": "2"})
edit("broken", quant_conv__bias=np.full(8, np.nan), decoder__conv_out__bias=np.full(3, np.inf))
'
exits 'a missing tensor' 65 encode --vae "$tmp/missing" "$tmp/images"
says 'is refused by name and shape' "$tmp/missing: no tensor encoder.conv_in.bias; expected, with shape [32]"
exits 'a foreign tensor in the weights' 65 encode --vae "$tmp/extra" "$tmp/images"
says 'is refused by name' "$tmp/extra: tensor encoder.extra.weight does not belong to this model"
exits 'a tensor of another shape' 65 encode --vae "$tmp/shape" "$tmp/images"
says 'is refused with both shapes' "$tmp/shape: tensor decoder.conv_in.weight has shape [64, 4, 1, 1], expected [64, 4, 3, 3]"
exits "channels that the norms' groups don't divide" 65 encode --vae "$tmp/levels" "$tmp/images"
says 'are refused with their number' "$tmp/levels: level 1 of the autoencoder has 48 channels, expected a multiple of the norms' 32 groups"
exits 'weights of something else' 65 encode --vae "$dit" "$tmp/images"
says 'are refused by name' "$dit: not an autoencoder: no name of its tensors ends in encoder.mid_block.attentions.0.to_q.weight"
exits 'a picture as weights' 65 encode --vae "$tmp/0.png" "$tmp/images"

exits 'latents beyond float16' 65 encode --vae "$tmp/loud" "$tmp/images" -o "$tmp/x2"
says 'are refused with their record' "$tmp/images: record 0: its latent: value"
says 'are refused with the type' 'expected a finite F16'
ok '... leave no file' [ ! -e "$tmp/x2" ]
exits 'latents beyond float16 with --dtype f32' 0 encode --vae "$tmp/loud" --dtype f32 "$tmp/images" -o "$tmp/x2"
exits 'latents that come out not finite' 65 encode --vae "$tmp/broken" "$tmp/images"
says 'are refused with their place' "$tmp/images: records from 0: broken: mean of latent 0 of the batch: the value at channel 0, row 0, column 0 is nan"
exits 'images that come out not finite' 65 decode_latents --vae "$tmp/broken" "$tmp/latents" -o "$tmp/x3"
says 'are refused with their place' "$tmp/latents: records from 0: broken: decoded image 0 of the batch: the value at channel 0, row 0, column 0 is inf"
ok '... leave no file' [ ! -e "$tmp/x3" ]
"$BUILD/tests/tools/make-stream" images 2 20 2 >"$tmp/odd"
exits 'images of sides that are no multiple of 8' 65 encode --vae "$vae" "$tmp/odd"
says 'are refused with what was expected' 'takes sides that are multiples of 8, and 3 channels'

# Pictures to a model to pictures.
exits 'training on the latents' 0 dit-train -q -@ 1 --depth 1 --hidden 32 --heads 2 --patch 2 \
    --batch 4 --steps 3 --run "$tmp/run" "$tmp/flip"
sample() { # sample WEIGHTS ARGUMENT...
    sample_weights=$1
    shift
    dit-sample -q -@ 1 --no-pg -w "$sample_weights" --steps 2 -n 3 "$@"
}
exits 'sampling without the autoencoder that the model names' 66 sample "$tmp/run/latest.safetensors"
says 'is refused with what to do' 'its latents were made by the autoencoder vae-diffusers-half.safetensors, which is not in this folder; give its path with --vae (--latents needs no autoencoder)'
sample "$tmp/run/latest.safetensors" --vae "$vae" | npz-pack -q >"$tmp/samples.npz"
ok 'dit-sample --vae into npz-pack gives images' python '
a = np.load(tmp + "samples.npz")["arr_0"]
assert a.shape == (3, 32, 32, 3) and a.dtype == np.uint8 and len(np.unique(a)) > 20
'
exits 'sampling from published weights without an autoencoder' 65 sample "$dit"
says 'is refused with what they need' "$dit: no autoencoder is named; latents of 4 channels are those of Stable Diffusion's: --vae sd-vae-ft-ema.safetensors (--latents needs no autoencoder)"
exits 'sampling from published weights with --vae' 0 sample "$dit" --vae "$vae" -o "$tmp/drawn"
ok '... draws images' python '
t, m = read(tmp + "drawn")
assert t["image"].shape == (3, 64, 64, 3) and m["image_size"] == "64", m
'
exits 'sampling from published weights with DIT_VAE' 0 env DIT_VAE="$vae" dit-sample -q -@ 1 --no-pg -w "$dit" --steps 2 -n 3 -o "$tmp/drawn2"
ok '... draws the same images' same drawn drawn2
exits 'sampling latents without an autoencoder' 0 sample "$dit" --latents -o "$tmp/drawn-latents"
exits 'sampling with a built-in autoencoder that does not fit' 65 sample "$dit" --vae dct
says 'is refused with both numbers of channels' "$dit: latents have 4 channels, but those of the autoencoder dct:10,3 have 16"
done_testing
