# Reads the files of a training: tensors(path) and metadata(path) of a checkpoint, log(folder).
# SPDX-License-Identifier: MIT
import json

import numpy


def header(path):
    data = open(path, 'rb').read()
    start = 8 + int.from_bytes(data[:8], 'little')
    return json.loads(data[8:start]), data[start:]


def tensors(path):
    head, data = header(path)
    head.pop('__metadata__')
    assert all(t['dtype'] == 'F32' for t in head.values())
    return {name: numpy.frombuffer(data[slice(*t['data_offsets'])], '<f4').reshape(t['shape'])
            for name, t in head.items()}


def metadata(path):
    return header(path)[0]['__metadata__']


def log(folder):
    return [json.loads(line) for line in open(folder + '/log.jsonl')]
