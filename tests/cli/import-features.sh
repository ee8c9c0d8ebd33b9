#!/bin/sh
# import-features: the folders of extract_features.py, exactly; and what is skipped.
# SPDX-License-Identifier: MIT
. tests/tap.sh

# save(FOLDER, NUMBER, LATENT, LABEL) writes files as extract_features.py does; latent(NUMBER) and
# label(NUMBER) are what the folder f holds.
python_prelude="
def save(folder, number, x, y):
    for name, value in ('features', x), ('labels', y):
        path = '%s/%s/imagenet256_%s' % (tmp, folder, name)
        os.makedirs(path, exist_ok=True)
        if value is not None:
            np.save('%s/%s.npy' % (path, number), value)
def latent(number, side=4):
    return np.random.default_rng(number).standard_normal((1, 4, side, side), dtype=np.float32)
def label(number):
    return number * 7 % 1000
"
# labels STREAM: prints its labels on one line.
labels() {
    python 'print(*read(sys.argv[1])[0]["label"])' "$1"
}

# The folder as it is written, with numbers that sort otherwise as text.
python '
for n in list(range(11)) + [100, 99, 1281166]:
    save("f", n, latent(n), np.array([label(n)]))
'
exits 'a folder of features' 0 import-features "$tmp/f" -o "$tmp/s"
is '... is counted, with the size of its latents' "$(cat "$tmp/err")" 'import-features: 14 images, latents of 4x4x4'
ok '... gives exact latents and labels, in the order of the numbers' python '
t, m = read(tmp + "/s")
numbers = list(range(11)) + [99, 100, 1281166]
assert t["latent"].dtype == np.float32
assert np.array_equal(t["latent"], np.concatenate([latent(n) for n in numbers]))
assert t["label"].tolist() == [label(n) for n in numbers]
'
ok '... gives metadata that says what is known' python '
m = read(tmp + "/s")[1]
assert m.pop("pg.0").startswith("import-features ")
assert m == {"format": "tstream", "version": "1", "kind": "latents", "image_size": "32",
             "latent_scale": "0.18215"}
'
exits 'both folders by name' 0 import-features --no-pg "$tmp/f/imagenet256_features" \
    "$tmp/f/imagenet256_labels/" -z 1
cp "$tmp/out" "$tmp/both"
for threads in 1 5; do
    exits "$threads threads" 0 import-features -@ $threads --no-pg "$tmp/f" -z 1
    ok '... give the same bytes' cmp "$tmp/both" "$tmp/out"
done
for part in 1 2 3; do
    exits "part $part of 3" 0 import-features --part $part/3 "$tmp/f" -o "$tmp/part-$part"
done
ok 'the parts together are the whole' python '
whole = read(tmp + "/s")[0]
for part in range(3):
    t = read(tmp + "/part-%d" % (part + 1))[0]
    assert all(np.array_equal(t[name], whole[name][part::3]) for name in whole)
'
exits 'a part beyond the end' 0 import-features --part 20/20 "$tmp/f" -o "$tmp/part"
is '... is empty' "$(dit-info "$tmp/part" | sed -n 's/^ *records *//p')" 0

# Other types and sizes.
exits '--dtype f16' 0 import-features --dtype f16 "$tmp/f" -o "$tmp/f16"
exits '--dtype bf16' 0 import-features --dtype bf16 "$tmp/f" -o "$tmp/bf16"
ok '--dtype rounds to the nearest' python '
exact = read(tmp + "/s")[0]["latent"]
assert np.array_equal(read(tmp + "/f16")[0]["latent"], exact.astype(np.float16))
bits = exact.view(np.uint32)
nearest = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
assert np.array_equal(read(tmp + "/bf16")[0]["latent"], nearest)
'
python '
save("types", 0, latent(0).astype(np.float64)[0], np.int64(3))
save("types", 1, latent(1).astype(np.float16), np.array([200], np.uint8))
save("types", 2, latent(2), np.array([16777215], np.int32))
save("large", 0, latent(0, 64), np.array([1]))
save("oblong", 0, latent(0)[:, :, :2], np.array([1]))
'
exits 'other types of floats and integers' 0 import-features "$tmp/types" -o "$tmp/types.tstream"
ok '... are read as exactly' python '
t = read(tmp + "/types.tstream")[0]
assert np.array_equal(t["latent"][0], latent(0)[0])
assert np.array_equal(t["latent"][1], latent(1)[0].astype(np.float16).astype(np.float32))
assert t["label"].tolist() == [3, 200, 16777215]
'
exits 'latents of 64x64' 0 import-features -q "$tmp/large" -o "$tmp/s"
ok '... are those of 512 pixels' python 'assert read(tmp + "/s")[1]["image_size"] == "512"'
exits 'oblong latents' 0 import-features -q "$tmp/oblong" -o "$tmp/s"
ok '... have no image size' python 'assert "image_size" not in read(tmp + "/s")[1]'

# Names that the features do not have.
printf 'cat\ndog\n' >"$tmp/classes"
python '
for n, y in enumerate([1, 0, 2, 1]):
    save("two", n, latent(n), np.array([y]))
'
exits '--vae and --classes' 1 import-features --vae sd-vae-ft-ema.safetensors -c "$tmp/classes" \
    "$tmp/two" -o "$tmp/s"
says 'skip a label without a name' \
    "skipped $tmp/two/imagenet256_features/2.npy: label 2, but $tmp/classes has 2 classes"
ok '... are in the metadata' python '
t, m = read(tmp + "/s")
assert t["label"].tolist() == [1, 0, 1]
assert m["autoencoder"] == "sd-vae-ft-ema.safetensors" and m["classes"] == "[\"cat\",\"dog\"]"
'
exits 'a missing file of classes' 66 import-features -c "$tmp/none" "$tmp/two"

# Names of other scripts, and folders within.
python '
for n, name in enumerate(["0-2", "0-17", "1-1", "000001", "1", "a/img00000002", "a/img00000010", "b/1"]):
    for kind in "features", "labels":
        os.makedirs(tmp + "/names/imagenet256_" + kind + "/" + os.path.dirname(name), exist_ok=True)
    save("names", name, latent(n), np.array([n]))
'
exits 'names of several numbers and folders within' 0 import-features "$tmp/names" -o "$tmp/names.tstream"
is '... are read in the order that people count' "$(labels "$tmp/names.tstream")" '0 1 3 4 2 5 6 7'
ln -s . "$tmp/names/imagenet256_features/loop"
exits 'a folder that holds itself' 1 timeout 60 import-features "$tmp/names" -o "$tmp/s"
is '... is read to a bounded depth' "$(labels "$tmp/s")" '0 1 3 4 2 5 6 7'
mkfifo "$tmp/two/imagenet256_features/9.npy"
cp "$tmp/two/imagenet256_labels/0.npy" "$tmp/two/imagenet256_labels/9.npy"
exits 'a FIFO among the features' 1 timeout 60 import-features "$tmp/two" -o "$tmp/s"
says 'is skipped, not waited for' '9.npy: expected a regular file'
rm "$tmp"/two/*/9.npy

# Means and standard deviations.
python '
for n in range(3):
    x = np.concatenate([latent(n)[0], np.abs(latent(n + 9)[0])])
    save("spread", n, x[None] if n == 1 else x, np.array([n]))
save("logvar", 0, np.concatenate([latent(0)[0], -np.abs(latent(1)[0])]), np.array([0]))
'
exits 'arrays of 8 channels' 0 import-features "$tmp/spread" -o "$tmp/s"
is '... are means and standard deviations' "$(cat "$tmp/err")" \
    'import-features: 3 images, latents of 4x4x4: means and standard deviations, now scaled'
ok '... are multiplied by the scale' python '
t = read(tmp + "/s")[0]
scale = np.float32(0.18215)
assert "latent" not in t
for n in range(3):
    assert np.array_equal(t["latent_mean"][n], latent(n)[0] * scale)
    assert np.array_equal(t["latent_std"][n], np.abs(latent(n + 9)[0]) * scale)
'
exits '--no-spread' 0 import-features --no-spread "$tmp/spread" -o "$tmp/s"
ok '... takes arrays of 8 channels for latents' python '
assert np.array_equal(read(tmp + "/s")[0]["latent"][0][:4], latent(0)[0])
'
exits 'log variances' 65 import-features "$tmp/logvar" -o "$tmp/s"
says 'are skipped with what was expected' 'expected a standard deviation; are these log variances, or latents of 8 channels?'

# Labels in one file, as EDM2 has them.
python '
os.makedirs(tmp + "/edm2/00000")
names = ["00000/img-mean-std-%08d.npy" % n for n in range(12)]
for n in range(10):
    np.save(tmp + "/edm2/" + names[n], np.abs(latent(n)[0]).repeat(2, 0))
json.dump({"labels": [[names[n], 7 * n] for n in range(11, 0, -1)]}, open(tmp + "/edm2/dataset.json", "w"))
'
exits 'labels in dataset.json' 1 import-features "$tmp/edm2" -o "$tmp/s"
is '... are those of the latents of the same names' "$(labels "$tmp/s")" '7 14 21 28 35 42 49 56 63'
says 'may lack one' "dataset.json: expected a label of 00000/img-mean-std-00000000.npy, found none"
says 'may be too many' '00000/img-mean-std-00000010.npy: cannot open: No such file or directory'
says 'are no stray file' '3 inputs were skipped'
exits 'a file of labels as operand' 1 import-features "$tmp/edm2" "$tmp/edm2/dataset.json" -o "$tmp/s"
is '... is read like dataset.json' "$(labels "$tmp/s")" '7 14 21 28 35 42 49 56 63'
for list in '{' '[]' '{"labels": null}' '{"labels": [["a.npy", 1], ["b.npy", "x"]]}'; do
    echo "$list" >"$tmp/edm2/dataset.json"
    exits "the labels $list" 65 import-features "$tmp/edm2"
    says 'are refused with what was expected' 'expected {"labels": [["NAME.npy", NUMBER], ...]}, '
done

# Files that cannot be used: each is named, the rest is there.
python '
def put(name, data):
    open(tmp + "/odd/imagenet256_" + name, "wb").write(data)
x, y = latent(0), np.array([1])
save("odd", 0, x, None)
for n in range(1, 20):
    save("odd", n, x, y)
save("odd", 1, latent(1, 8), y)
save("odd", 2, x.astype(np.int64), y)
save("odd", 3, x[0, 0], y)
save("odd", 4, np.where(x == x.max(), np.inf, x), y)
save("odd", 5, np.where(x == x.max(), np.nan, x), y)
save("odd", 6, np.asfortranarray(x), y)
put("features/7.npy", open(tmp + "/odd/imagenet256_features/8.npy", "rb").read()[:-1])
put("features/8.npy", b"")
put("features/9.npy", b"PK\3\4")
os.remove(tmp + "/odd/imagenet256_features/10.npy")
os.mkdir(tmp + "/odd/imagenet256_features/10.npy")
save("odd", 11, x, np.array([-1]))
save("odd", 12, x, np.array([1 << 24]))
save("odd", 13, x, np.array([1, 2]))
save("odd", 14, x, np.array([1.0]))
save("odd", 15, x, np.array([2 ** 64 - 1], np.uint64))
save("odd", 16, np.zeros((2, 4, 4, 4), np.float32), y)
save("odd", 17, np.zeros((1, 4, 256, 256), np.float32), y)
save("odd", 20, None, y)
for name in "018.npy", "x.txt", "18.npy.tmp", ".npy", ".1.npy":
    put("features/" + name, b"")
put("labels/.DS_Store", b"")
'
exits 'importing odd files' 1 import-features -v "$tmp/odd" -o "$tmp/s"
is '... gives those that fit' "$(labels "$tmp/s")" '1 1'
says 'counts the others' 'import-features: 25 inputs were skipped'
skipped() { # skipped NAME NUMBER REASON
    says "skips $1" "skipped $tmp/odd/imagenet256_features/$2.npy: $3"
}
labels=$tmp/odd/imagenet256_labels
skipped 'a feature without a label' 0 "$labels/0.npy: cannot open: No such file or directory"
skipped 'a label without a feature' 20 'cannot open: No such file or directory'
skipped 'a latent of another size' 1 'expected a latent of [4, 4, 4] like the first, found [4, 8, 8]'
skipped 'integers' 2 'expected floats of [1, C, h, w], found I64 [1, 4, 4, 4]'
skipped 'an array of another rank' 3 'expected floats of [1, C, h, w], found F32 [4, 4]'
skipped 'an infinity' 4 'value '
says 'tells which value is infinite' 'is inf, expected a finite F32'
says 'tells which value is no number' 'is nan, expected a finite F32'
skipped 'Fortran order' 6 'byte 44: expected False, which is C order, found True'
skipped 'a cut file' 7 'byte 128: expected 256 bytes of data (F32 [1, 4, 4, 4]), found 255'
skipped 'an empty file' 8 'expected a .npy file, found an empty one'
skipped 'a foreign file' 9 'byte 0: expected a .npy file'
skipped 'a folder in place of a file' 10 'expected a regular file'
skipped 'a negative label' 11 "$labels/11.npy: expected a label from 0 to 16777215, found -1"
skipped 'a huge label' 12 "$labels/12.npy: expected a label from 0 to 16777215, found 16777216"
skipped 'two labels' 13 "$labels/13.npy: expected an integer of shape [1], found I64 [2]"
skipped 'a label of floats' 14 "$labels/14.npy: expected an integer of shape [1], found F64 [1]"
skipped 'an unsigned label' 15 \
    "$labels/15.npy: expected a label from 0 to 16777215, found 1.844674407e+19"
skipped 'two latents' 16 'expected floats of [1, C, h, w], found F32 [2, 4, 4, 4]'
skipped 'a file that is too large' 17 'expected at most '
skipped 'other zeros than those of the label' 018 "$labels/018.npy: cannot open: No such file or directory"
skipped 'a hidden file' .1 'expected a file NAME.npy'
says 'skips a file of another ending' "skipped $tmp/odd/imagenet256_features/x.txt: expected a file NAME.npy"
says 'skips a foreign name among the labels' "skipped $labels/.DS_Store: expected a file NAME.npy"
for part in 1 2 3; do
    import-features --part $part/3 "$tmp/odd" -o "$tmp/part-$part" 2>>"$tmp/parts"
done
is 'the parts of odd files name each skipped one once' "$(grep -c ' skipped /' "$tmp/parts")" 25
python 'save("wide", 0, latent(0), np.array([1])); save("wide", 1, latent(1) * 1e5, np.array([1]))'
exits 'a value that f16 cannot hold' 1 import-features --dtype f16 "$tmp/wide" -o "$tmp/s"
says 'is told with the type' 'expected a finite F16'

exits '--strict with an odd name' 65 import-features --strict "$tmp/odd" -o "$tmp/strict"
says 'stops there and names it' ': expected a file NAME.npy'
for name in 018.npy x.txt 18.npy.tmp .npy .1.npy; do
    rm "$tmp/odd/imagenet256_features/$name"
done
rm "$labels/.DS_Store"
exits '--strict with a missing label' 66 import-features --strict "$tmp/odd" -o "$tmp/strict"
says 'stops there and names it' "import-features: $labels/0.npy: cannot open: No such file or directory"
ok '... leaves no file' test ! -e "$tmp/strict"
exits '--strict with a value that f16 cannot hold' 65 import-features --strict --dtype f16 "$tmp/wide"
says 'stops there and names the file' "import-features: $tmp/wide/imagenet256_features/1.npy: value "

# Folders that cannot be used.
exits 'no argument' 64 import-features
exits 'three folders' 64 import-features a b c
exits 'a missing folder' 66 import-features "$tmp/none"
says 'is named' "$tmp/none: cannot open: No such file or directory"
exits 'a folder of files alone' 66 import-features "$tmp/f/imagenet256_features"
says 'is refused with what was expected' 'imagenet256_features: expected a folder NAME_features or a file dataset.json in it, found none'
mkdir -p "$tmp/one/a_features" "$tmp/one/b_labels"
exits 'a folder without features' 65 import-features "$tmp/one/a_features" "$tmp/one/b_labels"
says 'is refused with what was expected' 'a_features: expected files NAME.npy, found none'
cp "$tmp/f/imagenet256_features/0.npy" "$tmp/one/a_features"
exits 'features without a folder of labels' 66 import-features "$tmp/one"
says 'is refused with the name of the missing folder' "$tmp/one/a_labels: cannot open: No such file or directory"
mkdir "$tmp/one/c_features"
exits 'two folders of features in one' 64 import-features "$tmp/one"
says 'are refused by name' "$tmp/one: expected one folder NAME_features, found "
exits 'labels given as features' 65 import-features "$tmp/f/imagenet256_labels" \
    "$tmp/f/imagenet256_features"
says 'are refused with what was expected' "none of 14 latents can be read; the first: $tmp/f/imagenet256_labels/0.npy: expected \
floats of [1, C, h, w], found I64 [1]"
exits 'an output in a missing folder' 73 import-features "$tmp/f" -o "$tmp/no/where"

# What follows takes them.
import-features -q "$tmp/f" >"$tmp/s"
shard-latents -q --shards 2 -o "$tmp/shards" <"$tmp/s" >"$tmp/list"
is 'shard-latents takes imported latents' "$(wc -l <"$tmp/list") $(tstream-cat -q "$tmp"/shards/* | dit-info |
    sed -n 's/^ *records *//p')" '2 14'
train() { # train "IMPORT ARGUMENTS" RUN ARGUMENT...: on what import-features makes of its arguments
    train_import=$1
    train_run=$tmp/$2
    shift 2
    # shellcheck disable=SC2086 # words
    import-features -q $train_import 2>"$tmp/skipped" | dit-train --hidden 16 --depth 1 --heads 1 \
        --patch 4 --batch 4 -@ 1 --device cpu --run "$train_run" "$@"
}
exits 'training on imported latents' 0 train "$tmp/f" run
says "takes them for those of ImageNet's classes" ' 1000 classes, latents 4x4x4'
exits 'training on an imported label beyond --classes' 65 train "$tmp/f" run70 --classes 70
says 'names the label' ', but the model has 70 classes'
exits 'training on imported latents with named classes' 0 train "-c $tmp/classes $tmp/two" run2 --batch 3
says 'takes their number' ' 2 classes, latents 4x4x4'
done_testing
