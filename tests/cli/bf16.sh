#!/bin/sh
# In bfloat16 a CPU learns as in float32, resumes to the same bytes, and draws samples that depend on
# their numbers alone. SPDX-License-Identifier: MIT
# shellcheck disable=SC2317 # functions that are arguments of others
. tests/tap.sh
. tests/training.sh

"$BUILD/tests/tools/draw-shapes" -q -o "$tmp/pictures" --count 400 --size 32
find "$tmp/pictures" -name '*.jpg' | decode -q --size 32 | vae-encode -q -o "$tmp/latents"

# The demo's data, in a model that takes seconds.
learn() { # learn PRECISION
    dit-train -q -@ 1 --depth 2 --hidden 96 --heads 3 --patch 1 --batch 16 --lr 1e-3 --steps 200 \
        --log-every 1 --device cpu --precision "$1" --run "$tmp/$1" "$tmp/latents"
}
exits 'training in float32' 0 learn f32
exits 'training in bfloat16' 0 learn bf16
ok 'the mean loss of the last 50 of 200 steps is within 1% of that in float32' python '
f32, bf16 = ([line["loss"] for line in log(tmp + p)] for p in ("f32", "bf16"))
assert len(f32) == len(bf16) == 200, (len(f32), len(bf16))
f32, bf16 = sum(f32[150:]) / 50, sum(bf16[150:]) / 50
assert f32 < 0.8 and f32 != bf16 and abs(bf16 / f32 - 1) < 0.01, (f32, bf16)
'

exits 'a whole training' 0 tiny whole --precision bf16 --steps 6 "$tmp/latents"
exits 'the first half of it' 0 tiny half --precision bf16 --steps 3 "$tmp/latents"
exits '--resume, which keeps the precision' 0 dit-train -q -@ 1 --resume --run "$tmp/half" --steps 6 "$tmp/latents"
ok '... ends in the same bytes' same whole half
exits '--resume in another precision' 0 dit-train -q -@ 1 --resume --precision f32 --run "$tmp/half" \
    --steps 7 "$tmp/latents"
ok '... says so in its checkpoint' grep -aq '"setting.precision":"f32"' "$tmp/half/latest.safetensors"
exits 'two threads' 0 tiny threads -@ 2 --precision bf16 --steps 6 "$tmp/latents"
ok '... end in the same bytes' same whole threads
exits '--recompute block' 0 tiny block --recompute block --precision bf16 --steps 6 "$tmp/latents"
ok '... ends in the same weights' same_tensors whole block

draw() { # draw NAME ARGUMENT...
    draw_to=$tmp/$1
    shift
    dit-sample -q -w "$tmp/bf16/latest.safetensors" -n 6 --latents --steps 5 "$@" >"$draw_to"
}
draw in-f32 -@ 1
draw samples -@ 1 --precision bf16
draw by-two -@ 1 --precision bf16 --batch 2
draw by-threads -@ 2 --precision bf16
ok 'samples depend on neither batch nor threads, and are near those in float32' python '
f32, samples, by_two, by_threads = (read(tmp + name)[0]["latent"]
                                    for name in ("in-f32", "samples", "by-two", "by-threads"))
assert np.array_equal(samples, by_two) and np.array_equal(samples, by_threads)
error = np.linalg.norm(samples - f32) / np.linalg.norm(f32)
assert 0 < error < 0.2, error
'
done_testing
