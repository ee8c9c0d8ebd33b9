#!/bin/sh
# dit-train: checkpoint, options, latents and held-out latents must agree on what they describe.
# SPDX-License-Identifier: MIT
# shellcheck disable=SC2317 # functions that are arguments of others
. tests/tap.sh
. tests/training.sh

make_stream="$BUILD/tests/tools/make-stream"
described() { # described NAME [KEY=TEXT]...: the same latents, otherwise described
    described_name=$tmp/$1
    shift
    "$make_stream" latents 64 8 10 autoencoder=dct:4 latent_scale=0.5 "$@" >"$described_name"
}
described data
described cats 'classes=["cat","b"]'
described three 'classes=["a","b","c"]'
described unnamed 'classes='
described other autoencoder=dct:2,1
described scaled latent_scale=0.25
"$make_stream" latents 64 4 10 >"$tmp/small"
"$make_stream" images 64 64 10 | vae-encode -q >"$tmp/sixteen"
resume() { # resume FOLDER ARGUMENT...
    resume_run=$tmp/$1
    shift
    dit-train -q -@ 1 --resume --run "$resume_run" --steps 5 "$@"
}

exits 'trains' 0 tiny run --steps 4 --depth 2 "$tmp/data"
cp -r "$tmp/run" "$tmp/before"
run=$tmp/run/0000004.safetensors

# Options that ask for another model than the checkpoint's.
while read -r option value text; do
    exits "--resume $option $value" 65 resume run "$option" "$value" "$tmp/data"
    says "$option: both values are named" "the $text in the options"
done <<END
--depth 1 depth is 2 in $run, but 1
--depth 3 depth is 2 in $run, but 3
--hidden 64 width is 32 in $run, but 64
--heads 4 number of heads is 2 in $run, but 4
--heads 5 number of heads is 2 in $run, but 5
--patch 4 side of a patch is 2 in $run, but 4
--classes 9 number of classes is 10 in $run, but 9
--model DiT-S/2 depth is 2 in $run, but 12
END
# Data that is described otherwise, whatever --accept-data says of its records.
while read -r name text; do
    exits "--accept-data: $name" 65 resume run --accept-data "$tmp/$name"
    says "$name: what differs is named" "$text in the latents"
done <<END
cats class 0 is called "a" in $run, but "cat"
three 2 classes are named in $run, but 3
other the autoencoder is "dct:4" in $run, but "dct:2,1"
scaled the scale of the latents is 0.5 in $run, but 0.25
small the side of the latents is 8 in $run, but 4
sixteen the number of the latents' channels is 4 in $run, but 16
END
exits 'one pass over a pipe, otherwise described' 0 sh -c "cat $tmp/data | dit-train -q -@ 1 \\
    --depth 1 --hidden 32 --heads 2 --patch 2 --batch 8 --classes 10 --run $tmp/pipe --epochs 1"
exits 'is refused, though its records are not compared' 65 sh -c "cat $tmp/cats |
    dit-train -q -@ 1 --resume --run $tmp/pipe"
says 'by the name of the class' 'class 0 is called "a"'
ok 'no refusal has touched the run' diff -r "$tmp/before" "$tmp/run"

exits 'the options of the first start' 0 resume run --depth 2 --hidden 32 --classes 10 "$tmp/data"
ok 'config.json says what is trained' python '
c = json.load(open(tmp + "run/config.json"))
m = c["model"]
assert (m["depth"], m["hidden_size"], m["num_heads"], m["patch_size"]) == (2, 32, 2, 2), m
assert "model" not in c["settings"] and "depth" not in c["settings"], c["settings"]
'
# Fine-tuning.
exits '--init with another model' 65 tiny init1 --init "$tmp/run" --depth 1 --steps 1 "$tmp/data"
says 'is refused' 'the depth is 2 in '
exits '--init for latents of other channels' 65 dit-train --init "$tmp/run" --run "$tmp/init2" \
    --steps 1 "$tmp/sixteen"
says 'is refused, too' "the number of the latents' channels is 4 in "
tune() { # tune FOLDER DATA ARGUMENT...
    tune_run=$tmp/tuned-$1 tune_data=$tmp/$2
    shift 2
    dit-train --no-progress -@ 1 --init "$tmp/run" --run "$tune_run" --classes 10 --lr 0 --steps 1 \
        -b 8 "$@" "$tune_data"
}
exits '--init for the same classes' 0 tune same data
exits '--init for others of the same number' 0 tune cats cats
says 'makes the class table anew, and says so' \
    'but "cat" in the latents; the class table is initialized anew'
ok 'which it is' python '
a, b, c = (tensors(tmp + n + "/latest.safetensors") for n in ("run", "tuned-same", "tuned-cats"))
table = "y_embedder.embedding_table.weight"
assert np.array_equal(a[table], b["model." + table])
same = (a[table] == c["model." + table]).all(axis=1)
assert same[-1] and not same.all(), same
'
exits '--init for latents of another autoencoder' 0 tune other other
says 'is said' 'the autoencoder is "dct:4" in '

# Sheets.
"$make_stream" latents 64 8 10 'classes=["0","1","2","3","4","5","6","7","8","long name"]' >"$tmp/named"
exits 'a sheet of classes with names' 0 tiny sheet --steps 1 --sample-every 1 --sample-count 20 \
    --vae dct:4 "$tmp/named"
dit-sample -q -@ 1 -w "$tmp/sheet" --vae dct:4 -n 20 --steps 50 |
    tile-images -q -b --names -c 2 -o "$tmp/sheet.png"
ok '... has a row for each class, with its name' cmp "$tmp/sheet.png" "$tmp/sheet/samples/0000001.png"

# Held-out latents.
for name in cats other scaled small sixteen; do
    exits "--valid $name" 65 tiny valid --steps 1 --valid "$tmp/$name" "$tmp/data"
    says "$name: they are named" "--valid: "
    says "$name: and what differs" " in $tmp/$name, but "
done
exits '--valid without names' 0 tiny valid --steps 1 --valid "$tmp/unnamed" "$tmp/data"

# An autoencoder for pictures.
exits 'an autoencoder of another scale' 65 vae-decode "$tmp/scaled" -o "$tmp/none"
says 'is refused' 'are scaled by 0.25, but the autoencoder dct:2,1 scales them'
exits 'heads that the weights contradict' 65 dit-sample -w "$tmp/run" --heads 4 -o "$tmp/none"
says 'are refused' 'its attention has 2 heads, not 4'
done_testing
