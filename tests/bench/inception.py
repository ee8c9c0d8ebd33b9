"""inception.py bench WEIGHTS N PROGRAM: prints the seconds that inception-network (PROGRAM) and PyTorch, eager
and compiled, take in turn for N images through the network of FID. inception.py expect WEIGHTS OUT SIDE...:
writes random images and their features, computed in float64, for tests/unit/inception.c.
SPDX-License-Identifier: MIT
"""
import copy
import json
import struct
import subprocess
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F

DTYPES = {'F32': np.float32, 'F64': np.float64}


def read(path):
    with open(path, 'rb') as file:
        size, = struct.unpack('<Q', file.read(8))
        header = json.loads(file.read(size))
        data = file.read()
    header.pop('__metadata__', None)
    return {name: torch.from_numpy(np.frombuffer(data[slice(*t['data_offsets'])], DTYPES[t['dtype']])
                                   .reshape(t['shape']).copy()) for name, t in header.items()}


def write(path, tensors):
    header, at = {}, 0
    for name, value in tensors.items():
        header[name] = {'dtype': 'U8' if value.dtype == np.uint8 else 'F32', 'shape': list(value.shape),
                        'data_offsets': [at, at + value.nbytes]}
        at += value.nbytes
    text = json.dumps(header).encode()
    text += b' ' * (-len(text) % 8)
    with open(path, 'wb') as file:
        file.write(struct.pack('<Q', len(text)) + text)
        for value in tensors.values():
            file.write(np.ascontiguousarray(value).tobytes())


class Conv(torch.nn.Module):
    """Convolution, batch norm, ReLU, each by itself as pytorch-fid has them."""

    def __init__(self, tensors, name, stride=1, padded=True):
        super().__init__()
        weight = tensors[name + '.conv.weight']
        kernel = tuple(weight.shape[2:])
        self.conv = torch.nn.Conv2d(weight.shape[1], weight.shape[0], kernel, stride=stride, bias=False,
                                    padding=tuple(k // 2 for k in kernel) if padded else 0)
        self.bn = torch.nn.BatchNorm2d(weight.shape[0], eps=1e-3)
        self.load_state_dict({key: tensors[name + '.' + key] for key in
                              ('conv.weight', 'bn.weight', 'bn.bias', 'bn.running_mean', 'bn.running_var')},
                             strict=False)

    def forward(self, x):
        return F.relu(self.bn(self.conv(x)), inplace=True)


def average(x):
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


class Inception(torch.nn.Module):
    def __init__(self, tensors):
        super().__init__()
        self.layers = torch.nn.ModuleDict()
        bare = {'Conv2d_1a_3x3', 'Conv2d_2a_3x3', 'Conv2d_4a_3x3', 'Mixed_6a.branch3x3',
                'Mixed_6a.branch3x3dbl_3', 'Mixed_7a.branch3x3_2', 'Mixed_7a.branch7x7x3_4'}
        halving = bare - {'Conv2d_2a_3x3', 'Conv2d_4a_3x3'}
        for key in tensors:
            name = key.removesuffix('.conv.weight')
            if name != key:
                self.layers[name.replace('.', '/')] = Conv(tensors, name, 2 if name in halving else 1,
                                                           name not in bare)

    def run(self, x, block, *names):
        for name in names:
            x = self.layers[(block + '/' if block else '') + name](x)
        return x

    def forward(self, x):
        run = self.run
        x = run(x, '', 'Conv2d_1a_3x3', 'Conv2d_2a_3x3', 'Conv2d_2b_3x3')
        x = run(F.max_pool2d(x, 3, 2), '', 'Conv2d_3b_1x1', 'Conv2d_4a_3x3')
        x = F.max_pool2d(x, 3, 2)
        for block in ('Mixed_5b', 'Mixed_5c', 'Mixed_5d'):
            x = torch.cat([run(x, block, 'branch1x1'), run(x, block, 'branch5x5_1', 'branch5x5_2'),
                           run(x, block, 'branch3x3dbl_1', 'branch3x3dbl_2', 'branch3x3dbl_3'),
                           run(average(x), block, 'branch_pool')], 1)
        x = torch.cat([run(x, 'Mixed_6a', 'branch3x3'),
                       run(x, 'Mixed_6a', 'branch3x3dbl_1', 'branch3x3dbl_2', 'branch3x3dbl_3'),
                       F.max_pool2d(x, 3, 2)], 1)
        for block in ('Mixed_6b', 'Mixed_6c', 'Mixed_6d', 'Mixed_6e'):
            first = run(x, block, 'branch1x1')
            if block == 'Mixed_6d':
                spatial = first[:, :7].permute(0, 2, 3, 1).flatten(1)
            x = torch.cat([first, run(x, block, 'branch7x7_1', 'branch7x7_2', 'branch7x7_3'),
                           run(x, block, *('branch7x7dbl_%d' % i for i in range(1, 6))),
                           run(average(x), block, 'branch_pool')], 1)
        x = torch.cat([run(x, 'Mixed_7a', 'branch3x3_1', 'branch3x3_2'),
                       run(x, 'Mixed_7a', *('branch7x7x3_%d' % i for i in range(1, 5))),
                       F.max_pool2d(x, 3, 2)], 1)
        for block in ('Mixed_7b', 'Mixed_7c'):
            a, b = run(x, block, 'branch3x3_1'), run(x, block, 'branch3x3dbl_1', 'branch3x3dbl_2')
            pooled = average(x) if block == 'Mixed_7b' else F.max_pool2d(x, 3, 1, 1)
            x = torch.cat([run(x, block, 'branch1x1'), run(a, block, 'branch3x3_2a'),
                           run(a, block, 'branch3x3_2b'), run(b, block, 'branch3x3dbl_3a'),
                           run(b, block, 'branch3x3dbl_3b'), run(pooled, block, 'branch_pool')], 1)
        return x.mean((2, 3)), spatial


def resize(images):
    """TensorFlow 1's bilinear resize to 299 x 299, in float32."""
    x = images.astype(np.float32)
    for axis in (2, 1):
        n = x.shape[axis]
        s = np.arange(299, dtype=np.float32) * np.float32(np.float32(n) / np.float32(299))
        low = s.astype(np.int64)
        d = (s - low.astype(np.float32)).reshape((-1, 1) if axis == 2 else (-1, 1, 1))
        a, b = np.take(x, low, axis), np.take(x, np.minimum(low + 1, n - 1), axis)
        x = a + (b - a) * d
    return torch.from_numpy((x - 128) / 128).permute(0, 3, 1, 2)


def expect(net, path, sides):
    net.double()
    tensors = {}
    for side in sides:
        images = np.random.default_rng(side).integers(0, 256, (1, side, side, 3), np.uint8)
        images = images // 4 + np.arange(side, dtype=np.uint8)[:, None, None]  # edges, and a slope
        pool, spatial = net(resize(images).double())
        tensors['image_%d' % side] = images
        tensors['pool3_%d' % side] = pool.float().numpy()
        tensors['spatial_%d' % side] = spatial.float().numpy()
    write(path, dict(sorted(tensors.items(), key=lambda t: -t[1].itemsize)))


def bench(path, net, n, program):
    """The best of five turns of each, and the median of the turns' ratios: other load comes and goes."""
    x = torch.rand(n, 3, 299, 299) * 2 - 1
    last = x.to(memory_format=torch.channels_last)

    def timed(run, x):
        start = time.time()
        for i in range(0, n, 16):
            run(x[i:i + 16])
        return time.time() - start

    net_last = copy.deepcopy(net).to(memory_format=torch.channels_last)
    compiled = torch.compile(net_last)
    runs = {'dit-tools': lambda: float(subprocess.check_output([program, 'time', path, str(n)])),
            'eager': lambda: timed(net, x),
            'channels last': lambda: timed(net_last, last),
            'compiled': lambda: timed(compiled, last)}
    turns = {name: [] for name in runs}
    for turn in range(6):
        for name, run in list(runs.items()):
            try:
                turns[name].append(run())
            except Exception as error:  # no compiler that it knows
                print('%s: %s' % (name, str(error).splitlines()[0]), flush=True)
                del runs[name], turns[name]
    turns = {name: times[1:] for name, times in turns.items()}  # the first one compiles
    for name, times in turns.items():
        print('Inception, %d images, %s: %.2f s' % (n, name, min(times)))
    ours = turns.pop('dit-tools')
    peer = min(turns, key=lambda name: min(turns[name]))
    ratios = sorted(b / a for a, b in zip(ours, turns[peer]))
    print('%.2f times as fast as PyTorch (%s); turn by turn %.2f to %.2f, median %.2f' % (
        min(turns[peer]) / min(ours), peer, ratios[0], ratios[-1], ratios[len(ratios) // 2]), flush=True)


if __name__ == '__main__':
    torch.set_grad_enabled(False)
    network = Inception(read(sys.argv[2])).eval()
    if sys.argv[1] == 'bench':
        bench(sys.argv[2], network, int(sys.argv[3]), sys.argv[4])
    else:
        expect(network, sys.argv[3], [int(side) for side in sys.argv[4:]])
