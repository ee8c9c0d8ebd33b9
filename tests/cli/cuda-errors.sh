#!/bin/sh
# A simulated GPU that is missing, too old, too small or faulty gives one clear error line, and
# nothing broken is saved. SPDX-License-Identifier: MIT
# shellcheck disable=SC2317 # functions that are arguments of others
. tests/tap.sh
unset DIT_VAE DIT_CUDA_PLUGIN
plugin=$BUILD/lib/dit-cuda-sim.so
vae=${REFERENCE_DIR:-tests/data}/vae-diffusers-half.safetensors
dit=${REFERENCE_DIR:-tests/data}/dit-a.safetensors
gpu='simulated GPU (cuda, bf16)'

"$BUILD/tests/tools/make-stream" latents 8 8 10 >"$tmp/latents"
"$BUILD/tests/tools/make-stream" images 3 32 3 >"$tmp/images"
vae-encode -q -@ 1 --device cpu --vae "$vae" "$tmp/images" -o "$tmp/codes"

# simulated SETTING... PROGRAM ARGUMENT...
simulated() {
    env DIT_CUDA_PLUGIN="$plugin" "$@"
}
# train [SETTING...] dit-train OPTION...: a short training; settings are environment variables.
train() {
    rm -rf "$tmp/run"
    simulated "$@" -q -@ 1 --depth 1 --hidden 32 --heads 1 --patch 4 --classes 10 --batch 4 \
        --steps 3 --run "$tmp/run" "$tmp/latents"
}
# one_line NAME TEXT: the last command of `exits` said this line and no other.
one_line() {
    is "$1" "$(sed 's/^[a-z-]*: //' "$tmp/err")" "$2"
}
nothing_saved() {
    ok "$1" [ ! -e "$tmp/run/latest.safetensors" ]
}

# Programs and their plug-in.
mkdir -p "$tmp/bin"
cp "$BUILD/bin/dit-train" "$tmp/bin/"
exits 'a missing plug-in' 64 "$tmp/bin/dit-train" --device cuda --run "$tmp/run" "$tmp/latents"
one_line 'a missing plug-in says how to get it' 'device cuda: there is no CUDA plug-in (dit-cuda.so); build with nvcc on the PATH, or use --device cpu'
mkdir -p "$tmp/lib/dit-tools"
cp "$plugin" "$tmp/lib/dit-tools/dit-cuda.so"
exits 'a plug-in in ../lib/dit-tools is found' 0 "$tmp/bin/dit-train" -q --device cuda --depth 1 --hidden 32 --heads 1 \
    --patch 4 --batch 8 --classes 10 --steps 1 --run "$tmp/run" "$tmp/latents"
exits 'a plug-in that is not there' 64 env DIT_CUDA_PLUGIN="$tmp/no.so" dit-train --device cuda \
    --run "$tmp/run2" "$tmp/latents"
one_line 'a plug-in that is not there is named' "device cuda: the CUDA plug-in can't be loaded: $tmp/no.so: cannot open shared object file: No such file or directory"
exits 'a library that is no plug-in' 64 env DIT_CUDA_PLUGIN=libm.so.6 dit-train --device cuda --run "$tmp/run2" \
    "$tmp/latents"
one_line 'a library that is no plug-in is named' 'device cuda: the CUDA plug-in libm.so.6 does not match this program; rebuild both with make'
LC_ALL=C sed 's/size_t guided/size_t GUIDED/g' "$plugin" >"$tmp/other.so"
exits 'a plug-in with other operations' 64 env DIT_CUDA_PLUGIN="$tmp/other.so" dit-train \
    --device cuda --run "$tmp/run2" "$tmp/latents"
one_line 'a plug-in with other operations is named' "device cuda: the CUDA plug-in $tmp/other.so does not match this program; rebuild both with make"

# fails NAME SETTING TEXT: --device cuda fails with TEXT; auto reports it and uses the CPU.
fails() {
    exits "$1: an error" 64 train "$2" dit-train --device cuda
    one_line "$1: one line" "device cuda: $3"
    simulated "$2" dit-train --depth 1 --hidden 32 --heads 1 --patch 4 --classes 10 --batch 4 \
        --steps 1 -@ 1 --run "$tmp/auto" "$tmp/latents" 2>"$tmp/err"
    is "$1: auto says it once" "$(grep -F 'computing on the CPU' "$tmp/err")" \
        "dit-train: computing on the CPU: $3"
    rm -r "$tmp/auto"
    exits "$1: auto fails if a CPU lacks the precision" 64 \
        train "$2" dit-train --precision tf32
    one_line "$1: auto fails with the same line" "device auto: $3"
}
fails 'no driver' CUDASIM_NO_DRIVER=1 "the NVIDIA driver is missing or older than this build's CUDA; update it, or use --device cpu"
fails 'no GPU' CUDASIM_DEVICES=0 'CUDA finds no GPU (no CUDA-capable device is detected); use --device cpu'
fails 'an old GPU' CUDASIM_ARCH=75 'GPU 0, simulated GPU, has compute capability 7.5; 8.0 (Ampere) or newer is needed'
exits 'a number of a GPU that is too high' 64 train dit-train --device cuda:1
one_line 'a number too high: says how many GPUs there are' 'device cuda:1: there is no GPU 1; this machine has 1, from 0'
fails 'a GPU that does not tell what it is' CUDASIM_NO_PROPERTIES=1 'GPU 0 does not tell its properties: invalid argument'
fails 'a log that cannot be written' DIT_CUDA_LOG=/dev/null/log 'DIT_CUDA_LOG /dev/null/log: Not a directory'
fails 'a cuBLASLt that does not start' CUDASIM_CUBLASLT=cublasLtCreate "cuBLASLt can't be started: CUBLAS_STATUS_ALLOC_FAILED"
fails 'a GPU with no memory for cuBLASLt' CUDASIM_MEMORY=1000000 '64 MB of working memory for cuBLASLt: out of memory'
for name in cuda: cuda:x cuda:1024 cuda0; do
    exits "--device $name" 64 train dit-train --device $name
    one_line "--device $name is unknown" "device $name: unknown; expected auto, cpu, cuda or cuda:N"
done
exits 'an unknown precision' 64 train dit-train --precision f16
says 'names the known ones' "option --precision: expected one of auto, bf16, tf32, f32, found 'f16'"
exits 'a precision that a CPU lacks' 64 train dit-train --device cpu --precision tf32
one_line 'a precision that a CPU lacks: says so' 'device cpu: a CPU computes in f32 or bf16, not in tf32'
for precision in f32 bf16; do
    exits "$precision, which a CPU has" 0 train dit-train --device cpu --precision $precision
done
exits 'auto takes the GPU' 0 train dit-train --precision auto -v
says 'in bf16' "computing on $gpu"

# Memory.
exits 'training that does not fit' 70 train CUDASIM_MEMORY=67408864 dit-train --device cuda
says 'says how much it needs' 'training in micro-batches of 1 with --recompute block needs 0.000'
says 'says that no choice fits' " GB, and $gpu has 0.0003 GB free; no choice of these fits"
exits 'training that could fit' 70 train CUDASIM_MEMORY=68088864 dit-train --device cuda \
    --micro-batch 4 --recompute none
says 'says how' 'GB free; --micro-batch 1 --recompute none fits'
exits 'a model that does not fit' 70 simulated CUDASIM_MEMORY=67358864 dit-sample -q --device cuda \
    -w "$dit" --latents
says 'says how much it needs, and what would help' "GB, which $gpu does not have; a smaller batch needs less"
exits 'an autoencoder that does not fit' 70 simulated CUDASIM_MEMORY=67358864 vae-encode -q \
    --device cuda --vae "$vae" "$tmp/images"
one_line 'an autoencoder that does not fit: says how much it needs' "autoencoder: vae-diffusers-half.safetensors: holding the network's weights needs 0.00116 GB, which $gpu does not have"
exits 'images that do not fit' 70 simulated CUDASIM_MEMORY=68908864 vae-decode -q \
    --device cuda --vae "$vae" "$tmp/codes"
says 'says how much they need' "vae-diffusers-half.safetensors: a batch of 3 images of 32x32 needs "

# Faults of the GPU: while the model is set up, in the first forward pass, backward pass and update,
# and in the recorded steps.
for kernel in to_act attention_general attention_dq adamw diffusion_loss:2 adamw:3; do
    exits "a fault in $kernel" 70 \
        train CUDASIM_FAULT=$kernel dit-train --device cuda --save-every 100
    line=$(sed 's/(seen at: .*; /(/' "$tmp/err")
    [ $kernel != to_act ] ||
        says 'a fault names the kernel, its file and line' 'seen at: to_act (kernels/cuda/elementwise.cu:'
    is "a fault in $kernel: one line" "$line" "dit-train: $gpu: the GPU stopped: an illegal memory access was encountered (CUDA_LAUNCH_BLOCKING=1 says where it was)"
    nothing_saved "a fault in $kernel: nothing is saved"
done
exits 'a fault while a graph runs' 70 simulated CUDASIM_FAULT=unpatchify:3 dit-sample -q --device cuda \
    -w "$dit" --latents --steps 5 -n 4 -b 4 -o "$tmp/samples"
says 'is reported' 'the GPU stopped: an illegal memory access was encountered (seen at: launching a graph'
ok 'a fault while a graph runs: leaves no samples' [ ! -e "$tmp/samples" ]
exits 'a fault of an autoencoder' 70 simulated CUDASIM_FAULT=posterior vae-encode -q --device cuda \
    --vae "$vae" "$tmp/images" -o "$tmp/broken"
says 'names the input' "$tmp/images: records from 0: vae-diffusers-half.safetensors: $gpu: the GPU stopped:"
ok 'a fault of an autoencoder: leaves no latents' [ ! -e "$tmp/broken" ]
done_testing
