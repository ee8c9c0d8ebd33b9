#!/bin/sh
# On a GPU the programs give the same results as on a CPU, at sizes for which the simulator
# (tests/cli/cuda.sh) is too slow: $SIZES lists WIDTH:HEADS, and latents have $SIDE pixels a side.
# SPDX-License-Identifier: MIT
# shellcheck disable=SC2317 # functions that are arguments of others
. tests/tap.sh
unset DIT_VAE
vae=${REFERENCE_DIR:-tests/data}/vae-diffusers-half.safetensors
python=${PYTHON:-python3}
sizes=${SIZES:-384:6 1152:16}
side=${SIDE:-32}

# near FILE FILE COLUMNS ERROR: in all lines the COLUMNS (a list with commas) agree within the relative
# ERROR.
near() {
    paste -d ' ' "$1" "$2" | awk -v columns="$3" -v most="$4" '
        BEGIN { n = split(columns, column, ",") }
        {
            for (i = 1; i <= n; i++) {
                a = $column[i]
                b = $(column[i] + NF / 2)
                off = a > b ? a - b : b - a
                if (a == "" || !(off <= most * (a < 0 ? -a : a))) {
                    print "# line " NR ": " b ", expected " a
                    bad = 1
                }
            }
        }
        END { exit bad || NR == 0 }'
}
# alike FILE FILE MOST: the images differ by at most MOST of 255 on average.
alike() {
    "$python" -c "
import numpy as np
a, b = (np.load(f)['arr_0'].astype(float) for f in ('$1', '$2'))
off = abs(a - b).mean()
print('# mean difference %.3f of images that spread by %.1f' % (off, a.std()))
assert a.shape == b.shape and a.std() > 5 and off <= $3"
}
# losses RUN: prints step, loss and gradient norm from the log.
losses() {
    sed -n 's/.*"step":\([0-9]*\),.*"loss":\([^,}]*\),.*"grad_norm":\([^,}]*\).*/\1 \2 \3/p' \
        "$1/log.jsonl"
}
train() { # train NAME WIDTH:HEADS ARGUMENT...
    train_run=$tmp/$1
    train_size=$2
    shift 2
    dit-train -q --depth 2 --hidden "${train_size%:*}" --heads "${train_size#*:}" --patch 2 \
        --classes 10 --batch 4 --lr 1e-3 --log-every 1 --steps 4 --run "$train_run" "$@" \
        "$tmp/latents"
}
sample() { # sample NAME SIZE ARGUMENT...: with the weights that the CPU trained
    sample_file=$tmp/$1.npz
    sample_weights=$tmp/cpu-$2/latest.safetensors
    shift 2
    dit-sample -q --weights "$sample_weights" --vae "$vae" --count 4 --batch 4 --steps 5 "$@" \
        >"$tmp/stream" && npz-pack -q <"$tmp/stream" >"$sample_file"
}
reconstruct() { # reconstruct NAME ARGUMENT...
    reconstruct_file=$tmp/$1.npz
    shift
    vae-encode -q --vae "$vae" "$@" <"$tmp/images" >"$tmp/codes" &&
        vae-decode -q --vae "$vae" "$@" <"$tmp/codes" >"$tmp/stream" &&
        npz-pack -q <"$tmp/stream" >"$reconstruct_file"
}

"$BUILD/tests/tools/make-stream" latents 16 "$side" 8 >"$tmp/latents"
"$BUILD/tests/tools/make-stream" images 3 $((8 * side)) 3 >"$tmp/images"
for size in $sizes; do
    train "cpu-$size" "$size" --device cpu
    losses "$tmp/cpu-$size" >"$tmp/expected"
    # Recomputing and micro-batches give the same results.
    for how in f32:2e-4 tf32:2e-3 bf16:1e-2 "f32:2e-4 --recompute light --micro-batch 2" \
        "bf16:1e-2 --recompute block"; do
        precision=${how%%:*}
        most=${how#*:}
        arguments=${most#* }
        [ "$arguments" != "$most" ] || arguments=
        run=$(echo "gpu-$size-$how" | tr ' ' -)
        # shellcheck disable=SC2086
        ok "trains at $size, $precision $arguments" \
            train "$run" "$size" --device cuda --precision "$precision" $arguments
        losses "$tmp/$run" >"$tmp/got"
        ok "trains at $size, $precision $arguments, as on the CPU" near "$tmp/expected" "$tmp/got" 1,2,3 "${most%% *}"
    done
done

if ! "$python" -c 'import numpy' 2>/dev/null; then
    skip 'samples and images as on the CPU' "$python has no NumPy"
    done_testing
fi
reconstruct cpu-images --device cpu
for size in $sizes; do
    sample "cpu-samples-$size" "$size" --device cpu
done
for how in f32:0.05 tf32:0.5 bf16:6; do
    precision=${how%:*}
    for size in $sizes; do
        ok "samples at $size, $precision" \
            sample gpu-samples "$size" --device cuda --precision "$precision"
        ok "samples at $size, $precision, as on the CPU" alike "$tmp/cpu-samples-$size.npz" "$tmp/gpu-samples.npz" "${how#*:}"
    done
    ok "encodes and decodes, $precision" \
        reconstruct gpu-images --device cuda --precision "$precision"
    ok "encodes and decodes, $precision, as on the CPU" alike "$tmp/cpu-images.npz" "$tmp/gpu-images.npz" "${how#*:}"
done
done_testing
