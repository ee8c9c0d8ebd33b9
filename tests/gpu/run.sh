#!/bin/sh
# run.sh [first|second|PART...]: tests and measures a GPU with what `make gpu-bundle` packed, in one call
# that tells all. `first`, the default, takes at most 420 seconds, `second` 240, parts by name $BUDGET
# (420). $OUT (by default the folder results beside this file) then holds table.md, which is also the
# last output, and results.tar.gz with the logs. SPDX-License-Identifier: MIT
#
# Each part has seconds that are kept for it and seconds that it may take at most. It may use what is left
# but for what is kept for later parts, so that none takes the time of another. --plan prints both.
# Whatever happens, the logs are packed: by the exit trap, and should the script be killed, the logs
# are the files in $OUT. SIZES and other variables are those of check.sh, programs.sh and gpu.sh.
set -u

first='environment 5 15
primitives 5 40
group 5 40
ops-bf16 25 90
dit-reference-bf16 10 80
flow-reference-bf16 5 40
ops 50 90
train 45 90
ops-tf32 15 80
dit-reference-tf32 8 60
ops-f32 15 80
dit-reference-f32 8 60
autoencoder 12 80
programs 30 90
sample 25 60
torch-flash 45 100
torch-cudnn 45 100
torch-sample 25 60'
second='environment 5 15
vae 25 60
torch-vae 25 60
counters 40 80
memcheck 50 90
racecheck 50 90'

plan=$first
budget=${BUDGET:-420}
case ${1:-first} in
first | --plan) ;;
second)
    plan=$second
    budget=${BUDGET:-240}
    ;;
*)
    plan=
    for part; do
        row=$(printf '%s\n%s\n' "$first" "$second" | grep "^$part " | head -n 1)
        [ "$row" ] || {
            echo "run.sh: no part is called $part" >&2
            exit 64
        }
        plan="$plan$row
"
    done
    ;;
esac
if [ "${1:-}" = --plan ]; then
    printf 'first 420 seconds\n%s\nsecond 240 seconds\n%s\n' "$first" "$second"
    exit
fi

start=$(date +%s)
packing=8 # seconds kept for the end
deadline=$((start + budget - packing))
case ${OUT:-/} in
/) OUT=$(dirname "$0")/results ;;
/*) ;;
*) OUT=$PWD/$OUT ;;
esac
mkdir -p "$OUT" || exit 73
OUT=$(cd "$OUT" && pwd)
cd "$(dirname "$0")" || exit 70
tmp=$(mktemp -d) || exit 73
export B=build OUT PATH="$PWD/build/bin:$PATH" PYTHON="${PYTHON:-python3}"
export RATES="$tmp/rates" TABLE="$tmp/rates.md" SIZES="${SIZES:-384:6 1152:16}"
touch "$tmp/parts" "$tmp/clocks" "$RATES" "$TABLE"

# end_tree PROCESS: kills it and all that it has started, the youngest first.
end_tree() {
    for child in $(cat "/proc/$1/task/$1/children" 2>/dev/null || ps -o pid= --ppid "$1"); do
        end_tree "$child"
    done
    kill -KILL "$1" 2>/dev/null
}

write_table() {
    {
        echo '| part | result | seconds | what it said | SM MHz | W |'
        echo '|---|---|---|---|---|---|'
        cat "$tmp/parts"
        echo
        cat "$TABLE"
    } >"$OUT/table.md"
}
pack() {
    trap '' INT TERM HUP
    trap - EXIT
    [ -z "${sampler:-}" ] || kill "$sampler" 2>/dev/null
    [ -z "${running:-}" ] || end_tree "$running"
    {
        echo '== clocks and power: time, SM and memory MHz, W, degrees, % busy, MiB'
        cat "$tmp/clocks"
    } >>"$OUT/device.txt"
    write_table
    rm -f "$OUT/results.tar.gz"
    if tar -czf "$tmp/results.tar.gz" -C "$OUT" . && mv "$tmp/results.tar.gz" "$OUT"; then
        find "$OUT" -maxdepth 1 -name '*.txt' -delete
    fi
    rm -rf "$tmp"
    echo
    cat "$OUT/table.md"
}
trap pack EXIT
trap 'exit 1' INT TERM HUP

# The bundle does not contain NVIDIA's libraries: cuBLASLt, and NCCL for several GPUs. If the system does
# not find them, the toolkit or PyTorch's packages may have them.
libraries=$(ldd build/lib/dit-tools/dit-cuda.so | sed -n 's/^[[:space:]]*\(libcublasLt[^ ]*\) => not found.*/\1/p')
/sbin/ldconfig -p 2>/dev/null | grep -q 'libnccl\.so\.2' || libraries="$libraries libnccl.so.2"
for library in $libraries; do
    found=$(timeout 20 "$PYTHON" - "$library" 2>/dev/null <<'PYTHON'
import glob, os, sys
places = ['/usr/local/cuda*/lib64', '/usr/local/cuda*/targets/*/lib', '/opt/cuda/lib64']
places += [path + '/nvidia/*/lib' for path in sys.path]
found = [f for p in places for f in glob.glob(p + '/' + sys.argv[1])]
print(os.path.dirname(found[0]) if found else '')
PYTHON
    )
    if [ "$found" ]; then
        export LD_LIBRARY_PATH="$found${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
        echo "$library is in $found"
    else
        echo "$library is neither in the toolkit nor among Python's packages"
    fi
done
. tests/gpu/need.sh

nvidia-smi --query-gpu=timestamp,clocks.sm,clocks.mem,power.draw,temperature.gpu,utilization.gpu,memory.used \
    --format=csv,noheader,nounits -lms 500 >"$tmp/clocks" 2>&1 &
sampler=$!
# busy FROM: the median clock and power since line FROM, while the GPU was busy.
busy() {
    tail -n "+$1" "$tmp/clocks" | awk -F', *' '$6 > 0 { print $2, $4 }' | sort -n |
        awk '{ clock[NR] = $1; watt[NR] = $2 } END { m = int((NR + 1) / 2); print clock[m] " | " watt[m] }'
}

command_of() { # command_of PART END: runs it in place of this process
    export END="$2"
    case $1 in
    environment | ops | train | sample | vae | torch-* | counters) exec tests/bench/gpu.sh "$1" ;;
    memcheck | racecheck)
        WRAP="compute-sanitizer --tool $1 --target-processes all --report-api-errors no --print-limit 20 --error-exitcode 99"
        export WRAP
        LIMIT=45 TESTS='primitives ops-bf16' exec tests/gpu/check.sh
        ;;
    autoencoder) TESTS='autoencoder-kl-bf16 autoencoder-kl-tf32 autoencoder-kl-f32' exec tests/gpu/check.sh ;;
    *) TESTS=$1 OPS_SECONDS=45 exec tests/gpu/check.sh ;;
    esac
}
# run_part NAME MOST LATER: until its deadline, which leaves the seconds LATER.
run_part() {
    part_start=$(date +%s)
    part_clocks=$(($(wc -l <"$tmp/clocks") + 1))
    part_time=$((deadline - part_start - $3))
    [ "$part_time" -lt "$2" ] || part_time=$2
    [ "$part_time" -gt 3 ] || part_time=3
    echo "== $1 (until $((part_start + part_time - start)) s)"
    # The part ends itself a little before it would be stopped.
    command_of "$1" $((part_start + part_time - 2)) >"$tmp/said" 2>&1 &
    running=$!
    while kill -0 $running 2>/dev/null && [ "$(date +%s)" -lt $((part_start + part_time)) ]; do
        sleep 0.2
    done
    part_result=passed
    if kill -0 $running 2>/dev/null; then
        part_result=stopped
        end_tree $running
    fi
    wait $running 2>/dev/null
    part_status=$?
    running=
    [ $part_status = 0 ] || [ $part_result = stopped ] || part_result=failed
    [ $part_result = passed ] || status=1
    tail -n 25 "$tmp/said"
    printf '| %s | %s | %s | %s | %s |\n' "$1" $part_result $(($(date +%s) - part_start)) \
        "$(grep . "$tmp/said" | tail -n 1 | tr '|' '/' | cut -c 1-120)" "$(busy "$part_clocks")" >>"$tmp/parts"
    write_table
}
status=0
# What is kept is less where the budget is smaller than the plan.
later=$(echo "$plan" | awk '{ sum += $2 } END { print sum }')
in_all=$((deadline - $(date +%s)))
scarce=$((later > in_all ? later : in_all))
while read -r name kept most <&3; do
    [ "$name" ] || continue
    later=$((later - kept))
    run_part "$name" "$most" $((later * in_all / scarce))
done 3<<PLAN
$plan
PLAN
[ $status = 0 ]
