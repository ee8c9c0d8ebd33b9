#!/usr/bin/env python3
"""power-cut.py CUTS: what a power cut may leave of a training is resumed, and ends like the unbroken one.

A small training is traced (trace.c). At each of CUTS moments (0: between all calls) the power fails. What
was synced is on the disk: a file's data by its own sync, a name by that of its folder or, for a new file,
its own. The rest is there or not: all names but no data, all data but no names, neither, or a random part.
A checkpoint that the run said it had saved must be there, whole. dit-train --resume must then end with the
same last checkpoint as the unbroken run, and leave the same files. SPDX-License-Identifier: MIT
"""
import os
import random
import re
import shutil
import struct
import subprocess
import sys
import tempfile

BUILD = os.path.abspath(os.environ.get('B') or 'build')
TRAIN = ['--depth', '1', '--hidden', '32', '--heads', '2', '--patch', '2', '--batch', '8', '--classes', '10',
         '--vae', 'dct:4', '--sample-every', '6', '--sample-count', '2', '--save-every', '3', '--keep', '2',
         '--log-every', '2', '--steps', '10', '-@', '1', '--run', 'run', '--resume', '../latents']
KINDS = 'names alone', 'data alone', 'neither', 'a random part'


def train(folder, **environment):
    return subprocess.run([BUILD + '/bin/dit-train', *TRAIN], cwd=folder, stderr=subprocess.PIPE,
                          env={**os.environ, **environment}, timeout=120)


def read_trace(path, folder):
    """The calls on files of the folder: (call, path, other, offset, data)."""
    calls = []
    data, at = open(path, 'rb').read(), 0
    while at < len(data):
        texts = []
        for _ in range(3):
            end = data.index(b'\0', at)
            texts.append(data[at:end].decode())
            at = end + 1
        offset, size = struct.unpack_from('<QQ', data, at)
        at += 16
        calls.append((*texts, offset, data[at:at + size]))
        at += size
    return [c for c in calls if c[0] == 'say' or c[1].startswith(folder + '/') or c[1] == folder]


class Node:
    """A file: its writes as (index of the call, offset, data); a link: its target; or a folder."""

    def __init__(self, target=None, is_folder=False):
        self.target, self.is_folder, self.writes, self.syncs = target, is_folder, [], []


def name_changes(calls):
    """Each call's changes of names, {path: node or None}; the writes and syncs are put into the nodes."""
    names, changes = {}, []
    for i, (call, path, other, offset, data) in enumerate(calls):
        change = {}
        if call == 'create':
            change = {path: Node()}
        elif call == 'mkdir':
            change = {path: Node(is_folder=True)}
        elif call == 'symlink':
            change = {path: Node(target=other)}
        elif call == 'unlink':
            change = {path: None}
        elif call == 'rename':
            change = {path: None, other: names[path]}
        elif call == 'write' and path in names:
            names[path].writes.append((i, offset, data))
        elif call == 'sync' and path in names:
            names[path].syncs.append(i)
        names.update(change)
        changes.append(change)
    return changes


def content(node, cut, kept):
    data = bytearray()
    synced = max((i for i in node.syncs if i < cut), default=-1)
    for i, offset, piece in node.writes:
        if i < cut and (i < synced or kept()):
            data.extend(bytes(max(0, offset + len(piece) - len(data))))
            data[offset:offset + len(piece)] = piece
    return bytes(data)


def after_cut(calls, changes, cut, kind, rng):
    """What is on the disk: {path: node}, and whether an unsynced write is."""
    names_kept = {0: lambda: True, 1: lambda: False, 2: lambda: False, 3: lambda: rng.random() < 0.5}[kind]
    data_kept = {0: lambda: False, 1: lambda: True, 2: lambda: False, 3: lambda: rng.random() < 0.5}[kind]
    synced = {} # path of a folder: its last sync
    for i, (call, path, *_) in enumerate(calls[:cut]):
        if call == 'sync':
            synced[path] = i
    names, going = {}, True
    for i, change in enumerate(changes[:cut]):
        durable = any(synced.get(os.path.dirname(path), -1) > i for path in change)
        if calls[i][0] == 'create':
            durable |= any(i < s < cut for node in change.values() for s in node.syncs)
        # A file system keeps the order of changes to names: after one that is lost, only synced ones are there.
        going = going and (durable or not change or names_kept())
        if durable or going:
            names.update(change)
    return {p: n for p, n in names.items() if n}, data_kept


def lay_out(disk, cut, data_kept, old, new):
    """Writes what is on the disk into a folder; paths below `old` come below `new`."""
    os.mkdir(new)
    for path, node in sorted(disk.items()):
        path = new + path[len(old):]
        if not os.path.isdir(os.path.dirname(path)):
            continue # its folder is lost
        if node.is_folder:
            os.mkdir(path)
        elif node.target is not None:
            os.symlink(node.target, path)
        else:
            with open(path, 'wb') as out:
                out.write(content(node, cut, data_kept))


def files(folder):
    return sorted(os.path.relpath(os.path.join(at, name), folder)
                  for at, folders, names in os.walk(folder) for name in folders + names)


def latest(folder):
    return open(folder + '/run/latest.safetensors', 'rb').read()


def main():
    n_cuts = int(sys.argv[1])
    seed = int(os.environ.get('SEED', 1))
    tmp = tempfile.mkdtemp()
    whole, wrong, tried = tmp + '/whole', 0, 0
    try:
        os.mkdir(whole)
        with open(tmp + '/latents', 'wb') as out:
            subprocess.run([BUILD + '/tests/tools/make-stream', 'latents', '64', '4', '8'], stdout=out, check=True)
        train(whole, LD_PRELOAD=BUILD + '/tests/fault/trace.so', TRACE=tmp + '/trace').check_returncode()
        calls = read_trace(tmp + '/trace', whole)
        changes = name_changes(calls)
        cuts = range(len(calls) + 1)
        if n_cuts:
            cuts = sorted(random.Random(seed).sample(cuts, min(n_cuts, len(cuts))))
        for cut in cuts:
            said = re.findall(rb'saved (run/\d+\.safetensors)', b''.join(c[4] for c in calls[:cut] if c[0] == 'say'))
            for kind, name in enumerate(KINDS):
                folder = '%s/%d-%d' % (tmp, cut, kind)
                disk, data_kept = after_cut(calls, changes, cut, kind, random.Random(seed * 1000003 + cut))
                lay_out(disk, cut, data_kept, whole, folder)
                complaint, tried = None, tried + 1
                if said:
                    saved = whole + '/' + said[-1].decode()
                    at = folder + '/' + said[-1].decode()
                    node = next((c[saved] for c in reversed(changes[:cut]) if c.get(saved)), None)
                    if not os.path.exists(at) or open(at, 'rb').read() != content(node, cut, lambda: True):
                        complaint = '%s was said to be saved, but is lost' % said[-1].decode()
                if not complaint:
                    run = train(folder)
                    if run.returncode:
                        complaint = 'exit %d: %s' % (run.returncode, run.stderr.decode()[-300:])
                    elif latest(folder) != latest(whole):
                        complaint = 'another last checkpoint'
                    elif files(folder) != files(whole):
                        complaint = 'other files: %s' % sorted(set(files(folder)) ^ set(files(whole)))
                if complaint:
                    wrong += 1
                    call = calls[cut][:3] if cut < len(calls) else 'the end'
                    print('cut %d, before %s; on the disk beside what was synced: %s: %s' % (cut, call, name, complaint))
                shutil.rmtree(folder)
    finally:
        shutil.rmtree(tmp)
    print('%d power cuts among %d calls (SEED=%d), %d ended badly' % (tried, len(calls), seed, wrong))
    return wrong > 0 or tried == 0


if __name__ == '__main__':
    sys.exit(main())
