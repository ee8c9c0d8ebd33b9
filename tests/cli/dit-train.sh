#!/bin/sh
# dit-train: learns; stops, resumes and repeats itself bit for bit; refuses what it should.
# SPDX-License-Identifier: MIT
# shellcheck disable=SC2317 # functions that are arguments of others
. tests/tap.sh
. tests/training.sh

from() { # from FILE COMMAND...
    from_file=$1
    shift
    "$@" <"$from_file"
}
piped() { # piped FILE COMMAND...
    piped_file=$1
    shift
    # shellcheck disable=SC2002 # a pipe is what is wanted
    cat "$piped_file" | "$@"
}
step_of() {
    readlink "$tmp/$1/latest.safetensors"
}
# The process $pid is done with N lines of its log, or ended.
wait_lines() { # wait_lines FOLDER N
    until [ -e "$tmp/$1/log.jsonl" ] && [ "$(wc -l <"$tmp/$1/log.jsonl")" -ge "$2" ]; do
        kill -0 "$pid" || break
        sleep 0.02
    done
}

stream="$BUILD/tests/tools/make-stream"
data=$tmp/data.tstream
"$stream" latents 64 8 10 >"$data"
"$stream" latents 5 8 10 >"$tmp/few.tstream"
"$stream" nan 8 8 10 >"$tmp/nan.tstream"
"$stream" nan 64 8 10 >"$tmp/some-nan.tstream"

exits 'a training of 150 steps' 0 tiny whole --steps 150 --log-every 1 "$data"
is '... prints nothing with --quiet' "$(cat "$tmp/out" "$tmp/err")" ''
ok '... lowers the loss' python '
loss = [line["loss"] for line in log(tmp + "whole")]
assert abs(np.mean(loss[:2]) - 1) < 0.1 and np.mean(loss[-20:]) < 0.9 * np.mean(loss[:2]), loss
'
ok '... logs a line for every step, with all it promises' python '
lines = log(tmp + "whole")
assert [line["step"] for line in lines] == list(range(1, 151))
for line in lines:
    assert abs(line["loss"] - line["mse"] - line["vb"]) < 1e-5, line
    assert line["grad_norm"] > 0 and line["images_per_second"] > 0 and line["flops"] > 0, line
    assert abs(line["lr"] - 1e-3) < 1e-9 and line["skipped"] == 0, line
'
ok '... saves weights under the published names, and the whole state' python '
file = tmp + "whole/latest.safetensors"
t, m = tensors(file), metadata(file)
published = [n for n in t if not n.startswith(("model.", "opt."))]
assert len(published) == 1 + 11 + 10 and t["blocks.0.attn.qkv.weight"].shape == (96, 32)
assert t["y_embedder.embedding_table.weight"].shape == (11, 32)
assert t["pos_embed"].shape == (1, 16, 32) and len(t) == 1 + 4 * 21, len(t)
for n in published:
    for prefix in "model.", "opt.exp_avg.", "opt.exp_avg_sq.":
        assert n == "pos_embed" or t[prefix + n].shape == t[n].shape
assert all(np.isfinite(a).all() for a in t.values())
sizes = "depth hidden_size num_heads patch_size input_size in_channels num_classes".split()
assert [m[k] for k in sizes] == "1 32 2 2 8 4 10".split(), m
assert (m["kind"], m["format"], m["step"], m["updates"]) == ("dit-checkpoint", "pt", "150", "150")
assert m["position"] == "1200" and m["classes"] == "[\"a\",\"b\"]" and m["setting.lr"] == "0.001"
assert "setting.epochs" not in m and "count" not in m and "version" not in m, m
'

draws "$(date +%s)"
stop=$(awk -v seed="$seed" 'BEGIN { srand(seed); print 2 + int(40 * rand()) }')
for signal in TERM INT; do
    dit-train -q -@ 1 --depth 1 --hidden 32 --heads 2 --patch 2 --batch 8 --classes 10 --lr 1e-3 \
        --run "$tmp/$signal" --steps 150 --log-every 1 "$data" &
    pid=$!
    wait_lines $signal "$stop"
    if [ $signal = TERM ]; then
        exits 'a folder that another dit-train uses' 64 tiny TERM --resume "$data"
        says 'is refused by name' "$tmp/TERM: another dit-train is at work in this folder"
    fi
    kill -$signal $pid
    wait $pid
    is "a training stopped by SIG$signal" $? 75
    ok '... saves in the middle' [ "$(step_of $signal)" != 0000150.safetensors ]
    exits "resuming what SIG$signal stopped" 0 dit-train -q -@ 1 --resume --run "$tmp/$signal" "$data"
    ok '... ends with the bytes of the unbroken run' same whole $signal
    ok '... logs no step twice' python "
steps = [line['step'] for line in log(tmp + '$signal')]
assert steps == sorted(set(steps)) and steps[-1] == 150, steps
"
done
printf '{"step":150,"loss":1}\n{"step":151,"loss":1}\n{"step":1' >>"$tmp/whole/log.jsonl"
exits 'resuming a training that is complete' 0 dit-train -@ 1 --resume --run "$tmp/whole" "$data"
says 'says that nothing is left to do' 'is at step 150 of 150'
ok '... cuts lines beyond the checkpoint from the log' python '
assert [line["step"] for line in log(tmp + "whole")] == list(range(1, 151)) + [150]
'
exits 'a new training in the folder of another' 64 tiny whole "$data"
says 'is refused with a hint at --resume' 'continue it with --resume'

exits '--resume without a checkpoint' 0 tiny anew --steps 12 --resume "$data"
exits 'latents of a file on standard input' 0 from "$data" tiny stdin --steps 12
ok '... train as those of a named file' same_tensors anew stdin
exits 'a pipe that is read for more than a pass' 0 piped "$data" tiny spooled --steps 12
ok '... trains as a named file' same_tensors anew spooled
exits '--recompute none' 0 tiny none --steps 12 --recompute none "$data"
exits '--recompute block' 0 tiny block --steps 12 --recompute block "$data"
exits '--micro-batch of the whole batch' 0 tiny micro8 --steps 12 --micro-batch 8 "$data"
exits '--micro-batch' 0 tiny micro3 --steps 12 --micro-batch 3 "$data"
exits 'more threads' 0 tiny thread --steps 12 -@ 2 "$data"
ok '--recompute, --micro-batch and --threads change no bit, or little where sums change their order' python '
a = tensors(tmp + "anew/latest.safetensors")
for name in "none", "block", "micro8", "thread":
    b = tensors(tmp + name + "/latest.safetensors")
    assert a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a), name
b = tensors(tmp + "micro3/latest.safetensors")
assert all(np.abs(a[k] - b[k]).max() < 2e-4 for k in a)
'
exits 'another seed' 0 tiny seed --steps 12 --seed 1 "$data"
ok '... trains otherwise' python '
a, b = (tensors(tmp + n + "/latest.safetensors") for n in ("anew", "seed"))
assert not np.array_equal(a["x_embedder.proj.weight"], b["x_embedder.proj.weight"])
'

exits 'a pipe is one pass' 0 piped "$data" tiny pass --save-every 3
is '... of whole batches' "$(step_of pass)" 0000008.safetensors
cp -r "$tmp/pass" "$tmp/pass-resumed"
ln -sf 0000003.safetensors "$tmp/pass-resumed/latest.safetensors"
exits 'resuming a training on a pipe' 0 piped "$data" dit-train -q -@ 1 --resume --run "$tmp/pass-resumed"
ok '... ends as the unbroken run' same pass pass-resumed
head -c 20000 "$data" >"$tmp/cut.tstream"
exits 'a pipe that is cut short' 65 piped "$tmp/cut.tstream" tiny cut
says 'is named' 'standard input'
exits 'a file that is cut short' 65 tiny cut-file --steps 5 "$tmp/cut.tstream"
exits 'a pipe of less than a batch' 65 piped "$tmp/few.tstream" tiny few
says 'is refused with both numbers' 'only 5 latents, but a batch takes 8'
exits '--epochs' 0 tiny epochs --epochs 2 "$tmp/few.tstream"
is '... stops after two passes' "$(step_of epochs)" 0000002.safetensors
exits '--epochs with fewer --steps' 0 tiny limits --epochs 5 --steps 3 "$tmp/few.tstream"
is '... stops after the steps' "$(step_of limits)" 0000003.safetensors
exits 'resuming with --epochs of what is done' 0 tiny limits --resume --epochs 3 "$tmp/few.tstream"
exits 'resuming with more --epochs' 0 tiny limits --resume --epochs 8 "$tmp/few.tstream"
is '... replaces all old limits' "$(step_of limits)" 0000005.safetensors
exits '--minutes' 0 tiny minutes --minutes 0.01 "$data"
ok '... stops and saves' [ -s "$tmp/minutes/latest.safetensors" ]

exits '--keep' 0 tiny keep --steps 20 --save-every 5 --keep 2 "$data"
is '... leaves the newest checkpoints' "$(cd "$tmp/keep" && echo *)" \
    '0000015.safetensors 0000020.safetensors config.json latest.safetensors log.jsonl'
ln -sf 0000015.safetensors "$tmp/keep/latest.safetensors"
mv "$tmp/keep/0000020.safetensors" "$tmp/keep/0000099.safetensors"
exits 'resuming from an older checkpoint with --keep' 0 dit-train -q -@ 1 --resume --keep 1 --steps 17 \
    --run "$tmp/keep" "$data"
is '... keeps what was saved last' "$(cd "$tmp/keep" && echo *)" \
    '0000017.safetensors config.json latest.safetensors log.jsonl'

dit-train -q -@ 1 --depth 1 --hidden 32 --heads 2 --patch 2 --batch 8 --classes 10 --log-every 1 \
    --run "$tmp/usr1" --minutes 0.5 "$data" &
pid=$!
wait_lines usr1 3
kill -USR1 $pid
while [ ! -e "$tmp/usr1/latest.safetensors" ] && kill -0 $pid; do sleep 0.05; done
ok 'SIGUSR1 saves' [ -s "$tmp/usr1/latest.safetensors" ]
kill -TERM $pid
wait $pid
is 'a training goes on after SIGUSR1, until SIGTERM' $? 75
ok '... which saves again' [ "$(find "$tmp/usr1" -name '0*' | wc -l)" = 2 ]

exits '--init from weights of other classes' 0 dit-train -@ 1 --classes 12 \
    --init "$tmp/whole/latest.safetensors" --lr 0 --steps 1 -b 4 --run "$tmp/init" "$data"
says 'says that the class table is new' 'has 10 classes; the class table is initialized anew, except for the null class'
ok '... takes all other weights, the averaged ones' python '
a, b = (tensors(tmp + n + "/latest.safetensors") for n in ("whole", "init"))
for n in a:
    if n.startswith(("model.", "opt.")) or n == "pos_embed":
        continue
    table = n == "y_embedder.embedding_table.weight"
    assert b[n].shape == ((13, 32) if table else a[n].shape), n
    assert np.array_equal(a[n][-1:] if table else a[n], b["model." + n][-1:] if table else b["model." + n]), n
'
exits '--init from weights of other sizes' 65 dit-train -@ 1 --init "$tmp/whole/latest.safetensors" \
    --hidden 64 --steps 1 --run "$tmp/init2" "$data"
says 'is refused with what differs' 'the width is 32 in '
exits '--init from a missing file' 66 tiny init3 --init "$tmp/no" --steps 1 "$data"

exits 'a training on latents of which some are not finite' 0 tiny some-nan --epochs 1 --log-every 1 "$tmp/some-nan.tstream"
says 'skips their step' 'is not finite: skipped'
ok '... changes nothing in that step' python '
t, m = tensors(tmp + "some-nan/latest.safetensors"), metadata(tmp + "some-nan/latest.safetensors")
assert all(np.isfinite(a).all() for a in t.values()) and (m["step"], m["updates"]) == ("8", "7"), m
assert sum(line["skipped"] for line in log(tmp + "some-nan")) == 1
'
exits 'a training on latents that are never finite' 65 tiny nan --max-skips 3 --steps 9 "$tmp/nan.tstream"
says 'is given up' '3 steps in a row were not finite'
exits 'a label over the classes' 65 tiny labels --classes 7 --steps 9 "$data"
says 'is named' ', but the model has 7 classes'

head -c 3000 "$tmp/whole/latest.safetensors" >"$tmp/half.safetensors"
mkdir "$tmp/damaged" "$tmp/dangling"
ln -s ../half.safetensors "$tmp/damaged/latest.safetensors"
ln -s gone.safetensors "$tmp/dangling/latest.safetensors"
exits 'resuming from a damaged checkpoint' 65 dit-train -@ 1 --resume --run "$tmp/damaged" "$data"
says 'is refused by name' 'damaged/latest.safetensors: '
exits 'resuming from a checkpoint that is gone' 65 dit-train -@ 1 --resume --run "$tmp/dangling" "$data"
"$stream" latents 80 8 10 >"$tmp/other.tstream"
exits 'resuming with other data' 65 dit-train -q -@ 1 --resume --steps 13 --run "$tmp/anew" "$tmp/other.tstream"
says 'is refused with the names of both' 'anew/0000012.safetensors: not the same data: missing: data.tstream; new: other.tstream'
says 'is refused with a hint at --accept-data' '--accept-data continues with the data as it is now'
exits 'resuming with other data and --accept-data' 0 dit-train -q -@ 1 --resume --steps 13 --accept-data --run "$tmp/anew" \
    "$tmp/other.tstream"
says 'tells of the other data' 'not the same data'
is '... goes on' "$(step_of anew)" 0000013.safetensors

exits 'a folder that cannot be made' 73 dit-train --run /dev/null/run "$data"
exits 'a training on a missing shard' 66 tiny missing "$tmp/no"
exits 'a training on a file that is no stream' 65 tiny text --steps 2 "$0"
exits 'an unknown model' 64 tiny model -m DiT-M/2 "$data"
exits 'heads that divide no width' 64 tiny heads --heads 3 "$data"
exits 'a patch that divides no side' 64 tiny patch --patch 3 "$data"
done_testing
