#!/bin/sh
# Builds and tests on other systems than the one they were written on. SPDX-License-Identifier: MIT
# shellcheck disable=SC2317 # functions are arguments of others
. tests/tap.sh
unset MAKEFLAGS MAKELEVEL MFLAGS CC CUDA NVCC SAN

# An nvcc that knows no compiler but g++-1.
cat >"$tmp/nvcc" <<'END'
#!/bin/sh
case "$*" in *'-ccbin g++-1 '*) exit ;; esac
echo 'host_config.h:143: error: #error -- unsupported GNU version!' >&2
exit 1
END
chmod +x "$tmp/nvcc"
dry() { PATH="$tmp:$PATH" make -n "$@"; }
exits 'make with an nvcc that does not know the compiler' 0 dry B="$tmp/build"
ok '... quotes its error' grep -q 'unsupported GNU version' "$tmp/out"
ok '... names the way to give it another compiler' grep -q -e '-ccbin g++-14' "$tmp/out"
ok '... leaves the plug-in out' [ -z "$(grep 'nvcc .*-c ' "$tmp/out")" ]
exits 'make with an nvcc that is given a compiler it knows' 0 dry B="$tmp/build" NVCC='nvcc -ccbin g++-1'
ok '... builds the plug-in' grep -q 'nvcc -ccbin g++-1 .*-c kernels/cuda' "$tmp/out"
exits 'make CUDA=0' 0 dry B="$tmp/build" CUDA=0
ok '... does not mention nvcc' [ -z "$(grep nvcc "$tmp/out")" ]

# A compiler for another processor.
cat >"$tmp/other-cc" <<'END'
#!/bin/sh
echo '#define __aarch64__ 1'
END
chmod +x "$tmp/other-cc"
exits 'make with a compiler for arm64' 0 dry B="$tmp/build" CUDA=0 CC="$tmp/other-cc" programs
ok '... builds no kernels for x86-64' [ -z "$(grep mavx2 "$tmp/out")" ]

# refuses MACRO=VALUE...: what the compiler says of a system of that kind.
refuses() {
    undefined=
    for macro; do undefined="$undefined -U${macro%%=*} -D$macro"; done
    # shellcheck disable=SC2086 # a list of words
    "${CC:-cc}" -E -I. $undefined lib/base/tensor.c
}
exits 'a system of 32 bits' 1 refuses __SIZEOF_POINTER__=4
says 'is refused in words' 'needs a 64-bit system'
exits 'a big-endian processor' 1 refuses __BYTE_ORDER__=__ORDER_BIG_ENDIAN__
says 'is refused in words' 'needs a little-endian processor'

# Neither `column` nor any other program that a small system may lack.
help() {
    mkdir -p "$tmp/bin"
    for program in make sh sed awk; do ln -sf "$(command -v "$program")" "$tmp/bin"; done
    PATH="$tmp/bin" make help
}
exits 'make help with make, sh, sed and awk alone' 0 help
ok '... lists the targets' grep -q '^check  ' "$tmp/out"

# deps LACKING [INSTALLABLE]: install-deps.sh on a Debian that lacks packages, some of which apt has.
deps() {
    cat >"$tmp/bin/dpkg-query" <<END
#!/bin/sh
for package; do :; done
case " \$(cat "$tmp/lacking") " in *" \$package "*) exit 1 ;; esac
printf 'installed '
END
    cat >"$tmp/bin/apt-get" <<END
#!/bin/sh
[ "\$1" = install ] || exit 0
shift
for package; do
    case " -qq -y --no-install-recommends $2 " in *" \$package "*) ;; *) exit 100 ;; esac
done
for package; do sed -i "s/\$package//" "$tmp/lacking"; done
END
    echo 'echo 0' >"$tmp/bin/id" # root
    chmod +x "$tmp/bin/dpkg-query" "$tmp/bin/apt-get" "$tmp/bin/id"
    echo "$1" >"$tmp/lacking"
    PATH="$tmp/bin:$PATH" pipelines/install-deps.sh check
}
exits 'packages that apt has' 0 deps 'zstd mandoc' 'zstd mandoc'
ok '... are installed' [ -z "$(tr -d ' \n' <"$tmp/lacking")" ]
exits 'optional packages that apt does not have' 0 deps 'mandoc gnuplot-nox'
says 'are named' 'optional, and not installed: gnuplot-nox mandoc'
exits 'a package that is needed, beside an optional one that apt does not have' 0 deps 'zstd mandoc' zstd
says 'is installed without the other' 'optional, and not installed: mandoc'
exits 'a package that is needed and that apt does not have' 1 deps 'zstd mandoc' mandoc
says 'is named' 'please install: zstd'

# A test that ends a process by a signal waits forever where that is ignored.
mkdir -p "$tmp/hup/tests"
cat >"$tmp/hup/tests/hup" <<'END'
#!/bin/sh
sh -c 'kill -HUP $$; exit 0'
[ $? = 129 ] && echo 'ok 1 - HUP ends a process' || echo 'not ok 1 - HUP ends a process'
echo 1..1
END
chmod +x "$tmp/hup/tests/hup"
exits 'tests under nohup' 0 env B="$tmp/hup" nohup tests/run hup
done_testing
