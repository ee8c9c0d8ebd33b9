#!/bin/sh
# Hostile names of files and runs, and hostile text in files, do nothing but be shown.
# SPDX-License-Identifier: MIT
# shellcheck disable=SC2317 # functions that are arguments of others
. tests/tap.sh
. tests/training.sh
unset DIT_VAE
hostile=tests/data/hostile

records() { # records STREAM
    dit-info "$1" | sed -n 's/^ *records *//p'
}

# Read line by line, the path of the second picture would name a file outside the folder.
newline='
'
"$BUILD/tests/tools/draw-shapes" -q -o "$tmp/pictures" -n 1 -s 40
picture=$(find "$tmp/pictures" -name '*.jpg')
for folder in "$tmp/pictures/odd$newline$tmp" "$tmp/pictures/new${newline}line"; do
    mkdir -p "$folder"
    cp "$picture" "$folder/a$newline.jpg"
done
encode() {
    WORK=$tmp/work SIZE=32 PARTS=1 pipelines/imagenet256.sh --until latents "$tmp/pictures"
}
exits 'imagenet256.sh with newlines in paths' 0 encode
says 'counts pictures, not lines' 'Encoding 3 files'
is '... encodes all pictures' \
    "$(records "$tmp/work/latents/000001.tstream")" 3
mkdir "$tmp/demo"
cp "$picture" "$tmp/pictures/star/b.BMP" # its first bytes are those of a JPEG
: >"$tmp/demo/run" # so that training fails at once
exits 'demo.sh with newlines in paths' 73 \
    pipelines/demo.sh --size 16 --out "$tmp/demo" "$tmp/pictures"
says 'counts pictures, not lines' 'Encoding 4 pictures'
is '... encodes all pictures' "$(records "$tmp/demo/latents.tstream")" 4
mkdir "$tmp/installed"
cp pipelines/demo.sh "$tmp/installed"
exits 'demo.sh without pictures and without draw-shapes' 64 "$tmp/installed/demo.sh" --out "$tmp/none"
says 'says what it needs' 'demo.sh: give a folder of pictures: '
ok '... makes no folder' [ ! -e "$tmp/none" ]

if command -v gnuplot >/dev/null; then
    log='{"step":1,"loss":2,"mse":1,"vb":1,"grad_norm":1,"lr":1,"images_per_second":1}'
    # In gnuplot's strings: a command, the end of a string, an escape, a new line.
    # shellcheck disable=SC2016 # not to be expanded
    run='`touch hacked`'"'\"\\n${newline}system('touch hacked')"
    mkdir "$tmp/plot"
    echo "$log" | tee "$tmp/plot/log.jsonl" >"$tmp/log"
    (cd "$tmp/plot" && mkdir -p "./$run" && cp "$tmp/log" "./$run/log.jsonl")
    top=$PWD
    plot() (
        cd "$tmp/plot" && TMPDIR=$tmp/plot "$top/pipelines/plot-training.sh" "$run" .
    )
    exits 'plot-training.sh of a run with a hostile name' 0 plot
    is '... runs nothing of the name' "$(find "$tmp" -name hacked)" ''
    ok '... draws its picture' [ -s "$tmp/plot/training.png" ]
else
    skip 'plot-training.sh of a run with a hostile name' 'there is no gnuplot'
fi

# Text that would drive a terminal: escapes, C1 controls, changes of direction.
drives() { # drives FILE: whether it holds any
    LC_ALL=C grep -q "$(printf '\033\\|\007\\|\302[\200-\237]\\|\342\200[\252-\256]')" "$1"
}
for bytes in '\033[31m' '\302\23331m' '\342\200\256'; do
    # shellcheck disable=SC2059 # escapes
    printf "$bytes" >"$tmp/bytes"
    ok "$bytes drives a terminal" drives "$tmp/bytes"
done
harmless() {
    ! drives "$1"
}
for form in --no-progress --json; do
    exits "dit-info $form of keys that drive a terminal" 0 dit-info $form \
        "$hostile/key-escape.tstream"
    ok '... prints nothing of the kind' harmless "$tmp/out"
done
name=$(printf 'm\303\274ll\033[31m\302\233\342\200\256txt')
exits 'a missing file whose name drives a terminal' 66 dit-info "$tmp/$name"
ok '... is not named as it is' harmless "$tmp/err"
says 'is named by what is printable' "$(printf 'm\303\274ll?[31m??txt: cannot open')"
cp "$hostile/key-escape.tstream" "$tmp/$name"
exits 'dit-info of a file whose name drives a terminal' 0 dit-info "$tmp/$name"
ok '... does not print the name as it is' harmless "$tmp/out"

# Paths in files.
for path in /etc/passwd ../../../../etc/hostname; do
    case $path in /*) file=ae-passwd ;; *) file=ae-dots ;; esac
    exits "vae-decode of latents that name the autoencoder $path" 66 vae-decode "$hostile/$file.tstream"
    says 'shows the path and opens nothing' \
        "made by the autoencoder $path, which is not in this folder; give its path with --vae"
done
exits 'a path in DIT_VAE that ends in the recorded one' 65 \
    env DIT_VAE=/etc/passwd vae-decode "$hostile/ae-passwd.tstream"
says 'is opened' '/etc/passwd: expected weights'

# Paths in checkpoints: those of a run's own command line are opened again, in its own folder alone.
"$BUILD/tests/tools/make-stream" latents 24 8 10 >"$tmp/data"
"$BUILD/tests/tools/make-stream" latents 10 8 10 >"$tmp/valid"
resume() { # resume FOLDER ARGUMENT...
    resume_run=$tmp/$1
    shift
    dit-train -@ 1 --resume --run "$resume_run" "$@" "$tmp/data"
}
exits 'training with --valid and a path' 0 tiny own --valid "$tmp/valid" --valid-every 1 \
    --log-every 1 --steps 1 "$tmp/data"
mv "$tmp/own" "$tmp/renamed"
exits 'a run resumed in its own folder, renamed,' 0 resume renamed --steps 2
says 'opens its held-out latents' '  valid 0.'
cp -r "$tmp/renamed" "$tmp/foreign"
exits 'a run resumed in a folder of other origin' 64 resume foreign --steps 3
says 'shows the path and opens nothing' \
    "0000002.safetensors: its --valid is $tmp/valid, but it was not written in this folder, and paths \
from elsewhere are not opened: repeat the option, or give --valid '' for none"
exits 'a run resumed elsewhere with --valid given again' 0 resume foreign --valid "$tmp/valid" --steps 3
says 'opens it' '  valid 0.'
exits 'a run resumed where it was resumed before' 0 resume foreign --steps 4
exits 'training with --vae and a path that is not opened yet' 0 tiny vae --vae "$tmp/no/vae" \
    --steps 1 "$tmp/data"
cp -r "$tmp/vae" "$tmp/other-vae"
exits 'a path that need not be opened keeps no run from resuming' 0 resume other-vae --steps 2
exits 'a run resumed twice elsewhere' 65 resume other-vae --steps 3 --sample-every 1
says 'has forgotten the path' 'no autoencoder is named'
exits 'a run that needs its path' 66 resume vae --steps 2 --sample-every 1
says 'opens it' "$tmp/no/vae: cannot open"

# FIFOs in place of files.
mkfifo "$tmp/pipe"
exits 'dit-train --valid of a FIFO' 66 timeout 60 dit-train --run "$tmp/fifo" --valid "$tmp/pipe" \
    --depth 1 --hidden 32 --heads 2 --patch 2 --batch 8 -q "$tmp/data"
says 'is refused' "--valid: $tmp/pipe: expected a regular file"
exits 'dit-train of two files, one a FIFO' 66 timeout 60 dit-train --run "$tmp/fifo" "$tmp/data" "$tmp/pipe"
says 'is refused' "$tmp/pipe: expected a regular file"
exits 'weights that are a FIFO' 66 timeout 60 dit-sample -w "$tmp/pipe"
says 'are refused' "$tmp/pipe: expected a regular file"
mkdir "$tmp/vae-folder"
cp tests/data/vae-diffusers-half.safetensors "$tmp/vae-folder/diffusion_pytorch_model.safetensors"
mkfifo "$tmp/vae-folder/config.json"
timeout 60 vae-decode --vae "$tmp/vae-folder" "$tmp/valid" >"$tmp/out" 2>"$tmp/err"
ok 'vae-decode does not wait for a FIFO config.json beside an autoencoder' [ $? -ne 124 ]
mkdir "$tmp/fifo-log"
mkfifo "$tmp/fifo-log/log.jsonl"
exits 'a log that is a FIFO' 66 timeout 60 dit-train -q --run "$tmp/fifo-log" \
    --depth 1 --hidden 32 --heads 2 --patch 2 --batch 8 --steps 1 "$tmp/data"
says 'is refused' "$tmp/fifo-log/log.jsonl: expected a regular file"

# Lines without an end.
log=$tmp/vae/log.jsonl
lines=$(wc -l <"$log")
head -c 300000 /dev/zero | tr '\0' '{' >>"$log"
printf '\n{"step":1}\n{"step":9}\n{"step":1' >>"$log"
exits 'a log with a line that is too long' 0 resume vae --steps 2 --vae '' --log-every 5
is '... loses that line alone' "$(wc -l <"$log")" $((lines + 2))
endless() {
    tr '\0' x </dev/zero | timeout 60 decode-images "$@"
}
exits 'a list that is one endless line' 65 endless
says 'is refused with its line' \
    'standard input: line 1: expected a path, found more than 16383 bytes; is -0 missing?'
done_testing
