# What the tests of dit-train share: `. tests/training.sh`, after tap.sh. SPDX-License-Identifier: MIT
# shellcheck shell=sh disable=SC2154

# One thread each, as other tests run beside this one.
tiny() { # tiny FOLDER ARGUMENT...: trains a small model there
    tiny_run=$tmp/$1
    shift
    dit-train -q -@ 1 --depth 1 --hidden 32 --heads 2 --patch 2 --batch 8 --classes 10 --lr 1e-3 \
        --run "$tiny_run" "$@"
}
same() { # the last checkpoints of two folders, byte for byte
    cmp "$tmp/$1/latest.safetensors" "$tmp/$2/latest.safetensors"
}
same_tensors() { # but not the names of the files that they come from
    python "
a, b = (tensors(tmp + n + '/latest.safetensors') for n in ('$1', '$2'))
assert a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)
"
}
