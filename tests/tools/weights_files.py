# Reads and writes files of weights, safetensors and torch.save's, with Python's own modules alone.
# SPDX-License-Identifier: MIT
import argparse
import collections
import io
import json
import pickle
import pickletools
import struct
import sys
import types
import zipfile

import numpy

# A tensor here is (type, shape, bytes), bit for bit.
SIZES = {'F64': 8, 'I64': 8, 'F32': 4, 'F16': 2, 'BF16': 2}
STORAGES = {'FloatStorage': 'F32', 'HalfStorage': 'F16', 'BFloat16Storage': 'BF16',
            'DoubleStorage': 'F64'}


def read_safetensors(path):
    # Returns the tensors in the order of their data, and the metadata.
    data = open(path, 'rb').read()
    start = 8 + int.from_bytes(data[:8], 'little')
    head = json.loads(data[8:start])
    metadata = head.pop('__metadata__', {})
    places = sorted(head, key=lambda name: head[name]['data_offsets'])
    return {name: (head[name]['dtype'], tuple(head[name]['shape']),
                   data[start:][slice(*head[name]['data_offsets'])]) for name in places}, metadata


def write_safetensors(path, tensors, metadata):
    head, at = {'__metadata__': metadata}, 0
    for name, (dtype, shape, data) in tensors.items():
        head[name] = {'dtype': dtype, 'shape': shape, 'data_offsets': [at, at + len(data)]}
        at += len(data)
    text = json.dumps(head).encode()
    with open(path, 'wb') as file:
        file.write(struct.pack('<Q', len(text)) + text)
        for _, _, data in tensors.values():
            file.write(data)


def rebuild(storage, offset, shape, strides, requires_grad, hooks):
    dtype, data = storage
    count = int(numpy.prod(shape))
    assert offset == 0 and len(data) == count * SIZES[dtype] and not requires_grad and not hooks
    expected = tuple(int(numpy.prod(shape[i + 1:])) for i in range(len(shape)))
    assert strides == expected, (shape, strides)
    return dtype, shape, data


class Unpickler(pickle.Unpickler):
    archive = None

    def find_class(self, module, name):
        if module == 'torch' and name in STORAGES:
            return STORAGES[name]
        return {('torch._utils', '_rebuild_tensor_v2'): rebuild,
                ('collections', 'OrderedDict'): collections.OrderedDict}[module, name]

    def persistent_load(self, pid):
        kind, dtype, key, device, count = pid
        assert kind == 'storage' and device == 'cpu'
        data = self.archive.read('archive/data/' + key)
        assert len(data) == count * SIZES[dtype]
        return dtype, data


def read_torch(path):
    # Returns the value that was saved. All data must start at a multiple of 64 bytes.
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        whole = open(path, 'rb').read()
        for info in archive.infolist():
            at = info.header_offset
            name, extra = struct.unpack_from('<HH', whole, at + 26)
            start = at + 30 + name + extra
            assert info.compress_type == 0 and start % 64 == 0, info
            assert whole[start:start + info.file_size] == archive.read(info)
        assert archive.read('archive/version') == b'3\n'
        assert archive.read('archive/byteorder') == b'little'
        values = archive.read('archive/data.pkl')
        pickletools.dis(values, io.StringIO())
        unpickler = Unpickler(io.BytesIO(values))
        unpickler.archive = archive
        return unpickler.load()


def floats(tensor):
    dtype, shape, data = tensor
    if dtype == 'BF16':
        wide = numpy.frombuffer(data, '<u2').astype('<u4') << 16
        return wide.view('<f4').reshape(shape)
    return numpy.frombuffer(data, {'F32': '<f4', 'F16': '<f2', 'F64': '<f8'}[dtype]).reshape(shape)


class Stored:
    def __init__(self, dtype, key, count):
        self.dtype, self.key, self.count = dtype, key, count


class Tensor:
    # In a value for write_torch: a tensor as above. Two of one key share a storage.
    def __init__(self, tensor, key=None, storage=None):
        self.tensor, self.key, self.storage = tensor, key, storage

    def __reduce__(self):
        dtype, shape, data = self.tensor
        strides = tuple(int(numpy.prod(shape[i + 1:])) for i in range(len(shape)))
        size = SIZES.get(dtype, 8)
        return (torch_global('torch._utils', '_rebuild_tensor_v2'),
                (Stored(self.storage or dtype, self.key, len(data) // size), 0, shape, strides, False,
                 collections.OrderedDict()))


def torch_global(module, name):
    # A function of this name for the pickle, which only its reader needs.
    if module not in sys.modules:
        sys.modules[module] = types.ModuleType(module)
    if not hasattr(sys.modules[module], name):
        function = types.FunctionType((lambda: None).__code__, {}, name)
        function.__module__, function.__qualname__ = module, name
        setattr(sys.modules[module], name, function)
    return getattr(sys.modules[module], name)


class Namespace:
    def __init__(self, **values):
        self.__dict__.update(values)


Namespace.__module__ = 'argparse'


def write_torch(path, value):
    # Writes what torch.save would, where a Tensor stands for one.
    tensors = []

    class Pickler(pickle.Pickler):
        def persistent_id(self, item):
            if not isinstance(item, Stored):
                return None
            name = {v: k for k, v in STORAGES.items()}.get(item.dtype, item.dtype)
            return ('storage', torch_global('torch', name), item.key, 'cpu', item.count)

    def number(value):
        if isinstance(value, Tensor):
            value.key = value.key or str(len(tensors))
            tensors.append(value)
        for item in (value.values() if isinstance(value, dict) else
                     value if isinstance(value, (list, tuple)) else ()):
            number(item)
    number(value)
    text = io.BytesIO()
    torch_global('torch', 'save')
    original = argparse.Namespace
    argparse.Namespace = Namespace
    Pickler(text, protocol=2).dump(value)
    argparse.Namespace = original
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_STORED) as archive:
        archive.writestr('archive/data.pkl', text.getvalue())
        for key, tensor in {t.key: t for t in tensors}.items():
            archive.writestr('archive/data/' + key, tensor.tensor[2])
