#!/bin/sh
# dit-info and tstream-cat: what they show, take and refuse. SPDX-License-Identifier: MIT
# shellcheck disable=SC2317 # functions that are arguments of others
. tests/tap.sh

make="$BUILD/tests/tools/make-stream"
a=$tmp/a
"$make" images 100 16 7 >"$a"
"$make" latents 30 8 7 >"$tmp/latents"
size=$(wc -c <"$a")

# The numbers of the records of the stream on stdin, on one line.
ids() {
    cat >"$tmp/ids"
    python 'print(*read(tmp + "ids")[0]["id"])'
}
numbers() {
    seq -s ' ' "$1" "$2"
}

exits 'info of a file' 0 dit-info "$a"
for line in "$a: images" 'tensors        label I64 []' 'image U8 [16, 16, 3]' \
    'records        100' 'frames         15' 'segments       1' 'classes        2: 0 a, 1 b' \
    "bytes          $size compressed"; do
    ok "... prints: $line" grep -qF -- "$line" "$tmp/out"
done
dit-info "$a" >"$tmp/by-table"
dit-info --check "$a" >"$tmp/by-reading"
is 'info says from the tables what --check finds by reading' \
    "$(cat "$tmp/by-table"; echo '  checked        every frame is good')" \
    "$(cat "$tmp/by-reading")"
# shellcheck disable=SC2002 # a pipe is the point
is 'info says of a pipe what it says of the file' "$(cat "$a" | dit-info | sed 1d)" \
    "$(sed 1d "$tmp/by-reading")"
is 'info reads the tables of a file on standard input' "$(dit-info <"$a" | sed 1d)" \
    "$(sed 1d "$tmp/by-table")"
is 'info --json prints an object a file' \
    "$(dit-info --json "$a" "$tmp/latents" | python '
for line in sys.stdin:
    o = json.loads(line)
    print(o["kind"], o["records"], o["frames"], o["segments"], o["tensors"][0]["name"],
          *o["classes"], o["checked"])' | tr '\n' ';')" \
    'images 100 15 1 label a b False;latents 30 5 1 label a b False;'
dit-info -o "$tmp/info" "$a"
ok 'info -o writes to a file' cmp -s "$tmp/info" "$tmp/by-table"

is 'cat passes on all records' "$(tstream-cat "$a" | ids)" "$(numbers 0 99)"
tstream-cat -q -o "$tmp/joined" "$a" "$a"
is 'cat joins two streams into one segment' "$(dit-info "$tmp/joined" | grep -E 'records|segments' | tr -s ' \n' ' ')" \
    ' records 200 segments 1 '
is 'cat states the count of what it joins' "$(dit-info "$tmp/joined" | sed -n 's/^  count *//p')" 200
cat "$a" "$a" >"$tmp/two"
is 'two streams that cat(1) joins' \
    "$(dit-info "$tmp/two" | grep -E 'records|segments' | tr -s ' \n' ' ')" \
    ' records 200 segments 2 '
is '... have all records' "$(ids <"$tmp/two")" "$(numbers 0 99) $(numbers 0 99)"
is 'cat takes a range' "$(tstream-cat --records 5:50 "$a" | ids)" "$(numbers 5 49)"
is '... from the start' "$(tstream-cat -r :3 "$a" | ids)" '0 1 2'
is '... to the end' "$(tstream-cat -r 97: <"$a" | ids)" '97 98 99'
is '... over two inputs' "$(tstream-cat -r 98:102 "$a" "$a" | ids)" '98 99 0 1'
is '... of nothing' "$(tstream-cat -r 50:50 "$a" | dit-info | grep -c 'records        0')" 1
for i in 1 2 3; do
    tstream-cat --part $i/3 -r 10: "$a" >"$tmp/part$i"
done
is 'the parts are the whole' "$(tstream-cat "$tmp"/part? | ids)" "$(numbers 10 99)"
is 'the parts have equal size' "$(dit-info "$tmp"/part? | sed -n 's/ *records *//p' |
    tr '\n' ' ')" '30 30 30 '
is 'cat --rechunk sets the size of frames' \
    "$(tstream-cat --rechunk 40 "$a" | dit-info | grep -E 'records|frames' | tr -s ' \n' ' ')" \
    ' records 100 frames 3 '
is '... 0: what makes 2 MiB' \
    "$(tstream-cat --rechunk 0 "$a" | tee "$tmp/one" | dit-info | grep -c 'frames *1$')" 1
is '... and keeps the records' "$(ids <"$tmp/one")" "$(numbers 0 99)"
is 'cat --tensors picks' "$(tstream-cat -t label,id "$a" | dit-info | grep -c -E 'U8|I64|U32')" 2
tstream-cat -z 1 "$a" >"$tmp/fast"
tstream-cat -z 19 --rechunk 0 "$a" >"$tmp/small"
ok 'cat --level makes it smaller' \
    test "$(wc -c <"$tmp/small")" -lt "$(wc -c <"$tmp/fast")"
version=$(tstream-cat --version | sed 's/.* //')
is 'cat adds itself to the history' "$(tstream-cat -r :1 "$a" | tstream-cat | dit-info |
    sed -n '/history/,$p' | sed '$d')" \
    "  history        tstream-cat $version: -r :1 $a
                 tstream-cat $version:"
is '... not with --no-pg' "$(tstream-cat --no-pg "$a" | dit-info | grep -c history)" 0

exits 'info of a missing file' 66 dit-info "$tmp/none"
says '... names it' "dit-info: $tmp/none: cannot open: No such file or directory"
exits 'cat of a missing file' 66 tstream-cat "$tmp/none"
exits 'info of nothing' 65 dit-info
says 'says that it is empty' 'standard input: byte 0: the stream is empty: it has no begin frame'
exits 'cat of a page of the manual' 65 tstream-cat man/tstream.5
says '... says where and what' "man/tstream.5: byte 0: not a tensor stream"
head -c $((size / 2)) "$a" >"$tmp/cut"
exits 'info of a cut stream' 65 dit-info "$tmp/cut"
says '... says where' "$tmp/cut: byte $((size / 2)): cut short within the frame that begins at byte"
exits 'cat of a cut stream' 65 tstream-cat "$tmp/cut"
cp "$tmp/out" "$tmp/cut-again"
exits 'info of what cat makes of a cut stream' 65 dit-info "$tmp/cut-again"
says 'says that the end is missing' 'cut short: there is no end frame'
exits 'cat -o of a cut stream' 65 tstream-cat -o "$tmp/never" "$tmp/cut"
ok '... leaves no file' test ! -e "$tmp/never"
# shellcheck disable=SC2016 # for the inner shell
exits 'cat --part of a pipe' 66 sh -c 'cat "$1" | tstream-cat --part 1/2' sh "$a"
exits 'cat of streams that differ' 65 tstream-cat "$a" "$tmp/latents"
says 'names the one that differs' "$tmp/latents: differs from the first input: the tensors differ"
exits 'info of a bad and a good file' 65 dit-info "$tmp/cut" "$a"
ok '... describes the good one' grep -q 'records        100' "$tmp/out"
exits 'cat --tensors of a missing tensor' 65 tstream-cat --tensors id,nose "$a"
says 'names it' '"nose"'
exits 'cat --records with one number' 64 tstream-cat --records 7 "$a"
exits 'cat --records backwards' 64 tstream-cat --records 7:5 "$a"
says 'is refused by its text' "option --records: expected FROM:TO, found '7:5'"

full() {
    "$@" >/dev/full
}
exits 'cat to a full device' 74 full tstream-cat "$a"
exits 'info to a full device' 74 full dit-info "$a"
exits 'cat into a folder that is not there' 73 tstream-cat -o "$tmp/no/such" "$a"
for i in 1 2 3 4 5 6; do
    cat "$tmp/joined" "$tmp/joined"
done >"$tmp/long"
tstream-cat "$tmp/long" 2>"$tmp/err" | head -c 100 >/dev/null
is 'cat ends quietly when its reader leaves' "$(cat "$tmp/err")" ''
# shellcheck disable=SC2016 # for the inner shell
exits 'cat to a closed standard output' 74 sh -c 'tstream-cat "$1" >&-' sh "$a"
done_testing
