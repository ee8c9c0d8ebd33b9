#!/bin/sh
# Submits Slurm jobs that train a DiT on ImageNet's pictures and draw 50,000 samples from it.
# SPDX-License-Identifier: MIT
set -eu

usage() {
    cat <<'EOF'
Usage: submit.sh [--from STAGE] PICTURES
Submits the stages of imagenet256.sh and sample-50k.sh to Slurm, each to start after the one before:
encode (an array of PARTS jobs), shard, train (requeued when it is preempted or reaches its time
limit), sample (an array of SAMPLE_PARTS jobs) and pack. After a failure run the same command again:
each stage continues where it was stopped, and complete ones end quickly.

      --from=STAGE   submit the stages from STAGE on: encode (default), train or sample
  -h, --help         show this help

The environment variables of imagenet256.sh and sample-50k.sh apply, with WORK=imagenet256 for both;
samples go to WORK/samples, in SAMPLE_PARTS=100 parts. Put the settings of your cluster (partition,
account, nodes, GPUs, time) into the #SBATCH lines of the *.sbatch files or into these variables:
  SBATCH_PARTITION, SBATCH_ACCOUNT, ...   see sbatch(1)
  TRAIN_SBATCH="--nodes=4"                more sbatch options for the training job
  SRUN_OPTIONS="--mpi=pmix"               srun options for the training job
All nodes must see PICTURES, WORK and this folder under the same paths.
EOF
}
# shellcheck source=pipelines/stages.sh
. "$(dirname "$0")/../stages.sh"

from=encode
pictures=
while [ $# -gt 0 ]; do
    case $1 in
    --from=*) from=${1#*=} ;;
    --from)
        [ $# -gt 1 ] || fail 'option --from needs a value: STAGE'
        from=$2
        shift
        ;;
    -h | --help) usage && exit 0 ;;
    -*) fail "unknown option '$1'; see --help" ;;
    *) pictures=$1 ;;
    esac
    shift
done
case $from in
encode | train | sample) ;;
*) fail "--from: expected encode, train or sample, found '$from'" ;;
esac
[ -n "$pictures" ] || fail 'expected a folder of pictures; see --help'
[ -d "$pictures" ] || fail "$pictures: no such folder"
command -v sbatch >/dev/null || fail 'sbatch not found: this script needs Slurm; on one machine use imagenet256.sh'

DIT_VAE=${DIT_VAE:-}
encode_settings
: "${SAMPLE_PARTS:=100}"
check_number SAMPLE_PARTS "$SAMPLE_PARTS"
here=$(cd "$(dirname "$0")" && pwd)
WORK=$(mkdir -p "$WORK" && cd "$WORK" && pwd)
PICTURES=$(cd "$pictures" && pwd)
DIT_PIPELINES=${here%/*} # sbatch runs copies of its scripts
export DIT_PIPELINES PICTURES SAMPLE_PARTS WORK
"$DIT_PIPELINES/imagenet256.sh" --until files "$PICTURES"
mkdir -p "$WORK/logs"

job=
# Submits a job that starts after the last one submitted has succeeded.
submit() { # submit STAGE [OPTION]...
    stage=$1
    shift
    job=$(sbatch --parsable --chdir="$WORK" --output="$WORK/logs/$stage-%A_%a.log" \
        ${job:+"--dependency=afterok:$job" --kill-on-invalid-dep=yes} "$@" "$here/$stage.sbatch")
    job=${job%%;*}
    echo "$stage $job"
}
case $from in
encode)
    submit encode --array="1-$PARTS"
    submit shard
    ;;
esac
# shellcheck disable=SC2086 # a list of words
case $from in
encode | train) submit train ${TRAIN_SBATCH:-} ;;
esac
submit sample --array="1-$SAMPLE_PARTS"
submit pack
