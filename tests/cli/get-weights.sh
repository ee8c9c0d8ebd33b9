#!/bin/sh
# get-weights.sh fetches weights from a server of this machine, and the programs find them by name.
# SPDX-License-Identifier: MIT
# shellcheck disable=SC2317 # functions are arguments of others
. tests/tap.sh
unset DIT_VAE DIT_INCEPTION
command -v curl >/dev/null || {
    skip 'weights are fetched' 'no curl here'
    done_testing
}
export DIT_HOME="$tmp/home"
mkdir "$tmp/server"
"$BUILD/tests/tools/make-stream" latents 8 4 8 | dit-train -q -@ 1 --run "$tmp/run" --depth 1 --hidden 64 --heads 1 \
    --patch 2 --batch 8 --steps 1 --sample-every 0 --classes 10
convert-weights -q --which ema "$tmp/run/latest.safetensors" "$tmp/dit.pt"
cp "$tmp/dit.pt" "$tmp/server/DiT-XL-2-256x256.pt"
cp tests/data/vae-diffusers-half.safetensors "$tmp/server/sd-vae-ft-ema.safetensors"
"$BUILD/tests/tools/inception-network" make 4 "$tmp/server/inception.pth"
"$python3" tests/tools/weights-server.py "$tmp/server" "$tmp/port" 2>"$tmp/requests" &
server=$!
trap 'kill $server 2>/dev/null; rm -rf "$tmp"' EXIT
until [ -s "$tmp/port" ] || ! kill -0 $server 2>/dev/null; do sleep 0.05; done
fetch() { # fetch WAY NAME...
    DIT_MIRROR=http://127.0.0.1:$(cat "$tmp/port")${1:+/$1}
    export DIT_MIRROR
    shift
    pipelines/get-weights.sh "$@"
}
dit=$DIT_HOME/DiT-XL-2-256x256.pt
size=$(wc -c <"$tmp/dit.pt")
draw() { # draw OPTION...: to standard output
    dit-sample -q -n 2 --steps 2 --latents --no-pg "$@"
}

exits 'weights that are not there' 66 draw -w DiT-XL-2-256x256
says 'are named, with the command that fetches them' "DiT-XL-2-256x256: no such file, and no weights of this name in $DIT_HOME; published ones are fetched by \"get-weights.sh DiT-XL-2-256x256\""
mkdir "$DIT_HOME" && head -c 5000 "$tmp/dit.pt" >"$dit.part"
exits 'a download that breaks off again and again' 66 fetch cut/0 DiT-XL-2-256x256
says 'is told of' 'get-weights.sh: DiT-XL-2-256x256: incomplete, with 5000 bytes; run the same command again to continue'
ok '... gives no file its name' [ ! -e "$dit" ]
exits 'the same command again' 0 fetch '' DiT-XL-2-256x256
ok '... fetches the rest only' grep -q '/DiT-XL-2-256x256.pt bytes=5000-' "$tmp/requests"
ok '... completes the file' cmp "$dit" "$tmp/dit.pt"
is '... leaves nothing else' "$(ls "$DIT_HOME")" DiT-XL-2-256x256.pt
exits 'weights that were fetched' 0 fetch '' DiT-XL-2-256x256
says 'are not fetched again' "$dit is there"
rm "$dit"
exits 'a download that breaks off once' 0 fetch cut/$((size * 2 / 3)) DiT-XL-2-256x256
ok '... goes on by itself' cmp "$dit" "$tmp/dit.pt"
mv "$dit" "$dit.part"
exits 'a download that was stopped before its check' 0 fetch page DiT-XL-2-256x256
ok '... is not fetched again' cmp "$dit" "$tmp/dit.pt"
mv "$dit" "$tmp/whole"
head -c 1000 "$tmp/whole" >"$dit.part"
exits 'a server that cannot continue' 0 fetch whole DiT-XL-2-256x256
says 'is told of' 'DiT-XL-2-256x256: the server cannot continue this download; beginning anew'
rm "$dit"
head -c "$size" /dev/zero >"$dit.part"
exits 'what was kept is as long as the file, but another' 0 fetch '' DiT-XL-2-256x256
ok '... is fetched anew' cmp "$dit" "$tmp/dit.pt"

rejected() { # rejected NAME STATUS TEXT COMMAND...
    rejected_name=$1 rejected_status=$2 rejected_text=$3
    shift 3
    rm -f "$DIT_HOME"/*
    exits "$rejected_name" "$rejected_status" "$@"
    says 'is named' "$rejected_text"
    is '... leaves nothing' "$(ls "$DIT_HOME")" ''
}
rejected 'a file that is cut short on the server' 65 'DiT-XL-2-256x256.pt.part: ' fetch short DiT-XL-2-256x256
rejected 'a page instead of the weights' 65 'found an HTML page' fetch page DiT-XL-2-256x256
rejected 'another SHA-256 than the server promises' 65 'its SHA-256 is not 0000' fetch sum DiT-XL-2-256x256
mv "$tmp/server/DiT-XL-2-256x256.pt" "$tmp/moved"
printf 'version https://git-lfs.github.com/spec/v1\nsize %d\n' "$size" >"$tmp/server/DiT-XL-2-256x256.pt"
rejected 'a git-lfs pointer' 65 'found a git-lfs pointer' fetch '' DiT-XL-2-256x256
"$python3" -c "
data = bytearray(open('$tmp/moved', 'rb').read())
data[$size // 2] ^= 1
open('$tmp/server/DiT-XL-2-256x256.pt', 'wb').write(data)"
rejected 'a bit that has changed' 65 'its checksum is ' fetch '' DiT-XL-2-256x256
rm "$tmp/server/DiT-XL-2-256x256.pt"
rejected 'a file that the server does not have' 66 '/DiT-XL-2-256x256.pt: cannot be fetched' fetch '' DiT-XL-2-256x256
rejected 'Inception with another SHA-256 than the published one' 65 'its SHA-256 is not 6726825d0af5f729' \
    fetch '' inception
exits 'a name that is not known' 64 fetch '' DiT-XL-3
says 'is told those that are' "no weights are known as 'DiT-XL-3', but DiT-XL-2-256x256 DiT-XL-2-512x512"

mkdir -p "$DIT_HOME" && cp "$tmp/moved" "$dit" && cp "$tmp/server"/* "$DIT_HOME"
draw -w "$dit" >"$tmp/by-path"
for name in DiT-XL-2-256x256 DiT-XL-2-256x256.pt; do
    exits "dit-sample --weights $name" 0 draw -w $name
    ok '... draws what its path does' cmp "$tmp/out" "$tmp/by-path"
done
exits 'convert-weights finds a name' 0 convert-weights -q DiT-XL-2-256x256 "$tmp/converted.safetensors"
here() (
    cd "$tmp" && echo no >sd-vae-ft-ema && vae-encode -q --vae sd-vae-ft-ema </dev/null
)
exits 'a file of the name in this folder' 65 here
says 'comes first' 'sd-vae-ft-ema: expected weights'
"$BUILD/tests/tools/make-stream" images 2 32 3 >"$tmp/images"
exits 'vae-encode --vae sd-vae-ft-ema' 0 vae-encode -q --vae sd-vae-ft-ema -o "$tmp/latents" "$tmp/images"
is '... records the name of the file' "$(dit-info --json "$tmp/latents" | grep -o 'sd-vae-ft-ema[a-z.]*"' | head -n 1)" \
    'sd-vae-ft-ema.safetensors"'
exits 'vae-decode finds the autoencoder that latents name among the downloaded' 0 vae-decode -q "$tmp/latents"
exits 'evaluate-images takes the downloaded network' 0 evaluate-images -q -m fid --save "$tmp/saved.npz" "$tmp/images"

exits 'convert-weights --check' 0 convert-weights --check "$tmp/run/latest.safetensors" "$DIT_HOME"/*
says 'says what the files hold' "sd-vae-ft-ema.safetensors: an autoencoder of Stable Diffusion, whole"
says 'knows Inception' 'inception.pth: the Inception network of FID, whole'
exits 'convert-weights --check without files' 64 convert-weights --check
exits 'convert-weights --check of something else' 65 convert-weights --check "$tmp/images"

# A model of 1000 classes that names none has those of ImageNet.
model() { # model CLASSES OUT [NAMES]: a model of that many classes
    python '
from weights_files import *
k, to, names = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
ours, metadata = read_safetensors("tests/data/dit-a.safetensors")
table = ours["y_embedder.embedding_table.weight"]
width = table[1][1]
ours["y_embedder.embedding_table.weight"] = ("F32", (k + 1, width), np.resize(np.frombuffer(table[2], "f4"), (k + 1, width)).tobytes())
write_safetensors(to, ours, {"num_heads": "4", **({"classes": names[0]} if names else {})})
' "$@"
}
model 1000 "$tmp/imagenet.safetensors"
model 999 "$tmp/other.safetensors"
model 1000 "$tmp/named.safetensors" "$(seq 0 999 | sed 's/.*/"c&"/' | paste -sd, | sed 's/.*/[&]/')"
same() { # same CLASS NUMBER FILE
    draw -w "$3" -c "$2" >"$tmp/by-number"
    exits "class $1" 0 draw -w "$3" -c "$1"
    ok "... is class $2" cmp "$tmp/out" "$tmp/by-number"
}
same 'golden retriever' 207 "$tmp/imagenet.safetensors"
same crane 517 "$tmp/imagenet.safetensors"
same c3 3 "$tmp/named.safetensors"
for file in other named; do
    exits "golden retriever of $file weights" 64 draw -w "$tmp/$file.safetensors" -c 'golden retriever'
done
is 'imagenet-classes lists 1000 names by number, no two alike' \
    "$(awk -F '\t' '$1 == NR - 1 && NF == 2 && !seen[$2]++ && !/,/ { n++ } END { print n }' formats/images/imagenet-classes)" 1000
done_testing
