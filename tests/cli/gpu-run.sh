#!/bin/sh
# The one call that tests and measures a GPU (tests/gpu/run.sh) brings back its table and archive whatever
# happens. A simulated GPU and stand-ins for NVIDIA's tools take the place of real ones.
# SPDX-License-Identifier: MIT
# shellcheck disable=SC2317 # functions that are arguments of others
. tests/tap.sh
unset DIT_CUDA_PLUGIN DIT_VAE

# The folder of make gpu-bundle, with the simulated plug-in in the real one's place.
gpu=$tmp/gpu
mkdir -p "$gpu/build/bin" "$gpu/build/tests/tools" "$gpu/build/tests/gpu" "$gpu/build/lib/dit-tools" "$tmp/bin"
for program in dit-train dit-sample vae-encode vae-decode npz-pack; do
    cp "$BUILD/bin/$program" "$gpu/build/bin"
done
cp "$BUILD/tests/check-ops" "$BUILD/tests/dit-reference" "$BUILD/tests/flow-reference" "$BUILD/tests/autoencoder-kl" "$gpu/build/tests"
cp "$BUILD/tests/tools/make-stream" "$BUILD/tests/tools/check-group" "$gpu/build/tests/tools"
cp "$BUILD/tests/cuda-primitives" "$gpu/build/tests/gpu"
cp "$BUILD/lib/dit-cuda-sim.so" "$gpu/build/lib/dit-tools/dit-cuda.so"
cp --parents tests/tap.sh tests/gpu/*.sh tests/bench/gpu.* tests/data/dit-* tests/data/vae-* "$gpu"
mv "$gpu/tests/gpu/run.sh" "$gpu"

# stand_in NAME COMMANDS: a program of that name.
stand_in() {
    printf '#!/bin/sh\n%s\n' "$2" >"$tmp/bin/$1"
    chmod +x "$tmp/bin/$1"
}
# shellcheck disable=SC2016 # the stand-ins expand these
{
    stand_in nvidia-smi 'case "$*" in
-L) echo "GPU 0: simulated" ;;
*-lms*) while :; do echo "2026/01/01 00:00:00.000, 1980, 2619, 612.50, 60, 99, 1000"; sleep 0.2; done ;;
*memory.total*noheader,nounits) echo 143771 ;;
*) echo "simulated GPU, 1" ;;
esac'
    stand_in compute-sanitizer 'echo "========= COMPUTE-SANITIZER $2"
while [ "$1" != "${1#--}" ]; do shift 2; done
exec "$@"'
    stand_in ncu 'echo "Duration us 1.00"'
    stand_in python3 '[ "$1" = -c ] && echo 9.9 || echo "$PYTORCH_SAYS"'
}

# run SETTING... [PART]...: as on a machine with a GPU. Leaves $tmp/out with the table, and the logs in $tmp/logs.
run() {
    rm -rf "$tmp/results" "$tmp/logs"
    env PATH="$tmp/bin:$PATH" PYTHON=python3 OUT="$tmp/results" PYTORCH_SAYS='500.00 256' BUDGET=300 BATCH=4 \
        TRAIN_STEPS=6 TRAIN_OPTIONS='--depth 1 --hidden 64 --heads 1 --patch 8' OPERATIONS=silu,silu_backward,gelu \
        BENCH_OPERATIONS=silu COUNTS=2 STEPS=3 CUDASIM_MULTIPROCESSORS=4 CUDASIM_MEMORY=800000000 "$@" >"$tmp/out" 2>&1 </dev/null
}
part() { # part NAME RESULT: a line of the table
    grep -q "^| $1 | $2 | " "$tmp/results/table.md"
    tap_result "... has '$1 $2' in its table" $? || tap_comment <"$tmp/out"
}
# packed FILE TEXT: the archive's file has such a line.
packed() {
    mkdir -p "$tmp/logs" && tar -xzf "$tmp/results/results.tar.gz" -C "$tmp/logs" && grep -q -- "$2" "$tmp/logs/$1"
    tap_result "... packs $1 with '$2'" $? || { ls "$tmp/logs"; tail -n 30 "$tmp/logs/$1"; } | tap_comment
}
results() {
    is '... leaves the table and one archive' "$(cd "$tmp/results" && echo *)" 'results.tar.gz table.md'
    tail -n "$(wc -l <"$tmp/results/table.md")" "$tmp/out" >"$tmp/last"
    ok '... ends its output with the table' cmp "$tmp/last" "$tmp/results/table.md"
}

plan=$("$gpu/run.sh" --plan | awk '/^first|^second/ { name = $1; print $1, $2; next } { kept[name] += $2 }
    END { print (kept["first"] <= 412 && kept["second"] <= 232 ? "fits" : "does not fit") }' | tail -n 1)
is 'what is kept for the parts fits into the two calls' "$plan" fits
exits 'an unknown part' 64 "$gpu/run.sh" tea

ok 'a good run' run "$gpu/run.sh" environment primitives group ops-bf16 flow-reference-bf16 ops train sample torch-flash counters
for name in primitives group ops-bf16 flow-reference-bf16 ops train sample torch-flash counters; do
    part $name passed
done
results
packed checks.txt '^group: [0-9]* passed, 0 failed'
packed checks.txt '^flow-reference-bf16: [1-9][0-9]* passed, 0 failed'
packed measured.txt '^silu {1048576'
packed profile.txt '^attention_backward '
packed device.txt '1980, 2619, 612.50'
is '... brings back at most eight files' "$(find "$tmp/logs" -type f | awk 'END { print (NR <= 8) }')" 1
ok '... compares with PyTorch' grep -q '^| DiT-XL/2, training | .*500.00 .*flash' "$tmp/results/table.md"
ok '... shows clocks and power' grep -q '| 1980 | 612.50 |$' "$tmp/results/table.md"

about 'a run with an operation that faults'
run CUDASIM_FAULT=silu_backward:3 "$gpu/run.sh" ops-bf16 primitives
part ops-bf16 failed
part primitives passed
results
packed failures.txt '^== by itself: env CUDA_LAUNCH_BLOCKING=1 .*check-ops --backend cuda,bf16 --only silu_backward'
packed failures.txt '^========= COMPUTE-SANITIZER racecheck'
is '... runs it once more in three ways' "$(grep -c '^-- fails, exit 1$' "$tmp/logs/failures.txt")" 3
packed failures.txt 'the GPU stopped: an illegal memory access'

about 'a run with a test that crashes'
run CUDASIM_FAULT=attention CUDASIM_FAULT_IS=crash "$gpu/run.sh" dit-reference-bf16 primitives
part dit-reference-bf16 failed
part primitives passed
results

about 'a run with a part that hangs'
stand_in python3 'sleep 1000'
run BUDGET=24 "$gpu/run.sh" torch-flash primitives
part torch-flash '[fs][a-z]*'
part primitives passed
results

# stopped: ends a run as a time limit would.
stopped() {
    run timeout 6 "$gpu/run.sh" torch-flash
}
about 'a run that is stopped'
stopped
results
done_testing
