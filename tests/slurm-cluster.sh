#!/bin/sh
# Runs the jobs of pipelines/slurm/submit.sh on a Slurm cluster of this machine alone, which is made for
# the test: they give what one machine gives, also when the training is preempted and requeued.
# SPDX-License-Identifier: MIT
# shellcheck disable=SC2317 # functions are arguments of others
#
# Needs root, and Debian's slurmctld, slurmd, slurm-client and munge. make check-more runs it; make check has
# tests/cli/slurm.sh with stand-ins for Slurm's commands.
. tests/tap.sh
unset DIT_VAE SEED
PATH=$PATH:/usr/sbin
for program in slurmctld slurmd munged sbatch; do
    command -v $program >/dev/null || {
        skip 'jobs on a cluster' "no $program here"
        done_testing
    }
done
[ "$(id -u)" = 0 ] || {
    skip 'jobs on a cluster' 'needs root'
    done_testing
}
# Slurm's sockets need short paths, and its daemons an absolute one.
cluster=$tmp/cluster
mkdir "$cluster" "$cluster/state" "$cluster/spool"
daemons=
finish() {
    for pid in $daemons; do
        kill "$pid" 2>/dev/null
    done
    wait
    rm -rf "$tmp"
}
trap finish EXIT
head -c 128 /dev/urandom >"$cluster/munge.key"
chmod 400 "$cluster/munge.key"
chmod 755 "$tmp" "$cluster"
ports=$("$python3" -c '
import socket
all = [socket.socket() for _ in range(2)]
for s in all: s.bind(("127.0.0.1", 0))
print(*[s.getsockname()[1] for s in all])')
host=$(hostname -s)
# The node promises more than the machine has, so that the jobs fit as they are.
cat >"$cluster/slurm.conf" <<END
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=${ports% *}
SlurmdPort=${ports#* }
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$cluster/munge.socket,cred_expire=5
StateSaveLocation=$cluster/state
SlurmdSpoolDir=$cluster/spool
SlurmctldPidFile=$cluster/slurmctld.pid
SlurmdPidFile=$cluster/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
ReturnToService=2
SchedulerParameters=batch_sched_delay=0,sched_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
KillWait=10
GresTypes=gpu
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=$host NodeAddr=127.0.0.1 CPUs=64 RealMemory=1000000 Gres=gpu:8 State=UNKNOWN
PartitionName=low Nodes=$host Default=YES PriorityTier=1 GraceTime=60 State=UP
PartitionName=high Nodes=$host PriorityTier=2 PreemptMode=OFF State=UP
END
for i in 0 1 2 3 4 5 6 7; do
    touch "$cluster/gpu$i"
done
echo "Name=gpu File=$cluster/gpu[0-7]" >"$cluster/gres.conf"
export SLURM_CONF="$cluster/slurm.conf"
daemon() { # daemon COMMAND...
    "$@" >>"$cluster/log" 2>&1 &
    daemons="$daemons $!"
}
daemon munged --foreground --force --key-file="$cluster/munge.key" --socket="$cluster/munge.socket" \
    --pid-file="$cluster/munged.pid" --seed-file="$cluster/munge.seed" --log-file="$cluster/munged.log"
sleep 1
daemon slurmctld -D -i
daemon slurmd -D
soon() { # soon SECONDS COMMAND...: whether the command succeeds within that time
    for _ in $(seq $(($1 * 5))); do
        (shift && "$@") && return
        sleep 0.2
    done
    return 1
}
idle() { sinfo --noheader --format=%t 2>/dev/null | grep -qx idle; }
ok 'a cluster of one node starts' soon 30 idle || {
    tail -n 20 "$cluster/log" | tap_comment
    done_testing
}

export SIZE=32 PARTS=3 SHARD_SIZE=32K STEPS=6000 BATCH=4 MODEL=DiT-S/2 SAMPLE_PARTS=2 COUNT=6 SAMPLE_STEPS=4 \
    SAMPLE_OPTIONS='-@ 1 --device cpu'
export TRAIN_OPTIONS='-@ 1 --device cpu --depth 1 --hidden 64 --heads 2 --log-every 10 --sample-every 0'
ranks=1
export SRUN_OPTIONS=--mpi=none
if command -v mpirun >/dev/null && [ -e "$BUILD/lib/dit-tools/dit-mpi.so" ]; then
    ranks=2
    SRUN_OPTIONS=--mpi=pmix
fi
export TRAIN_SBATCH="--ntasks-per-node=$ranks --gpus-per-node=$ranks"
export SBATCH_PARTITION=low
ok 'pictures are drawn' "$BUILD/tests/tools/draw-shapes" -q -o "$tmp/pictures" -n 24 -s 40
submit() {
    WORK=$tmp/work pipelines/slurm/submit.sh "$tmp/pictures"
}
exits 'all stages are submitted' 0 submit
job() { # job STAGE: its number
    sed -n "s/^$1 //p" "$tmp/jobs"
}
cp "$tmp/out" "$tmp/jobs"
train=$(job train)
field() { # field JOB NAME
    scontrol show job "$1" 2>/dev/null | tr ' ' '\n' | sed -n "s/^$2=//p" | head -n 1
}
trains() { [ -e "$tmp/work/run/log.jsonl" ] && grep -q '"step":100,' "$tmp/work/run/log.jsonl"; }
ok 'the training begins after its shards are there' soon 120 trains
urgent() { # a job that needs the whole node
    sbatch --parsable --partition=high --exclusive --mem=0 --output="$tmp/urgent" --wrap='echo was urgent'
}
exits 'a job of higher priority' 0 urgent
urgent_done() { grep -q "was urgent" "$tmp/urgent" 2>/dev/null; }
ok '... takes the place of the training' soon 90 urgent_done
requeued() { [ "$(field "$train" Restarts)" = 1 ]; }
ok 'the training is requeued' soon 10 requeued
ok '... and has saved before' grep -q 'saving after this step' "$tmp/work/logs"/train-*.log
stopped=$(tail -n 1 "$tmp/work/run/log.jsonl" | sed 's/.*"step":\([0-9]*\).*/\1/')
ok '... and was not at its end' [ "$stopped" -lt "$STEPS" ]
ended() { case $(field "$(job pack)" JobState) in COMPLETED | FAILED | CANCELLED) ;; *) return 1 ;; esac }
ok 'all jobs end' soon 240 ended
is 'the last job has succeeded' "$(field "$(job pack)" JobState)" COMPLETED
is 'the training was requeued only once' "$(field "$train" Restarts)" 1
launch() {
    [ "$ranks" = 1 ] || set -- mpirun --oversubscribe -n "$ranks" "$@"
    OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 "$@"
}
# shellcheck disable=SC2086 # a list of words
whole() {
    WORK=$tmp/whole pipelines/imagenet256.sh --until shards "$tmp/pictures" &&
        launch dit-train --run "$tmp/whole/run" --model $MODEL --batch $BATCH --steps $STEPS $TRAIN_OPTIONS \
            "$tmp"/whole/shards/*.tstream &&
        WORK=$tmp/whole-samples PARTS=2 pipelines/sample-50k.sh "$tmp/whole/run/latest.safetensors"
}
exits 'the same without a cluster, and without a stop' 0 whole
ok '... gives the same weights and samples' python "
a, b = (tensors(tmp + n + '/run/latest.safetensors') for n in ('work', 'whole'))
assert a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)
a, b = (np.load(tmp + n + '/samples.npz')['arr_0'] for n in ('work/samples', 'whole-samples'))
assert a.shape == (6, 32, 32, 3) and np.array_equal(a, b)
"
done_testing
