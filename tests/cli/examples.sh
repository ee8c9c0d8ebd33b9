#!/bin/sh
# The examples of the README and of the manual pages work as they stand, with less to do.
# SPDX-License-Identifier: MIT
# shellcheck disable=SC2317,SC2016,SC2030,SC2031 # functions are arguments of others; examples are not expanded here
#
# Each example, a block of the README or an entry under EXAMPLES, runs in a folder of its own, which
# holds those of the files below that it names and does not make. A new example runs as it is, or is
# scaled here. EXAMPLES=all, as in make check-more, runs also those that take the most time.
. tests/tap.sh
unset DIT_VAE DIT_INCEPTION SEED
top=$PWD
world=$tmp/world
mkdir "$world" "$tmp/bin" "$tmp/examples"

# What the programs do less of: of an option that is given twice, the last one counts.
less() { # less PROGRAM OPTION...
    less_program=$1
    shift
    printf '#!/bin/sh\nexec "%s" "$@" %s\n' "$(command -v "$less_program")" "$*" >"$tmp/bin/$less_program"
}
less decode --size 32
less decode-images -@ 1 --size 32
less evaluate-images -@ 1
less dit-train -@ 1 --depth 1 --hidden 64 --heads 1 --patch 2 --batch 4 --steps 2 --sample-every 0 --valid-every 1 --valid-count 4
less dit-sample -@ 1 --steps 2 --count 8 --image-size 32
# Launchers of ranks, of which one does here (ranks.sh and slurm.sh have several), and parallel.
cat >"$tmp/bin/mpirun" <<'END'
#!/bin/sh
while case $1 in -[nN]) shift ;; -*) ;; *) false ;; esac do shift; done
exec "$@"
END
cp "$tmp/bin/mpirun" "$tmp/bin/srun"
printf '#!/bin/sh\nshift 2\nexec xargs -n 1 "$@"\n' >"$tmp/bin/parallel"
chmod +x "$tmp"/bin/*

# Prints why an example cannot run here, or nothing.
not_here() { # not_here TEXT
    case $1 in
    'make demo'* | 'make && PATH'*) echo 'build.sh builds and installs' ;;
    *submit.sh*) echo 'slurm.sh runs the jobs' ;;
    *'jq '*) command -v jq >/dev/null || echo 'no jq here' ;;
    esac
}
# Changes an example: scripts of other projects and downloads are left out, folders and numbers are others.
scale() {
    sed -e '/^python3* [a-z]*\.py /d' -e 's,/data/imagenet,imagenet,' -e 's/seq 64/seq 2/' \
        -e 's,^pipelines/get-weights.sh .*,true,' -e 's/^mkdir run &&/rm -r run \&\& &/'
}
# Makes what an example needs besides what it names.
prepare() { # prepare TEXT
    case $1 in
    *'dit-info '*shards) rm -r shards && cp "$world/latents.tstream" shards ;;
    average-weights* | *' average-weights '*) rm -r run && "$tmp/bin/dit-train" -q --ema-power 0.05,0.10 --ema-snapshots --save-every 1 "$world/latents" ;;
    *training.pt*) cp -r "$world/run" . ;;
    *'part[1-4].npz'*) for i in 2 3 4; do cp "$world/imagenet256.npz" "part$i.npz"; done ;;
    *' FEATURES '*) mv features FEATURES 2>/dev/null || cp -r "$world/features" FEATURES ;;
    *'"$I/4"'*) cp -r "$world/photos" . && export I=1 ;;
    esac
}
# Those that make check leaves out.
long='README: export DIT_INCEPTION
evaluate-images.1: export DIT_INCEPTION
evaluate-images.1: evaluate-images --part'

# The files that examples name.
make_world() (
    PATH=$tmp/bin:$PATH
    cd "$world" || exit
    "$top/$BUILD/tests/tools/draw-shapes" -q -o drawn -n 20 -s 40 &&
        mkdir photos imagenet results results/000-DiT-XL-2 results/000-DiT-XL-2/checkpoints || exit
    for class in cat dog 'tench, Tinca tinca' goldfish 'golden retriever'; do
        mv "$(find drawn -mindepth 1 -type d | sort | head -n 1)" "photos/$class" || exit
    done
    rm -r drawn
    mkdir classes && for class in photos/*; do
        tar -cf "classes/${class#photos/}.tar" -C "$class" . || exit
    done
    tar -cf ILSVRC2012_img_train.tar -C classes . && rm -r classes && tar -cf - -C photos . | zstd -q >pictures.tar.zst || exit
    cp "$(find photos -name '*.jpg' | head -n 1)" photos/a.jpg
    cp -r photos pictures && cp -r photos imagenet/train && find photos -type f >list || exit
    decode -q photos | tee images | vae-encode -q >latents
    cp latents latents.tstream && cp latents held-out.tstream && mkdir shards && cp latents shards/1.tstream &&
        dit-train -q latents && dit-train -q -r xl latents &&
        convert-weights -q run/latest.safetensors results/000-DiT-XL-2/checkpoints/0400000.pt || exit
    # Published weights, small ones.
    "$top/$BUILD/tests/tools/make-stream" latents 8 4 8 | dit-train -q -r big --classes 1000 &&
        "$top/$BUILD/tests/tools/make-stream" latents 8 4 8 | dit-train -q -r flow --objective flow --classes 1000 || exit
    for size in 256x256 512x512; do
        convert-weights -q --which ema big/latest.safetensors "DiT-XL-2-$size.pt" || exit
    done
    convert-weights -q --which ema flow/latest.safetensors SiT-XL-2-256x256.pt &&
        cp "$top/tests/data/vae-diffusers-half.safetensors" sd-vae-ft-ema.safetensors &&
        cp sd-vae-ft-ema.safetensors sd-vae-ft-mse.safetensors &&
        convert-weights -q --names ldm sd-vae-ft-ema.safetensors sd-vae.ckpt &&
        cp sd-vae.ckpt vae-ft-ema-560000-ema-pruned.ckpt || exit
    inception=pt_inception-2015-12-05-6726825d.pth
    "$top/$BUILD/tests/tools/inception-network" make 4 "$inception" &&
        cp "$inception" inception.pth && npz-pack -q -o samples.npz images &&
        evaluate-images -q --inception "$inception" --save imagenet256.npz images >figures 2>&1 &&
        cp imagenet256.npz VIRTUAL_imagenet256_labeled.npz && cp imagenet256.npz pictures.npz && dit-sample -q --latents -w DiT-XL-2-256x256.pt -o drawn.tstream || exit
    "$python3" -c '
import json, os
import numpy as np
latents = np.random.default_rng(1).standard_normal((4, 4, 4, 4), "f4")
for size in 256, 512:
    for name in "features", "labels":
        folder = "features/imagenet256_" + name if size == 256 else "imagenet512_" + name
        os.makedirs(folder)
        for i in range(4):
            np.save("%s/%d.npy" % (folder, i), latents[i:i + 1] if name == "features" else np.array([i]))
os.makedirs("imagenet-latents/00000")
names = ["00000/img-mean-std-%08d.npy" % i for i in range(4)]
for i, name in enumerate(names):
    np.save("imagenet-latents/" + name, np.concatenate([latents[i], np.ones((4, 4, 4), "f4")]))
json.dump({"labels": [[name, i] for i, name in enumerate(names)]}, open("imagenet-latents/dataset.json", "w"))
'
)

# Writes the examples of a page, each to a file of its own; consecutive lines of .Dl are one.
page_examples() { # page_examples PAGE
    awk -v out="$tmp/examples/$(basename "$1")-" '
        /^\.Sh / { inside = /EXAMPLES/; next }
        !inside { next }
        /^\.Bd/ { block = 1; n++; next }
        /^\.Ed/ { block = 0; next }
        /^\.Dl / { if (last !~ /^\.Dl/) n++ }
        { last = $0 }
        block || sub(/^\.Dl /, "") {
            gsub(/\\e/, "\\"); gsub(/\\\(aq/, "\047"); gsub(/\\\(dq/, "\""); gsub(/\\&/, "")
            print > sprintf("%s%02d", out, n)
        }' "$1"
}
for page in man/*.[17]; do
    page_examples "$page"
done
awk -v out="$tmp/examples/README-" '
    /^```/ { inside = $0 == "```sh"; n += inside; next }
    inside { sub(/  +# .*/, ""); print > sprintf("%s%02d", out, n) }' README.md

# What does an example name, and not make itself?
named() { # named FILE EXAMPLE
    grep -qF -- "$1" "$2" && grep -qE "(^|[^[:alnum:]_.-])$1([^[:alnum:]_.-]|$)" "$2" &&
        ! grep -qE "(mkdir|-o|-r|--save|--run|>) *$1([ /]|$)" "$2"
}
run_example() ( # run_example FILE
    folder=$tmp/folder-${1##*/}
    mkdir "$folder" && cd "$folder" && ln -s "$top/pipelines" pipelines || exit
    for file in "$world"/*; do
        # A training that goes on has its folder.
        case ${file##*/} in
        xl) ! grep -q -- '--resume -r xl\|init xl\|-w xl' "$1" || cp -r "$file" . ;;
        *) ! named "${file##*/}" "$1" || cp -r "$file" . ;;
        esac
    done
    case $(cat "$1") in # the default of dit-sample
    *dit-train* | *'mkdir run'*) ;;
    *dit-sample*) [ -d run ] || cp -r "$world/run" . ;;
    esac
    prepare "$(cat "$1")"
    scale <"$1" >example
    HOME=$folder PARTS=2 COUNT=8 DIT_HOME=$world PATH=$tmp/bin:$PATH bash -e -o pipefail example
)

ok 'the files that examples name are made' make_world || done_testing
for example in "$tmp"/examples/*; do
    page=${example##*/}
    name="${page%-*}: $(head -n 1 "$example" | sed 's/ *\\$//; s/  *# .*//')"
    why=$(not_here "$(cat "$example")")
    [ "${EXAMPLES:-}" = all ] || ! printf '%s\n' "$long" | (
        while read -r start; do
            case $name in "$start"*) exit 0 ;; esac
        done
        exit 1
    ) || why='make check-more runs it'
    if [ -n "$why" ]; then
        skip "$name" "$why"
    else
        exits "$name" 0 run_example "$example"
    fi
done
done_testing
