#!/bin/sh
# Training on several ranks: as on one, whatever their number; and all stop where one fails.
# SPDX-License-Identifier: MIT
# shellcheck disable=SC2317 # functions are arguments of others
. tests/tap.sh
if ! command -v mpirun >/dev/null || [ ! -e "$BUILD/lib/dit-tools/dit-mpi.so" ]; then
    skip 'training on several ranks' 'there is no MPI'
    done_testing
fi
# Open MPI's own leaks are not ours.
export ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
ranks() { # ranks N COMMAND...: more than there are processors, too
    n=$1
    shift
    mpirun --oversubscribe -n "$n" "$@"
}
model='--classes 100 --depth 2 --hidden 64 --heads 2 --patch 4 --batch 7 --lr 1e-3 --log-every 1 -@ 1'
train() { # train RANKS RUN [OPTION]...
    n=$1 run=$2
    shift 2
    # shellcheck disable=SC2086 # a list of words
    ranks "$n" dit-train $model --run "$tmp/$run" "$@" "$tmp/a" "$tmp/b"
}
same() { # same RUN RUN STEPS: losses and weights
    python "
one, other = (log('$tmp/' + run) for run in sys.argv[1:3])
assert [l['step'] for l in one] == [l['step'] for l in other] == list(range(1, int(sys.argv[3]) + 1))
for a, b in zip(one, other):
    for key in {'loss', 'mse', 'grad_norm'} & a.keys():
        assert abs(a[key] - b[key]) <= 1e-5 * abs(a[key]), (key, a, b)
one, other = (tensors('$tmp/' + run + '/latest.safetensors') for run in sys.argv[1:3])
assert one.keys() == other.keys()
for name in one:
    if not name.startswith('opt.'):
        assert np.abs(one[name] - other[name]).max() <= 1e-5, name
" "$@"
}
for half in a b; do
    "$BUILD/tests/tools/make-stream" latents 40 16 10 >"$tmp/$half"
done

exits 'training on one rank' 0 train 1 one --steps 20
for n in 2 3; do
    exits "training on $n ranks" 0 train $n ranks$n --steps 20
    ok "... gives the losses and weights of one" same one ranks$n 20
    is "... prints the lines of rank 0 alone" "$(grep -c 'step     20 ' "$tmp/err")" 1
    exits "training on $n ranks that share the optimizer's state" 0 train $n shards$n --steps 20 \
        --shard-optimizer
    ok "... gives the losses and weights of one" same one shards$n 20
done
exits "micro-batches that divide no rank's part" 0 train 2 micro --steps 20 --micro-batch 3
ok '... change nothing' same one micro 20
flow='--objective flow --timesteps logit-normal --ema-decay 0.9,0.5 --ema-power 0.1 --steps 6'
# shellcheck disable=SC2086 # a list of words
{
    exits 'flow matching with three averages on one rank' 0 train 1 flow1 $flow
    exits 'flow matching with three averages on two ranks' 0 train 2 flow2 $flow
    ok '... gives the losses and all averages of one' same flow1 flow2 6
    exits "flow matching on three ranks that share the state of three averages" 0 train 3 flow3 $flow \
        --shard-optimizer --ema-snapshots --save-every 3
    ok '... gives the losses and all averages of one' same flow1 flow3 6
    ok '... and snapshots of them' python '
a, b = tensors(tmp + "flow3/snapshots/0000006-0.1.safetensors"), tensors(tmp + "flow1/latest.safetensors")
assert all(np.abs(a[k] - b["ema_power_0.1." + k]).max() < 1e-5 for k in a if k != "pos_embed")
assert len(glob.glob(tmp + "flow3/snapshots/*")) == 2
'
}

exits 'half a training on two ranks' 0 train 2 resumed --steps 10
exits 'resuming a training of two ranks on three' 0 train 3 resumed --resume --steps 20
says 'tells of the other number' '3 ranks'
ok '... gives the losses and weights of one' same one resumed 20
exits "half a training with the optimizer's state shared" 0 train 3 unshared --steps 10 --shard-optimizer
exits 'resuming a training with shared state on one rank' 0 train 1 unshared --resume --no-shard-optimizer --steps 20
ok '... gives the losses and weights of one' same one unshared 20

# Ranks that differ. They are told by their number: Open MPI 5 crashes on `-n 1 A : -n 1 B`.
differ() { # differ "COMMAND OF RANK 0" "COMMAND OF RANK 1"
    # shellcheck disable=SC2016 # the inner shell expands these
    ranks 2 sh -c '[ "$OMPI_COMM_WORLD_RANK" = 0 ] || shift; eval "$1"' sh "$1" "$2"
}
plain="dit-train $model --steps 3 --run $tmp/differ"
exits 'ranks with differing options' 64 differ "exec $plain $tmp/a" "exec $plain --lr 2 $tmp/a"
says 'are refused with the rank that differs' 'rank 1 ('
says 'are refused with what differs' 'other arguments'
is '... are refused in one line' "$(grep -c 'other arguments' "$tmp/err")" 1
mkdir "$tmp/here" "$tmp/there"
cp "$tmp/a" "$tmp/here/data"
"$BUILD/tests/tools/make-stream" latents 48 16 10 >"$tmp/there/data"
exits 'ranks with differing data' 65 \
    differ "cd $tmp/here && exec $plain data" "cd $tmp/there && exec $plain data"
says 'are refused with the rank that differs' 'rank 1 ('
exits 'a rank without data' 66 differ "cd $tmp/here && exec $plain data" "cd $tmp && exec $plain data"
says 'is refused by its number' 'rank 1 ('
mkdir -p "$tmp/old/bin"
ln -s "$(cd "$BUILD" && pwd)/lib" "$tmp/old/lib"
cp "$BUILD/bin/dit-train" "$tmp/old/bin"
printf x >>"$tmp/old/bin/dit-train"
exits 'ranks of other builds' 64 differ "exec $plain $tmp/a" "exec $tmp/old/bin/$plain $tmp/a"
says 'are refused with what differs' 'another build'
exits 'more ranks than samples' 64 train 3 few --batch 2
says 'are refused with a hint at --batch' '--batch'
from_stdin() { ranks 2 dit-train --steps 1 --run "$tmp/stdin" <"$tmp/a"; }
exits 'several ranks and standard input' 64 from_stdin
says 'are refused with what is possible' 'argument'
other_launcher() { OMPI_COMM_WORLD_SIZE=2 dit-train --dry-run "$tmp/a"; }
exits "a launcher that MPI doesn't know" 64 other_launcher
says 'is refused with both numbers of ranks' 'started 2 ranks, but MPI sees 1'
no_plugin() { DIT_MPI_PLUGIN='' OMPI_COMM_WORLD_SIZE=2 dit-train --dry-run "$tmp/a"; }
exits 'several ranks without the plug-in for MPI' 64 no_plugin
says 'are refused with what to do' 'build with mpicc'
exits 'an unknown option on three ranks' 64 train 3 unknown --nonsense
is '... is told once' "$(grep -c 'unknown option' "$tmp/err")" 1
exits 'a label over the classes on two ranks' 65 train 2 labels --classes 2
says 'is refused with the rank' 'rank '

# A rank that goes takes the others along.
until_trains() { # until_trains RUN: or until the process $pid has ended
    until [ -s "$tmp/$1/log.jsonl" ]; do
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.05
    done
}
ranks_of() { # ranks_of RUN: their processes
    for process in /proc/[0-9]*; do
        { tr '\0' ' ' <"$process/cmdline"; } 2>/dev/null | grep -q "^dit-train .*$tmp/$1 " &&
            echo "${process#/proc/}"
    done
}
train 3 killed --steps 1000000 >"$tmp/out" 2>"$tmp/err" &
pid=$!
until_trains killed
start=$(date +%s)
kill -9 "$(ranks_of killed | tail -n 1)"
wait $pid
ok 'a rank that is killed ends all' [ $? != 0 ]
ok '... within ten seconds' [ $(($(date +%s) - start)) -le 10 ]
is '... and leaves no rank' "$(ranks_of killed)" ''
train 2 stopped --steps 1000000 >"$tmp/out" 2>"$tmp/err" &
pid=$!
until_trains stopped
kill -TERM "$(ranks_of stopped | tail -n 1)"
wait $pid
is 'a rank that SIGTERM stops stops all with status 75' $? 75
ok '... after saving a checkpoint' [ -e "$tmp/stopped/latest.safetensors" ]
done_testing
