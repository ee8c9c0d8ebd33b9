# Reads tensor streams: read(path) returns the tensors, joined over all frames, and the metadata.
# SPDX-License-Identifier: MIT
import json
import subprocess

import numpy

DTYPES = {'U8': 'u1', 'U32': '<u4', 'I64': '<i8', 'F16': '<f2', 'BF16': '<u2', 'F32': '<f4'}


def read(path):
    data = subprocess.run(['zstd', '-dcq', path], check=True, capture_output=True).stdout
    parts, metadata, at = {}, None, 0
    while at < len(data):
        length = int.from_bytes(data[at:at + 8], 'little')
        header = json.loads(data[at + 8:at + 8 + length])
        at += 8 + length
        found = header.pop('__metadata__')
        metadata = metadata or found
        end = max((t['data_offsets'][1] for t in header.values()), default=0)
        for name, t in header.items():
            if name == 'rows' and 'records' in found:
                continue
            start, stop = t['data_offsets']
            array = numpy.frombuffer(data[at + start:at + stop], DTYPES[t['dtype']])
            parts.setdefault(name, []).append(array.reshape(t['shape']))
        at += end
    return {name: numpy.concatenate(arrays) for name, arrays in parts.items()}, metadata
