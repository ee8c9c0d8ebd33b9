# Reads event files of TensorBoard: events(path) has a dict for each record, whose checksums are
# compared. SPDX-License-Identifier: MIT
import struct

TABLE = []
for i in range(256):
    for _ in range(8):
        i = i >> 1 ^ (0x82F63B78 if i & 1 else 0)
    TABLE.append(i)


def masked(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ TABLE[(crc ^ byte) & 255]
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def varint(data, at):
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        shift += 7
        at += 1
        if data[at - 1] < 128:
            return value, at


def fields(data):
    """The fields of a message of protobuf: (number, value) in their order."""
    at, found = 0, []
    while at < len(data):
        key, at = varint(data, at)
        wire = key & 7
        if wire == 0:
            value, at = varint(data, at)
        else:
            if wire == 2:
                size, at = varint(data, at)
            else:
                size = {1: 8, 5: 4}[wire]
            value = data[at:at + size]
            assert len(value) == size
            at += size
            value = struct.unpack({1: '<d', 5: '<f'}[wire], value)[0] if wire != 2 else value
        found.append((key >> 3, value))
    return found


def events(path):
    data, at, found = open(path, 'rb').read(), 0, []
    while at < len(data):
        size, sum = struct.unpack('<QI', data[at:at + 12])
        event = data[at + 12:at + 12 + size]
        assert masked(data[at:at + 8]) == sum
        assert masked(event) == struct.unpack('<I', data[at + 12 + size:at + 16 + size])[0]
        at += 16 + size
        one = dict(fields(event))
        values = [dict(fields(v)) for n, v in fields(one.get(5, b'')) if n == 1]
        found.append({'time': one[1], 'step': one.get(2, 0), 'version': one.get(3),
                      'start': dict(fields(one.get(7, b''))).get(1),
                      'scalars': {v[1].decode(): v[2] for v in values if 2 in v},
                      'images': {v[1].decode(): dict(fields(v[4])) for v in values if 4 in v}})
    return found
