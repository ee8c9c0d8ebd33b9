# Measures the memory of dit-sample with weights of full size, and how much of the file it reads.
# SPDX-License-Identifier: MIT
#
#     full-size.py FOLDER    with the programs on the PATH; see full-size.sh
import os
import subprocess
import sys
import time

import torch

from dit_xl import xl_state

folder = sys.argv[1]
vae = f'{folder}/sd-vae-ft-ema.safetensors'


def forget(path):
    # Drops the file from the page cache.
    with open(path, 'rb') as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def run(*command):
    # Runs a command; returns seconds, peak memory and bytes read from the disk.
    start, peak = time.time(), 0
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while True:
        with open(f'/proc/{process.pid}/status') as status:  # rusage would count the parent's too
            peak = max([peak] + [int(line.split()[1]) * 1024 for line in status
                                 if line.startswith('VmHWM')])
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            assert status == 0, command
            return time.time() - start, peak, usage.ru_inblock * 512
        time.sleep(0.02)


for side in (256, 512):
    weights = f'{folder}/DiT-XL-2-{side}x{side}.pt'
    torch.save(xl_state(tokens=(side // 16) ** 2), weights)
    size = os.path.getsize(weights)
    for what, options in (('one step to latents', ['--latents']), ('one step to an image',
                                                                    ['--vae', vae])):
        forget(weights)
        seconds, peak, read = run('dit-sample', '-q', '--weights', weights, '--steps', '1',
                                  '--count', '1', *options)
        print(f'DiT-XL/2 at {side}, {what}: {seconds:.1f} s; weights {size / 1e9:.2f} GB, peak '
              f'memory {(peak - size) / 1e9:+.2f} GB of that, read from disk '
              f'{read / size:.3f} times the file')
    os.remove(weights)
