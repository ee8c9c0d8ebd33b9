// Decodes the first frame of GIF files by giflib. SPDX-License-Identifier: MIT
#include <gif_lib.h>
#include <stdlib.h>
#include <string.h>

#include "formats/images/decoders.h"
#include "lib/base/error.h"
#include "lib/base/mem.h"

struct gif_input {
    const struct image_source *file;
    size_t at; // bytes that are read
};

static int read_gif_bytes(GifFileType *gif, GifByteType *bytes, int size)
{
    struct gif_input *in = gif->UserData;
    size_t left = in->file->size - in->at, n = (size_t)size < left ? (size_t)size : left;
    memcpy(bytes, in->file->data + in->at, n);
    in->at += n;
    return (int)n;
}

static int gif_error(int code)
{
    const char *text = GifErrorString(code);
    return error_set(code == D_GIF_ERR_NOT_ENOUGH_MEM ? STATUS_INTERNAL : STATUS_DATA, "GIF: %s",
                     text ? text : "unknown error");
}

// Reads up to the first frame, of which GifFileType then holds the description. *transparent: its
// transparent colour, or NO_TRANSPARENT_COLOR.
static int find_frame(GifFileType *gif, int *transparent)
{
    GifRecordType type;
    *transparent = NO_TRANSPARENT_COLOR;
    for (;;) {
        if (DGifGetRecordType(gif, &type) != GIF_OK)
            return gif_error(gif->Error);
        if (type == IMAGE_DESC_RECORD_TYPE)
            return DGifGetImageDesc(gif) == GIF_OK ? 0 : gif_error(gif->Error);
        if (type != EXTENSION_RECORD_TYPE)
            return error_set(STATUS_DATA, "GIF: no picture in the file");
        int function;
        GifByteType *bytes;
        GraphicsControlBlock control;
        if (DGifGetExtension(gif, &function, &bytes) != GIF_OK)
            return gif_error(gif->Error);
        if (function == GRAPHICS_EXT_FUNC_CODE && bytes &&
            DGifExtensionToGCB(bytes[0], bytes + 1, &control) == GIF_OK)
            *transparent = control.TransparentColor;
        while (bytes)
            if (DGifGetExtensionNext(gif, &bytes) != GIF_OK)
                return gif_error(gif->Error);
    }
}

// Draws a row of n colours by number into (n, 4).
static void draw_row(uint8_t *rgba, const GifByteType *row, size_t n, const ColorMapObject *colors,
                     int transparent)
{
    for (size_t x = 0; x < n; x++, rgba += 4) {
        static const GifColorType black;
        const GifColorType *color = row[x] < colors->ColorCount ? &colors->Colors[row[x]] : &black;
        rgba[0] = color->Red;
        rgba[1] = color->Green;
        rgba[2] = color->Blue;
        rgba[3] = row[x] == transparent ? 0 : 255;
    }
}

// Around the frame the screen has the transparent colour or, as with Pillow, colour 0.
static int draw_frame(GifFileType *gif, const struct image_source *file, struct image *image,
                      GifByteType *row)
{
    static const size_t starts[] = {0, 4, 2, 1}, steps[] = {8, 8, 4, 2};
    int transparent;
    if (find_frame(gif, &transparent) < 0)
        return -1;
    const GifImageDesc *frame = &gif->Image;
    const ColorMapObject *colors = frame->ColorMap ? frame->ColorMap : gif->SColorMap;
    const size_t left = (size_t)frame->Left, top = (size_t)frame->Top;
    const size_t w = (size_t)frame->Width, h = (size_t)frame->Height;
    if (!colors)
        return error_set(STATUS_DATA, "GIF: no colours");
    struct image_claim claim = {.channels = 4};
    claim.width = left + w > (size_t)gif->SWidth ? left + w : (size_t)gif->SWidth;
    claim.height = top + h > (size_t)gif->SHeight ? top + h : (size_t)gif->SHeight;
    if (image_init(image, file, &claim) < 0)
        return -1;
    memset(row, transparent == NO_TRANSPARENT_COLOR ? 0 : transparent, claim.width);
    for (size_t y = 0; y < claim.height; y++)
        draw_row(image->rgb + 4 * y * claim.width, row, claim.width, colors, transparent);
    for (size_t pass = 0; pass < (frame->Interlace ? 4 : 1); pass++)
        for (size_t y = frame->Interlace ? starts[pass] : 0; y < h;
             y += frame->Interlace ? steps[pass] : 1) {
            if (DGifGetLine(gif, row, (int)w) != GIF_OK)
                return gif_error(gif->Error);
            draw_row(image->rgb + 4 * ((top + y) * claim.width + left), row, w, colors,
                     transparent);
        }
    image_flatten(image, file->options);
    return 0;
}

int image_decode_gif(struct image *image, const struct image_source *file)
{
    enum { SIDE_MAX = 2 * 65535 };
    struct gif_input in = {.file = file};
    int code = 0;
    GifFileType *gif = DGifOpen(&in, read_gif_bytes, &code);
    if (!gif)
        return gif_error(code);
    GifByteType *row = mem_new(SIDE_MAX, 1);
    int rc = row ? draw_frame(gif, file, image, row) : -1;
    free(row);
    DGifCloseFile(gif, &code);
    return rc;
}
