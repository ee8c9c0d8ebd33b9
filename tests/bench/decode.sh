#!/bin/sh
# decode.sh [PYTHON]: compares decode-images on one thread with Pillow's decoder and the ADM crop,
# in turn on the same JPEG files. It prints the processor time per image; that of decode-images
# includes the start of the program and writing its stream. Needs a Python with Pillow and NumPy.
# SPDX-License-Identifier: MIT
# Run from the top of the tree: PATH=build/bin:$PATH tests/bench/decode.sh
set -eu
python=${1:-python3}
if ! "$python" -c 'import numpy, PIL' 2>/dev/null; then
    echo "decode.sh: skipped: $python has no Pillow and NumPy" >&2
    exit 0
fi
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"$python" - "$tmp" "${REFERENCE_DIR:-tests/data}/images" <<'END'
import os, resource, subprocess, sys, time
import numpy as np
from PIL import Image

tmp, folder = sys.argv[1:]
SIZE, COPIES, ROUNDS = 256, 40, 5


def crop(image):
    while min(*image.size) >= 2 * SIZE:
        image = image.resize(tuple(x // 2 for x in image.size), resample=Image.BOX)
    scale = SIZE / min(*image.size)
    image = image.resize(tuple(round(x * scale) for x in image.size), resample=Image.BICUBIC)
    array = np.array(image)
    y, x = (array.shape[0] - SIZE) // 2, (array.shape[1] - SIZE) // 2
    return array[y:y + SIZE, x:x + SIZE]


def photo(width, height, seed, detail):
    """Noise of all scales, which compresses to as many bytes per pixel as a photograph."""
    rng = np.random.default_rng(seed)
    image = np.zeros((height, width, 3))
    for level in range(9):
        n = 2 ** (level + 1)
        layer = Image.fromarray(rng.integers(0, 256, (n, n, 3), dtype=np.uint8))
        layer = np.asarray(layer.resize((width, height), Image.BICUBIC), float)
        image += (layer - 128) * detail ** level
    return Image.fromarray(np.clip(image + 128, 0, 255).astype(np.uint8))


def run_pillow(paths):
    start = time.process_time()
    for path in paths:
        with Image.open(path) as image:
            crop(image.convert('RGB'))
    return time.process_time() - start


def run_ours(paths):
    start = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(['decode-images', '-q', '-@', '1', '--no-labels', '-0'], check=True,
                   input='\0'.join(paths).encode(), stdout=subprocess.DEVNULL)
    end = resource.getrusage(resource.RUSAGE_CHILDREN)
    return end.ru_utime - start.ru_utime + end.ru_stime - start.ru_stime


sets = {'landscape.jpg (500x375) of the reference': folder + '/landscape.jpg',
        'large.jpg (1600x1066) of the reference': folder + '/large.jpg'}
for width, height, detail in (500, 375, 0.7), (500, 375, 0.85), (1024, 768, 0.7):
    path = '%s/%d-%g.jpg' % (tmp, width, detail)
    photo(width, height, 1, detail).save(path, quality=90)
    sets['noise %dx%d, %d KB' % (width, height, os.path.getsize(path) // 1024)] = path
for name, path in sets.items():
    paths = [path] * COPIES
    times = [(run_pillow(paths), run_ours(paths)) for _ in range(ROUNDS)]
    pillow, ours = (min(t) / len(paths) * 1e3 for t in zip(*times))
    print('%-42s Pillow %6.2f ms  decode-images %6.2f ms  %.1f times' %
          (name, pillow, ours, pillow / ours))
END
