#!/bin/sh
# convert-weights goes there and back bit for bit between formats and names, writes files that
# Python's own zipfile and pickle read, and refuses bad input. SPDX-License-Identifier: MIT
# shellcheck disable=SC2317 # functions that are arguments of others
. tests/tap.sh
data=${REFERENCE_DIR:-tests/data}

python_prelude="
from weights_files import *
data = '$data/'
"
converts() { # converts NAME OPTION... IN OUT
    converts_name=$1
    shift
    exits "$converts_name" 0 convert-weights "$@"
}
same() {
    cmp "$tmp/$1" "$tmp/$2"
}
absent() {
    ! [ -e "$1" ] && ! find "$tmp" -name '*out.*' | grep -q .
}

# A training, to PyTorch's format and back.
latents=$tmp/latents
"$BUILD/tests/tools/make-stream" latents 64 8 10 >"$latents"
dit-train -q -@ 1 --depth 2 --hidden 32 --heads 2 --patch 2 --batch 8 --classes 10 --lr 1e-3 \
    --seed 5000000000 --steps 12 --save-every 6 --run "$tmp/whole" "$latents"
ours=$tmp/whole/0000006.safetensors
converts 'a checkpoint becomes a training of PyTorch' "$ours" "$tmp/train.pt"
is '... and it prints nothing' "$(cat "$tmp/out" "$tmp/err")" ''
ok "... whose weights, optimizer and arguments Python's zipfile and pickle read" python '
t = read_torch(tmp + "train.pt")
ours, metadata = read_safetensors(tmp + "whole/0000006.safetensors")
assert list(t) == ["model", "ema", "opt", "args", "metadata"] and t["metadata"] == metadata
names = list(t["model"])
layers = ["attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2", "adaLN_modulation.1"]
both = lambda layer: [layer + ".weight", layer + ".bias"]
assert names == ["pos_embed", *both("x_embedder.proj"), *both("t_embedder.mlp.0"),
    *both("t_embedder.mlp.2"), "y_embedder.embedding_table.weight",
    *(n for l in range(2) for layer in layers for n in both("blocks.%d.%s" % (l, layer))),
    *both("final_layer.linear"), *both("final_layer.adaLN_modulation.1")], names
assert names == list(t["ema"])
for i, n in enumerate(names):
    assert t["ema"][n] == ours[n]
    if i == 0:
        assert t["model"][n] == ours[n] and 0 not in t["opt"]["state"]
        continue
    state = t["opt"]["state"][i]
    assert t["model"][n] == ours["model." + n]
    assert state["exp_avg"] == ours["opt.exp_avg." + n]
    assert state["exp_avg_sq"] == ours["opt.exp_avg_sq." + n]
    assert state["step"] == ("F32", (), np.float32(6).tobytes())
group, = t["opt"]["param_groups"]
assert group["params"] == list(range(len(names))) and group["amsgrad"] is False
assert (group["lr"], group["betas"], group["eps"]) == (1e-3, (0.9, 0.999), 1e-8), group
assert t["args"] == dict(image_size=64, num_classes=10, global_batch_size=8,
                         global_seed=5000000000), t["args"]
'
mkdir "$tmp/back"
converts 'a training of PyTorch becomes a checkpoint' "$tmp/train.pt" "$tmp/back/latest.safetensors"
ok '... the first one, byte for byte' cmp "$ours" "$tmp/back/latest.safetensors"
exits '... from which training goes on' 0 dit-train -q -@ 1 --resume --run "$tmp/back" "$latents"
ok '... and ends as the unbroken run' same whole/latest.safetensors back/latest.safetensors
converts 'a training of PyTorch is rewritten in place' "$tmp/train.pt" "$tmp/train.pt"
converts '... and becomes a checkpoint' "$tmp/train.pt" "$tmp/again.safetensors"
ok '... the first one, byte for byte, again' cmp "$ours" "$tmp/again.safetensors"
converts '--which ema of a checkpoint' --which ema "$ours" "$tmp/ema.pt"
converts '--which model of a checkpoint' --which model "$ours" "$tmp/model.safetensors"
ok '... each are one state dict, ready to be loaded' python '
t, both = read_torch(tmp + "ema.pt"), read_torch(tmp + "train.pt")
model, metadata = read_safetensors(tmp + "model.safetensors")
assert t == both["ema"] and model == both["model"] and list(t)[0] == "pos_embed"
assert metadata["num_heads"] == "2" and metadata["classes"] == "[\"a\",\"b\"]"
assert not {"kind", "step", "setting.lr"} & set(metadata), metadata
'
converts '--dtype bf16 of a training' --dtype bf16 "$ours" "$tmp/bf16.safetensors"
ok '... leaves the state of the optimizer' python '
ours = read_safetensors(tmp + "whole/0000006.safetensors")[0]
t = read_safetensors(tmp + "bf16.safetensors")[0]
assert ours.keys() == t.keys()
for n in t:
    if n.startswith("opt."):
        assert t[n] == ours[n]
    else:
        a, b = floats(ours[n]), floats(t[n])
        assert t[n][0] == "BF16" and (np.abs(a - b) <= np.abs(a) / 256).all(), n
'

# What fast-DiT saves: no metadata of ours, and arguments as a namespace.
converts 'the ema of a training of fast-DiT' --heads 4 "$data/dit-a-train.pt" "$tmp/ema.safetensors"
says '... and a note tells of model' "holds no optimizer state; --which all would write both"
converts '--which model of a training of fast-DiT' --heads 4 --which model "$data/dit-a-train.pt" "$tmp/model.safetensors"
converts '--which all of a training of fast-DiT' --heads 4 --which all "$data/dit-a-train.pt" "$tmp/both.pt"
says '... and a note tells what is missing' 'holds no optimizer state; model and ema are written without it'
ok '... each have their own values' python '
ema, model = (read_safetensors(tmp + n + ".safetensors")[0] for n in ("ema", "model"))
both = read_torch(tmp + "both.pt")
assert both["ema"] == ema and both["model"] == model and both["opt"]["state"] == {}
assert list(ema) != list(both["ema"]) and all((floats(ema[n]) == floats(model[n]) / 2).all() for n in ema)
'
exits '--which all with --names diffusers is refused' 64 convert-weights --heads 4 --which all --names diffusers \
    "$data/dit-a-train.pt" "$tmp/out.pt"
says '... with the reason' '--which all needs --names published'

# Types and names.
for kind in plain half bf16 legacy; do
    converts "dit-a-$kind.pt" --heads 4 "$data/dit-a-$kind.pt" "$tmp/$kind.safetensors"
    converts '... to the names of diffusers' --names diffusers "$tmp/$kind.safetensors" "$tmp/$kind-d.safetensors"
    converts '... to a .bin' --names diffusers "$tmp/$kind-d.safetensors" "$tmp/$kind.bin"
    converts '... to a .pt' --heads 4 --image-size 64 "$tmp/$kind.bin" "$tmp/$kind.pt"
    converts '... and back' --heads 4 "$tmp/$kind.pt" "$tmp/$kind-back.safetensors"
done
ok 'every type keeps its bits through all formats and names' python '
for kind, dtype in ("plain", "F32"), ("legacy", "F32"), ("half", "F16"), ("bf16", "BF16"):
    a, b = (read_safetensors(tmp + kind + n)[0] for n in (".safetensors", "-back.safetensors"))
    assert a.keys() == b.keys() and read_torch(tmp + kind + ".pt").keys() == a.keys()
    assert all(t[0] == dtype for t in a.values()), kind
    assert all(a[n] == b[n] for n in a if n != "pos_embed"), kind
    assert np.abs(floats(a["pos_embed"]) - floats(b["pos_embed"])).max() < 0.005
plain, legacy = (read_safetensors(tmp + n + ".safetensors")[0] for n in ("plain", "legacy"))
assert plain == legacy
'
ok 'under the names of diffusers query, key and value are apart, and each block has the embeddings' python '
a, b = (read_safetensors(tmp + n)[0] for n in ("half.safetensors", "half-d.safetensors"))
qkv = b"".join(b["transformer_blocks.1.attn1.to_%s.weight" % n][2] for n in "qkv")
assert qkv == a["blocks.1.attn.qkv.weight"][2]
for l in range(2):
    embedder = "transformer_blocks.%d.norm1.emb.class_embedder.embedding_table.weight" % l
    assert b[embedder] == a["y_embedder.embedding_table.weight"]
assert b == {n: t for n, t in read_torch(tmp + "half.bin").items()}
'
mkdir -p "$tmp/pipeline/transformer"
cp "$tmp/plain.bin" "$tmp/pipeline/transformer/diffusion_pytorch_model.bin"
echo '{"num_attention_heads": 4, "sample_size": 8}' >"$tmp/pipeline/transformer/config.json"
converts 'a folder of diffusers, whose config.json is read' "$tmp/pipeline" "$tmp/folder.pt"
ok '... and whose weights are the same' same folder.pt plain.pt
converts '--image-size 128 of a model for 64' --image-size 128 "$tmp/plain.safetensors" "$tmp/large.safetensors"
ok '... gives another table of positions' python '
t, metadata = read_safetensors(tmp + "large.safetensors")
assert t["pos_embed"][:2] == ("F32", (1, 64, 48)) and metadata["input_size"] == "16"
'
converts '--dtype f16' --dtype f16 "$tmp/plain.safetensors" "$tmp/f16.safetensors"
converts '--dtype f32' --dtype f32 "$tmp/f16.safetensors" "$tmp/f32.safetensors"
ok '... rounds as NumPy does, and --dtype f32 changes no value' python '
a, b, c = (read_safetensors(tmp + n + ".safetensors")[0] for n in ("plain", "f16", "f32"))
assert all(floats(a[n]).astype("<f2").tobytes() == b[n][2] and b[n][0] == "F16" for n in a)
assert all((floats(c[n]) == floats(b[n])).all() and c[n][0] == "F32" for n in a)
'

# The autoencoder.
vae=$data/vae-diffusers-half.safetensors
converts 'an autoencoder to a .ckpt of the names ldm' --names ldm "$vae" "$tmp/vae.ckpt"
converts '... and back to safetensors' "$tmp/vae.ckpt" "$tmp/vae.safetensors"
converts 'an autoencoder to safetensors of the names ldm' --names ldm "$vae" "$tmp/ldm.safetensors"
converts '... and back to a .bin' "$tmp/ldm.safetensors" "$tmp/vae.bin"
ok 'an autoencoder keeps its bits through all names' python '
a = read_safetensors(data + "vae-diffusers-half.safetensors")[0]
ckpt, ldm = read_torch(tmp + "vae.ckpt"), read_safetensors(tmp + "ldm.safetensors")[0]
assert list(ckpt) == ["state_dict"] and ckpt["state_dict"] == ldm and len(ldm) == len(a)
query = ldm["first_stage_model.encoder.mid.attn_1.q.weight"]
to_q = a["encoder.mid_block.attentions.0.to_q.weight"]
assert query[1] == to_q[1] + (1, 1) and query[2] == to_q[2]
assert read_safetensors(tmp + "vae.safetensors")[0] == a and read_torch(tmp + "vae.bin") == a
'
mkdir -p "$tmp/sd/vae"
cp "$vae" "$tmp/sd/vae/diffusion_pytorch_model.safetensors"
echo '{"scaling_factor": 0.13025}' >"$tmp/sd/vae/config.json"
converts 'the autoencoder of a folder' "$tmp/sd" "$tmp/scaled.safetensors"
ok '... keeps its scale' python '
assert float(read_safetensors(tmp + "scaled.safetensors")[1]["scaling_factor"]) == 0.13025
'

# Errors leave no file.
refused() { # refused NAME STATUS TEXT ARGUMENT...
    refused_name=$1
    refused_status=$2
    refused_text=$3
    shift 3
    exits "$refused_name" "$refused_status" convert-weights "$@"
    says '... with the reason' "$refused_text"
    ok '... and leaves no file' absent "$tmp/out.pt"
}
python '
t, m = read_safetensors(tmp + "plain-d.safetensors")
embedder = "transformer_blocks.1.norm1.emb.class_embedder.embedding_table.weight"
odd = dict(t)
odd[embedder] = (*t[embedder][:2], b"\1" + t[embedder][2][1:])
write_safetensors(tmp + "odd.safetensors", odd, m)
t, m = read_safetensors(tmp + "plain.safetensors")
name = "blocks.1.mlp.fc1.bias"
values = floats(t[name]).copy()
values[7] = 65520
write_safetensors(tmp + "huge.safetensors", {**t, name: (*t[name][:2], values.tobytes())}, m)
values[7] = np.inf
write_safetensors(tmp + "inf.safetensors", {**t, name: (*t[name][:2], values.tobytes())}, m)
values = values.astype("f8")
values[7] = -1e300
wide = {name: ("F64", t[name][1], values.tobytes())}
wide.update((n, x) for n, x in t.items() if n != name)
write_safetensors(tmp + "wide.safetensors", wide, m)
whole = {name: ("I64", t[name][1], bytes(8 * values.size))}
write_safetensors(tmp + "whole.safetensors", {**whole, **{n: t[n] for n in t if n != name}}, m)
write_safetensors(tmp + "less.safetensors", {n: x for n, x in t.items() if n != name}, m)
write_safetensors(tmp + "other.safetensors", {"a": t["pos_embed"]}, m)
'
refused 'copies that differ' 65 'embedding_table.weight differ; the model has one for all blocks' \
    "$tmp/odd.safetensors" "$tmp/out.pt"
refused 'a value beyond float16' 65 \
    'tensor blocks.1.mlp.fc1.bias: value 7 is 65520, too large for F16' \
    --dtype f16 "$tmp/huge.safetensors" "$tmp/out.pt"
refused 'a value beyond float32' 65 \
    'tensor blocks.1.mlp.fc1.bias: value 7 is -1e+300, too large for F32' \
    --dtype f32 "$tmp/wide.safetensors" "$tmp/out.pt"
converts 'an infinity stays one' --dtype f16 "$tmp/inf.safetensors" "$tmp/inf.pt"
converts 'float64 stays' "$tmp/wide.safetensors" "$tmp/wide.pt"
ok '... with its bits' python '
name = "blocks.1.mlp.fc1.bias"
assert floats(read_torch(tmp + "inf.pt")[name])[7] == np.inf
assert read_torch(tmp + "wide.pt")[name] == read_safetensors(tmp + "wide.safetensors")[0][name]
'
refused 'whole numbers' 65 'blocks.1.mlp.fc1.bias is of type I64, expected floats' \
    "$tmp/whole.safetensors" "$tmp/out.pt"
refused 'a missing tensor' 65 'no tensor blocks.1.mlp.fc1.bias; expected, with shape [192]' \
    "$tmp/less.safetensors" "$tmp/out.pt"
refused 'weights of something else' 65 'neither a DiT nor an autoencoder' \
    "$tmp/other.safetensors" "$tmp/out.pt"
refused 'a file that holds no weights' 65 'expected weights' "$latents" "$tmp/out.pt"
refused 'a file that is not there' 66 "$tmp/none.pt" "$tmp/none.pt" "$tmp/out.pt"
refused 'a folder without weights' 66 'expected diffusion_pytorch_model' "$tmp" "$tmp/out.pt"
refused 'an unknown ending' 64 'expected .safetensors, or .pt, .pth, .bin or .ckpt' \
    "$vae" "$tmp/out.onnx"
refused 'a name without an ending' 64 'found ""' "$vae" "$tmp/a.pt/out"
refused 'a DiT under the names ldm' 64 'for which --names is published or diffusers' \
    --names ldm "$tmp/plain.safetensors" "$tmp/out.pt"
refused 'an autoencoder under the names of a DiT' 64 'for which --names is diffusers or ldm' \
    --names published "$vae" "$tmp/out.pt"
refused '--which of an autoencoder' 64 'one set of weights, so --which does not apply' --which ema "$vae" "$tmp/out.pt"
refused '--which all of bare weights' 65 '--which all needs a training' \
    --which all "$tmp/plain.safetensors" "$tmp/out.pt"
refused 'a number of heads that nothing tells' 65 'give --heads' "$data/dit-a-plain.pt" "$tmp/out.pt"
refused 'an OUT in a folder that is not there' 73 "$tmp/none/out.pt" "$vae" "$tmp/none/out.pt"
refused 'one file alone' 64 'expected two files' "$vae"

# A file that becomes shorter while it is read, when the pipe is full.
cp "$ours" "$tmp/shrinks.safetensors"
mkfifo "$tmp/pipe.safetensors"
{
    head -c 1
    truncate -s 4096 "$tmp/shrinks.safetensors"
    cat
} <"$tmp/pipe.safetensors" >/dev/null &
exits 'a file of weights that becomes shorter' 66 convert-weights "$tmp/shrinks.safetensors" "$tmp/pipe.safetensors"
says 'is named' 'shrinks.safetensors: the file has become shorter while it was read'
done_testing
