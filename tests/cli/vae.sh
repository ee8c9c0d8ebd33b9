#!/bin/sh
# vae-encode and vae-decode: there and back, and what passes through.
# SPDX-License-Identifier: MIT
# shellcheck disable=SC2317 # functions that are arguments of others
. tests/tap.sh
unset DIT_VAE

make_stream="$BUILD/tests/tools/make-stream"
"$make_stream" images 50 32 7 >"$tmp/images"
exits 'a stream of images' 0 vae-encode "$tmp/images" -o "$tmp/latents"
ok '... is encoded with the right tensors and metadata' python '
t, m = read(tmp + "/latents")
assert sorted(t) == ["id", "label", "latent"], sorted(t)
assert t["latent"].shape == (50, 16, 4, 4) and t["latent"].dtype == np.float16
assert (t["id"] == np.arange(50)).all() and (t["label"] == np.arange(50) % 10).all()
assert m["kind"] == "latents" and m["image_size"] == "32" and m["autoencoder"] == "dct:10,3", m
assert m["classes"] == "[\"a\",\"b\"]" and "count" not in m, m
assert abs(float(m["latent_scale"]) - 1 / 1.2) < 1e-6 and m["pg.0"].startswith("vae-encode "), m
'
exits 'a stream of latents' 0 vae-decode "$tmp/latents" -o "$tmp/back"
ok '... is decoded to the images and their labels' python '
a, ma = read(tmp + "/images")
b, mb = read(tmp + "/back")
assert sorted(b) == ["id", "image", "label"] and b["image"].shape == (50, 32, 32, 3)
assert (a["id"] == b["id"]).all() and (a["label"] == b["label"]).all()
assert np.abs(a["image"].astype(int) - b["image"]).mean() < 2
assert mb["kind"] == "images" and mb["image_size"] == "32" and "count" not in mb, mb
assert "autoencoder" not in mb and "latent_scale" not in mb and "pg.1" in mb, mb
'
for batch in 1 7 50 64; do
    vae-encode --no-pg --batch $batch --dtype f32 <"$tmp/images" >"$tmp/batch-$batch"
    vae-decode --no-pg --batch $batch <"$tmp/batch-$batch" >"$tmp/decoded-$batch"
done
ok 'the size of a batch changes no bit' python '
for kind in "batch", "decoded":
    one = read(tmp + "/%s-1" % kind)[0]
    for n in 7, 50, 64:
        t = read(tmp + "/%s-%d" % (kind, n))[0]
        assert sorted(t) == sorted(one) and all(np.array_equal(t[k], one[k]) for k in t), (kind, n)
'
# The formulas of the manual page.
awk '/^\.Bd -literal$/ { inside = 1; next } /^\.Ed$/ { inside = 0 } inside' man/vae-decode.1 >"$tmp/decoder.py"
vae-encode --dtype f32 --vae dct:70 "$tmp/images" | tee "$tmp/all" | vae-decode >"$tmp/decoded-all"
ok 'the decoder in vae-decode(1) gives the images of vae-decode' python '
exec(open(tmp + "decoder.py").read())
for latents, images, channels in ("batch-1", "decoded-1", ()), ("all", "decoded-all", (44, 13)):
    own = decode(read(tmp + latents)[0]["latent"], *channels)
    difference = np.abs(own.astype(int) - read(tmp + images)[0]["image"])
    assert own.shape == (50, 32, 32, 3) and difference.max() <= 1, difference.max()
    assert (difference == 0).mean() > 0.999, (difference == 0).mean()
'
exits '--flip' 0 vae-encode --flip --dtype f32 "$tmp/images" -o "$tmp/flip"
ok '... adds the latents of the mirrored images' python '
t, m = read(tmp + "/flip")
b = read(tmp + "/batch-1")[0]
assert sorted(t) == ["id", "label", "latent", "latent_flip"], sorted(t)
assert np.array_equal(t["latent"], b["latent"])
# Mirroring mirrors the blocks and negates the odd horizontal frequencies: channel 0 has none.
assert np.allclose(t["latent_flip"][:, 0], t["latent"][:, 0, :, ::-1], atol=1e-5)
'
exits 'a stream with mirrored twins' 0 vae-decode "$tmp/flip" -o "$tmp/flip-back"
ok '... is decoded to the images themselves' python '
t = read(tmp + "/flip-back")[0]
assert sorted(t) == ["id", "image", "label"] and np.array_equal(t["image"], read(tmp + "/decoded-1")[0]["image"])'
exits '--dtype bf16' 0 vae-encode --dtype bf16 --vae dct:4 "$tmp/images" -o "$tmp/bf16"
ok '... rounds the latents' python '
t, m = read(tmp + "/bf16")
assert t["latent"].shape == (50, 4, 4, 4) and m["autoencoder"] == "dct:2,1"
values = (t["latent"].astype(np.uint32) << 16).view(np.float32)
assert np.allclose(values[:, 0], read(tmp + "/batch-1")[0]["latent"][:, 0], rtol=2 ** -8)
'
exits 'a stream that names its autoencoder is decoded with it' 0 vae-decode "$tmp/bf16" -o "$tmp/back4"
exits '--sample of latents without a spread' 0 vae-encode --no-pg --sample --dtype f32 "$tmp/images" -o "$tmp/sample"
ok '... gives the same latents' python '
assert np.array_equal(read(tmp + "/sample")[0]["latent"], read(tmp + "/batch-1")[0]["latent"])'

"$make_stream" latents 40 4 9 >"$tmp/spread"
for seed in 1 2; do
    vae-decode --vae dct:4 --sample --seed $seed "$tmp/spread" -o "$tmp/drawn-$seed"
done
vae-decode --vae dct:4 --sample --seed 1 --batch 1 "$tmp/spread" -o "$tmp/drawn-by-one"
vae-decode --vae dct:4 "$tmp/spread" -o "$tmp/mean"
ok 'of distributions the mean is decoded, or draws that follow the seed' python '
mean, one, two, again = [read(tmp + "/" + f)[0]["image"] for f in ("mean", "drawn-1", "drawn-2", "drawn-by-one")]
assert mean.shape == (40, 32, 32, 3) and mean.std() < 10
assert np.array_equal(one, again) and not np.array_equal(one, two)
assert 10 < one.std() < 60 and abs(one.mean() - mean.mean()) < 10, one.std()
'
exits 'latents of 4 channels without the name of an autoencoder' 65 vae-decode "$tmp/spread"
says 'are not decoded with the default, but with a hint' "$tmp/spread: no autoencoder is named; latents of 4 channels are those of Stable Diffusion's: --vae sd-vae-ft-ema.safetensors"
exits 'an autoencoder of another number of channels' 65 vae-decode --vae dct "$tmp/spread"
says 'is refused with both numbers' "$tmp/spread: latents have 4 channels, but those of the autoencoder dct:10,3 have 16"
"$make_stream" nan 40 4 9 >"$tmp/nan"
exits 'a latent that is not finite' 65 vae-decode --vae dct:4 "$tmp/nan" -o "$tmp/x"
says 'is refused with its place' "$tmp/nan: records from 0: latent 5 of the batch: the value at channel 0, row 0, column 0 is nan, expected a finite number"

exits 'another autoencoder than the latents name' 65 vae-decode --vae dct:16 "$tmp/bf16" -o "$tmp/x"
says 'is refused with both names' "$tmp/bf16: latents made by dct:2,1 have 4 channels, but those of the autoencoder dct:10,3 have 16"
ok '... leaves no file' [ ! -e "$tmp/x" ]
exits 'dct of an unknown size' 64 vae-encode --vae dct:500 "$tmp/images"
says 'is refused with the range' "autoencoder 'dct:500': expected dct:N with N from 1 to 192"
exits 'missing weights of an autoencoder' 66 vae-encode --vae /nonexistent/vae "$tmp/images"
exits 'a device as an autoencoder' 66 vae-encode --vae /dev/null "$tmp/images"
exits 'a device as an autoencoder by DIT_VAE' 66 env DIT_VAE=/dev/null vae-encode "$tmp/images"
exits 'encoding latents' 65 vae-encode "$tmp/latents"
says 'is refused for the missing tensor' "$tmp/latents: expected a tensor \"image\" of U8"
exits 'decoding images' 65 vae-decode "$tmp/images"
says 'is refused with what was expected' "$tmp/images: expected a stream of latents, with the tensor latent or latent_mean"
exits 'two inputs' 64 vae-encode "$tmp/images" "$tmp/images"
exits 'a missing input' 66 vae-encode /nonexistent
"$make_stream" images 2 20 2 >"$tmp/odd"
exits "images of sides that don't fit" 65 vae-encode "$tmp/odd"
says 'are refused with the sides' "$tmp/odd: images of [20, 20, 3]; the autoencoder dct:10,3 takes sides that are multiples of 8"

head -c 20000 "$tmp/images" >"$tmp/cut"
exits 'a stream that is cut short' 65 vae-encode "$tmp/cut" -o "$tmp/x"
ok '... leaves no file' [ ! -e "$tmp/x" ]
vae-encode "$tmp/cut" 2>/dev/null | vae-decode >"$tmp/x" 2>"$tmp/err"
is 'vae-decode notices that vae-encode before it failed' $? 65
exits 'a full disk' 74 sh -c "vae-encode '$tmp/images' >/dev/full"
exits 'a missing folder' 73 vae-encode "$tmp/images" -o /nonexistent/x
done_testing
