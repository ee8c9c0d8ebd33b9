#!/bin/sh
# Several averages of the weights in one training. SPDX-License-Identifier: MIT
# shellcheck disable=SC2317 # functions that are arguments of others
. tests/tap.sh

train() { # train RUN OPTION...
    run=$1
    shift
    dit-train -q -@ 1 --depth 1 --hidden 32 --heads 2 --patch 1 --classes 10 -b 8 --lr 3e-3 \
        --no-ema-warmup --run "$tmp/$run" "$@" "$tmp/data"
}
sample() { # sample RUN OPTION...
    run=$1
    shift
    dit-sample -q -@ 1 -w "$tmp/$run" --latents --no-pg -n 2 --steps 3 "$@"
}

"$BUILD/tests/tools/make-stream" images 60 32 10 | vae-encode -q >"$tmp/data"
exits 'a training with three averages' 0 train three --ema-decay 0.9,0.5,0.99 --steps 6 --save-every 3
train half --ema-decay 0.5 --steps 6
sample three >"$tmp/first"
sample three --which ema:0.9 >"$tmp/named"
sample three --which ema:0.5 >"$tmp/second"
sample half >"$tmp/alone"
sample three --which model >"$tmp/model"
ok '... is drawn from by the first one' cmp "$tmp/first" "$tmp/named"
ok '... or another one, which is as if it were the only one' python '
a, b, c, d = (read(tmp + name)[0]["latent"] for name in ("second", "alone", "first", "model"))
assert np.abs(a - b).max() < 1e-5
assert np.abs(a - c).max() > 1e-4 and np.abs(a - d).max() > 1e-4
'
mkdir "$tmp/again" && cp "$tmp/three/0000003.safetensors" "$tmp/again"
exits 'resuming it' 0 train again --resume
ok '... goes on with all of them, to the last bit' python '
a, b = (tensors(tmp + name + "/0000006.safetensors") for name in ("three", "again"))
assert "ema_0.5.pos_embed" not in a and "ema_0.99.blocks.0.attn.qkv.bias" in a
assert a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)
'
exits 'resuming it with another list' 65 train again --resume --steps 7 --ema-decay 0.9,0.7
says '... is refused with what is missing' 'has no average of the weights with the decay 0.7'
exits 'drawing from an average that is not there' 65 sample three --which ema:0.7
exits 'drawing from something else' 64 sample three --which average
exits 'resuming it with another first decay' 65 train again --resume --steps 7 --ema-decay 0.5,0.99
says '... is refused' "can't become 0.5"
for list in '' x 2 -0.1 '0.9,' 0.9,,0.5 0.9,0.90 0.9,0.8,0.7,0.6,0.5; do
    exits "--ema-decay '$list'" 64 train refused --steps 1 --ema-decay="$list"
done
exits 'converting its checkpoint' 0 convert-weights -q "$tmp/three/latest.safetensors" "$tmp/copy.safetensors"
ok '... keeps all averages' python '
a, b = tensors(tmp + "three/0000006.safetensors"), tensors(tmp + "copy.safetensors")
assert a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)
'
exits "converting it to PyTorch's format and back" 0 convert-weights "$tmp/three/latest.safetensors" "$tmp/copy.pt"
says '... says what is left out' 'with the decays 0.9,0.5,0.99 it gets the first'
exits '... which has the first one alone' 0 convert-weights -q --heads 2 "$tmp/copy.pt" "$tmp/back.safetensors"
exits '... can be drawn from' 0 dit-sample -q --latents -w "$tmp/back.safetensors" -n 1 --steps 1 -o "$tmp/latents"
mkdir "$tmp/resumed" && mv "$tmp/back.safetensors" "$tmp/resumed/latest.safetensors"
exits '... and resumed' 0 train resumed --resume --steps 7
done_testing
