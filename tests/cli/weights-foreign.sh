#!/bin/sh
# Weights as other programs write them: whose wrappers, optimizers, averages and folders they have, and
# what is refused because it would be read wrongly. SPDX-License-Identifier: MIT
# shellcheck disable=SC2317 # functions that are arguments of others
. tests/tap.sh
export PYTHONPATH=tests/tools PYTHONDONTWRITEBYTECODE=1
data=${REFERENCE_DIR:-tests/data}

# python CODE: with the model `ours`, the average `ema` (half of it), and the optimizer's state `adam`.
python() {
    /usr/bin/python3 -c "
import json, os
import numpy as np
from weights_files import *
tmp = '$tmp/'
ours = read_safetensors(tmp + 'plain.safetensors')[0]
ema = {n: (t[0], t[1], (floats(t) / 2).tobytes()) for n, t in ours.items()}
def T(tensors): return {n: Tensor(t) for n, t in tensors.items()}
names = list(ours)
half = lambda name: (floats(read_safetensors(tmp + name)[0][names[1]]) == floats(ours[names[1]]) / 2).all()
def adam(kinds, keep=lambda i: True, order=names):
    return {'state': {i: dict({'step': Tensor(('F32', (), np.float32(3).tobytes()))},
                              **{k: Tensor(ours[n]) for k in kinds})
                      for i, n in enumerate(order) if i and keep(i)},
            'param_groups': [{'lr': 1e-4, 'params': list(range(len(names)))}]}
$1"
}
convert() {
    convert-weights --heads 4 "$@"
}
convert -q "$data/dit-a-plain.pt" "$tmp/plain.safetensors"
reads() { # reads NAME FILE OPTION...: the weights and nothing else
    reads_name=$1
    reads_file=$2
    shift 2
    exits "$reads_name" 0 convert --which ema "$@" "$tmp/$reads_file" "$tmp/read.safetensors"
    exits '... is drawn from' 0 dit-sample -q --heads 4 --latents "$@" -w "$tmp/$reads_file" -n 1 --steps 1 -o "$tmp/latents"
    ok '... and has the same weights' cmp "$tmp/read.safetensors" "$tmp/ours.safetensors"
}
refused() { # refused NAME FILE TEXT OPTION...
    refused_name=$1
    refused_file=$2
    refused_text=$3
    shift 3
    exits "$refused_name" 65 dit-sample -q --latents "$@" -w "$tmp/$refused_file" -n 1 --steps 1 -o "$tmp/latents"
    says '... with the reason' "$refused_text"
}
python '
write_torch(tmp + "plain.pt", T(ours))
for word in "state_dict.model.", "net.", "module.", "_forward_module.model.", "module._orig_mod.", "any.word.":
    write_torch(tmp + word + "pt", T({word + n: t for n, t in ours.items()}))
inside = lambda w: {n.replace("blocks.1.", "blocks.1.%s." % w).replace("attn.", "%s.attn." % w): t for n, t in ours.items()}
for w in "_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module":
    write_torch(tmp + w + ".pt", T(inside(w)))
write_torch(tmp + "other.pt", T({"first.one": ours[names[0]]}))
vae = read_safetensors("'"$data"'/vae-diffusers-half.safetensors")
write_safetensors(tmp + "vae.safetensors", {"state_dict.module.vae." + n: t for n, t in vae[0].items()}, vae[1])
'
exits 'the weights under bare names' 0 convert "$tmp/plain.pt" "$tmp/ours.safetensors"
for word in state_dict.model. net. module. _forward_module.model. module._orig_mod. any.word. \
    _orig_mod. _checkpoint_wrapped_module. _fsdp_wrapped_module.; do
    reads "names with $word" "${word}pt"
done
refused 'weights of something else' other.pt 'not the weights of a DiT: no name of its'
exits 'an autoencoder with other words before its names' 0 convert-weights "$tmp/vae.safetensors" "$tmp/vae.pt"
exits '... an autoencoder is not a DiT' 65 convert-weights "$tmp/other.pt" "$tmp/out.pt"

# The states of other optimizers.
python '
def training(path, opt, **more):
    write_torch(tmp + path, {"model": T(ours), "ema": T(ema), "opt": opt, **more})
training("lion.pt", adam(["exp_avg"]))
training("8bit.pt", adam(["state1", "state2"]))
training("frozen.pt", adam(["exp_avg", "exp_avg_sq"], lambda i: i > 8))
training("groups.pt", adam(["exp_avg", "exp_avg_sq"], order=sorted(names, key=lambda n: len(ours[n][1]) < 2)))
training("adam.pt", adam(["exp_avg", "exp_avg_sq"]))
bad = adam(["exp_avg", "exp_avg_sq"])
for i in bad["state"]: bad["state"][i]["step"] = Tensor(("F32", (), np.float32(np.inf).tobytes()))
training("inf.pt", bad)
'
"$BUILD/tests/tools/make-stream" latents 16 4 8 >"$tmp/data"
for kind in lion 8bit frozen groups; do
    exits "a training whose optimizer is foreign ($kind)" 0 convert "$tmp/$kind.pt" "$tmp/$kind.safetensors"
    says '... and a note says that its state is left out' 'the state of an optimizer that is not dit-train'
    ok '... and the averaged weights are written' python "assert half('$kind.safetensors')"
    exits '... and drawn from' 0 dit-sample -q --heads 4 --latents -w "$tmp/$kind.pt" -n 1 --steps 1 -o "$tmp/latents"
done
exits '... and trained on' 0 dit-train -q --heads 4 --init "$tmp/lion.pt" --run "$tmp/init" --steps 1 --batch 2 --classes 10 "$tmp/data"
exits '--which all of it is still model and ema' 0 convert --which all "$tmp/lion.pt" "$tmp/both.safetensors"
exits 'a training of AdamW is converted as one' 0 convert "$tmp/adam.pt" "$tmp/adam.safetensors"
ok '... with its state' grep -q opt.exp_avg_sq "$tmp/adam.safetensors"
exits 'a count of steps that is infinite is refused' 65 convert "$tmp/inf.pt" "$tmp/out.safetensors"
says '... by name' 'tensor opt.state.1.step is inf, expected a whole number'

# Averages.
python '
for key in "ema_model", "model_ema", "state_dict_ema", "ema.ema_model":
    value = T(ema)
    for part in reversed(key.split(".")): value = {part: value}
    write_torch(tmp + key + ".pt", {"model": T(ours), **value})
lists = [Tensor(ema[n]) for n in names]
write_torch(tmp + "shadow.pt", {"model": T(ours), "ema": {"decay": 0.9999, "shadow_params": lists[1:]}})
write_torch(tmp + "shadow-all.pt", {"model": T(ours), "ema": {"decay": 0.9999, "shadow_params": lists}})
write_torch(tmp + "shadow-short.pt", {"model": T(ours), "ema": {"shadow_params": lists[2:]}})
write_torch(tmp + "online.pt", {"ema": {"online_model": T(ours), "ema_model": T(ema)}})
write_torch(tmp + "unknown.pt", {"model": T(ours), "model_ema": {n.replace(".", ""): Tensor(t) for n, t in ema.items()}})
write_torch(tmp + "several.pt", {"ema_1": T(ema), "ema_2": T(ours)})
write_torch(tmp + "two.pt", {"net": T(ema), "student": T(ours)})
'
for file in ema_model model_ema state_dict_ema ema.ema_model shadow shadow-all online; do
    exits "averaged weights as $file" 0 convert "$tmp/$file.pt" "$tmp/$file.safetensors"
    ok '... are those that are taken' python "assert half('$file.safetensors')"
done
refused 'a list of averaged weights that is not all of them' shadow-short.pt 'expected one for each of' --heads 4
refused 'averaged weights under unknown names' unknown.pt 'are not named as those of any known program' --heads 4
reads '... with --which model the others' unknown.pt --which model
refused 'several averaged sets' several.pt 'several sets of averaged weights, ema_1.* and ema_2.*'
refused 'several sets' two.pt 'several sets of weights, net.* and student.*'

# SiT's.
python '
args = {"path_type": "GVP", "prediction": "velocity", "loss_weight": None, "num_classes": 10}
write_torch(tmp + "sit.pt", {"model": T(ours), "ema": T(ema), "opt": adam(["exp_avg", "exp_avg_sq"]), "args": args})
write_torch(tmp + "sit-path.pt", {"ema": T(ema), "args": {**args, "path_type": "spiral"}})
'
exits "a SiT's training" 0 convert -q "$tmp/sit.pt" "$tmp/sit.safetensors"
ok '... is one of flow matching' python '
m = read_safetensors(tmp + "sit.safetensors")[1]
assert [m[k] for k in ("objective", "path", "prediction", "time")] == ["flow", "gvp", "velocity", "data"], m
'
exits '... is drawn from' 0 dit-sample -q --heads 4 --latents -w "$tmp/sit.pt" -n 1 --steps 2 -o "$tmp/latents"
exits '... goes back to PyTorch' 0 convert -q "$tmp/sit.safetensors" "$tmp/sit-again.pt"
exits '... and comes again' 0 convert -q "$tmp/sit-again.pt" "$tmp/sit-again.safetensors"
ok '... with every bit' python '
a, b = (read_safetensors(tmp + name)[0] for name in ("sit.safetensors", "sit-again.safetensors"))
assert a == b and len(a) > 4 * len(names) - 4
'
refused '... is not drawn from by diffusion' sit.pt 'the objective is flow in ' --heads 4 --objective diffusion
refused '... nor along another path' sit.pt 'the path is gvp in ' --heads 4 --path vp
refused 'a path that is not known' sit-path.pt 'path_type "spiral" is not supported' --heads 4
exits 'bare weights of a SiT' 0 convert -q --objective flow "$tmp/plain.pt" "$tmp/bare-sit.safetensors"
ok '... are said to be some' python '
assert read_safetensors(tmp + "bare-sit.safetensors")[1]["objective"] == "flow"
'

# Classes.
python '
write_torch(tmp + "classes.pt", {"ema": T(ours), "args": {"num_classes": 3}})
'
refused 'a table of another number of classes' classes.pt 'expected 4 for 3 classes'
exits 'a number of classes that nothing tells' 0 dit-sample --heads 4 --latents -w "$tmp/plain.pt" -n 1 --steps 1 -o "$tmp/latents"
says '... is told' 'the last one is taken for the null class'

# Headers, types and what is no file of weights.
python '
m = {"num_heads": "4", "note": "a\0b", "thumb": "x" * 3000000}
write_safetensors(tmp + "meta.safetensors", ours, m)
write_safetensors(tmp + "fp8.safetensors", {**ours, "text_encoder.w": ("F8_E4M3", (8,), bytes(8))}, m)
odd = dict(ours); odd["blocks.0.mlp.fc1.bias"] = ("F8_E4M3",) + ours["blocks.0.mlp.fc1.bias"][1:]
write_safetensors(tmp + "fp8-wanted.safetensors", odd, m)
write_torch(tmp + "complex.pt", {"model": T(ours), "freqs": Tensor(("C", (4,), bytes(32)), storage="ComplexFloatStorage")})
open(tmp + "pointer.safetensors", "w").write("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n")
open(tmp + "page.pt", "w").write("<!DOCTYPE html><html></html>")
'
for file in meta.safetensors fp8.safetensors complex.pt; do
    exits "$file, which holds more than weights" 0 dit-sample -q --heads 4 --latents -w "$tmp/$file" -n 1 --steps 1 -o "$tmp/latents"
done
refused 'a weight of an unknown type' fp8-wanted.safetensors 'tensor blocks.0.mlp.fc1.bias is of type F8_E4M3, which is not supported'
refused 'a git-lfs pointer' pointer.safetensors 'expected weights, found a git-lfs pointer'
refused 'a page' page.pt 'expected weights, found an HTML page'

# Folders of diffusers.
mkdir -p "$tmp/pipe/transformer"
python '
labels = {str(i): "class %d" % i for i in range(ours["y_embedder.embedding_table.weight"][1][0] - 1)}
json.dump({"_class_name": "DiTPipeline", "id2label": labels}, open(tmp + "pipe/model_index.json", "w"))
'
there=$tmp/pipe/transformer/diffusion_pytorch_model
exits '--names diffusers' 0 convert --names diffusers "$tmp/plain.pt" "$there.safetensors"
ok '... writes the config.json that from_pretrained reads' python '
c = json.load(open(tmp + "pipe/transformer/config.json"))
assert c["_class_name"] == "DiTTransformer2DModel" and c["num_attention_heads"] == 4 and c["norm_eps"] == 1e-6
assert c["attention_head_dim"] * 4 == ours["x_embedder.proj.weight"][1][0] and c["sample_size"] == 8, c
assert c["num_embeds_ada_norm"] + 1 == ours["y_embedder.embedding_table.weight"][1][0]
'
exits 'a class by its name in model_index.json' 0 dit-sample -q --latents -w "$tmp/pipe" -c 'class 3' -n 1 --steps 1 -o "$tmp/latents"
exits '--names diffusers, again' 0 convert-weights --names diffusers "$tmp/pipe" "$there.safetensors"
ok '... keeps the names of the classes as id2label' grep -q '"3": "class 3"' "$tmp/pipe/transformer/config.json"
mkdir "$tmp/kl" "$tmp/elsewhere"
exits 'an autoencoder, too' 0 convert-weights --names diffusers "$tmp/vae.safetensors" "$tmp/kl/diffusion_pytorch_model.safetensors"
ok '... has its config.json' grep -q '"scaling_factor": 0.18215' "$tmp/kl/config.json"
echo '{"scaling_factor": NaN}' >"$tmp/kl/config.json"
exits 'an autoencoder whose config.json is broken' 65 convert-weights "$tmp/kl" "$tmp/out.safetensors"
says '... is refused by its place' 'kl/config.json: line 1: '
echo '{"model": "mine"}' >"$tmp/elsewhere/config.json"
exits "somebody else's config.json is not replaced" 73 convert --names diffusers "$tmp/plain.pt" "$tmp/elsewhere/a.safetensors"
ok '... and stays as it is' grep -q mine "$tmp/elsewhere/config.json"
is '... nor are weights written' "$(ls "$tmp/elsewhere")" config.json
python '
t, m = read_safetensors(tmp + "pipe/transformer/diffusion_pytorch_model.safetensors")
names, parts = list(t), {}
for i in 0, 1:
    parts[i] = "diffusion_pytorch_model-0000%d-of-00002.safetensors" % (i + 1)
    write_safetensors(tmp + "pipe/transformer/" + parts[i], {n: t[n] for n in names[i::2]}, {})
json.dump({"metadata": {}, "weight_map": {n: parts[i % 2] for i, n in enumerate(names)}},
          open(tmp + "pipe/transformer/diffusion_pytorch_model.safetensors.index.json", "w"))
'
mv "$there.safetensors" "$tmp/whole.safetensors"
exits 'a folder of several files' 0 convert-weights "$tmp/pipe" "$tmp/sharded.safetensors"
exits '... beside one' 0 convert-weights --image-size 64 --heads 4 "$tmp/whole.safetensors" "$tmp/single.safetensors"
ok '... has the same weights' python '
a, b = (read_safetensors(tmp + n + ".safetensors")[0] for n in ("sharded", "single"))
assert a == b
'
mv "${there}-00002-of-00002.safetensors" "$tmp/moved"
exits 'a part of it that is missing' 66 convert-weights "$tmp/pipe" "$tmp/out.safetensors"
rm "$there"*
mv "$tmp/whole.safetensors" "$there.fp16.safetensors"
exits 'a folder of the variant fp16' 0 convert-weights "$tmp/pipe" "$tmp/fp16.safetensors"
python '
path = tmp + "pipe/transformer/diffusion_pytorch_model.fp16.safetensors"
write_safetensors(path, read_safetensors(path)[0], {})
'
broken() { # broken NAME JSON TEXT
    printf '%s' "$2" >"$tmp/pipe/transformer/config.json"
    refused "config.json: $1" pipe "$3"
}
broken 'cut' '{"num_attention_heads": 4, "samp' 'transformer/config.json: line 1: '
broken 'a git-lfs pointer' 'version https://git-lfs.github.com/spec/v1' 'expected JSON, found a git-lfs pointer'
broken 'NaN' '{"sample_size": NaN}' 'transformer/config.json: line 1: '
broken 'a key twice' '{"sample_size": 8, "sample_size": 16}' 'duplicate object key'
broken 'a number as text' '{"num_attention_heads": "4", "sample_size": 8}' 'num_attention_heads is not a whole number'
broken "another model's" '{"num_attention_heads": 16, "attention_head_dim": 72}' 'is that of another model: 16 heads of 72'
broken 'a list' '[4]' 'expected an object of JSON'
broken 'a size that dwarfs the weights' '{"num_attention_heads": 4, "sample_size": 4096}' 'give --image-size 32768 to allow it'

# A few bytes under many names.
python '
write_safetensors(tmp + "classes.safetensors", ours, {"num_heads": "4", "classes": "[" + "[]," * 600000 + "0]"})
'
refused 'names of classes that take far more memory than bytes' classes.safetensors \
    'the names of the classes: JSON of more than' -c a
python '
big = ("F32", (400, 1000), bytes(1600000))
write_torch(tmp + "shared.pt", {"t%d" % i: Tensor(big, key="0") for i in range(9)})
write_torch(tmp + "twice.pt", {"model": {n: Tensor(t, key=n) for n, t in ours.items()}, "ema": {n: Tensor(t, key=n) for n, t in ours.items()}})
'
refused 'tensors that share a storage' shared.pt 'together they take more than 4 times the file'
python '
def f32(*shape): return ("F32", shape, bytes(4 * int(np.prod(shape))))
tiny = {"x_embedder.proj.weight": f32(4, 4, 1, 1), "t_embedder.mlp.0.weight": f32(4, 256), "t_embedder.mlp.2.weight": f32(4, 4),
        "y_embedder.embedding_table.weight": f32(200001, 4), "final_layer.linear.weight": f32(8, 4),
        "final_layer.adaLN_modulation.1.weight": f32(8, 4)}
for l in range(200):
    for n, rows, width in ("attn.qkv", 12, 4), ("attn.proj", 4, 4), ("mlp.fc1", 16, 4), ("mlp.fc2", 4, 16), ("adaLN_modulation.1", 24, 4):
        tiny["blocks.%d.%s.weight" % (l, n)] = f32(rows, width)
tiny.update({n[:-6] + "bias": f32(t[1][0]) for n, t in tiny.items() if "embedding" not in n})
tiny["pos_embed"] = f32(1, 1, 4)
write_safetensors(tmp + "blocks.safetensors", tiny, {"num_heads": "1"})
'
mkdir "$tmp/large"
exits 'a table of classes that diffusers has in each of many blocks' 65 \
    convert-weights --names diffusers "$tmp/blocks.safetensors" "$tmp/large/out.safetensors"
says '... is refused with the reason' 'its tensors would take 6'
exits 'a model and its average may share theirs' 0 convert "$tmp/twice.pt" "$tmp/twice.safetensors"
done_testing
