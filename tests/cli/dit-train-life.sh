#!/bin/sh
# dit-train over a long life: damaged checkpoints, full disks, leftovers, other data, pictures and
# held-out losses on the way. SPDX-License-Identifier: MIT
# shellcheck disable=SC2317 # functions that are arguments of others
. tests/tap.sh
. tests/training.sh

resume() { # resume FOLDER ARGUMENT...
    resume_run=$tmp/$1
    shift
    dit-train -@ 1 --resume --run "$resume_run" "$@"
}
names() {
    (cd "$tmp/$1" && find . -not -type d | sort | tr '\n' ' ')
}
wait_for() { # wait_for COMMAND...: that it succeeds, or the process $pid ends
    until "$@" 2>/dev/null; do
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.05
    done
}
make_stream="$BUILD/tests/tools/make-stream"
data=$tmp/data.tstream
"$make_stream" latents 64 8 10 >"$data"

# Checkpoints that are damaged.
exits 'a training of 12 steps' 0 tiny whole --steps 12 --save-every 5 --log-every 4 "$data"
before=$(names whole)
is '... leaves the files that it promises' "$before" './0000005.safetensors ./0000010.safetensors ./0000012.safetensors '\
'./config.json ./latest.safetensors ./log.jsonl '
ok 'the checksum of a checkpoint is that of the file with zeros in its place' python '
data, said = open(tmp + "whole/latest.safetensors", "rb").read(), metadata(
    tmp + "whole/latest.safetensors")["crc32"].encode()
zeros = data.replace(b"\"crc32\":\"%s\"" % said, b"\"crc32\":\"00000000\"", 1)
assert said == b"%08x" % zlib.crc32(zeros) and zeros != data, said
'
flip_bit() {
    python "
data = bytearray(open('$1', 'rb').read())
data[len(data) * 2 // 3] ^= 16
open('$1', 'wb').write(data)
"
}
another_step() {
    sed -i 's/"step":"12"/"step":"11"/' "$1"
}
cut_short() {
    truncate -s 300000 "$1"
}
empty() {
    : >"$1"
}
for damage in flip_bit another_step cut_short empty rm; do
    cp -r "$tmp/whole" "$tmp/$damage"
    $damage "$tmp/$damage/0000012.safetensors"
    exits "resuming from a newest checkpoint with damage $damage" 0 resume $damage "$data"
    says 'names it' "$damage/0000012.safetensors"
    says 'says that it takes the one before' "going back to $tmp/$damage/0000010.safetensors"
    ok '... ends as the unbroken run' same whole $damage
    is '... leaves the files of the unbroken run' "$(names $damage)" "$before"
    rm -r "${tmp:?}/$damage"
done
cp -r "$tmp/whole" "$tmp/none"
for file in "$tmp"/none/0*; do flip_bit "$file"; done
exits 'resuming where all checkpoints are damaged' 65 resume none "$data"
says 'says what is wrong with them' '0000005.safetensors: damaged: its CRC-32 is '
says 'says that none is left' 'no checkpoint is left'

# A checkpoint that cannot be read now.
cp -r "$tmp/whole" "$tmp/unread"
rm "$tmp/unread/0000012.safetensors"
mkdir "$tmp/unread/0000012.safetensors"
exits 'resuming where the newest checkpoint cannot be read' 66 resume unread "$data"
says 'names it' 'unread/0000012.safetensors: '
ok '... takes no older one' sh -c "! grep -q 'going back' '$tmp/err'"
rmdir "$tmp/unread/0000012.safetensors"
ln -s 0000012.safetensors "$tmp/unread/0000012.safetensors"
exits 'resuming from a link in a circle' 66 resume unread "$data"
cp -r "$tmp/whole" "$tmp/unlinked"
rm "$tmp/unlinked/latest.safetensors"
exits 'a training in a folder of checkpoints without the link' 64 tiny unlinked --steps 12 "$data"
exits 'resuming in a folder of checkpoints without the link' 0 resume unlinked --steps 13 "$data"
says 'saves a checkpoint' 'saved'
is '... goes on from the newest checkpoint' "$(names unlinked)" './0000010.safetensors ./0000012.safetensors ./0000013.safetensors '\
'./config.json ./latest.safetensors ./log.jsonl '
cp -r "$tmp/whole" "$tmp/old"
sed -i 's/"crc32"/"crc99"/' "$tmp/old/0000012.safetensors"
exits 'resuming from a checkpoint without a checksum' 0 resume old --steps 13 "$data"
ok '... gives the same weights' same_tensors old unlinked

# What killed processes leave.
cp -r "$tmp/whole" "$tmp/strays"
mkdir "$tmp/strays/samples"
dead=999999999 # more than any process has
for stray in .0000013.safetensors.$dead-0.tmp .log.jsonl.$dead-1.tmp .config.json.$dead-0.tmp \
    samples/.0000010.png.$dead-12.tmp .0000014.safetensors.$$-0.tmp .mine.png.$dead-0.tmp \
    samples/.mine.png.$dead-0.tmp 0000013.safetensors.$dead-0.tmp .log.jsonl.$dead-a.tmp \
    notes.tmp; do
    : >"$tmp/strays/$stray"
done
ln -s 0000099.safetensors "$tmp/strays/.latest.new"
exits 'resuming beside what processes left' 0 resume strays "$data"
is '... removes it, but no file of another program or of a process that runs' \
    "$(cd "$tmp/strays" && find . -name '*.tmp' | sort | sed "s/$dead/DEAD/; s/$$/PID/" | xargs)" \
    './.0000014.safetensors.PID-0.tmp ./.log.jsonl.DEAD-a.tmp ./.mine.png.DEAD-0.tmp '\
'./0000013.safetensors.DEAD-0.tmp ./notes.tmp ./samples/.mine.png.DEAD-0.tmp'
mkdir "$tmp/elsewhere"
: >"$tmp/elsewhere/.0000010.png.$dead-12.tmp"
rm -r "$tmp/strays/samples"
ln -s ../elsewhere "$tmp/strays/samples"
exits 'resuming where samples is a link' 0 resume strays "$data"
is '... removes nothing through it' "$(ls -A "$tmp/elsewhere")" ".0000010.png.$dead-12.tmp"

# A link that is not that of the newest checkpoint.
cp -r "$tmp/whole" "$tmp/behind"
ln -sfn 0000010.safetensors "$tmp/behind/latest.safetensors"
touch -h -d '1 hour ago' "$tmp/behind/latest.safetensors"
exits 'resuming where a checkpoint is newer than the link' 0 resume behind "$data"
says 'goes on from it' 'is at step 12 of 12'
touch -h "$tmp/behind/latest.safetensors"
exits 'resuming where the link is newer than the checkpoints' 0 resume behind "$data"
ok '... goes on from where it points' test "$(readlink "$tmp/behind/latest.safetensors")" = 0000012.safetensors
ok '... trains the later steps once more' grep -q 'step     12' "$tmp/err"

ok 'config.json says what is trained, on what and how' python '
c = json.load(open(tmp + "whole/config.json"))
assert c["program"] == "dit-train" and c["version"] and "--save-every" in c["arguments"], c
m, d = c["model"], c["data"]
assert (m["depth"], m["hidden_size"], m["input_size"], m["num_classes"]) == (1, 32, 8, 10), m
t = tensors(tmp + "whole/latest.safetensors")
assert m["parameters"] == sum(a.size for n, a in t.items() if n.startswith("model.")), m
assert c["settings"]["lr"] == "0.001" and c["settings"]["save-every"] == "5", c["settings"]
assert d["records"] == 64 and d["files"][0]["name"] == "data.tstream", d
assert c["compute"]["ranks"] == 1 and c["compute"]["micro_batch"] == 8, c["compute"]
'

# A disk that is full, for a while.
if command -v prlimit >/dev/null; then
    mkfifo "$tmp/said" # a file would be limited, too
    cat "$tmp/said" >"$tmp/err" &
    prlimit --fsize=204800:unlimited dit-train -@ 1 --depth 1 --hidden 32 --heads 2 --patch 2 \
        --batch 8 --classes 10 --lr 1e-3 --save-every 5 --log-every 50 --minutes 1 \
        --run "$tmp/full" "$data" 2>"$tmp/said" &
    pid=$!
    about 'a training on a disk that is full for a while'
    wait_for grep -q 'training goes on' "$tmp/err"
    says 'goes on without a checkpoint' 'saving will be retried'
    prlimit --fsize=100:unlimited --pid $pid
    wait_for grep -q 'the lines will be written later' "$tmp/err"
    says 'goes on without a log' 'full/log.jsonl: File too large; training goes on'
    prlimit --fsize=unlimited --pid $pid
    wait_for grep -q 'saved' "$tmp/err"
    says 'saves with room again' "saved $tmp/full/0"
    is '... warns of the checkpoint once' "$(grep -c 'saving will be retried' "$tmp/err")" 1
    kill -TERM $pid
    wait $pid
    is '... saves once more when it is stopped' $? 75
    wait
    ok '... loses no line of the log' python '
steps = [line["step"] for line in log(tmp + "full") if "partial" not in line]
assert steps == list(range(50, 50 * len(steps) + 1, 50)), steps
'
    ok '... leaves nothing half-written' sh -c "! find $tmp/full -name '*.tmp' | grep -q ."

    # A disk that is full when training ends.
    prlimit --fsize=204800:unlimited dit-train -@ 1 --depth 1 --hidden 32 --heads 2 --patch 2 \
        --batch 8 --classes 10 --steps 3 --run "$tmp/full-end" "$data" 2>"$tmp/said" &
    pid=$!
    cat "$tmp/said" >"$tmp/err" &
    wait_for grep -q 'waits until the checkpoint can be written' "$tmp/err"
    about 'a training on a disk that is full at its end'
    says 'waits' '0000003.safetensors: cannot write at byte 204800'
    prlimit --fsize=unlimited --pid $pid
    wait $pid
    is '... ends when there is room' $? 0
    ok '... and saves' test -e "$tmp/full-end/latest.safetensors"
    prlimit --fsize=204800:unlimited dit-train -@ 1 --depth 1 --hidden 32 --heads 2 --patch 2 \
        --batch 8 --classes 10 --log-every 10 --minutes 1 --run "$tmp/full-stop" "$data" 2>"$tmp/said" &
    pid=$!
    cat "$tmp/said" >"$tmp/err" &
    wait_for test -s "$tmp/full-stop/log.jsonl"
    kill -TERM $pid
    wait_for grep -q 'waits until the checkpoint can be written' "$tmp/err"
    about 'a training that is stopped on a full disk'
    says 'answers the signal at once' 'saving after this step; interrupt again to stop at once'
    kill -TERM $pid
    wait $pid
    is '... ends by the second signal' $? 143
    is '... leaves no half-written checkpoint' "$(find "$tmp/full-stop" -name '*safetensors*')" ''
else
    skip 'a disk that is full for a while' 'no prlimit here'
fi

# A terminal that closes: the reader of the messages goes, and SIGHUP comes.
mkfifo "$tmp/terminal"
head -n 1 "$tmp/terminal" >"$tmp/out" &
dit-train -@ 1 --depth 1 --hidden 32 --heads 2 --patch 2 --batch 8 --classes 10 --minutes 1 \
    --log-every 10 --run "$tmp/hangup" "$data" 2>"$tmp/terminal" &
pid=$!
wait_for test -s "$tmp/hangup/log.jsonl"
kill -HUP $pid
about 'a training whose terminal closes'
wait $pid
is '... stops' $? 75
ok '... saves' test -e "$tmp/hangup/latest.safetensors"

# Between two lines of the log.
exits 'a training that ends before the first line of its log' 0 tiny brief --minutes 0.002 --log-every 1000000 "$data"
ok '... logs a partial line' python '
(line,) = log(tmp + "brief")
assert line["partial"] and line["loss"] > 0 and line["images"] == 8 * line["step"], line
'
exits 'resuming after a partial line' 0 resume brief --steps 10000 --log-every 1000 --minutes 0.01 "$data"
ok '... replaces it by a whole one' python '
lines = log(tmp + "brief")
assert [line["step"] for line in lines if "partial" not in line] == [
    1000 * (i + 1) for i in range(len(lines) - 1)], lines
'
ok 'the log has the time, the epoch and the images seen' python '
import time
for line in log(tmp + "whole"):
    assert abs(line["time"] - time.time()) < 1e4 and line["images"] == 8 * line["step"], line
    assert 1e6 < line["memory"] < 1e12, line
    assert line["epoch"] == line["images"] / 64 and line.get("peak_share", 0) <= 1, line
'

# A folder that is renamed under way.
dit-train -@ 1 --depth 1 --hidden 32 --heads 2 --patch 2 --batch 8 --classes 10 --minutes 1 \
    --log-every 50 --vae dct:4 --sample-every 50 --sample-count 1 --run "$tmp/renamed" "$data" \
    2>"$tmp/err" &
pid=$!
wait_for test -e "$tmp/renamed/samples/0000050.png"
mv "$tmp/renamed" "$tmp/new name"
rm -r "$tmp/new name/samples"
wait_for sh -c "ls '$tmp/new name/samples/'*.png >/dev/null"
kill -TERM $pid
about 'a training whose folder is renamed'
wait $pid
is '... stops as asked' $? 75
ok '... saves in the renamed folder' test -e "$tmp/new name/latest.safetensors"
ok '... draws pictures in the renamed folder' sh -c "ls '$tmp/new name/samples/'*.png >/dev/null"
ok '... makes no folder of the old name' test ! -e "$tmp/renamed"
ok '... says where it saves' grep -q "saved $tmp/new name/0" "$tmp/err"

# A link that cannot be replaced, as a folder has its name.
dit-train -@ 1 --depth 1 --hidden 32 --heads 2 --patch 2 --batch 8 --classes 10 --minutes 1 \
    --save-every 5 --run "$tmp/linked-folder" "$data" 2>"$tmp/err" &
pid=$!
wait_for test -e "$tmp/linked-folder/latest.safetensors"
until rm "$tmp/linked-folder/latest.safetensors" && mkdir "$tmp/linked-folder/latest.safetensors"; do :; done 2>/dev/null
wait_for grep -q 'latest.safetensors: Is a directory' "$tmp/err"
sleep 0.1
ok 'a link that cannot be renamed is not left' test ! -L "$tmp/linked-folder/.latest.new"
rmdir "$tmp/linked-folder/latest.safetensors"
kill -TERM $pid
wait $pid
is '... and made again later' "$(readlink "$tmp/linked-folder/latest.safetensors" | cut -c1-2)" 00

# Checkpoints by time.
exits 'a checkpoint by time after every step' 0 tiny timed --steps 40 --save-every 16 --save-minutes 1e-9 --log-every 40 "$data"
is '... keeps the newest two, and of the older ones that of --save-every' "$(cd "$tmp/timed" && echo 0*)" \
    '0000032.safetensors 0000039.safetensors 0000040.safetensors'
exits 'a training without checkpoints by time' 0 tiny untimed --steps 40 --save-minutes 0 --log-every 40 "$data"
ok '... ends with the same weights' same_tensors timed untimed

exits 'a checkpoint after every step' 0 tiny fast -v --steps 40 --save-every 1 --keep 2 "$data"
says 'waits for the checkpoint before' 'waiting for the checkpoint of step'
printf 'MemAvailable:       10 kB\n' >"$tmp/meminfo"
poor() { # on a machine with little memory
    unshare -rm sh -c "mount --bind $tmp/meminfo /proc/meminfo && exec \"\$@\"" sh "$@"
}
if poor true 2>/dev/null; then
    exits 'a training without memory for a copy of its arrays' 0 poor dit-train -q -v -@ 1 --depth 1 --hidden 32 --heads 2 \
        --patch 2 --batch 8 --classes 10 --lr 1e-3 --steps 12 --save-every 5 --log-every 4 \
        --run "$tmp/poor" "$data"
    says 'says so' 'there is no memory for a copy of the arrays'
    ok '... writes the same checkpoint' same whole poor
else
    skip 'a training without memory for a copy of its arrays writes the same checkpoint' 'cannot show another /proc/meminfo here'
fi

# Data that changes.
mkdir "$tmp/shards"
shard-latents -q --shards 3 -o "$tmp/shards" "$data" >/dev/null
set -- "$tmp"/shards/*.tstream
exits 'a training on three shards' 0 tiny set --steps 3 "$@"
exits 'a training on shards of which one is missing' 65 tiny part --steps 3 "$1" "$3"
exits 'a training on some shards with --partial' 0 tiny part --partial --steps 3 "$1" "$3"
exits 'resuming with the shards that --partial allowed' 0 resume part --steps 4 "$1" "$3"
exits 'resuming with a shard less' 65 resume set --partial --steps 6 "$1" "$3"
says 'names the missing one' "missing: ${2##*/}"
"$make_stream" latents 21 8 10 >"$tmp/shards/new.tstream"
exits 'resuming with another shard' 65 resume set --partial --steps 6 "$1" "$tmp/shards/new.tstream" "$3"
says 'names both' "missing: ${2##*/}; new: new.tstream"
says 'tells of --accept-data' '--accept-data'
exits 'resuming with other data and --accept-data' 0 resume set --partial --accept-data --steps 6 "$1" "$3"
truncate -s -3000 "$3"
exits 'resuming with a shard that is cut short' 65 resume part --steps 6 "$1" "$3"
says 'names it' "${3##*/}"
exits '--cache with little memory' 0 tiny cache --cache --memory 4K --steps 12 "$data"
ok '... trains as with much memory' same_tensors whole cache

# More shards than a process may have open, and than a checkpoint lists.
mkdir "$tmp/many"
python '
import os
for i in range(1100): os.link(tmp + "data.tstream", tmp + "many/%d" % i)
'
few_open() {
    # shellcheck disable=SC3045 # sh on Linux knows it
    (ulimit -n 300 && "$@")
}
exits 'a training on 1,100 shards' 0 few_open tiny crowd --steps 3 "$tmp"/many/*
ok '... lists them as a number and one hash' python '
shards = json.loads(metadata(tmp + "crowd/latest.safetensors")["shards"])
assert shards["files"] == 1100 and len(shards["hash"]) == 16, shards
'
exits 'resuming on 1,100 shards' 0 few_open resume crowd --steps 4 "$tmp"/many/*
exits 'resuming on fewer of the 1,100 shards' 65 few_open resume crowd --steps 5 "$tmp"/many/*[0-8]
says 'tells the numbers' 'not the same data: now 990 files, before 1100'

# Pictures and held-out losses.
"$make_stream" latents 40 8 10 >"$tmp/valid"
show='--vae dct:4 --sample-every 6 --sample-count 2 --valid-every 5 --valid-count 20'
# shellcheck disable=SC2086 # a list of words
exits 'a training with pictures and held-out losses' 0 tiny shown $show --valid "$tmp/valid" --steps 12 \
    --save-every 5 --log-every 4 "$data"
ok '... gives the same weights' same_tensors whole shown
ok '... logs the loss where it is due and at the end' python '
loss = {line["step"]: line.get("valid_loss") for line in log(tmp + "shown")}
assert list(loss) == [4, 8, 12] and loss[4] is None, loss
assert all(0.9 < loss[step] < 1.1 for step in (8, 12)) and loss[12] < loss[8], loss
'
is '... saves its pictures in samples/' "$(cd "$tmp/shown/samples" && echo *)" '0000006.png 0000012.png'
drawn() { # drawn FOLDER STEP VAE: the two pictures of that step are those that dit-sample draws
    dit-sample -q -@ 1 -w "$tmp/$1/$2.safetensors" -n 2 -c 0,5 --steps 50 --vae "$3" |
        tile-images -q -c 2 >"$tmp/sheet.png"
    cmp "$tmp/sheet.png" "$tmp/$1/samples/$2.png"
}
ok '... with 4 channels: saves the pictures that dit-sample draws' drawn shown 0000012 dct:4
"$make_stream" images 16 64 10 | vae-encode -q >"$tmp/channels16"
exits '--sample-every 4 --steps 6, with 16 channels' 0 tiny sixteen --sample-every 4 \
    --sample-count 2 --steps 6 --lr 1e-2 "$tmp/channels16"
ok '... with 16 channels: saves the pictures that dit-sample draws' drawn sixteen 0000006 dct
is '... saves pictures of the last step, too' "$(cd "$tmp/sixteen/samples" && echo *)" \
    '0000004.png 0000006.png'
exits '--sample-every 50 on a pipe that ends after two steps' 0 sh -c "cat $tmp/channels16 |
    dit-train -q -@ 1 --depth 1 --hidden 32 --heads 2 --patch 2 --batch 6 --classes 10 \\
        --sample-every 50 --run $tmp/end"
is '... saves pictures of the second' "$(cd "$tmp/end/samples" && echo *)" 0000002.png
for micro in 8 3; do
    # shellcheck disable=SC2086
    tiny still$micro $show --valid "$tmp/valid" --lr 0 --micro-batch $micro --steps 6 \
        --log-every 6 "$data"
done
ok 'micro-batches change no picture' cmp "$tmp/still8/samples/0000006.png" \
    "$tmp/still3/samples/0000006.png"
ok 'micro-batches change no held-out loss' python '
a, b = (log(tmp + run)[0]["valid_loss"] for run in ("still8", "still3"))
assert a == b, (a, b)
'
exits 'resuming a training with held-out losses' 0 resume shown --steps 13 --valid-every 1 "$data"
says 'prints the held-out loss' '  valid 0.'
exits 'resuming without pictures and held-out losses' 0 resume shown --steps 14 --valid '' --sample-every 0 "$data"
mkdir "$tmp/no-room"
: >"$tmp/no-room/samples"
# shellcheck disable=SC2086
exits "a training whose pictures can't be written" 0 tiny no-room $show --steps 6 "$data"
says 'tells of them' 'no pictures of step 6: '
exits 'pictures of latents that name no autoencoder' 65 tiny wrong --sample-every 1 --steps 1 "$data"
says 'are refused with what is needed' '--sample-every: the latents: no autoencoder is named'
"$make_stream" latents 8 4 10 >"$tmp/small"
exits 'held-out latents of another size' 65 tiny wrong --valid "$tmp/small" --steps 1 "$data"
says 'are refused with both sides' "--valid: the side of the latents is 4 in $tmp/small, but 8 in the latents"
"$make_stream" latents 7 8 7 >"$tmp/seven"
exits 'held-out labels over the classes' 65 tiny wrong --classes 7 --valid "$tmp/valid" --steps 1 \
    "$tmp/seven"
says 'are refused by name' "--valid: $tmp/valid: label "
exits 'a held-out file that is not there' 66 tiny wrong --valid "$tmp/nothing" --steps 1 "$data"

if command -v gnuplot >/dev/null; then
    exits 'plot-training.sh of two trainings' 0 pipelines/plot-training.sh -o "$tmp/curves.png" "$tmp/shown" \
        "$tmp/whole"
    is '... prints nothing' "$(cat "$tmp/out" "$tmp/err")" ''
    is '... draws a PNG' "$(head -c 8 "$tmp/curves.png" | od -An -c | tr -d ' ')" \
        '211PNG\r\n032\n'
    exits 'plot-training.sh of a missing training' 66 pipelines/plot-training.sh "$tmp/nothing"
    says 'names it' "$tmp/nothing/log.jsonl: cannot read"
    exits 'plot-training.sh with an unknown option' 64 pipelines/plot-training.sh --nonsense
else
    skip 'plot-training.sh draws a PNG' 'no gnuplot here'
fi

# What the plot is drawn from, by a gnuplot that keeps its script.
mkdir "$tmp/fake" "$tmp/long"
cat >"$tmp/fake/gnuplot" <<'END'
#!/bin/sh
cp "$1" "$FAKE_SCRIPT"
: >"$(sed -n 's/^set output "\(.*\)"/\1/p' "$1")"
END
chmod +x "$tmp/fake/gnuplot"
plot() { # plot STEPS [FIGURES]: of a log that ends there
    echo "{\"step\":$1,\"loss\":1${2:-}}" >"$tmp/long/log.jsonl"
    FAKE_SCRIPT=$tmp/script PATH="$tmp/fake:$PATH" pipelines/plot-training.sh -o "$tmp/fake.png" "$tmp/long"
}
exits 'plot-training.sh of few steps' 0 plot 2500
ok '... counts in steps' grep -q 'xlabel "step"' "$tmp/script"
exits 'plot-training.sh of many steps' 0 plot 25000
ok '... counts in thousands' grep -q 'xlabel "thousand steps"' "$tmp/script"
is '... draws no FID' "$(grep -c '"fid1"' "$tmp/script")" 0
exits 'plot-training.sh of a log with FID' 0 plot 25000 ',"fid":12.5,"fid_images":5000'
is '... draws it' "$(sed -n 's/^plot \("fid1".*linespoints\) .*/\1/p' "$tmp/script")" '"fid1" using (column(1)/1000):2 with linespoints'

# The reader, and a few steps.
small='--depth 1 --hidden 32 --heads 2 --patch 2 --classes 10'
# shellcheck disable=SC2086 # a list of words
exits '--dry-run' 0 dit-train --dry-run --epochs 2 --run "$tmp/dry" -b 10 $small "$data"
says 'tells how much it has read' '128 latents, 2.00 epochs of 64, in '
says 'tells the time of a step' 'DiT of depth 1, width 32, 2 heads, patch 2: a step of 10 samples takes about 0.'
says 'tells the time of all' ', and 13 take '
ok '... makes no folder' [ ! -e "$tmp/dry" ]
# shellcheck disable=SC2086 # a list of words
exits '--dry-run with --steps' 0 dit-train --dry-run --steps 7 -b 10 $small "$data"
says 'reads what the steps take' '70 latents, 1.09 epochs of 64'
exits '--dry-run of a pipe' 0 sh -c "cat $data | dit-train --dry-run $small"
says 'reads all of it' '64 latents, 1.00 epochs of 64'
exits '--dry-run with --resume' 0 dit-train --dry-run --resume --run "$tmp/whole" "$data"
says 'tries the model of the checkpoint' 'DiT of depth 1, width 32, 2 heads, patch 2: a step of 8 samples'
# shellcheck disable=SC2086 # a list of words
exits '--dry-run of a model that does not fit' 65 dit-train --dry-run -b 10 $small --classes 3 "$data"
says 'is refused as in a training' 'but the model has 3 classes'
exits '--dry-run of a missing file' 66 dit-train --dry-run "$tmp/nothing"

if command -v mpirun >/dev/null && [ -e "$BUILD/lib/dit-tools/dit-mpi.so" ]; then
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
    export ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0"
    # shellcheck disable=SC2086
    exits 'a training with pictures on two ranks' 0 mpirun --oversubscribe -n 2 dit-train -q -@ 1 --depth 1 --hidden 32 \
        --heads 2 --patch 2 --batch 8 --classes 10 $show --valid "$tmp/valid" --lr 0 --steps 6 \
        --log-every 6 --shard-optimizer --save-every 2 --run "$tmp/ranks" "$data"
    ok '... draws the pictures of one rank' cmp "$tmp/still8/samples/0000006.png" \
        "$tmp/ranks/samples/0000006.png"
    is '... writes every file once' "$(names ranks)" './0000002.safetensors '\
'./0000004.safetensors ./0000006.safetensors ./config.json ./latest.safetensors ./log.jsonl '\
'./samples/0000006.png '
    # shellcheck disable=SC2086 # a list of words
    exits '--dry-run on two ranks' 0 mpirun --oversubscribe -n 2 dit-train --dry-run -b 10 $small "$data"
    is '... is reported by one rank' "$(grep -c '64 latents' "$tmp/err")" 1
else
    skip 'a training with pictures on two ranks' 'there is no MPI'
fi
done_testing
