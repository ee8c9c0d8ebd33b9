#!/bin/sh
# Mistakes that are planted into the CUDA plug-in, one at a time, make its tests fail in the simulator.
# Run from the top of the tree after `make tests`; `make check-more T=mutants` does. SPDX-License-Identifier: MIT
# shellcheck disable=SC2317 # functions that are arguments of others
. tests/tap.sh

# A tree in which only kernels/ is a copy, with the objects that were built from it.
tree=$BUILD/mutants
rm -rf "$tree"
mkdir -p "$tree/build/obj"
for name in Makefile bin formats lib tests; do
    ln -s "$PWD/$name" "$tree"
done
mkdir "$tree/build/lib"
for name in bin tests lib/dit-tools; do
    ln -s "$PWD/$BUILD/$name" "$tree/build/$name"
done
cp -a kernels "$tree"
restore() { # restore FILE: it and all objects are older than the simulated plug-in
    cp -a "kernels/cuda/$1" "$tree/kernels/cuda"
    cp -a "$BUILD/obj/cudasim" "$tree/build/obj"
}
build() {
    make -C "$tree" CUDA=0 MPI=0 build/lib/dit-cuda-sim.so
}

operation() { # operation NAME [SETTING]...: its test in bf16
    operation=$1
    shift
    env CUDASIM_MULTIPROCESSORS=4 "$@" DIT_CUDA_PLUGIN="$tree/build/lib/dit-cuda-sim.so" \
        "$BUILD/tests/check-ops" --backend cuda,bf16 --only "$operation"
}
cli() { # cli TEST
    B=$tree/build tests/run "$1"
}
# caught NAME FILE EDIT COMMAND...: after sed's edit of a file in kernels/cuda the command fails.
caught() {
    caught_file=$2
    sed -E "$3" "kernels/cuda/$2" >"$tree/kernels/cuda/$2"
    if cmp -s "kernels/cuda/$2" "$tree/kernels/cuda/$2"; then
        tap_result "$1: the mistake can be planted into $2" 1
        return
    fi
    caught_name=$1
    shift 3
    build >"$tmp/said" 2>&1 && ! "$@" >"$tmp/said" 2>&1
    tap_result "$caught_name is caught by $*" $? || tail -n 5 "$tmp/said" | tap_comment
    restore "$caught_file"
}
# without_barrier N FILE COMMAND...: the Nth __syncthreads of the file is missing.
without_barrier() {
    number=$1 file=$2
    shift 2
    line=$(grep -n '__syncthreads();' "kernels/cuda/$file" | sed -n "${number}s/:.*//p")
    caught "barrier $number of $file, which is missing," "$file" "${line:-1}s/__syncthreads\(\);//" "$@"
}

# passes COMMAND...: the command passes without a mistake, and shows why where it doesn't.
passes() {
    "$@" >"$tmp/said" 2>&1
    tap_result "without a mistake '$*' passes" $? || tail -n 20 "$tmp/said" | tap_comment
}
restore backend.cu
passes build
for name in attention attention_backward linear_backward_weight conv3x3 gate_residual_norm_modulate_backward; do
    passes operation $name
done
passes operation attention_backward CUDASIM_ARCH=90
passes cli cuda
passes cli cuda-ranks

# Streams.
caught 'a fork that is missing' backend.cu 's/cudaStreamWaitEvent\(state->side.stream, state->side.fork, 0\)/cudaSuccess/' cli cuda
caught 'a join that is missing' backend.cu 's/cudaStreamWaitEvent\(state->stream, state->side.join, 0\)/cudaSuccess/' cli cuda
caught 'a wait for records that is missing' backend.cu 's/cudaStreamWaitEvent\(state->stream, state->sent, 0\)/cudaSuccess/' cli cuda
caught 'a fork of sums that is missing' group.cu 's/cudaStreamWaitEvent\(state->group_stream, state->group_fork, 0\)/cudaSuccess/' cli cuda-ranks
caught 'a join of sums that is missing' group.cu 's/cudaStreamWaitEvent\(state->stream, state->group_join, 0\)/cudaSuccess/' cli cuda-ranks
if command -v mpirun >/dev/null && [ -e "$BUILD/lib/dit-tools/dit-mpi.so" ]; then
    caught 'a sum that does not wait for the gradients of weights' group.cu 's/if \(state->side.busy\)/if (false)/' cli cuda-ranks
else
    skip 'a sum that does not wait for the gradients of weights is caught by cli cuda-ranks' 'there is no MPI'
fi

# Barriers and copies.
for number in 1 2 3; do
    without_barrier $number attention.cu operation attention
done
for number in 1 2 3 4 5; do
    without_barrier $number attention-backward.cu operation attention_backward
done
without_barrier 1 convolution.cu operation conv3x3
without_barrier 1 norm.cu operation gate_residual_norm_modulate_backward
for number in 1 2; do
    without_barrier $number linear.cu operation linear_backward_weight
done
caught 'a wait for copies that is missing' attention.cu 's/cp_async_wait<1>\(\);//' operation attention
caught 'a wait for one copy too few' attention-backward.cu 's/cp_async_wait<STAGES - 1>/cp_async_wait<STAGES>/' operation attention_backward
caught 'a wait for one slice of weights too few' convolution.cu 's/cp_async_wait<T::STAGES - 2>/cp_async_wait<T::STAGES - 1>/' operation conv3x3

# Memory, fragments and stages.
caught 'shared memory that is too small' attention-backward.cu 's/BYTES = sizeof\(shared\)/BYTES = sizeof(shared) - 16/' operation attention_backward
caught 'an index past the end of shared memory' linear.cu 's/SHARED\(float, sums, \[8\]\[32\]\)/SHARED(float, sums, [8][31])/' operation linear_backward_weight
caught 'a fragment of A in the wrong order' attention.cuh 's/a\[1\] = pack_bf16\(left\[2\], left\[3\]\)/a[1] = pack_bf16(right[0], right[1])/' operation attention
caught 'a fragment of B in the wrong order' attention.cuh 's/b\[0\] = half\[0\], b\[2\] = half\[1\], b\[1\] = b\[3\]/b[0] = half[0], b[1] = half[1], b[2] = b[3]/' operation attention
caught 'a matrix of ds in the wrong place' attention-backward.cu 's/i \/ 4 % 2 \* 2 \+ i % 2\]\[i \/ 2 % 2\]/i \/ 4 % 2 * 2 + i \/ 2 % 2][i % 2]/' operation attention_backward
caught 'keys and values of the wrong stage' attention.cu 's/tiles \+ stage \* 2/tiles + (stage ^ 1) * 2/' operation attention
caught 'queries of the wrong stage' attention-backward.cu 's/stage \^ 1, q, dout/stage, q, dout/' operation attention_backward CUDASIM_ARCH=90
caught 'weights of the wrong stage' convolution.cu 's/stage = \(stage \+ 1\) % T::STAGES/stage = (stage + 2) % T::STAGES/' operation conv3x3
done_testing
