// Reads and writes PNG files by libpng. SPDX-License-Identifier: MIT
#include "formats/images/png.h"

#include <png.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/error.h"
#include "lib/base/mem.h"

struct png_file {
    png_structp png;
    png_infop info;
    const uint8_t *data; // bytes that are not read yet
    size_t size;
    png_bytep *rows; // (height); freed by image_decode_png
};

static void on_png_error(png_structp png, png_const_charp text)
{
    error_set(STATUS_DATA, "%s", text);
    png_longjmp(png, 1);
}

// Where memory runs out, libpng may also leave out a part of the file with a warning;
// *out_of_memory, which png_get_mem_ptr gives, tells.
static png_voidp allocate_png(png_structp png, png_alloc_size_t size)
{
    void *memory = malloc(size);
    if (!memory)
        *(bool *)png_get_mem_ptr(png) = true;
    return memory;
}

static void free_png(png_structp png, png_voidp memory)
{
    (void)png;
    free(memory);
}

static void on_png_warning(png_structp png, png_const_charp text)
{
    (void)png;
    (void)text;
}

static void read_png_bytes(png_structp png, png_bytep bytes, size_t size)
{
    struct png_file *file = png_get_io_ptr(png);
    if (size > file->size)
        png_error(png, "the file ends early");
    memcpy(bytes, file->data, size);
    file->data += size;
    file->size -= size;
}

static int decode_png(struct png_file *file, struct image *image, int *orientation)
{
    png_structp png = file->png;
    png_infop info = file->info;
    if (setjmp(png_jmpbuf(png)))
        return -1;
    png_set_user_limits(png, PNG_UINT_31_MAX, PNG_UINT_31_MAX);
    png_set_read_fn(png, file, read_png_bytes);
    png_read_info(png, info);
    if (image_init(image, png_get_image_width(png, info), png_get_image_height(png, info)) < 0)
        return -1;
    png_bytep exif;
    png_uint_32 exif_size;
    if (png_get_eXIf_1(png, info, &exif_size, &exif))
        *orientation = exif_orientation(exif, exif_size);
    png_set_expand(png);
    png_set_strip_16(png);
    png_set_strip_alpha(png);
    png_set_gray_to_rgb(png);
    png_set_interlace_handling(png);
    png_read_update_info(png, info);
    if (png_get_rowbytes(png, info) != 3 * image->width)
        png_error(png, "an unknown kind of pixels");
    file->rows = mem_new(image->height, sizeof *file->rows);
    if (!file->rows)
        return -1;
    for (size_t y = 0; y < image->height; y++)
        file->rows[y] = image->rgb + 3 * image->width * y;
    png_read_image(png, file->rows);
    return 0;
}

int image_decode_png(struct image *image, const uint8_t *file, size_t size, int *orientation)
{
    struct png_file in = {.data = file, .size = size};
    bool out_of_memory = false;
    in.png = png_create_read_struct_2(PNG_LIBPNG_VER_STRING, NULL, on_png_error, on_png_warning,
                                      &out_of_memory, allocate_png, free_png);
    in.info = in.png ? png_create_info_struct(in.png) : NULL;
    int rc = in.info ? decode_png(&in, image, orientation) : -1;
    if (!in.info || out_of_memory)
        rc = error_set(STATUS_INTERNAL, "out of memory");
    png_destroy_read_struct(&in.png, &in.info, NULL);
    free(in.rows);
    return rc;
}

static void write_png_bytes(png_structp png, png_bytep bytes, size_t size)
{
    if (output_write(png_get_io_ptr(png), bytes, size) < 0)
        png_longjmp(png, 1); // the message is set
}

// For libpng, whose own function would flush a FILE.
static void on_png_flush(png_structp png)
{
    (void)png;
}

static int encode_png(png_structp png, png_infop info, struct output *output, const uint8_t *rgb,
                      size_t width, size_t height)
{
    if (setjmp(png_jmpbuf(png)))
        return -1;
    png_set_user_limits(png, PNG_UINT_31_MAX, PNG_UINT_31_MAX);
    png_set_write_fn(png, output, write_png_bytes, on_png_flush);
    png_set_IHDR(png, info, (png_uint_32)width, (png_uint_32)height, 8, PNG_COLOR_TYPE_RGB,
                 PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_write_info(png, info);
    for (size_t y = 0; y < height; y++)
        png_write_row(png, rgb + 3 * width * y);
    png_write_end(png, info);
    return 0;
}

int image_write_png(struct output *output, const uint8_t *rgb, size_t width, size_t height)
{
    if (width > PNG_UINT_31_MAX || height > PNG_UINT_31_MAX)
        return error_set(STATUS_IO, "a PNG file can't hold %zu x %zu pixels", width, height);
    bool out_of_memory = false;
    png_structp png =
        png_create_write_struct_2(PNG_LIBPNG_VER_STRING, NULL, on_png_error, on_png_warning,
                                  &out_of_memory, allocate_png, free_png);
    png_infop info = png ? png_create_info_struct(png) : NULL;
    int rc = info ? encode_png(png, info, output, rgb, width, height) : -1;
    if (!info || out_of_memory)
        rc = error_set(STATUS_INTERNAL, "out of memory");
    png_destroy_write_struct(&png, &info);
    return rc;
}
