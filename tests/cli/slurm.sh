#!/bin/sh
# Runs the jobs of pipelines/slurm/submit.sh with stand-ins for sbatch, srun and scontrol: they give
# what imagenet256.sh and sample-50k.sh give, also when they are requeued or submitted again. SPDX-License-Identifier: MIT
# shellcheck disable=SC2317 # functions are arguments of others
. tests/tap.sh
unset DIT_VAE SEED

# sbatch records jobs in $SLURM_TEST/jobs; run_jobs runs them.
mkdir "$tmp/bin" "$tmp/slurm"
export SLURM_TEST="$tmp/slurm"
cat >"$tmp/bin/sbatch" <<'EOF'
#!/bin/sh
array=- after=-
for word in "$@"; do
    case $word in
    --array=1-*) array=${word#--array=1-} ;;
    --dependency=afterok:*) after=${word##*:} ;;
    --*) ;;
    *) script=$word ;;
    esac
done
id=$(($(cat "$SLURM_TEST/jobs" 2>/dev/null | wc -l) + 1))
echo "$id $array $after $script" >>"$SLURM_TEST/jobs"
echo "$id;cluster"
EOF
cat >"$tmp/bin/srun" <<'EOF'
#!/bin/sh
while :; do
    case $1 in
    --*) shift ;;
    *) break ;;
    esac
done
echo $$ >"$SLURM_TEST/rank"
exec "$@"
EOF
cat >"$tmp/bin/scontrol" <<'EOF'
#!/bin/sh
echo "$*" >>"$SLURM_TEST/scontrol"
EOF
chmod +x "$tmp"/bin/*
run_jobs() {
    while read -r id array _ script; do
        [ "$array" != - ] || array=1
        for i in $(seq "$array"); do
            SLURM_JOB_ID=$id SLURM_ARRAY_TASK_ID=$i sh "$script" >>"$tmp/log" 2>&1 || return
        done
    done <"$SLURM_TEST/jobs"
}
export SIZE=32 PARTS=3 SHARD_SIZE=32K STEPS=20 BATCH=4 MODEL=DiT-S/2 SAMPLE_PARTS=2 COUNT=6 \
    SAMPLE_STEPS=4 SAMPLE_OPTIONS='-@ 1'
export TRAIN_OPTIONS='-@ 1 --depth 1 --hidden 64 --heads 2 --log-every 10'

ok 'pictures are drawn' "$BUILD/tests/tools/draw-shapes" -q -o "$tmp/pictures" -n 24 -s 40 || done_testing
submit() {
    PATH=$tmp/bin:$PATH WORK=$tmp/work pipelines/slurm/submit.sh "$@"
}
exits 'all stages are submitted' 0 submit "$tmp/pictures"
is 'stages are submitted in order, each after the one before' \
    "$(sed 's,/.*/,,' "$SLURM_TEST/jobs" | tr '\n' ' ')" \
    '1 3 - encode.sbatch 2 - 1 shard.sbatch 3 - 2 train.sbatch 4 2 3 sample.sbatch 5 - 4 pack.sbatch '
# Jobs inherit submit.sh's environment.
jobs_environment() {
    DIT_PIPELINES=$PWD/pipelines PICTURES=$tmp/pictures WORK=$tmp/work
    export DIT_PIPELINES PICTURES WORK
    PATH=$tmp/bin:$PATH
}
all_jobs() (
    jobs_environment
    run_jobs
)
ok 'the jobs of all stages succeed' all_jobs
whole() {
    WORK=$tmp/whole pipelines/imagenet256.sh "$tmp/pictures" &&
        WORK=$tmp/whole-samples PARTS=4 JOBS=2 pipelines/sample-50k.sh \
            "$tmp/whole/run/latest.safetensors"
}
exits 'imagenet256.sh and sample-50k.sh on one machine' 0 whole
ok 'jobs and one machine give the same weights and samples' python "
a, b = (tensors(tmp + n + '/run/latest.safetensors') for n in ('work', 'whole'))
assert a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)
a, b = (np.load(tmp + n + '/samples.npz')['arr_0'] for n in ('work/samples', 'whole-samples'))
assert a.shape == (6, 32, 32, 3) and np.array_equal(a, b)
"
before=$(find "$tmp/work" -name '*.tstream' -exec ls -i {} + | sort)
ok 'the jobs succeed when they are run again' all_jobs
is 'jobs that are run again make no complete stream anew' "$(find "$tmp/work" -name '*.tstream' -exec ls -i {} + | sort)" \
    "$before"

preempted() (
    jobs_environment
    STEPS=100000 SLURM_JOB_ID=77 sh pipelines/slurm/train.sbatch >>"$tmp/log" 2>&1 &
    until grep -q '"step":40,' "$tmp/work/run/log.jsonl"; do
        kill -0 $! 2>/dev/null || break
        sleep 0.05
    done
    kill -TERM "$(cat "$SLURM_TEST/rank")"
    wait $!
)
exits 'a training job that is preempted' 75 preempted
is 'a training job that is preempted is requeued' "$(cat "$SLURM_TEST/scontrol")" 'requeue 77'
mkdir "$tmp/few" && ln -s "$(command -v dirname)" "$(command -v dit-train)" "$tmp/few"
no_slurm() { PATH=$tmp/few pipelines/slurm/submit.sh "$tmp/pictures"; }
exits 'submit.sh without Slurm' 64 no_slurm
says 'names the script for one machine' 'on one machine use imagenet256.sh'
exits 'submit.sh with an unknown stage' 64 submit --from=nowhere "$tmp/pictures"
says 'names it' "found 'nowhere'"
exits 'submit.sh without the pictures' 64 submit "$tmp/no"
says 'names the missing folder' "$tmp/no: no such folder"
done_testing
