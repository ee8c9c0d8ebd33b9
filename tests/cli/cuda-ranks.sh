#!/bin/sh
# Several GPUs, simulated: they sum together, and training on them is training on one.
# SPDX-License-Identifier: MIT
# shellcheck disable=SC2317 # functions are arguments of others
. tests/tap.sh
export DIT_CUDA_PLUGIN="$BUILD/lib/dit-cuda-sim.so"
export CUDASIM_DEVICES=3 CUDASIM_GROUP_TIMEOUT=60

tool=$BUILD/tests/tools/check-group
check() { # check ARGUMENT...: shows what fails
    "$tool" "$@" >"$tmp/tap" && return
    grep -v '^ok ' "$tmp/tap" | sed 's/^/# /'
    return 1
}
# lost TEXT [SETTING]... -- ARGUMENT...: it fails and says so.
lost() {
    lost_text=$1
    shift
    env "$@" >"$tmp/tap"
    grep -qF -- "$lost_text" "$tmp/tap" || { sed 's/^/# /' "$tmp/tap"; false; }
}
ok 'one GPU is a group' check cuda
for streams in eager lazy; do
    export CUDASIM_STREAMS=$streams
    ok "three sum, copy and send ($streams streams)" check cuda 3
    ok "a rank that is lost ($streams streams)" \
        lost 'rank 0: simulated GPU (cuda, f32): the ranks have lost each other: ' \
        CUDASIM_GROUP_TIMEOUT=1 "$tool" cuda,f32 2 lose
    ok "a rank that is lost while a recorded sum waits for it ($streams streams)" \
        lost 'rank 0: simulated GPU (cuda, f32): the ranks have lost each other: ' \
        CUDASIM_GROUP_TIMEOUT=1 "$tool" cuda,f32 2 lose-late
done
unset CUDASIM_STREAMS
ok 'two ranks on one GPU' lost 'ranks 0 and 1 are both on GPU 0: ranks must not share a GPU' \
    "$tool" cuda:0 2

if ! command -v mpirun >/dev/null || [ ! -e "$BUILD/lib/dit-tools/dit-mpi.so" ]; then
    skip 'training on several GPUs' 'there is no MPI'
    done_testing
fi
# Open MPI's own leaks are not ours.
export ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
model='-q -@ 1 --device cuda --depth 2 --hidden 64 --heads 1 --patch 4 --classes 10'
model="$model --batch 6 --lr 1e-3 --log-every 1 --steps 4 --deterministic"
train() { # train RANKS RUN [OPTION]...
    n=$1 run=$2
    shift 2
    # shellcheck disable=SC2086 # a list of words
    mpirun --oversubscribe -n "$n" dit-train $model --run "$tmp/$run" "$@" "$tmp/latents"
}
same() { # same RUN RUN
    python "
one, other = (log('$tmp/' + run) for run in sys.argv[1:])
assert len(one) == len(other) == 4
for a, b in zip(one, other):
    for key in 'loss', 'mse', 'grad_norm':
        assert abs(a[key] - b[key]) <= 1e-5 * abs(a[key]), (key, a, b)
one, other = (tensors('$tmp/' + run + '/latest.safetensors') for run in sys.argv[1:])
assert one.keys() == other.keys()
for name in one:
    if not name.startswith('opt.'):
        assert np.abs(one[name] - other[name]).max() <= 1e-5, name
" "$@"
}
"$BUILD/tests/tools/make-stream" latents 24 8 10 >"$tmp/latents"
exits 'one GPU trains' 0 train 1 one --precision f32
exits 'training on two GPUs' 0 train 2 two --precision f32
ok '... gives the losses and weights of one' same one two
exits 'training on two GPUs that share the optimizer' 0 train 2 shared --precision f32 --shard-optimizer \
    --micro-batch 2
ok '... gives the losses and weights of one' same one shared
exits 'training on two GPUs in bf16' 0 train 2 bf16
export CUDASIM_STREAMS=lazy CUDASIM_SEED=2
exits '... with their streams in another order' 0 train 2 bf16-lazy
ok '... with their streams in another order changes no bit' cmp "$tmp/bf16/latest.safetensors" "$tmp/bf16-lazy/latest.safetensors"
exits 'training on two GPUs that share the optimizer, their streams in another order,' 0 train 2 lazy-shared --precision f32 --shard-optimizer \
    --micro-batch 2
ok '... changes no bit' cmp "$tmp/shared/latest.safetensors" "$tmp/lazy-shared/latest.safetensors"
unset CUDASIM_STREAMS CUDASIM_SEED
exits 'more ranks than GPUs' 64 train 2 none --device cuda:0
says '... is told' 'ranks must not share a GPU'
faulty() { # faulty KERNEL: of rank 0
    # shellcheck disable=SC2016,SC2086 # the inner shell expands it; a list of words
    mpirun --oversubscribe -n 2 sh -c '[ "$OMPI_COMM_WORLD_RANK" != 0 ] || export CUDASIM_FAULT="$0"; exec "$@"' \
        "$1" dit-train $model --run "$tmp/faulty" "$tmp/latents"
}
for kernel in to_act adamw diffusion_loss:3; do # at the start, in the first step, in a recorded one
    exits "a GPU that faults in $kernel" 70 faulty $kernel
    says '... stops all ranks' 'simulated GPU (cuda, bf16): the GPU stopped: an illegal memory access'
    is '... before any of them gives up waiting' "$(grep -c 'lost each other' "$tmp/err")" 0
done
done_testing
