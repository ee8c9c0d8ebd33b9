#!/bin/sh
# kill.sh N [KILL|TERM]: interrupts a small training by a signal N times at random moments, and
# resumes it each time. Whenever it completes, its folder is compared with that of the uninterrupted
# run: the last checkpoint byte for byte, the log without its times, and the names of the files.
# With TERM every stop leaves a checkpoint of its own, so the names are only searched for
# half-written files. SPDX-License-Identifier: MIT
set -u
kills=${1:?usage: kill.sh N [KILL|TERM]}
signal=${2:-KILL}
tmp=$(mktemp -d)
pid=
trap '[ -z "$pid" ] || kill -KILL $pid 2>/dev/null; rm -rf "$tmp"' EXIT
trap 'exit 1' INT TERM

"${B:-build}/tests/tools/make-stream" latents 64 8 10 >"$tmp/data"
train() { # with names alone, as paths among the settings make checkpoints their folder's own
    cd "$tmp" || exit
    exec dit-train -q -@ 1 --depth 1 --hidden 64 --heads 2 --patch 2 --batch 8 --classes 10 \
        --vae dct:4 --sample-every 16 --sample-count 2 --valid data --valid-every 9 \
        --valid-count 8 --steps 40 --save-every 3 --keep 2 --log-every 2 --run "$1" --resume data
}
names() {
    (cd "$tmp/$1" && find . | sort)
}
log() { # the log without its times and the memory
    sed 's/,"time":[^,}]*//; s/,"images_per_second":[^,}]*//; s/,"flops":[^,}]*//; s/,"peak_share":[^,}]*//; s/,"memory":[^,}]*//' \
        "$tmp/$1/log.jsonl"
}
fail() {
    echo "kill.sh: after $n signals: $1" >&2
    names run >&2
    exit 1
}
compare() {
    cmp "$tmp/whole/latest.safetensors" "$tmp/run/latest.safetensors" || fail 'the checkpoint differs'
    log run >"$tmp/log"
    log whole | diff - "$tmp/log" || fail 'the log differs'
    names run >"$tmp/names"
    if [ "$signal" = KILL ]; then
        names whole | diff - "$tmp/names" || fail 'the names of the files differ'
    elif grep -q 'tmp$\|new$' "$tmp/names"; then
        fail 'a half-written file is left'
    fi
    ends=$((ends + 1))
    rm -rf "$tmp/run"
}

n=0
ends=0
(train whole) || fail 'the uninterrupted run failed'
before=$(date +%s%N)
(train run) || fail 'the uninterrupted run failed'
whole=$((($(date +%s%N) - before) / 1000000))
compare
# Draws the moments of all runs in advance, each within the time that a whole run takes.
seed=${SEED:-$(date +%N)}
echo "kill.sh: seed $seed; SEED=$seed repeats its moments" >&2
awk -v seed="$seed" -v n=$((100 * kills + 1000)) -v most=$whole \
    'BEGIN { srand(seed); while (n--) printf "%.3f\n", rand() * most / 1000 }' >"$tmp/moments"
while [ $n -lt "$kills" ] && read -r moment; do
    (train run) &
    pid=$!
    sleep "$moment"
    kill -s "$signal" $pid 2>/dev/null
    { wait $pid; } 2>/dev/null # some shells report the signal on stderr
    status=$?
    pid=
    case $signal:$status in
    KILL:137 | TERM:75) n=$((n + 1)) ;;
    *:0) compare ;;
    TERM:143) ;; # before dit-train had installed its handler
    *) fail "exit status $status" ;;
    esac
done <"$tmp/moments"
(train run) || fail 'the last run failed'
compare
echo "$n times SIG$signal; all $ends completed runs are the same as the uninterrupted one"
