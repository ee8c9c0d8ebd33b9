#!/bin/sh
# dit-info: what it tells of weights, arrays and runs; tests/cli/tstream.sh has the streams.
# SPDX-License-Identifier: MIT
# shellcheck disable=SC2317 # functions that are arguments of others
. tests/tap.sh
. tests/training.sh

shows() { # shows NAME KEY VALUE: a line of the last text
    is "$1" "$(sed -n "s/^  $2  *//p" "$tmp/out")" "$3"
}
"$BUILD/tests/tools/make-stream" latents 24 8 10 \
    'classes=["tench","great white \u202eshark","a\tb"]' >"$tmp/data"
tiny run --steps 2 --log-every 1 --ema-decay 0.9,0.99 --objective flow "$tmp/data"
exits 'a checkpoint' 0 dit-info --check "$tmp/run/latest.safetensors"
is '... is told by its kind' "$(sed 1q "$tmp/out")" "$tmp/run/latest.safetensors: dit-checkpoint"
shows '... tells its model' model 'DiT of depth 1, width 32, 2 heads, patch 2'
shows '... tells its objective' objective 'kind flow, path linear, prediction velocity, time data'
shows '... tells its weights' weights 'ema, model, ema:0.99, optimizer'
shows '... tells its step' step 2
shows '... tells the images seen' images_seen 16
shows '... tells its classes' classes '3: 0 tench, 1 great white ?shark, 2 a?b'
shows '... is whole' checked 'every checksum is right'
ok '... tells its settings' grep -q 'settings *batch 8, ' "$tmp/out"
exits 'a run' 0 dit-info "$tmp/run"
shows '... tells its checkpoints' checkpoints 0000002.safetensors
ok '... tells the last line of its log' grep -q '^  log  *step 2, time' "$tmp/out"
shows '... tells what its newest checkpoint holds' weights 'ema, model, ema:0.99, optimizer'
exits '--classes' 0 dit-info --classes "$tmp/run"
is '... prints number, tab and name, without what drives a terminal' "$(cat "$tmp/out")" \
    "$(printf '0\ttench\n1\tgreat white ?shark\n2\ta?b')"
exits '--classes of weights that name none' 65 dit-info --classes tests/data/dit-a.safetensors
says 'says so' 'dit-a.safetensors: it does not say the names of its classes'
exits '--classes with --json' 64 dit-info --json --classes "$tmp/run"
is '--json tells the same of a run' "$(dit-info --json "$tmp/run" | python '
o = json.load(sys.stdin)
print(o["kind"], o["step"], o["log"]["step"], o["sizes"]["hidden_size"], o["settings"]["batch"],
      o["objective"]["path"], len(o["classes"]), o["types"], o["checked"])')" \
    "run 2 2 32 8 linear 3 {'F32': $(dit-info --json "$tmp/run" | python '
print(len(json.load(sys.stdin)["tensors"]))')} False"
cp "$tmp/run/0000002.safetensors" "$tmp/damaged.safetensors"
printf '\377' | dd of="$tmp/damaged.safetensors" bs=1 seek=200000 conv=notrunc 2>/dev/null
exits 'a damaged checkpoint' 65 dit-info --check "$tmp/damaged.safetensors"

convert-weights -q "$tmp/run/latest.safetensors" "$tmp/run.pt"
exits 'a training of PyTorch' 0 dit-info --check "$tmp/run.pt"
shows '... tells its format' format PyTorch
shows '... tells its model' model 'DiT of depth 1, width 32, 2 heads, patch 2'
shows '... is whole' checked 'every checksum is right'
size=$(wc -c <"$tmp/run.pt")
printf '\377' | dd of="$tmp/run.pt" bs=1 seek=$((size / 2)) conv=notrunc 2>/dev/null
exits 'a damaged file of PyTorch' 65 dit-info --check "$tmp/run.pt"
says 'is told' 'the checksum is wrong'
exits 'weights that do not say what they are for' 0 dit-info tests/data/sit-a.safetensors
ok '... show the problem' grep -q '^  problem .*give --objective' "$tmp/out"
exits 'an autoencoder' 0 dit-info tests/data/vae-diffusers-half.safetensors
shows '... tells its sizes' sizes 'downsample 8, latent_channels 4, resnets 2, channels [32,32,64,64]'
"$BUILD/tests/tools/inception-network" make 4 "$tmp/inception.safetensors"
exits 'a network of Inception' 0 dit-info "$tmp/inception.safetensors"
shows '... tells its width' width 4
exits 'other weights' 0 dit-info tests/data/diffusion-50.safetensors
ok '... are listed' grep -q '^  tensors  *betas F64 \[50\]' "$tmp/out"

python 'np.savez(tmp + "a.npz", arr_0=np.zeros((3, 8, 8, 3), "u1"), labels=np.arange(3))
np.savez_compressed(tmp + "b.npz", x=np.ones(100000, "f4"))'
exits 'arrays' 0 dit-info --check "$tmp/a.npz" "$tmp/b.npz"
is '... are listed' "$(grep -v bytes "$tmp/out")" "$tmp/a.npz: arrays
  tensors        arr_0 U8 [3, 8, 8, 3]
                 labels I64 [3]
  checked        every checksum is right
$tmp/b.npz: arrays
  tensors        x F32 [100000]
  checked        every checksum is right"
printf x | dd of="$tmp/a.npz" bs=1 seek=300 conv=notrunc 2>/dev/null
exits 'damaged arrays' 65 dit-info --check "$tmp/a.npz"
exits 'a file of no such kind' 65 dit-info tests/tap.sh
says 'is refused' 'tests/tap.sh: expected a tensor stream, weights, arrays (.npz) or the folder of a training'
: >"$tmp/nothing"
exits 'an empty file' 65 dit-info "$tmp/nothing"
says 'is called so' "$tmp/nothing: the file is empty"
mkdir "$tmp/empty"
exits 'an empty folder' 66 dit-info "$tmp/empty"
says 'is refused with what could be there' 'in this folder or its transformer/, or the log.jsonl of a training'
mkdir "$tmp/piped"
mkfifo "$tmp/piped/log.jsonl"
exits 'a run whose log is a FIFO' 66 timeout 20 dit-info "$tmp/piped"
done_testing
