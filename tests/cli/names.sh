#!/bin/sh
# Hostile names of files and runs, and hostile text in files, do nothing but be shown.
# SPDX-License-Identifier: MIT
. tests/tap.sh
unset DIT_VAE

records() { # records STREAM
    tstream-info "$1" | sed -n 's/^ *records *//p'
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
exits 'imagenet256.sh takes pictures with newlines in their paths' 0 encode
says 'imagenet256.sh counts pictures, not lines' 'Encoding 3 files'
is 'imagenet256.sh encodes pictures with newlines in their paths' \
    "$(records "$tmp/work/latents/000001.tstream")" 3
mkdir "$tmp/demo"
: >"$tmp/demo/run" # so that training fails at once
exits 'demo.sh takes pictures with newlines in their paths' 73 \
    pipelines/demo.sh --size 16 --out "$tmp/demo" "$tmp/pictures"
says 'demo.sh counts pictures, not lines' 'Encoding 3 pictures'
is 'demo.sh encodes pictures with newlines in their paths' "$(records "$tmp/demo/latents.tstream")" 3

if command -v gnuplot >/dev/null; then
    log='{"step":1,"loss":2,"mse":1,"vb":1,"grad_norm":1,"lr":1,"images_per_second":1}'
    # In gnuplot's strings: a command, the end of a string, an escape, a new line.
    # shellcheck disable=SC2016 # not to be expanded
    run='`touch hacked`'"'\"\\n${newline}system('touch hacked')"
    mkdir "$tmp/plot"
    echo "$log" | tee "$tmp/plot/log.jsonl" >"$tmp/log"
    (cd "$tmp/plot" && mkdir -p "./$run" && cp "$tmp/log" "./$run/log.jsonl")
    top=$PWD
    plot() {
        cd "$tmp/plot" && TMPDIR=$tmp/plot "$top/pipelines/plot-training.sh" "$run" .
    }
    exits 'plot-training.sh takes any name of a run' 0 plot
    is 'plot-training.sh runs nothing of the name of a run' "$(find "$tmp" -name hacked)" ''
    ok 'plot-training.sh draws a run of any name' [ -s "$tmp/plot/training.png" ]
else
    skip 'plot-training.sh takes any name of a run' 'there is no gnuplot'
fi
done_testing
