#!/bin/sh
# decode-images: pictures and labels out of tar and zip archives, and archives that mean harm.
# SPDX-License-Identifier: MIT
# shellcheck disable=SC2317 # functions that are arguments of others
. tests/tap.sh

"$BUILD/tests/tools/draw-shapes" -q -o "$tmp/shapes" -n 12 -s 40
star=$tmp/shapes/star/000007.jpg
mkdir "$tmp/tars"
tar -cf "$tmp/shapes.tar" --sort=name -C "$tmp/shapes" .
exits 'a tar' 0 decode -s 32 --no-pg "$tmp/shapes.tar" -o "$tmp/s"
if grep -q 'rebuild dit-tools with libarchive' "$tmp/err"; then
    skip 'pictures in archives are decoded' 'built without libarchive'
    done_testing
fi
for class in "$tmp/shapes"/*; do
    tar -cf "$tmp/tars/${class##*/}.tar" --sort=name -C "$class" .
done
tar -cf "$tmp/nested.tar" --sort=name -C "$tmp/tars" .
(cd "$tmp/shapes" && find . -type f | LC_ALL=C sort | zip -q "$tmp/shapes.zip" -@)
gzip -k "$tmp/shapes.tar"
decode -q -s 32 --no-pg "$tmp/shapes" -o "$tmp/folder"
# same NAME COMMAND...: whether its stream is the folder's
same() {
    tap_case=$1
    shift
    "$@" >"$tmp/s" 2>"$tmp/err" && cmp -s "$tmp/s" "$tmp/folder"
    tap_result "$tap_case" $? || tap_comment <"$tmp/err"
}
piped() { # piped STDIN COMMAND...
    piped_in=$1
    shift
    # shellcheck disable=SC2002 # a pipe, not a file
    cat "$piped_in" | "$@"
}
ls "$tmp/shapes" >"$tmp/classes"
for archive in shapes.tar shapes.tar.gz nested.tar shapes.zip tars; do
    same "$archive gives the stream of the folder" decode -s 32 --no-pg "$tmp/$archive"
done
for archive in shapes.tar shapes.tar.gz nested.tar; do
    same "$archive on a pipe gives it too" piped "$tmp/$archive" decode -s 32 --no-pg -
    same '... with the names of the classes' piped "$tmp/$archive" decode -s 32 --no-pg -c "$tmp/classes"
done
ls "$tmp/tars"/*.tar >"$tmp/list"
same 'a list of tars gives it too' piped "$tmp/list" decode -s 32 --no-pg
for way in '' '--no-labels'; do
    for part in 1 2 3; do # shellcheck disable=SC2086 # an option or none
        piped "$tmp/list" decode -q -s 32 --no-pg --part $part/3 $way -o "$tmp/part-$part"
        # shellcheck disable=SC2086
        piped "$tmp/nested.tar" decode -q -s 32 --no-pg --part $part/3 $way -o "$tmp/piece-$part"
        ok "part $part/3 of a tar of tars is that of the list${way:+ $way}" cmp -s "$tmp/part-$part" "$tmp/piece-$part"
    done
done
python 'folder = read(tmp + "folder")[0]["image"]
for i in range(3):
    assert np.array_equal(read(tmp + "part-%d" % (i + 1))[0]["image"], folder[i::3])'
ok 'the parts together hold every picture once' [ $? = 0 ]

# Archives of a few members: make NAME "MEMBER..." writes one. A member is (name, bytes or type).
python_prelude='
import io, tarfile
def make(name, members, **how):
    mode = "w:gz" if name.endswith("gz") else "w"
    with tarfile.open(tmp + name, mode, **how) as t:
        for path, data in members:
            info = tarfile.TarInfo(path)
            if isinstance(data, tuple):
                info.type, info.linkname = data
                t.addfile(info)
            else:
                info.size = len(data)
                t.addfile(info, io.BytesIO(data))
def zipped(name, members):
    with zipfile.ZipFile(tmp + name, "w", zipfile.ZIP_DEFLATED) as z:
        for path, data in members:
            z.writestr(path, data)
star = open(sys.argv[1], "rb").read()
'
found() { # found STREAM: prints its labels and the list of its classes.
    "$python3" -c '
import sys
sys.path.insert(0, "tests/tools")
sys.dont_write_bytecode = True
from stream import read
tensors, meta = read(sys.argv[1])
print(*tensors["label"], meta.get("classes", "none"))' "$1"
}

# Labels of webdatasets and of EDM2.
python '
make("cls.tar", [("a.cls", b"3\n"), ("a.jpg", star), ("b.jpg", star), ("b.txt", b"BMW"), ("c.jpg", star), ("c.cls", b"0"),
                 ("d.jpg", star), ("d.json", b"{\"label\": 2, \"text\": \"x\"}"), ("e.json", b"{}"), ("e.jpg", star)])
make("first.tar", [("a.jpg", star), ("b.jpg", star), ("b.cls", b"1")])
make("word.tar", [("a.jpg", star), ("a.cls", b"dog")])
labels = {"labels": [["00/b.png", 1], ["00/a.png", 5]], "x": [1, {}]}
for name, text in ("edm", json.dumps(labels)), ("none", "{\"labels\": null}"), ("bad", "{\"labels\": [[\"a\", 1.5]]}"):
    zipped(name + ".zip", [("00/a.png", star), ("00/b.png", star), ("dataset.json", text)])' "$star"
exits 'a tar with .cls and .json beside its pictures' 1 decode -s 32 --no-pg "$tmp/cls.tar" -o "$tmp/s"
is '... gives their numbers' "$(found "$tmp/s")" '3 0 2 none'
says 'names a picture without one' 'cls.tar: b.jpg: expected the number of its class'
is '... skips two pictures' "$(grep -c 'skipped ' "$tmp/err") $(grep 'inputs were' "$tmp/err")" '2 decode-images: 2 inputs were skipped'
exits 'the same on a pipe' 1 sh -c "cat '$tmp/cls.tar' | decode -s 32 --no-pg - -o '$tmp/piped'"
ok '... gives the same stream' cmp -s "$tmp/s" "$tmp/piped"
printf '%s\n' v w x >"$tmp/three"
exits 'numbers that the file of classes does not have' 1 decode -s 32 -c "$tmp/three" "$tmp/cls.tar" -o "$tmp/s"
is '... are skipped' "$(found "$tmp/s")" '0 2 ["v","w","x"]'
says 'are named' "a.jpg: label 3, but $tmp/three has 3 classes"
exits 'a number where the first picture has none' 65 decode -s 32 "$tmp/first.tar" -o "$tmp/failed"
says 'is an error' 'first.tar: b.jpg: expected no number as its label, as with the first picture, found 1'
exits 'a .cls without a number' 65 decode -s 32 "$tmp/word.tar" -o "$tmp/failed"
says 'is an error' 'word.tar: a.cls: expected the number of a class, found "dog"'
exits 'a zip with dataset.json' 0 decode -s 32 "$tmp/edm.zip" -o "$tmp/s"
is '... gives its labels' "$(found "$tmp/s")" '5 1 none'
exits 'a dataset.json without labels' 0 decode -q -s 32 "$tmp/none.zip" -o "$tmp/s"
is '... leaves them to the folders' "$(found "$tmp/s")" '0 0 ["00"]'
exits 'a dataset.json that is broken' 65 decode -s 32 "$tmp/bad.zip" -o "$tmp/failed"
says 'is an error' "bad.zip: dataset.json: byte 12: expected a file's name and its class"
exits 'a zip on standard input' 65 sh -c "decode -s 32 - <'$tmp/edm.zip' -o '$tmp/failed'"
says 'is an error' 'standard input: the archive cannot be read to its end: a zip archive must be named as a file'

# What else stands in archives.
python '
make("mixed.tar", [("README", b"read me"), ("d/x.txt", b"BM"), (".hidden/a.jpg", star), ("d/._a.jpg", b"mac"), ("d/plain", star),
                   ("d/B.JPEG", star), ("e/broken.jpg", b"no picture"), ("e/empty.png", b"")])
names = [("caf\u00e9/1.jpg", star), ("caf\u00e9/2.jpg", star)]
make("pax.tar", names, format=tarfile.PAX_FORMAT)
make("gnu.tar", names, format=tarfile.GNU_FORMAT)
zipped("utf8.zip", names)
make("latin.tar", [("caf\udce9/1.jpg", star)], format=tarfile.GNU_FORMAT, encoding="utf-8", errors="surrogateescape")' "$star"
exits 'a tar with other files' 1 decode -s 32 "$tmp/mixed.tar" -o "$tmp/s"
is '... gives its pictures, one without an ending too' "$(found "$tmp/s")" '0 0 ["d","e"]'
says 'names those that are broken' 'mixed.tar: e/broken.jpg: expected an image file, found one'
is '... passes over the others' "$(grep -c 'skipped ' "$tmp/err")" 2
for archive in pax.tar gnu.tar utf8.zip; do
    LC_ALL=C decode -q -s 32 "$tmp/$archive" -o "$tmp/s"
    is "$archive keeps the letters of its names" "$(found "$tmp/s")" '0 0 ["café"]'
done
decode -q -s 32 "$tmp/latin.tar" -o "$tmp/s"
is 'names that are not UTF-8 are names too' "$(found "$tmp/s")" '0 ["caf?"]'
cat "$tmp/pax.tar" "$tmp/gnu.tar" >"$tmp/both.tar"
decode -q -s 32 "$tmp/both.tar" -o "$tmp/s"
is 'tars that were joined are read to the last' "$(found "$tmp/s" | cut -c 1-7)" '0 0 0 0'

# Archives that mean harm.
python '
import struct
evil = [("../up.jpg", star), ("/abs/x.jpg", star), ("a/../../z.jpg", star), ("esc\x1b[31m/x.jpg", b"\xff\xd8\xff"),
        ("link.jpg", (tarfile.SYMTYPE, "/etc/passwd")), ("hard.jpg", (tarfile.LNKTYPE, "../up.jpg")),
        ("dev.jpg", (tarfile.CHRTYPE, "")), ("fifo.jpg", (tarfile.FIFOTYPE, "")), ("dir.jpg", (tarfile.DIRTYPE, ""))]
make("evil.tar", evil)
make("long.tar", [("x" * 5000 + ".jpg", star)])
def bytes_of(name, members):
    make(name, members)
    return open(tmp + name, "rb").read()
deep = bytes_of("1.tar", [("a.jpg", star)])
for i in 2, 3:
    deep = bytes_of("%d.tar" % i, [("%d.tar" % (i - 1), deep)])
make("claims.tar", [("a.jpg", star)])
raw = bytearray(open(tmp + "claims.tar", "rb").read())
raw[124:136] = b"77777777777\0"
raw[148:156] = b" " * 8
raw[148:156] = b"%06o\0 " % sum(raw[:512])
open(tmp + "claims.tar", "wb").write(raw)
with zipfile.ZipFile(tmp + "bomb.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as z:
    with z.open("a/big.jpg", "w", force_zip64=True) as f:
        for i in range(40):
            f.write(star if i == 0 else bytes(1 << 20))
    z.writestr("a/ok.jpg", star)
whole = open(tmp + "shapes.tar", "rb").read()
info = [m for m in tarfile.open(tmp + "shapes.tar") if m.isfile()][5]
open(tmp + "cut-in.tar", "wb").write(whole[:info.offset_data + 100])
open(tmp + "cut-between.tar", "wb").write(whole[:info.offset])
for name in "shapes.zip", "shapes.tar.gz":
    data = open(tmp + name, "rb").read()
    open(tmp + "cut-" + name, "wb").write(data[:len(data) * 2 // 3])
open(tmp + "noise.tar", "wb").write(bytes(range(256)) * 8)
open(tmp + "nothing.tar", "wb").write(bytes(10240))' "$star"
mkdir "$tmp/jail"
exits 'a tar of links, devices and names that lead elsewhere' 1 sh -c "cd '$tmp/jail' && decode -s 32 ../evil.tar -o ../s"
is '... gives its pictures' "$(found "$tmp/s")" '0 1 0 ["..","abs","esc\u001B[31m"]'
is '... writes nothing' "$(ls -A "$tmp/jail")$(find "$tmp" -name up.jpg)" ''
ok '... has its names printed without control characters' [ "$(tr -d '\n' <"$tmp/err" | tr -cd '[:cntrl:]' | wc -c)" = 0 ]
# refused NAME STATUS FILE TEXT: the archive is an error, from a file and from a pipe.
refused() {
    exits "$1" "$2" decode -s 32 "$tmp/$3" -o "$tmp/failed"
    says 'is an error' "$4"
    is '... is one line' "$(wc -l <"$tmp/err")" 1
    [ "${3%.zip}" = "$3" ] || return 0
    exits "$1, on a pipe," "$2" sh -c "cat '$tmp/$3' | decode -s 32 - -o '$tmp/failed'"
    says 'is an error' "${5:-${4#*.tar: }}"
}
refused 'a name of 5004 bytes' 65 long.tar 'long.tar: expected files with names of 1 to 4096 bytes, found one of 5004'
refused 'a third archive in the second' 65 3.tar '3.tar: 2.tar: 1.tar: an archive within 2 others, which is not opened'
exits 'a tar of a tar' 0 decode -q -s 32 "$tmp/2.tar" -o "$tmp/s"
is '... has the class of the inner one' "$(found "$tmp/s")" '0 ["1"]'
refused 'a file that claims 8 GiB' 65 claims.tar 'the archive cannot be read to its end: Truncated'
refused 'a tar that is cut within a picture' 65 cut-in.tar 'the archive cannot be read to its end: Truncated'
refused 'a tar that is cut between pictures' 65 cut-between.tar 'zeros at the end of the archive, found none: it was cut short'
refused 'a zip that is cut' 65 cut-shapes.zip 'the archive cannot be read to its end: '
refused 'a compressed tar that is cut' 65 cut-shapes.tar.gz 'the archive cannot be read to its end: ' \
    'the archive cannot be read to its end: '
exits 'an archive of noise' 65 decode -s 32 "$tmp/noise.tar" -o "$tmp/failed"
says 'is an error' 'noise.tar: the archive cannot be read to its end: Unrecognized archive format'
exits 'an archive that is missing' 66 decode -s 32 "$tmp/gone.tar" -o "$tmp/failed"
says 'is an error' 'gone.tar: cannot open'
exits 'an archive without pictures' 66 decode -s 32 "$tmp/nothing.tar" -o "$tmp/failed"
says 'is an error' 'decode-images: the archives hold no pictures'
ok 'none of these leaves a file' test ! -e "$tmp/failed"
exits 'a picture that unpacks to more than the limit of pixels allows' 1 decode -s 32 --max-pixels 1000000 "$tmp/bomb.zip" -o "$tmp/s"
says 'is skipped' 'bomb.zip: a/big.jpg: a file of 40895799 bytes'
is '... leaves the others' "$(found "$tmp/s")" '0 ["a"]'

# small COMMAND...: in 600 MB of addresses.
small() {
    # shellcheck disable=SC3045 # dash and bash have -v
    (ulimit -v 600000 && "$@")
}
if [ -n "${SAN-}" ]; then
    skip 'a great many files take no memory' 'sanitizers take addresses'
else
    python '
make("one.tar", [("x.txt", b""), ("y.jpg", star)])
head = open(tmp + "one.tar", "rb").read()
p = subprocess.Popen(["zstd", "-q", "-1", "-o", tmp + "many.tar.zst"], stdin=subprocess.PIPE)
for i in range(200):
    p.stdin.write(head[:512] * 1000)
p.stdin.write(head[512:])
p.stdin.close()
p.wait()
p = subprocess.Popen(["zstd", "-q", "-1", "-o", tmp + "bomb.tar.zst"], stdin=subprocess.PIPE)
info = tarfile.TarInfo("zeros.bin")
info.size = 1 << 40
p.stdin.write(info.tobuf(tarfile.GNU_FORMAT))
for i in range(1100):
    p.stdin.write(bytes(1 << 20))
p.stdin.close()
p.wait()' "$star"
    exits 'two hundred thousand files before a picture' 0 small decode -@ 2 -q -s 32 --no-labels "$tmp/many.tar.zst" -o "$tmp/s"
    is '... are passed over' "$(found "$tmp/s")" '-1 []'
    exits 'a tar that expands ten thousandfold' 65 small decode -@ 2 -s 32 "$tmp/bomb.tar.zst" -o "$tmp/failed"
    says 'is an error' 'as pictures never do'
fi
done_testing
