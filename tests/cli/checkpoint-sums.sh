#!/bin/sh
# Who reads a checkpoint compares what it reads with the checksums, those of today and the one of the
# whole file that earlier checkpoints have. SPDX-License-Identifier: MIT
# shellcheck disable=SC2317 # functions that are arguments of others
. tests/tap.sh

latents=$tmp/latents
"$BUILD/tests/tools/make-stream" latents 64 8 10 >"$latents"
train() { # train OPTION...
    dit-train -q -@ 1 --depth 2 --hidden 32 --heads 2 --patch 2 --batch 8 --classes 10 --steps 1 "$@" "$latents"
}
train --run "$tmp/run"
good=$tmp/run/latest.safetensors
# change NAME CODE: a copy of the checkpoint. d is all its bytes, h where the data begin, at(t) where
# those of a tensor do, and old() leaves out the sums of the tensors.
change() {
    /usr/bin/python3 -c "
import json, sys, zlib
d = bytearray(open('$good', 'rb').read())
h = 8 + int.from_bytes(d[:8], 'little')
at = lambda t: h + json.loads(d[8:h])[t]['data_offsets'][0]
def old():
    global d, h
    head = json.loads(d[8:h])
    del head['__metadata__']['crc32_parts']
    head['__metadata__']['crc32'] = '0' * 8
    text = json.dumps(head, separators=(',', ':')).encode()
    text += b' ' * (-(8 + len(text)) % 64)
    whole = len(text).to_bytes(8, 'little') + text + d[h:]
    h = 8 + len(text)
    d = bytearray(whole.replace(b'\"crc32\":\"00000000', b'\"crc32\":\"%08x' % zlib.crc32(whole)))
$2
open('$tmp/$1.safetensors', 'wb').write(d)" || exit 1
}
change ema 'd[at("blocks.1.mlp.fc1.weight") + 5] ^= 1'
change positions 'd[at("pos_embed") + 6] ^= 1'
change optimizer 'd[-1] ^= 1'
change header 'i = d.index(b"\"num_heads\":\"2") + 13; d[i] ^= 7'
change old 'old()'
change old-bad 'old(); d[-1] ^= 1'

sample() {
    dit-sample -q --latents -w "$1" -n 1 --steps 2 -o "$tmp/images"
}
convert() {
    convert-weights "$@" "$tmp/out.safetensors"
}
refused() { # refused NAME TEXT COMMAND...
    refused_what=$1
    refused_text=$2
    shift 2
    exits "$refused_what" 65 "$@"
    says '... with the reason' "$refused_text"
    is '... and leaves no output' "$(find "$tmp" -name '*out.safe*' -o -name images)" ''
}
broken=$tmp/ema.safetensors
text='tensor "blocks.1.mlp.fc1.weight": damaged: its CRC-32 is'
refused 'dit-sample of a checkpoint with a damaged weight' "$broken: $text" sample "$broken"
refused 'dit-train --init with a damaged weight' "$broken: $text" train --init "$broken" --run "$tmp/init"
refused 'convert-weights of a checkpoint with a damaged weight' "$broken: $text" convert "$broken"
refused 'convert-weights --which ema with a damaged weight' "$text" convert --which ema "$broken"
refused 'dit-sample with a damaged table of positions' "$tmp/positions.safetensors: tensor \"pos_embed\": damaged" sample "$tmp/positions.safetensors"
refused 'convert-weights with a damaged table of positions' 'tensor "pos_embed": damaged' convert "$tmp/positions.safetensors"
refused 'dit-sample with damaged metadata' 'header: damaged' sample "$tmp/header.safetensors"
refused 'convert-weights of a damaged optimizer state' 'tensor "opt.exp_avg_sq.' convert "$tmp/optimizer.safetensors"
exits 'dit-sample reads the weights alone, so a damaged optimizer state is nothing to it' 0 sample "$tmp/optimizer.safetensors"
rm "$tmp/images"
exits '... nor to convert-weights --which model' 0 convert --which model "$tmp/optimizer.safetensors"
rm "$tmp/out.safetensors"
refused 'dit-sample of an earlier, damaged checkpoint' 'damaged: its CRC-32 is' sample "$tmp/old-bad.safetensors"
refused 'convert-weights of an earlier, damaged checkpoint' 'damaged: its CRC-32 is' convert "$tmp/old-bad.safetensors"
refused 'dit-train --init of an earlier, damaged checkpoint' 'damaged: its CRC-32 is' train --init "$tmp/old-bad.safetensors" --run "$tmp/init-old"
exits 'dit-sample of an earlier checkpoint' 0 sample "$tmp/old.safetensors"
exits 'convert-weights of an earlier checkpoint' 0 convert "$tmp/old.safetensors"
ok '... gives the sums of today' cmp "$tmp/out.safetensors" "$good"
mkfifo "$tmp/pipe.safetensors"
cat "$tmp/pipe.safetensors" >"$tmp/piped" &
exits 'a checkpoint written to a pipe' 0 convert-weights "$good" "$tmp/pipe.safetensors"
wait
ok '... has the same sums' cmp "$tmp/piped" "$good"
done_testing
