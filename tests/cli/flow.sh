#!/bin/sh
# Flow matching from training to samples, the samplers of few steps, and guidance.
# SPDX-License-Identifier: MIT
# shellcheck disable=SC2317 # functions that are arguments of others
. tests/tap.sh
unset DIT_VAE

# get(STREAM) returns the latents of a stream; raw(FILE) the bytes of a checkpoint's tensors.
python_prelude="
get = lambda name: read(tmp + name)[0]['latent']
raw = lambda name: {k: v.tobytes() for k, v in tensors(tmp + name).items()}
"
train() { # train RUN OPTION...: a small model on $tmp/data
    run=$1
    shift
    dit-train -q -@ 1 --depth 2 --hidden 36 --heads 3 --patch 1 --classes 10 -b 16 --lr 3e-3 \
        --ema-decay 0.9 --run "$tmp/$run" "$@" "$tmp/data"
}
sample() { # sample RUN OPTION...: latents
    run=$1
    shift
    dit-sample -q -@ 1 -w "$tmp/$run" --latents --no-pg "$@"
}

"$BUILD/tests/tools/make-stream" images 60 32 10 | vae-encode -q >"$tmp/data"
exits 'training by diffusion' 0 train diffusion --steps 20
exits 'training by flow matching' 0 train flow --objective flow --steps 20 --valid "$tmp/data" \
    --sample-every 20 --sample-count 2
ok '... says so in the checkpoint, whose model predicts no variance' python '
m = metadata(tmp + "flow/latest.safetensors")
assert [m[k] for k in ("objective", "path", "prediction", "time")] == ["flow", "linear", "velocity", "data"], m
assert metadata(tmp + "diffusion/latest.safetensors")["objective"] == "diffusion"
assert len(raw("flow/latest.safetensors")["final_layer.linear.bias"]) == 4 * 16
'
ok '... and logs its loss, which has no part of its own for the variance' python '
lines = log(tmp + "flow")
assert "vb" not in lines[-1] and lines[-1]["loss"] > 0, lines
assert 0 < lines[-1]["valid_loss"] < 10
'
sample flow -n 2 -c 0,5 --steps 50 | vae-decode -q | tile-images -q -c 2 >"$tmp/sheet.png"
ok '... and its sheets hold what dit-sample draws' cmp "$tmp/sheet.png" "$tmp/flow/samples/0000020.png"
ok '... and the loss falls' python '
lines = log(tmp + "flow")
assert lines[-1]["loss"] < 3, lines
'

# Options of training, and what they must not be given for.
i=0
while read -r options; do
    i=$((i + 1))
    # shellcheck disable=SC2086 # options are words
    exits "training with $options" 0 train "variant$i" --steps 3 $options
done <<EOF
--objective flow --path gvp
--objective flow --path vp --prediction noise --loss-weight velocity
--objective flow --prediction score --loss-weight likelihood
--objective flow --timesteps logit-normal
--objective flow --timesteps logit-normal:-0.5,2
--loss-weight min-snr
--loss-weight min-snr:1.5
EOF
ok 'each of them trains other weights' python '
found = [raw("variant%d/latest.safetensors" % i)["model.blocks.0.attn.qkv.bias"] for i in range(1, 8)]
assert len(set(found)) == 7
'
for options in '--loss-weight velocity' '--loss-weight min-snr:0' '--loss-weight min-snr:x' \
    '--timesteps logit-normal' '--objective flow --loss-weight min-snr' \
    '--objective flow --loss-weight velocity' '--objective flow --timesteps logit-normal:1' \
    '--objective flow --timesteps logit-normal:0,0' '--lr-schedule steps' '--lr-final 0.1'; do
    # shellcheck disable=SC2086 # options are words
    exits "training with $options" 64 train refused --steps 3 $options
done
piped() {
    # shellcheck disable=SC2002 # a pipe is what is tested
    cat "$tmp/data" | dit-train -q --classes 10 --lr-schedule cosine --run "$tmp/refused"
}
exits 'a schedule over a pipe, whose end is not known' 64 piped
exits 'a schedule over a time, whose last step is not known' 64 train refused --lr-schedule wsd --minutes 1
says '... is refused' '--lr-schedule needs --steps or --epochs'

# The learning rate.
train cosine --steps 10 --lr-warmup 2 --lr-schedule cosine --lr-final 0.1 --log-every 1
train wsd --steps 10 --lr-schedule wsd --log-every 1
ok 'the learning rate rises and then falls as --lr-schedule says' python '
from math import cos, pi, sqrt
rates = lambda run: [line["lr"] / 3e-3 for line in log(tmp + run)]
cosine = [0.5, 1] + [0.1 + 0.9 * (0.5 + 0.5 * cos(pi * i / 8)) for i in range(8)]
wsd = [1] * 9 + [1 - sqrt(0.5)]
assert np.allclose(rates("cosine"), cosine, atol=1e-9), rates("cosine")
assert np.allclose(rates("wsd"), wsd, atol=1e-9), rates("wsd")
'

# Resuming.
while read -r options; do
    rm -rf "$tmp/whole" "$tmp/halves"
    # shellcheck disable=SC2086 # options are words
    train whole --steps 8 --save-every 4 $options
    mkdir "$tmp/halves" && cp "$tmp/whole/0000004.safetensors" "$tmp/halves"
    train halves --resume
    ok "a run with $options that was stopped and resumed is the same to the last bit" python '
assert raw("whole/0000008.safetensors") == raw("halves/0000008.safetensors")
'
done <<EOF
--objective diffusion --loss-weight min-snr --lr-schedule wsd --lr-final 0.1
--objective flow --timesteps logit-normal --ema-power 0.1
--objective flow --path vp --prediction score --loss-weight likelihood --lr-schedule cosine
--objective flow --path gvp --prediction noise --loss-weight velocity --lr-schedule cosine
EOF
exits 'resuming it by another objective' 65 train whole --resume --steps 9 --objective diffusion
says '... is refused with what differs' 'the objective is flow in '
exits 'a path of diffusion' 64 train other --steps 1 --path gvp
says '... is refused' '--path and --prediction apply only to flow matching: add --objective flow'
exits 'fine-tuning it along another path' 65 train other --steps 1 --init "$tmp/whole" --objective flow --path vp
says '... is refused with what differs' 'the path is gvp in '
exits 'fine-tuning it' 0 train tuned --steps 1 --init "$tmp/whole"
ok '... learns the same' python '
m = metadata(tmp + "tuned/latest.safetensors")
assert (m["objective"], m["path"], m["prediction"]) == ("flow", "gvp", "noise"), m
'

# Samplers: a sample depends on its number alone.
check_sampler() { # check_sampler RUN NAME OPTION...
    from=$1 name=$2
    shift 2
    sample "$from" -n 5 "$@" >"$tmp/all" && sample "$from" -n 5 -b 2 "$@" >"$tmp/batches" &&
        sample "$from" -n 5 -@ 2 "$@" >"$tmp/threads" && for part in 1 2 3; do
        sample "$from" -n 5 --part "$part/3" "$@"
    done >"$tmp/parts"
    ok "$name: batch, threads and parts change no bit" python '
a = get("all")
assert np.isfinite(a).all() and a.std() > 0.05
for other in "batches", "threads", "parts":
    assert np.array_equal(get(other), a), other
'
    cp "$tmp/all" "$tmp/all-$name"
}
of_diffusion='ddpm ddim dpm++ dpm++2m sde-dpm++2m unipc' of_flow='euler heun sde-euler sde-heun'
is 'every sampler is tested' "$(dit-sample --help | sed -n 's/^ *--sampler=//p')" \
    "$(echo "$of_diffusion $of_flow" | tr ' ' '|')"
for name in $of_diffusion; do
    check_sampler diffusion "$name" --sampler "$name" --steps 6
done
for name in $of_flow; do
    check_sampler flow "$name" --sampler "$name" --steps 6
done
check_sampler diffusion karras --sampler dpm++2m --schedule karras --steps 6
check_sampler flow interval --steps 6 --cfg-interval 0.2,0.7 --cfg-rescale 0.5
check_sampler flow guide --steps 6 --guide-weights "$tmp/variant4" -s 2
check_sampler flow shift --steps 6 --time-shift 3
check_sampler variant2 vp --sampler sde-euler --steps 6 --diffusion-form sbdm --last-step tweedie
ok 'each of them draws samples of its own' python '
found = [get(name[len(tmp):]) for name in glob.glob(tmp + "all-*")]
assert len(found) == 15
for i, a in enumerate(found):
    assert not any(np.array_equal(a, b) for b in found[:i]), i
'
sample flow -n 3 --steps 6 >"$tmp/guided"
sample flow -n 3 --steps 6 --cfg-interval 0,1 >"$tmp/everywhere"
sample flow -n 3 --steps 6 --cfg-interval 0.999,0.9999 >"$tmp/nowhere"
sample flow -n 3 --steps 6 -s 1 >"$tmp/unguided"
sample flow -n 3 --steps 6 --guide-weights "$tmp/flow" -s 3 >"$tmp/itself"
ok '--cfg-interval guides within it alone; away from itself a model goes nowhere' python '
assert np.array_equal(get("guided"), get("everywhere"))
assert np.array_equal(get("nowhere"), get("unguided"))
assert not np.array_equal(get("guided"), get("unguided"))
assert np.abs(get("itself") - get("unguided")).max() < 1e-4
'
while read -r status options; do
    # shellcheck disable=SC2086 # options are words
    exits "sampling with $options" "$status" sample $options -o "$tmp/none"
done <<EOF
64 flow --sampler ddpm
64 diffusion --sampler heun
65 flow --objective diffusion
65 diffusion --objective flow
65 flow --path gvp
65 flow --prediction noise
64 flow --steps ddim10
64 flow --sampler sde-euler --steps 1
64 flow --sampler heun --last-step euler
64 diffusion --schedule karras
64 diffusion --sampler unipc --steps 1000
64 diffusion --time-shift 2
64 diffusion --eta 0.5
64 flow --cfg-interval 0.7,0.2
64 flow --cfg-interval 0.2
64 flow -s 1 --cfg-interval 0.2,0.7
64 flow -s 1 --cfg-rescale 0.5
64 flow -s 1 --guide-weights $tmp/flow
64 diffusion --path gvp
64 diffusion --prediction noise
65 flow --guide-weights $tmp/diffusion
EOF
ok 'what is refused leaves no file' [ ! -e "$tmp/none" ]

# Files of other programs.
convert() {
    convert-weights -q --heads 3 "$@"
}
convert "$tmp/flow/latest.safetensors" "$tmp/flow.pt"
exits "a training of flow matching in PyTorch's format" 0 convert "$tmp/flow.pt" "$tmp/back.safetensors"
ok '... comes back bit for bit, and says what it learned' python '
assert raw("back.safetensors") == raw("flow/latest.safetensors")
m = metadata(tmp + "back.safetensors")
assert (m["objective"], m["path"], m["prediction"]) == ("flow", "linear", "velocity"), m
'
ok '... and names it as SiT does' grep -aq path_type "$tmp/flow.pt"
convert --which ema "$tmp/flow/latest.safetensors" "$tmp/bare.pt"
exits 'bare weights without a variance' 65 convert "$tmp/bare.pt" "$tmp/refused.safetensors"
says '... need to be told' 'give --objective'
exits '... and are told by an option' 0 convert --objective flow --path gvp "$tmp/bare.pt" "$tmp/told.safetensors"
ok '... which the file then says' python '
m = metadata(tmp + "told.safetensors")
assert (m["objective"], m["path"]) == ("flow", "gvp"), m
'
exits 'another option than the file says' 65 convert --objective diffusion "$tmp/told.safetensors" "$tmp/refused.safetensors"
exits "diffusers' names for flow matching" 65 convert --names diffusers "$tmp/flow/latest.safetensors" "$tmp/refused.safetensors"
ok 'what is refused leaves no file, either' [ ! -e "$tmp/refused.safetensors" ]

# REPA's: with projections beside the model, and time that runs to noise.
python '
d = open(tmp + "told.safetensors", "rb").read()
n = 8 + int.from_bytes(d[:8], "little")
h = json.loads(d[8:n])
def put(name, tensors, names=lambda k: k, **meta):
    body = d[n:]
    head = {names(k): v for k, v in h.items() if k != "__metadata__"}
    for key in tensors:
        head[key] = {"dtype": "F32", "shape": [2], "data_offsets": [len(body), len(body) + 8]}
        body += bytes(8)
    head["__metadata__"] = {"num_heads": "3", "num_classes": "10", "input_size": "4", **meta}
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    open(tmp + name, "wb").write(len(text).to_bytes(8, "little") + text + body)
put("repa.safetensors", ["projectors.0.0.weight", "projectors.0.2.bias"])
put("plain.safetensors", [], objective="flow")
put("norms.safetensors", ["blocks.0.attn.q_norm.weight"], objective="flow")
put("args.safetensors", [], path_type="cosine", prediction="v")
put("first.safetensors", ["projectors.0.0.weight"], lambda k: k.replace("blocks.1.", "decoder_blocks.0."))
'
exits "REPA's weights" 0 convert-weights -q "$tmp/repa.safetensors" "$tmp/repa-out.safetensors"
ok '... say that their time runs to noise' python '
m = metadata(tmp + "repa-out.safetensors")
assert (m["objective"], m["time"]) == ("flow", "noise"), m
assert not any(k.startswith("projectors") for k in raw("repa-out.safetensors"))
'
exits '... and are drawn from' 0 dit-sample -q -@ 1 -w "$tmp/repa.safetensors" --latents -n 1 --steps 3 -o "$tmp/repa"
exits "REPA's first files, whose last blocks have numbers of their own," 0 convert-weights -q "$tmp/first.safetensors" "$tmp/first-out.safetensors"
ok '... are read as the others' python '
assert raw("first-out.safetensors") == raw("repa-out.safetensors")
assert metadata(tmp + "first-out.safetensors")["time"] == "noise"
'
exits 'the arguments of its training' 0 convert-weights -q "$tmp/args.safetensors" "$tmp/args-out.safetensors"
ok '... say that their time runs to noise, with their path' python '
m = metadata(tmp + "args-out.safetensors")
assert (m["path"], m["prediction"], m["time"]) == ("gvp", "velocity", "noise"), m
'
exits 'normalised queries' 65 convert-weights -q "$tmp/norms.safetensors" "$tmp/refused.safetensors"
says '... are refused by name' 'blocks.0.attn.q_norm.weight'
done_testing
