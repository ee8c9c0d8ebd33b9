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
for which in ema:0.5 ema:0.99; do
    convert-weights -q --which $which "$tmp/three/latest.safetensors" "$tmp/$which.safetensors"
    sample three --which $which >"$tmp/within"
    exits "drawing from $which, converted alone" 0 sample "$which.safetensors" -o "$tmp/alone"
    ok '... gives the same' cmp "$tmp/within" "$tmp/alone"
done
exits 'converting an average that is not there' 65 convert-weights --which ema:0.7 "$tmp/three/latest.safetensors" "$tmp/none.safetensors"
exits 'converting something else' 64 convert-weights --which average "$tmp/three/latest.safetensors" "$tmp/none.safetensors"
exits "converting it to PyTorch's format and back" 0 convert-weights "$tmp/three/latest.safetensors" "$tmp/copy.pt"
says '... says what is left out' 'with the decays 0.9,0.5,0.99 it gets the first'
exits '... which has the first one alone' 0 convert-weights -q --heads 2 "$tmp/copy.pt" "$tmp/back.safetensors"
exits '... can be drawn from' 0 dit-sample -q --latents -w "$tmp/back.safetensors" -n 1 --steps 1 -o "$tmp/latents"
mkdir "$tmp/resumed" && mv "$tmp/back.safetensors" "$tmp/resumed/latest.safetensors"
exits '... and resumed' 0 train resumed --resume --steps 7

# Power-function averages, and what snapshots make of them.
average() { # average LENGTH SNAPSHOT...
    average-weights --length "$@" -o "$tmp/made.safetensors"
}
exits 'a training with power-function averages' 0 train power --ema-power 0.05,0.1 --ema-snapshots --steps 24 \
    --save-every 1 --keep 30
train direct --ema-power 0.075 --steps 24
ok '... weighs the updates by a power' python '
steps = [tensors(tmp + "power/%07d.safetensors" % t) for t in range(1, 25)]
for width in 0.05, 0.1:
    gamma = np.roots([1, 7, 16 - width ** -2, 12 - width ** -2]).real.max()
    w = [(t / 24) ** (gamma + 1) - ((t - 1) / 24) ** (gamma + 1) for t in range(1, 25)]
    for name in "blocks.0.mlp.fc1.weight", "final_layer.linear.bias":
        exact = sum(k * s["model." + name].astype(float) for k, s in zip(w, steps))
        assert np.abs(exact - steps[-1]["ema_power_%g.%s" % (width, name)]).max() < 1e-6, (width, name)
'
sample power --which power:0.1 >"$tmp/within"
exits 'drawing from a snapshot' 0 sample power/snapshots/0000024-0.1.safetensors -o "$tmp/alone"
ok '... gives what its average in the checkpoint does' cmp "$tmp/within" "$tmp/alone"
mkdir "$tmp/later" && cp "$tmp/power/0000012.safetensors" "$tmp/later"
exits 'resuming a training with power-function averages' 0 train later --resume --save-every 24
ok '... goes on with them, to the last bit' python '
a, b = (tensors(tmp + name + "/0000024.safetensors") for name in ("power", "later"))
assert a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)
assert len(glob.glob(tmp + "power/snapshots/*")) == 48 and len(glob.glob(tmp + "later/snapshots/*")) == 2
'
convert-weights -q "$tmp/later/latest.safetensors" "$tmp/power.pt"
mkdir "$tmp/without" && convert-weights -q --heads 2 "$tmp/power.pt" "$tmp/without/latest.safetensors"
exits "resuming it from PyTorch's format" 0 train without --resume --steps 25
ok '... goes on without them' python '
assert not any(k.startswith("ema_power") for k in tensors(tmp + "without/0000025.safetensors"))
'
exits 'an average made of snapshots' 0 average 0.075 "$tmp"/power/snapshots/*.safetensors
ok '... is the one that a training keeps' python '
made, kept = tensors(tmp + "made.safetensors"), tensors(tmp + "direct/0000024.safetensors")
assert metadata(tmp + "made.safetensors")["average"] == "power:0.075"
for name in made:
    if name != "pos_embed":
        other, last = kept["ema_power_0.075." + name], kept["model." + name]
        assert np.abs(made[name] - other).max() <= 0.01 * np.abs(last - other).max(), name
'
exits '... can be drawn from' 0 sample made.safetensors -o "$tmp/alone"
exits 'an average made of checkpoints' 0 average 0.1 "$tmp/power/0000012.safetensors" "$tmp/power/0000024.safetensors"
ok '... is theirs where they have it' python '
made, kept = tensors(tmp + "made.safetensors"), tensors(tmp + "power/0000024.safetensors")
assert all(np.abs(made[k] - kept["ema_power_0.1." + k]).max() < 1e-5 for k in made if k != "pos_embed")
'
exits 'an average far from its snapshots' 0 average 0.25 "$tmp"/power/snapshots/0000024-*
says 'warns' 'more snapshots, or a width between theirs, come closer'
exits 'an average of no given length' 64 average-weights "$tmp"/power/snapshots/0000024-* -o "$tmp/none"
exits 'an average of nothing' 64 average 0.1
exits 'a snapshot that is given twice' 65 average 0.1 "$tmp/power/0000024.safetensors" "$tmp/power/snapshots/0000024-0.1.safetensors"
says 'is refused' 'two snapshots of the width 0.1 after 24 updates'
exits 'a checkpoint without such averages' 65 average 0.1 "$tmp/three/latest.safetensors"
says 'is refused by name' 'three/latest.safetensors holds no power-function average'
train wider --ema-power 0.1 --steps 1 --hidden 36
exits 'snapshots of another model' 65 average 0.1 "$tmp/power/latest.safetensors" "$tmp/wider/latest.safetensors"
exits 'snapshots of averages that are not kept' 64 train refused --steps 1 --ema-snapshots
for list in '' x 0.3 0.05,0.05 0.01,0.02,0.03,0.04; do
    exits "--ema-power '$list'" 64 train refused --steps 1 --ema-power="$list"
done
done_testing
