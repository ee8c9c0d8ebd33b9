#!/bin/sh
# probe.sh NVCC [OPTION]...: whether nvcc compiles on this system. It knows the compilers and the C
# libraries of its own time and older ones. Prints its first error where it doesn't.
# SPDX-License-Identifier: MIT
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
echo '__global__ void nothing() {}' >"$folder/probe.cu"
"$@" -c -o "$folder/probe.o" "$folder/probe.cu" >"$folder/errors" 2>&1 && exit 0
grep -m 1 -i error "$folder/errors" || echo 'it fails without a message'
exit 1
