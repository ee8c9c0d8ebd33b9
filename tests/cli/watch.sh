#!/bin/sh
# Runs that others watch: TensorBoard, Prometheus. SPDX-License-Identifier: MIT
# shellcheck disable=SC2317 # functions that are arguments of others
. tests/tap.sh
. tests/training.sh

"$BUILD/tests/tools/make-stream" latents 24 8 10 >"$tmp/data"
python_prelude='
from events import events
def files(run): return sorted(glob.glob(tmp + run + "/tensorboard/events.out.tfevents.*"))
def same(lines, run):
    told = [e for e in events(files(run)[-1]) if e["scalars"]]
    assert len(told) == len(lines) > 0
    for e, line in zip(told, lines):
        keys = line.keys() - {"step", "time", "partial"}
        assert e["step"] == line["step"] and e["scalars"].keys() == keys, (e, line)
        assert abs(e["time"] - line["time"]) < 5
        for k in keys: assert np.isclose(e["scalars"][k], line[k], 1e-6), (k, e, line)
'
exits 'a training for TensorBoard and Prometheus' 0 tiny run --steps 3 --log-every 1 --tensorboard \
    --prometheus "$tmp/dit.prom" --vae dct:4 --sample-every 3 --sample-count 4 "$tmp/data"
ok '... writes the numbers of its log as scalars' python 'same(log(tmp + "run"), "run")'
ok '... begins its events with their version and the start' python '
first, start = events(files("run")[0])[:2]
assert first["version"] == b"brain.Event:2" and start["start"] == 1 and start["step"] == 1'
ok '... writes its sheet as an image' python '
image, = [e["images"]["samples"] for e in events(files("run")[0]) if e["images"]]
assert image[4] == open(tmp + "run/samples/0000003.png", "rb").read()
assert (image[1], image[2], image[3]) == (130, 130, 3), image'
prometheus() { # prometheus KEY: of the last line of the log
    sed -n "s/^dit_train_$1{run=\"\(.*\)\"} \(.*\)/\1 \2/p" "$tmp/dit.prom"
}
is '... writes the last line for Prometheus' "$(prometheus step), $(prometheus images)" \
    "$tmp/run 3, $tmp/run 24"
ok '... with a type for each' python '
lines = open(tmp + "dit.prom").read().splitlines()
assert len(lines) % 2 == 0
for kind, value in zip(lines[::2], lines[1::2]):
    assert kind == "# TYPE %s gauge" % value.split("{")[0]
    float(value.split("} ")[1])'
exits '... goes on' 0 dit-train -q -@ 1 --run "$tmp/run" --resume --steps 5 "$tmp/data"
ok '... in a file that begins where it was resumed' python '
assert len(files("run")) == 2
assert [e["start"] for e in events(files("run")[1])[:2]] == [None, 1]
assert events(files("run")[1])[1]["step"] == 4
same(log(tmp + "run")[3:], "run")'
tiny plain --steps 5 --log-every 1 "$tmp/data"
ok 'being watched changes no weights' python '
a, b = (tensors(tmp + n + "/0000005.safetensors") for n in ("run", "plain"))
assert all(np.array_equal(a[k], b[k]) for k in a)'
exits 'a quote, a backslash and a new line in the name of a run' 0 tiny 'a"b\c
d' --steps 1 --prometheus "$tmp/dit.prom" "$tmp/data"
# shellcheck disable=SC2016
is '... are escaped' "$(grep -c 'a\\"b\\\\c\\nd"} [0-9.e+-]*$' "$tmp/dit.prom")" \
    "$(grep -c '^dit_train' "$tmp/dit.prom")"
exits '--prometheus that cannot be written' 73 tiny no --steps 1 --prometheus "$tmp/none/x.prom" "$tmp/data"
says 'is told before the first step' "--prometheus: $tmp/none/x.prom: cannot create"
printf x >"$tmp/file"
mkdir "$tmp/blocked"
cp "$tmp/file" "$tmp/blocked/tensorboard"
exits '--tensorboard where its folder is a file' 73 tiny blocked --steps 1 --tensorboard "$tmp/data"
wait_for() { # wait_for COMMAND...: at most 30 seconds
    wait_n=0
    until "$@" || [ $((wait_n += 1)) -gt 600 ]; do sleep 0.05; done
}
left_out() { # left_out N: whether so many warnings came
    [ "$(grep -c 'training goes on, and this is left out' "$tmp/err")" = "$1" ]
}
if command -v gnuplot >/dev/null; then
    exits 'plot-training.sh --text' 0 pipelines/plot-training.sh --text "$tmp/run" "$tmp/plain"
    is '... draws the loss, and both names' "$(grep -c -e '^ *loss *$' -e "$tmp/run" -e "$tmp/plain" "$tmp/out")" 3
    mkdir "$tmp/follow"
    pipelines/plot-training.sh --text --follow "$tmp/follow" >"$tmp/followed" 2>"$tmp/err" &
    pid=$!
    drawn() { # drawn N: whether so many pictures came
        [ "$(grep -c '^ *loss *$' "$tmp/followed")" = "$1" ]
    }
    cp "$tmp/run/log.jsonl" "$tmp/follow/log.jsonl.new"
    mv "$tmp/follow/log.jsonl.new" "$tmp/follow/log.jsonl"
    wait_for drawn 1
    ok 'plot-training.sh --follow waits for a log' drawn 1
    echo '{"step":6,"loss":0.5}' >>"$tmp/follow/log.jsonl"
    wait_for drawn 2
    ok '... and draws again when it has grown' drawn 2
    kill $pid
else
    skip 'plot-training.sh --text' 'no gnuplot here'
fi
if command -v prlimit >/dev/null; then
    mkdir "$tmp/collected"
    mkfifo "$tmp/said" # a file would be limited, too
    cat "$tmp/said" >"$tmp/err" &
    dit-train -@ 1 --depth 1 --hidden 32 --heads 2 --patch 2 --batch 8 --classes 10 --log-every 10 \
        --minutes 1 --run "$tmp/full" --tensorboard --prometheus "$tmp/collected/x.prom" "$tmp/data" 2>"$tmp/said" &
    pid=$!
    about 'a training whose monitors cannot be written'
    wait_for test -s "$tmp/full/log.jsonl"
    prlimit --fsize=100:unlimited --pid $pid
    wait_for left_out 1
    says 'goes on without events' 'File too large; training goes on, and this is left out'
    prlimit --fsize=unlimited --pid $pid
    sleep 0.2
    mv "$tmp/collected" "$tmp/away"
    wait_for left_out 2
    says 'goes on without the file' 'x.prom: cannot '
    about 'a training whose monitors cannot be written'
    mv "$tmp/away" "$tmp/collected"
    sleep 0.1
    kill -TERM $pid
    wait $pid
    is '... ends as others do' $? 75
    wait
    ok '... warns once of each' left_out 2
    ok '... has whole events again later' python '
e = events(files("full")[0])
assert e[-1]["step"] > 10 and len(e) > 3'
else
    skip 'a training whose monitors cannot be written' 'no prlimit here'
fi
done_testing
