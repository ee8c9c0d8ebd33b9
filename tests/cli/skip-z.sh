#!/bin/sh
# dit-train --skip-z: which steps are left out, also when resumed and on ranks.
# SPDX-License-Identifier: MIT
# shellcheck disable=SC2317 # functions that are arguments of others
. tests/tap.sh
. tests/training.sh

"$BUILD/tests/tools/make-stream" latents 24 4 10 >"$tmp/data"
tiny plain --steps 170 --log-every 1 "$tmp/data"
tiny all --steps 170 --log-every 1 --skip-z 1000 "$tmp/data"
ok 'a bound that no step reaches changes no weights' same_tensors plain all
exits 'a training with a low bound' 0 tiny some --steps 170 --log-every 1 --save-every 150 --skip-z 1 "$tmp/data"
ok '... leaves out the steps above it, and no other' python '
import re
said = {int(m[1]): (float(m[2]), float(m[3])) for m in re.finditer(
    r"step (\d+): loss (\S+) or gradient norm (\S+) is more than 1 standard deviations above its last 128: skipped",
    open(tmp + "err").read())}
steps, skipped = [], 0
for line in log(tmp + "some"):
    one = said.get(line["step"]) or (line["loss"], line["grad_norm"])
    far = [one[k] - np.mean([s[k] for s in steps[-128:]]) - np.std([s[k] for s in steps[-128:]])
           for k in (0, 1)] if len(steps) >= 128 else [-1]
    assert line["skipped"] == (line["step"] in said) == (max(far) > 0) or abs(max(far)) < 1e-5, (line, far)
    steps.append(one)
    skipped += line["skipped"]
assert 3 < skipped < 30, skipped
m = metadata(tmp + "some/latest.safetensors")
assert int(m["updates"]) == 170 - skipped and m["setting.skip-z"] == "1", m'
cp -r "$tmp/some" "$tmp/resumed"
rm "$tmp/resumed/0000170.safetensors"
ln -sf 0000150.safetensors "$tmp/resumed/latest.safetensors"
exits 'the same resumed before its end' 0 dit-train -q -@ 1 --resume --run "$tmp/resumed" "$tmp/data"
ok '... ends with the same bytes' same some resumed
if command -v mpirun >/dev/null && [ -e "$BUILD/lib/dit-tools/dit-mpi.so" ]; then
    export ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0"
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
    for more in '' --shard-optimizer; do
        exits "two ranks $more" 0 mpirun --oversubscribe -n 2 dit-train -q -@ 1 --depth 1 --hidden 32 \
            --heads 2 --patch 2 --batch 8 --classes 10 --lr 1e-3 --steps 170 --log-every 1 --skip-z 1 \
            --run "$tmp/two$more" $more "$tmp/data"
        ok '... leave out the same steps' python '
one, two = ([l["skipped"] for l in log(tmp + run)] for run in ("some", sys.argv[1]))
assert one == two, (one, two)' "two$more"
    done
else
    skip 'two ranks leave out the same steps' 'there is no MPI'
fi
done_testing
