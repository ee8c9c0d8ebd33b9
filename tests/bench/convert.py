# Checks that PyTorch loads what convert-weights writes, and the other way round.
# SPDX-License-Identifier: MIT
#
#     convert.py FOLDER    with `latents` there and the programs on the PATH; see convert.sh
import argparse
import os
import subprocess
import sys
import time

import torch

from dit_xl import xl_state
from weights_files import read_safetensors

folder = sys.argv[1] + '/'


def convert(*arguments):
    # Returns seconds and peak memory in MB, without pages of the mapped file.
    start, most = time.time(), 0
    process = subprocess.Popen(['convert-weights', '-q', *arguments])
    while process.poll() is None:
        with open(f'/proc/{process.pid}/status') as status:
            for line in status:
                if line.startswith('RssAnon:'):
                    most = max(most, int(line.split()[1]) / 1000)
        time.sleep(0.01)
    assert process.returncode == 0, arguments
    return time.time() - start, most


def train(*arguments):
    subprocess.run(['dit-train', '-q', '-@', '1', *arguments], check=True)


def load(path, **options):
    return torch.load(path, weights_only=True, **options)


def same(a, b):
    assert list(a) == list(b)
    for name in a:
        assert a[name].dtype == b[name].dtype and torch.equal(a[name], b[name]), name


def parameters(state):
    return {name: torch.nn.Parameter(value.clone(), requires_grad=name != 'pos_embed')
            for name, value in state.items()}


def optimizer_of(saved):
    # The optimizer that train.py makes, with the state that was saved.
    model = parameters(saved['model'])
    optimizer = torch.optim.AdamW(model.values(), lr=1, weight_decay=1)
    optimizer.load_state_dict(saved['opt'])
    return model, optimizer


def check_trainings():
    train('--depth', '2', '--hidden', '32', '--heads', '2', '--patch', '2', '--batch', '8',
          '--classes', '10', '--lr', '1e-3', '--steps', '12', '--save-every', '6',
          '--run', folder + 'run', folder + 'latents')
    ours = folder + 'run/0000006.safetensors'
    convert(ours, folder + 'train.pt')
    saved = load(folder + 'train.pt')
    mapped = load(folder + 'train.pt', mmap=True)
    for kind in 'model', 'ema':
        same(saved[kind], mapped[kind])
    print('torch.load(weights_only=True), with and without mmap: the same tensors')

    model, optimizer = optimizer_of(saved)
    group, = optimizer.param_groups
    assert (group['lr'], group['betas'], group['weight_decay']) == (1e-3, (0.9, 0.999), 0)
    tensors, metadata = read_safetensors(ours)
    for name, parameter in model.items():
        if name == 'pos_embed':
            assert parameter not in optimizer.state
            continue
        state = optimizer.state[parameter]
        assert state['step'] == 6
        for kind in 'exp_avg', 'exp_avg_sq':
            assert state[kind].numpy().tobytes() == tensors[f'opt.{kind}.{name}'][2]
        parameter.grad = torch.zeros_like(parameter)
    print('torch.optim.AdamW.load_state_dict: accepted, every moment belongs to its parameter')

    torch.save({**saved, 'opt': optimizer.state_dict()}, folder + 'saved.pt')
    convert(folder + 'saved.pt', folder + 'back.safetensors')
    assert read_safetensors(folder + 'back.safetensors') == (tensors, metadata)
    os.mkdir(folder + 'resumed')
    os.rename(folder + 'back.safetensors', folder + 'resumed/latest.safetensors')
    train('--resume', '--run', folder + 'resumed', folder + 'latents')
    with open(folder + 'run/latest.safetensors', 'rb') as a:
        with open(folder + 'resumed/latest.safetensors', 'rb') as b:
            assert a.read() == b.read()
    print('to PyTorch, through torch.save and back: every bit is the same, and the resumed training '
          'ends as the uninterrupted one')

    optimizer.step()
    torch.save({'model': {name: value.data for name, value in model.items()}, 'ema': saved['ema'],
                'opt': optimizer.state_dict(),
                'args': argparse.Namespace(model='DiT-S/2', global_batch_size=8, epochs=3,
                                           image_size=64, num_classes=10)}, folder + 'foreign.pt')
    os.mkdir(folder + 'adopted')
    convert('--heads', '2', folder + 'foreign.pt', folder + 'adopted/latest.safetensors')
    tensors, metadata = read_safetensors(folder + 'adopted/latest.safetensors')
    assert (metadata['step'], metadata['updates'], metadata['setting.batch']) == ('7', '7', '8')
    for name, parameter in model.items():
        assert name == 'pos_embed' or \
            tensors['model.' + name][2] == parameter.detach().numpy().tobytes()
    train('--resume', '--run', folder + 'adopted', folder + 'latents')
    print('a training that PyTorch continued: converted, dit-train resumes it at step 7')


def check_size():
    state = xl_state()
    torch.save(state, folder + 'a.pt')
    size = os.path.getsize(folder + 'a.pt') / 1e9
    for options, source, target in (((), 'a.pt', 'b.safetensors'), ((), 'b.safetensors', 'c.pt'),
                                    (('--names', 'diffusers'), 'a.pt', 'd.safetensors'),
                                    (('--dtype', 'bf16'), 'a.pt', 'e.safetensors')):
        seconds, most = convert(*options, folder + source, folder + target)
        print(f'DiT-XL/2 of {size:.2f} GB, {source} to {target} {" ".join(options)}: '
              f'{seconds:.1f} s, {most:.0f} MB of memory')
    back = load(folder + 'c.pt', mmap=True)
    for name, value in state.items():
        assert torch.equal(value, back[name]), name
    assert back.keys() == state.keys()
    print('converted back: every bit is the same')


check_trainings()
check_size()
