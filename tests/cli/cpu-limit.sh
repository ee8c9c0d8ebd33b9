#!/bin/sh
# DIT_CPU limits the instruction set of operations, resampling and float16 conversion.
# SPDX-License-Identifier: MIT
. tests/tap.sh
unset DIT_CPU DIT_VAE

"$BUILD/tests/tools/make-stream" images 5 32 7 >"$tmp/images"
exits 'an unknown instruction set' 64 env DIT_CPU=sse3 decode-images "$tmp/images"
says 'is refused in words' "decode-images: DIT_CPU is 'sse3'; expected generic, avx2, avx512 or avx512bf16"
exits 'an unknown instruction set with --help' 0 env DIT_CPU=sse3 decode-images --help

lacking=0
for isa in generic avx2 avx512 avx512bf16; do
    case $isa in
    generic) has=true ;;
    avx2) has=$(grep -qs '^flags.* avx2' /proc/cpuinfo && echo true || echo false) ;;
    avx512) has=$(grep -qs '^flags.* avx512vl' /proc/cpuinfo && echo true || echo false) ;;
    avx512bf16) has=$(grep -qs '^flags.* avx512_bf16' /proc/cpuinfo && echo true || echo false) ;;
    esac
    if $has; then
        for precision in f32 bf16; do
            exits "DIT_CPU=$isa in $precision" 0 env DIT_CPU=$isa vae-encode -v --device cpu \
                --precision $precision "$tmp/images" -o "$tmp/$isa"
            case $isa-$precision in
            avx512bf16-f32) says 'chooses those operations' 'computing on cpu (avx512, ' ;;
            *-f32) says 'chooses those operations' "computing on cpu ($isa, " ;;
            *) says 'chooses those operations' "computing on cpu ($isa,bf16, " ;;
            esac
        done
        for test in resample tensor; do
            exits "... passes the test $test" 0 env DIT_CPU=$isa "$BUILD/tests/$test"
        done
    else
        lacking=$((lacking + 1))
        exits "DIT_CPU=$isa on a processor without it" 64 env DIT_CPU=$isa vae-encode "$tmp/images"
        says 'is refused in words' "vae-encode: DIT_CPU is $isa, but this processor lacks "
    fi
done
[ $lacking -gt 0 ] || skip 'what the processor lacks is refused' 'this one has all'
done_testing
