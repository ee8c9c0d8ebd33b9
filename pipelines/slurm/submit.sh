#!/bin/sh
# ImageNet's pictures -> a trained DiT -> 50,000 samples, as jobs of Slurm that wait for each other.
# SPDX-License-Identifier: MIT
set -eu

usage() {
    cat <<'EOF'
Usage: submit.sh [--from STAGE] PICTURES
Submits the stages of imagenet256.sh and sample-50k.sh to Slurm: encode (an array of PARTS jobs),
shard, train (which requeues itself when it is preempted or its time is over), sample (an array of
SAMPLE_PARTS jobs) and pack. Each goes on where it was stopped, so what has failed is submitted
again by the same command; what is done is passed over quickly.

      --from=STAGE   begin with encode (default), train or sample
  -h, --help         show this help

The settings are the variables of imagenet256.sh and sample-50k.sh, here with WORK=imagenet256, and
samples in WORK/samples; SAMPLE_PARTS is 100. What depends on the cluster (partition, account,
nodes, GPUs, time) goes into the #SBATCH lines of the *.sbatch files, or into these variables:
  SBATCH_PARTITION, SBATCH_ACCOUNT, ...   as sbatch(1) says
  TRAIN_SBATCH="--nodes=4"                more options for the training job
  SRUN_OPTIONS="--mpi=pmix"               for its srun
The folders must be on a file system that all nodes see.
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
[ -n "$pictures" ] || fail 'a folder of pictures is missing; see --help'
[ -d "$pictures" ] || fail "$pictures: no such folder"
command -v sbatch >/dev/null || fail 'there is no sbatch: this needs Slurm; one machine has imagenet256.sh'

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
submit() { # submit STAGE [OPTION]...: after the stage before
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
