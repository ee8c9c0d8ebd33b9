#!/bin/sh
# Models whose class table has no row for the null class, as a training that drops no labels makes
# them: trained, resumed, sampled, tuned and converted. SPDX-License-Identifier: MIT
# shellcheck disable=SC2317 # functions that are arguments of others
. tests/tap.sh
. tests/training.sh
python_prelude='table = "y_embedder.embedding_table.weight"'

"$BUILD/tests/tools/make-stream" latents 64 8 10 >"$tmp/data"
sample() { # sample FILE ARGUMENT...
    sample_weights=$1
    shift
    dit-sample -q -@ 1 -w "$sample_weights" --latents -n 4 --steps 4 -o "$tmp/drawn" "$@"
}

exits 'training with --class-dropout 0' 0 tiny run --class-dropout 0 --steps 4 --log-every 1 \
    --sample-every 4 --sample-count 1 --vae dct:4 --valid "$tmp/data" "$tmp/data"
ok '... makes a table without a null class, as config.json says' python '
t, m = tensors(tmp + "run/latest.safetensors"), metadata(tmp + "run/latest.safetensors")
model = json.load(open(tmp + "run/config.json"))["model"]
assert t[table].shape == (10, 32) and m["num_classes"] == "10", m
assert (model["num_classes"], model["null_class"]) == (10, False), model
'
ok '... draws a sheet, without guidance' test -s "$tmp/run/samples/0000004.png"
exits 'sampling without a null class' 0 sample "$tmp/run"
cp "$tmp/drawn" "$tmp/default"
sample "$tmp/run" --cfg-scale 1
ok '... has no guidance by default' python '
a, b = (read(tmp + n)[0]["latent"] for n in ("default", "drawn"))
assert len(a) == 4 and np.array_equal(a, b)
'
exits 'guidance without a null class' 64 sample "$tmp/run" --cfg-scale 4
says 'is refused' 'guidance of 4 needs a null class, and the model was trained without one'
exits 'class none without a null class' 64 sample "$tmp/run" -c 3,none
says 'is refused' 'class none: the model was trained without a null class'

tiny twice --class-dropout 0 --steps 8 "$tmp/data"
exits 'resuming without a null class' 0 dit-train -q -@ 1 --run "$tmp/run" --resume --steps 8 \
    --sample-every 0 "$tmp/data"
ok '... goes on as if it had not stopped' same_tensors run twice
exits 'resuming without a null class, with --class-dropout,' 64 dit-train -q -@ 1 --run "$tmp/run" \
    --resume --class-dropout 0.1 --steps 9 "$tmp/data"
says 'is refused' '--class-dropout 0.1 needs a null class, and '
decode-images -q --no-labels -s 32 tests/data/images/rgba.png | vae-encode -q --vae dct:4 >"$tmp/unlabelled"
exits 'latents without labels for a model without a null class' 65 tiny none --class-dropout 0 \
    --batch 1 --steps 1 "$tmp/unlabelled"
says 'are refused' 'a latent without a label, but the model has no null class'

tune() { # tune FOLDER FROM ARGUMENT...
    tune_run=$tmp/$1 tune_from=$tmp/$2
    shift 2
    dit-train --no-progress -@ 1 --init "$tune_from" --run "$tune_run" --classes 10 --lr 0 --steps 1 \
        -b 8 "$@" "$tmp/data"
}
exits '--init from weights without a null class' 0 tune added run
says 'adds one' 'has no null class: one is added'
exits '--init from them with --class-dropout 0' 0 tune without run --class-dropout 0
exits 'guiding away from weights without a null class' 65 sample "$tmp/added" --guide-weights "$tmp/run" -c none
says '... is refused' 'the model to guide away from has no null class'
exits '--init from weights with a null class and --class-dropout 0' 0 tune kept added --class-dropout 0
ok '--init keeps the rows of the classes, and a null class that is there' python '
run, added, without, kept = (tensors(tmp + n + "/latest.safetensors")["model." * (n != "run") + table]
                             for n in ("run", "added", "without", "kept"))
ema = tensors(tmp + "twice/latest.safetensors")[table]
assert np.array_equal(run, ema) and np.array_equal(without, run)
assert added.shape == (11, 32) and np.array_equal(added[:10], run) and added[10].any()
assert np.array_equal(kept, added)
'

exits 'converting a training without a null class' 0 convert-weights -q "$tmp/run/latest.safetensors" "$tmp/run.pt"
exits '... back' 0 convert-weights -q "$tmp/run.pt" "$tmp/back.safetensors"
ok '... changes no tensor' python '
a, b = tensors(tmp + "run/latest.safetensors"), tensors(tmp + "back.safetensors")
assert all(np.array_equal(a[k], b[k]) for k in a) and metadata(tmp + "back.safetensors")["num_classes"] == "10"
'
exits '... which is drawn from' 0 sample "$tmp/run.pt"
exits 'converting weights without a null class to a state dict' 0 convert-weights --which ema "$tmp/run/latest.safetensors" "$tmp/bare.pt"
says 'warns' 'its readers will take class 9 for that'
exits 'converting weights without a null class for diffusers' 65 \
    convert-weights --names diffusers "$tmp/run/latest.safetensors" "$tmp/diffusers.safetensors"
says 'is refused' 'has no null class'
ok '... and leaves no file' [ ! -e "$tmp/diffusers.safetensors" ]

# As DiT's own train.py saves it.
exits 'a checkpoint of PyTorch without a null class' 0 python '
import weights_files as w
tensors, _ = w.read_safetensors(tmp + "back.safetensors")
model = {n[6:]: w.Tensor(t) for n, t in tensors.items() if n.startswith("model.")}
w.write_torch(tmp + "train.pt", {"model": model, "ema": model, "args": {"num_classes": 10}})
'
exits '... is drawn from' 0 sample "$tmp/train.pt" --heads 2 --image-size 64
exits '... and refuses guidance' 64 sample "$tmp/train.pt" --heads 2 --image-size 64 -s 2
done_testing
