// The font of captions: which pixels it draws. SPDX-License-Identifier: MIT
#include <string.h>

#include "formats/images/caption.h"
#include "tests/tap.h"

enum { WIDTH = 40, HEIGHT = 20 };
static uint8_t rgb[HEIGHT][WIDTH][3];

static void draw(size_t scale, const char *text, size_t most)
{
    memset(rgb, 255, sizeof rgb);
    caption_draw(rgb[0][0], sizeof rgb[0], scale, text, most);
}

// Whether the pixels of the character in place `at` are these: '#' is black.
static bool shows(size_t at, size_t scale, const char *expected)
{
    bool same = true;
    for (size_t y = 0; y < CAPTION_HEIGHT * scale; y++)
        for (size_t x = 0; x < CAPTION_WIDTH * scale; x++) {
            const char pixel = expected[y / scale * CAPTION_WIDTH + x / scale];
            for (size_t c = 0; c < 3; c++)
                same &= rgb[y][at * CAPTION_WIDTH * scale + x][c] == (pixel == '#' ? 0 : 255);
        }
    return same;
}

int main(void)
{
    static const char F[] = "##### #     #     ####  #     #     #           ";
    static const char g[] = "             #### #   # #   #  ####     #  ###  ";
    static const char box[] = "##### #   # #   # #   # #   # #   # #####       ";
    static const char dots[] = "                                    # # #       ";
    draw(1, "Fg", 9);
    ok(shows(0, 1, F) && shows(1, 1, g), "letters are drawn, with what hangs below their line");
    draw(2, "F", 9);
    ok(shows(0, 2, F), "... enlarged");
    draw(1, "F\xC3\xA4\tF", 9);
    ok(caption_length("F\xC3\xA4\tF") == 4 && shows(0, 1, F) && shows(1, 1, box) &&
           shows(2, 1, box) && shows(3, 1, F),
       "a character beyond ASCII, or of control, is one box");
    draw(1, "FFF", 3);
    ok(shows(2, 1, F), "a text that fits is whole");
    draw(1, "FFFF", 3);
    ok(shows(1, 1, F) && shows(2, 1, dots), "a longer one ends with an ellipsis");
    draw(1, "\x80\x80", 3);
    ok(caption_length("\x80\x80") == 0 && rgb[0][0][0] == 255, "broken UTF-8 draws nothing");
    return tap_done();
}
