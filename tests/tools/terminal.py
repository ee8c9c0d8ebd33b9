# Decodes what programs show on terminals, and stands in for a terminal. SPDX-License-Identifier: MIT
import base64
import os
import pty
import re
import select
import struct
import sys
import termios
import fcntl

import numpy as np


def kitty(text):
    """The PNG in a picture of kitty's protocol, and the keys of its first part."""
    parts = re.findall(rb'\x1b_G([^;]*);([^\x1b]*)\x1b\\', text)
    keys = [dict(pair.split('=') for pair in part.decode().split(',')) for part, _ in parts]
    assert [k['m'] for k in keys] == ['1'] * (len(keys) - 1) + ['0']
    assert all(len(data) <= 4096 for _, data in parts)
    assert b''.join(b'\x1b_G' + k + b';' + d + b'\x1b\\' for k, d in parts) + b'\n' == text
    return base64.b64decode(b''.join(data for _, data in parts), validate=True), keys[0]


def blocks(text):
    """The pixels (height, width, 3) of half blocks; an odd last row stands alone."""
    rows = []
    for line in text.decode().splitlines():
        colours, upper, lower = {'38': None, '48': None}, [], []
        for code, block in re.findall('\x1b\\[([0-9;]*)m|(\u2580)', line):
            if block:
                upper.append(colours['38'])
                lower.append(colours['48'])
            elif code == '0':
                colours = {'38': None, '48': None}
            else:
                what, two, *rgb = code.split(';')
                assert two == '2' and len(rgb) == 3
                colours[what] = [int(c) for c in rgb]
        assert line.endswith('\x1b[0m')
        rows += [upper] if None in lower else [upper, lower]
    return np.array(rows, 'u1')


def sixels(text):
    """The pixels (height, width, 3) of a picture of sixels, whose colours are percents."""
    text = text.decode()
    start = re.match('\x1bP[0-9;]*q"1;1;([0-9]+);([0-9]+)', text)
    width, height = int(start[1]), int(start[2])
    image, palette = np.zeros((height + 6, width, 3)), {}
    x = y = 0
    for sign, numbers, n, run, one in re.findall('([#$-])([0-9;]*)|!([0-9]+)([?-~])|([?-~])',
                                                 text[start.end():text.index('\x1b\\')]):
        if sign == '#':
            colour, *rest = (int(k) for k in numbers.split(';'))
            if rest:
                assert rest[0] == 2
                palette[colour] = np.array(rest[1:]) * 2.55
        elif sign:
            x, y = 0, y + 6 * (sign == '-')
        else:
            times, bits = int(n or 1), ord(run or one) - 63
            for k in range(6):
                if bits >> k & 1:
                    image[y + k, x:x + times] = palette[colour]
            x += times
    return image[:height]


def run(command, answer, columns=80, width=0):
    """What the command writes to a terminal of so many columns, which are `width` pixels wide in
    all. The terminal answers once it is asked for its kind."""
    pid, fd = pty.fork()
    if pid == 0:
        fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack('HHHH', 24, columns, width, 0))
        attributes = termios.tcgetattr(1)
        attributes[1] &= ~termios.OPOST  # new lines stay as they are
        termios.tcsetattr(1, termios.TCSANOW, attributes)
        os.execvp(command[0], command)
    shown = b''
    while True:
        if not select.select([fd], [], [], 20)[0]:
            sys.exit('the command is silent for 20 seconds')
        try:
            got = os.read(fd, 1 << 16)
        except OSError:  # the command has ended
            break
        shown += got
        if b'\x1b[c' in shown:
            question, shown = shown.split(b'\x1b[c')
            os.write(fd, answer)
    assert os.waitpid(pid, 0)[1] == 0, shown
    assert termios.tcgetattr(fd)[3] & termios.ECHO
    return shown
