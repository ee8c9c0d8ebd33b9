# Source this in a script that needs a GPU. Without one it ends the script with SKIP; with one that the
# plug-in can't use, with a failure. GPU_FOUND=1 says that this has been done. SPDX-License-Identifier: MIT
# shellcheck shell=sh
if [ -z "${GPU_FOUND:-}" ]; then
    need_why=$(timeout -k 5 60 "${build:-build}/tests/check-ops" --backend cuda --only silu 2>&1 >/dev/null)
    need_status=$?
    export GPU_FOUND=1
else
    need_status=0
fi
if [ $need_status = 64 ]; then
    need_why=$(echo "$need_why" | head -n 1)
    if [ "${DIT_CUDA_PLUGIN:-}" ] || [ -e /dev/nvidia0 ] || nvidia-smi -L 2>/dev/null | grep -q GPU; then
        echo "the GPU can't be used: $need_why" >&2
        exit 1
    fi
    echo "SKIP: nothing was run, as there is no GPU: $need_why"
    exit 0
fi
