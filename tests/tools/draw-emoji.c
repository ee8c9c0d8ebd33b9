// Draws the pictures of a colour font: from lines of a glyph's number and a path, a square PNG each
// on white. emoji-set.sh makes the lines. SPDX-License-Identifier: MIT
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <ft2build.h>
#include FT_FREETYPE_H

#include "formats/images/png.h"
#include "lib/base/error.h"
#include "lib/base/mem.h"
#include "lib/tool/tool.h"

enum { LINE = 4096 };

// Puts the glyph's picture, whose colours FreeType has multiplied by their alpha, in the middle of
// a white square.
static void place(const FT_Bitmap *from, uint8_t *rgb, size_t side)
{
    memset(rgb, 255, 3 * side * side);
    const size_t left = (side - from->width) / 2, top = (side - from->rows) / 2;
    for (size_t y = 0; y < from->rows; y++) {
        const uint8_t *bgra = from->buffer + (ptrdiff_t)y * from->pitch;
        uint8_t *to = rgb + 3 * ((top + y) * side + left);
        for (size_t x = 0; x < from->width; x++, bgra += 4, to += 3)
            for (size_t c = 0; c < 3; c++)
                to[c] = (uint8_t)(bgra[2 - c] + 255 - bgra[3]);
    }
}

static void draw(FT_Face face, unsigned glyph, const char *path)
{
    const FT_Bitmap *bitmap = &face->glyph->bitmap;
    if (FT_Load_Glyph(face, glyph, FT_LOAD_COLOR) || bitmap->pixel_mode != FT_PIXEL_MODE_BGRA) {
        error_set(STATUS_DATA, "glyph %u is no picture in colours", glyph);
        tool_fail();
    }
    const size_t side = bitmap->width > bitmap->rows ? bitmap->width : bitmap->rows;
    uint8_t *rgb = mem_new(side * side, 3);
    struct output *output = output_open(path);
    if (!rgb || !output)
        tool_fail();
    place(bitmap, rgb, side);
    if (image_write_png(output, rgb, side, side, NULL, 0) < 0 || output_commit(output) < 0)
        tool_fail();
    free(rgb);
}

int main(int argc, char **argv)
{
    const struct option options[] = {TOOL_OPTIONS_COMMON, OPTION_END};
    char **operands =
        tool_start(argc, argv,
                   &(struct tool_info){"draw-emoji", "FONT < LINES",
                                       "Draw pictures of a colour font: each line is a glyph's "
                                       "number, a tab and the path of a PNG file.",
                                       options});
    if (!operands[0] || operands[1])
        tool_usage_error("expected one font");
    FT_Library library;
    FT_Face face;
    if (FT_Init_FreeType(&library) || FT_New_Face(library, operands[0], 0, &face) ||
        !FT_HAS_COLOR(face) || !face->num_fixed_sizes || FT_Select_Size(face, 0)) {
        error_set(STATUS_DATA, "%s: not a font with pictures of a fixed size", operands[0]);
        tool_fail();
    }
    char line[LINE];
    while (fgets(line, sizeof line, stdin)) {
        char *end, *path;
        const unsigned long glyph = strtoul(line, &end, 10);
        line[strcspn(line, "\n")] = 0;
        path = end + 1;
        if (end == line || *end != '\t' || !*path)
            tool_usage_error("expected a glyph's number, a tab and a path: '%s'", line);
        draw(face, (unsigned)glyph, path);
    }
    FT_Done_FreeType(library);
    return tool_finish();
}
