#!/bin/sh
# On a simulated GPU the programs give the same results as on a CPU, in whatever order its threads and
# streams run. SPDX-License-Identifier: MIT
# shellcheck disable=SC2317 # functions that are arguments of others
. tests/tap.sh
export DIT_CUDA_PLUGIN="$BUILD/lib/dit-cuda-sim.so"
unset DIT_VAE
vae=${REFERENCE_DIR:-tests/data}/vae-diffusers-half.safetensors

# off(A, B) returns the relative error of A.
python_prelude="
bounds = {'f32': 1e-5, 'tf32': 2e-3, 'bf16': 2e-2}

def off(a, b):
    return np.linalg.norm(a.astype(float) - b) / np.linalg.norm(b.astype(float))
"
# The reference data test the results, so these trainings are short: one block and three steps, of which
# the first runs directly, the second is recorded as a graph, and the third launches that.
train() { # train NAME WIDTH ARGUMENT...
    train_run=$tmp/$1
    train_width=$2
    shift 2
    dit-train -q -@ 1 --depth 1 --hidden "$train_width" --heads 1 --patch 4 --classes 10 --batch 5 \
        --lr 1e-3 --log-every 1 --steps 3 --deterministic --run "$train_run" "$@" "$tmp/latents"
}
sample() { # sample NAME WIDTH ARGUMENT...: with the weights that the CPU trained
    sample_out=$tmp/$1
    sample_width=$2
    shift 2
    dit-sample -q -@ 1 --no-pg --deterministic --latents --weights "$tmp/cpu-$sample_width/latest.safetensors" \
        --steps 5 --count 5 --batch 3 --cfg-scale 2 -o "$sample_out" "$@"
}
reconstruct() { # reconstruct NAME AUTOENCODER ARGUMENT...
    reconstruct_out=$tmp/$1
    reconstruct_vae=$2
    shift 2
    vae-encode -q -@ 1 --no-pg --dtype f32 --vae "$reconstruct_vae" "$@" "$tmp/images" \
        -o "$reconstruct_out-codes" &&
        vae-decode -q -@ 1 --no-pg --vae "$reconstruct_vae" "$@" "$tmp/codes-of-cpu" \
            -o "$reconstruct_out-images"
}
same() {
    cmp "$tmp/$1" "$tmp/$2"
}

"$BUILD/tests/tools/make-stream" latents 16 8 10 >"$tmp/latents"
"$BUILD/tests/tools/make-stream" images 3 16 3 >"$tmp/images"

for width in 64 72; do # with one head, so these are also the head sizes
    train cpu-$width $width --device cpu
    sample cpu-$width-samples $width --device cpu
    for precision in f32 tf32 bf16; do
        run=$precision-$width
        exits "training in $precision with heads of $width" 0 \
            train $run $width --device cuda --precision $precision --micro-batch 2
        ok "trains in $precision as on the CPU, heads of $width" python "
got, want = log(tmp + '$run'), log(tmp + 'cpu-$width')
for g, w in zip(got, want, strict=True):
    for key in 'loss', 'mse', 'vb', 'grad_norm':
        assert abs(g[key] - w[key]) <= bounds['$precision'] * w[key], (g, w)
got, want = (tensors(tmp + run + '/latest.safetensors') for run in ('$run', 'cpu-$width'))
names = [n for n in want if n.startswith('blocks')]
errors = [off(*(np.concatenate([t[n].ravel() for n in names]) for t in (got, want)))]
assert max(errors) < 5 * bounds['$precision'], errors"
        exits "samples in $precision, heads of $width" 0 \
            sample $run-samples $width --device cuda --precision $precision
        ok "samples in $precision as on the CPU, heads of $width" python "
got, want = (read(tmp + name + '-samples')[0]['latent'] for name in ('$run', 'cpu-$width'))
assert want.std() > 0.3 and off(got, want) < bounds['$precision'], off(got, want)"
    done
done
# In bf16 a recomputed GELU has a rounded input, so light recomputing may change bits.
for mode in f32-light f32-block bf16-block; do
    precision=${mode%-*}
    train $mode 72 --device cuda --precision "$precision" --micro-batch 2 --recompute ${mode#*-}
    ok "recomputing changes no bit of training in $mode" python "
none, again = (tensors(tmp + run + '/latest.safetensors') for run in ('$precision-72', '$mode'))
assert all(np.array_equal(none[n], again[n]) for n in none)"
done

for autoencoder in dct "$vae"; do
    name=$(basename "$autoencoder" .safetensors)
    vae-encode -q -@ 1 --device cpu --vae "$autoencoder" --dtype f32 "$tmp/images" -o "$tmp/codes-of-cpu"
    reconstruct "cpu-$name" "$autoencoder" --device cpu
    for precision in f32 tf32 bf16; do
        exits "encoding and decoding by $name in $precision" 0 \
            reconstruct "$precision-$name" "$autoencoder" --device cuda --precision $precision
        ok "$name encodes and decodes in $precision as on the CPU" python "
(codes, images), (cpu_codes, cpu_images) = (
    [read(tmp + device + '-$name-' + what)[0] for what in ('codes', 'images')]
    for device in ('$precision', 'cpu'))
for n in cpu_codes:
    assert off(codes[n], cpu_codes[n]) <= bounds['$precision'], (n, off(codes[n], cpu_codes[n]))
a, b = images['image'].astype(float), cpu_images['image'].astype(float)
assert b.std() > 5 and abs(a - b).mean() < 100 * bounds['$precision'], abs(a - b).mean()"
    done
done

# order SETTING: repeats the above with this setting of the simulator and compares every byte.
order() {
    export "${1?}"
    train order 72 --device cuda --precision bf16 --micro-batch 2
    sample order-samples 72 --device cuda --precision bf16
    reconstruct order "$vae" --device cuda --precision bf16
    unset "${1%%=*}"
    ok "$1 changes no bit of a checkpoint" same order/latest.safetensors bf16-72/latest.safetensors
    ok "$1 changes no bit of samples" same order-samples bf16-72-samples
    ok "$1 changes no bit of latents" same order-codes bf16-vae-diffusers-half-codes
    ok "$1 changes no bit of images" same order-images bf16-vae-diffusers-half-images
    rm -r "$tmp/order"
}
order CUDASIM_SEED=2
order CUDASIM_SEED=3
order CUDASIM_STREAMS=lazy
done_testing
