#!/bin/sh
# shard-latents: every record once, in a random order that depends on the seed alone.
# SPDX-License-Identifier: MIT
# shellcheck disable=SC2317 # functions that are arguments of others
. tests/tap.sh
export TMPDIR="$tmp/temporary"
mkdir "$TMPDIR"
make_stream="$BUILD/tests/tools/make-stream"

# ids(FOLDER) returns the records' ids in the order of the shards.
python_prelude="
def ids(folder):
    shards = [read(f)[0] for f in sorted(glob.glob(tmp + folder + '/shard-*.tstream'))]
    for t in shards:
        assert (t['label'] == t['id'] % 10).all()
        bits = t['id'][:, None] * np.uint32(2654435761) + np.arange(16, dtype='u4') * np.uint32(2246822519)
        assert (t['latent_mean'].reshape(-1, 16) == (bits >> 12) / 2.0 ** 24).all()
    return np.concatenate([t['id'] for t in shards]).astype(int)
"
count_files() {
    find "$1" -type f | wc -l
}

n=6000
"$make_stream" latents $n 2 50 >"$tmp/latents"
exits 'latents on standard input' 0 sh -c "shard-latents -o '$tmp/a/b' --shards 4 --seed 3 <'$tmp/latents'"
is '... become shards whose paths are printed' "$(cat "$tmp/out")" "$tmp/a/b/shard-00000.tstream
$tmp/a/b/shard-00001.tstream
$tmp/a/b/shard-00002.tstream
$tmp/a/b/shard-00003.tstream"
ok '... are there once, whole, in shards of one size' python "
i = ids('a/b')
assert len(i) == $n and (np.sort(i) == np.arange($n)).all()
for k in range(4):
    t, m = read(tmp + '/a/b/shard-0000%d.tstream' % k)
    assert len(t['id']) == $n // 4 and m['count'] == str($n // 4) and m['kind'] == 'latents'
    assert m['classes'] == '[\"a\",\"b\"]' and m['pg.0'].startswith('shard-latents '), m
"
ok 'every shard knows its place in the set' python "
sets = set()
for k in range(4):
    m = read(tmp + '/a/b/shard-0000%d.tstream' % k)[1]
    assert (m['shard.index'], m['shard.count'], m['shard.records']) == (str(k), '4', '$((n / 4))'), m
    sets.add(m['shard.set'])
assert len(sets) == 1 and len(sets.pop()) == 16, sets
"
ok 'the order of the records is uniform' python "
i = ids('a/b')
counts = np.histogram2d(i, np.arange($n), 12)[0]
chi = ((counts - $n / 144) ** 2 / ($n / 144)).sum() # 121 degrees of freedom, deviation 15.6
assert 121 - 5 * 15.6 < chi < 121 + 5 * 15.6, chi
runs = (np.diff(i) == 1).sum()
assert runs < 10, runs
"
exits 'a file in little memory' 0 shard-latents -o "$tmp/small" --records-per-shard 1700 \
    --memory 100K --seed 3 "$tmp/latents"
is '... becomes shards of the given number of records' "$(wc -l <"$tmp/out")" 4
exits 'shards of a given size' 0 shard-latents -o "$tmp/size" --shard-size 64K --seed 3 "$tmp/latents"
ok 'one seed gives one order, whatever the memory and the shards' python "
a = ids('a/b')
assert (a == ids('small')).all() and (a == ids('size')).all()
assert [len(read(tmp + '/small/shard-0000%d.tstream' % k)[0]['id']) for k in range(4)] == [1700] * 3 + [900]
assert len(read(tmp + '/size/shard-00000.tstream')[0]['id']) == 65536 // (4 * 4 * 8 + 8 + 4)
"
exits 'another seed' 0 shard-latents -o "$tmp/other" --seed 4 "$tmp/latents"
is '... makes one shard of little data' "$(cat "$tmp/out")" "$tmp/other/shard-00000.tstream"
ok '... gives another order' python "assert (ids('other') != ids('a/b')).any()"
"$make_stream" latents 0 2 50 >"$tmp/none"
exits 'several inputs, one of them empty' 0 shard-latents -o "$tmp/two" --shards 7 \
    "$tmp/latents" "$tmp/none" "$tmp/latents"
ok '... are shuffled together' python "
i = ids('two')
assert (np.sort(i) == np.repeat(np.arange($n), 2)).all()
assert 0.4 < (np.histogram(i[:$n], 2)[0] / $n).min()"
set_of() {
    dit-info "$1" | grep 'shard[.]set'
}
exits 'the same command in less memory' 0 shard-latents -o "$tmp/again" --shards 4 --memory 100K --seed 3 "$tmp/latents"
is '... makes the same set' "$(set_of "$tmp/again/shard-00003.tstream")" \
    "$(set_of "$tmp/a/b/shard-00000.tstream")"
exits 'the same command with one record less' 0 sh -c "
    tstream-cat -r 1: '$tmp/latents' | shard-latents -o '$tmp/less' --shards 4 --seed 3"
is 'another seed, division or content makes another set' "$(
    for set in a/b small size other two less; do set_of "$tmp/$set/shard-00000.tstream"; done | sort -u | wc -l
)" 6
exits 'shards joined by cat' 0 sh -c "cat '$tmp'/a/b/*.tstream | dit-info --check"
ok '... are one stream' grep -q 6000 "$tmp/out"
exits 'shards are read as streams' 0 sh -c "cat '$tmp'/two/*.tstream | zstd -tq"
is 'shuffling leaves no temporary file' "$(count_files "$TMPDIR")" 0

exits 'a folder that holds shards' 73 shard-latents -o "$tmp/two" "$tmp/latents"
says 'is refused with a hint at --force' "--force replaces"
exits '--force' 0 shard-latents -f -o "$tmp/two" --shards 2 "$tmp/latents"
is '... replaces all shards of the folder' "$(count_files "$tmp/two")" 2
exits 'no records' 65 shard-latents -o "$tmp/x" "$tmp/none"
says 'is refused with what was expected' 'expected records to shuffle, found none'
exits 'too little memory' 64 shard-latents -o "$tmp/x" --memory 200 "$tmp/latents"
says 'is refused with the amount' "can't be shuffled in 200 bytes"
exits 'memory for too few runs' 64 shard-latents -o "$tmp/x" --memory 2K "$tmp/latents"
says 'is refused with a hint' 'increase --memory'
exits 'two options that split' 64 shard-latents -o "$tmp/x" --shards 2 --shard-size 1M "$tmp/latents"
exits 'a missing input' 66 shard-latents -o "$tmp/x" /nonexistent
"$make_stream" images 3 8 3 >"$tmp/images"
exits 'inputs that differ' 65 shard-latents -o "$tmp/x" "$tmp/latents" "$tmp/images"
says 'are refused by name' "$tmp/images: the tensors differ: "
head -c 100000 "$tmp/latents" >"$tmp/cut"
exits 'an input that is cut short' 65 shard-latents -o "$tmp/x" --memory 100K "$tmp/cut"
: >"$tmp/file"
exits "a folder that can't be made" 73 shard-latents -o "$tmp/file/x" "$tmp/latents"
exits 'a missing temporary folder' 73 env TMPDIR=/nonexistent \
    shard-latents -o "$tmp/x" --memory 100K "$tmp/latents"
is 'no refused command leaves a shard or a temporary file' "$(find "$tmp/x" "$TMPDIR" -type f)" ''
is "paths that can't be printed end it with status 74" \
    "$(shard-latents -o "$tmp/full" "$tmp/latents" 2>/dev/null >/dev/full; echo $?)" 74

mkfifo "$tmp/fifo"
for signal in HUP:129 INT:130 TERM:143; do
    # A shell ignores INT for what it puts in the background; env undoes that.
    env --default-signal=INT shard-latents -o "$tmp/signal" --memory 100K <"$tmp/fifo" 2>/dev/null &
    exec 3>"$tmp/fifo"
    cat "$tmp/latents" >&3
    kill "-${signal%:*}" $!
    wait $! 2>/dev/null
    is "SIG${signal%:*} while it reads" $? "${signal#*:}"
    exec 3>&-
    is "... leaves nothing" "$(find "$tmp/signal" "$TMPDIR" -type f)" ''
done
shard-latents -o "$tmp/signal" --records-per-shard 1 "$tmp/latents" >"$tmp/printed" &
while [ ! -s "$tmp/printed" ] && kill -0 $! 2>/dev/null; do sleep 0.05; done
kill $!
wait $! 2>/dev/null
is 'SIGTERM while it writes' $? 143
ok '... leaves shards and nothing else' sh -c "
    find '$tmp/signal' -name 'shard-*.tstream' | grep -q . &&
        ! find '$tmp/signal' -type f ! -name 'shard-*.tstream' | grep ."
ok '... leaves all printed shards whole' sh -c "[ -s '$tmp/printed' ] && xargs -n 1 zstd -tq <'$tmp/printed'"

if [ "$(id -u)" = 0 ] && mkdir "$tmp/disk" && mount -t tmpfs -o size=100k none "$tmp/disk" 2>/dev/null; then
    exits 'a full disk under the shards' 74 shard-latents -z -7 -o "$tmp/disk/s" "$tmp/latents"
    says 'is told' 'No space left on device'
    is '... leaves nothing' "$(count_files "$tmp/disk")" 0
    exits 'a full disk under the temporary file' 74 env TMPDIR="$tmp/disk" \
        shard-latents -o "$tmp/x" --memory 100K "$tmp/latents"
    says 'is told' 'No space left on device'
    is '... leaves nothing' "$(find "$tmp/disk" "$tmp/x" -type f)" ''
    umount "$tmp/disk"
else
    skip 'a full disk' 'needs root and mount'
fi
# Records that are held out.
exits 'a hundredth held out' 0 shard-latents -o "$tmp/h" --seed 3 --shards 3 --hold-out 1% "$tmp/latents"
says 'is told' "60 of $n records are held out, in $tmp/h/held-out/latents.tstream"
is '... is not among the shards that are printed' "$(wc -l <"$tmp/out")" 3
ok '... and the shards together hold each record once' python "
held, m = read(tmp + 'h/held-out/latents.tstream')
assert len(held['id']) == 60 and m['count'] == '60' and 'shard.set' not in m and m['classes'] == '[\"a\",\"b\"]'
assert (np.sort(np.concatenate([held['id'], ids('h')])) == np.arange($n)).all()
assert (np.histogram(held['id'], 3, (0, $n))[0] > 6).all(), held['id']"
"$make_stream" latents $((n / 2)) 2 70 >"$tmp/half"
exits 'records in another order, some twice,' 0 shard-latents -o "$tmp/h2" --seed 3 --hold-out 90 --memory 100K "$tmp/half" "$tmp/latents"
ok '... are held out by what they hold, twice or not at all' python "
held, first = read(tmp + 'h2/held-out/latents.tstream')[0]['id'], read(tmp + 'h/held-out/latents.tstream')[0]['id']
assert 90 <= len(held) <= 91 and not set(held) & set(ids('h2')), len(held)
assert all(list(held).count(i) == (2 if i < $n // 2 else 1) for i in held)
few, many = sorted([set(held), set(first)], key=len)
assert few <= many"
exits 'another seed of what is held out' 0 shard-latents -q -o "$tmp/h3" --seed 4 --hold-out 60 "$tmp/latents"
ok '... holds out others' python "
a, b = (set(read(tmp + f + '/held-out/latents.tstream')[0]['id']) for f in ('h', 'h3'))
assert len(b) == 60 and len(a & b) < 10, a & b"
exits 'a folder that has held-out records' 73 shard-latents -o "$tmp/h" "$tmp/latents"
rm "$tmp/h"/*.tstream
exits '... and no shards' 73 shard-latents -o "$tmp/h" "$tmp/latents"
says 'is refused' "$tmp/h/held-out/latents.tstream already exists; --force replaces it"
exits 'the same with --force' 0 shard-latents -f -o "$tmp/h" "$tmp/latents"
ok '... leaves no old ones' test ! -e "$tmp/h/held-out/latents.tstream"
for bad in 0 0% 100% 1.5 x -1 5%% nan; do
    exits "--hold-out=$bad" 64 shard-latents -o "$tmp/bad" "--hold-out=$bad" "$tmp/latents"
    says 'is refused' "--hold-out: expected a number of records, or a share above 0% and below 100%, found '$bad'"
done
exits 'every record held out' 65 shard-latents -o "$tmp/bad" --hold-out $n "$tmp/latents"
says 'is refused' "--hold-out $n leaves none of the $n records for training"
done_testing
