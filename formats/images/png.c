// Reads and writes PNG files by libpng. SPDX-License-Identifier: MIT
#include "formats/images/png.h"

#include <png.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "formats/images/decoders.h"
#include "lib/base/error.h"
#include "lib/base/mem.h"

// Deflate makes at most 1032 bytes of one.
#define INFLATION_MAX 1032
#define CHUNK_MAX     ((size_t)4 << 20) // bytes of a chunk other than pixels

struct png_file {
    png_structp png;
    png_infop info;
    const struct image_source *file;
    size_t at; // bytes that are read
};

static void on_png_error(png_structp png, png_const_charp text)
{
    error_set(STATUS_DATA, "%s", text);
    png_longjmp(png, 1);
}

// libpng's errors don't tell a lack of memory from broken data, and some are only warnings that a
// part of the file was left out. So the memory pointer, a bool, says that memory ran out.
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
    struct png_file *in = png_get_io_ptr(png);
    if (size > in->file->size - in->at)
        png_error(png, "the file ends early");
    memcpy(bytes, in->file->data + in->at, size);
    in->at += size;
}

// Only pixels, transparency and EXIF are read: text and profiles could be inflated without end.
static void drop_chunks(png_structp png)
{
    static const png_byte dropped[] = "bKGD\0cHRM\0gAMA\0hIST\0iCCP\0iTXt\0oFFs\0pCAL\0pHYs\0"
                                      "sBIT\0sCAL\0sPLT\0sRGB\0tEXt\0tIME\0zTXt";
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, NULL, 0);
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, dropped, sizeof dropped / 5);
    png_set_chunk_malloc_max(png, CHUNK_MAX);
}

static int decode_png(struct png_file *in, struct image *image)
{
    png_structp png = in->png;
    png_infop info = in->info;
    if (setjmp(png_jmpbuf(png)))
        return -1;
    png_set_user_limits(png, PNG_UINT_31_MAX, PNG_UINT_31_MAX);
    png_set_option(png, PNG_MAXIMUM_INFLATE_WINDOW,
                   PNG_OPTION_ON); // some headers state too small a one
    drop_chunks(png);
    png_set_read_fn(png, in, read_png_bytes);
    png_read_info(png, info);
    const size_t width = png_get_image_width(png, info), height = png_get_image_height(png, info);
    bool alpha = png_get_color_type(png, info) & PNG_COLOR_MASK_ALPHA ||
                 png_get_valid(png, info, PNG_INFO_tRNS);
    struct image_claim claim = {.width = width, .height = height, .channels = alpha ? 4 : 3};
    claim.data_min = png_get_rowbytes(png, info) * height / INFLATION_MAX;
    claim.extra = 4 * 8 * width; // libpng's rows, of up to 8 bytes a pixel
    if (image_init(image, in->file, &claim) < 0)
        return -1;
    png_bytep exif;
    png_uint_32 exif_size;
    if (png_get_eXIf_1(png, info, &exif_size, &exif))
        image->orientation = exif_orientation(exif, exif_size);
    png_set_expand(png);
    png_set_strip_16(png);
    png_set_gray_to_rgb(png);
    int passes = png_set_interlace_handling(png);
    png_read_update_info(png, info);
    const size_t stride = claim.channels * width;
    if (png_get_rowbytes(png, info) != stride)
        png_error(png, "an unknown kind of pixels");
    for (int pass = 0; pass < passes; pass++)
        for (size_t y = 0; y < height; y++)
            png_read_row(png, image->rgb + stride * y, NULL);
    if (alpha)
        image_flatten(image, in->file->options);
    return 0;
}

int image_decode_png(struct image *image, const struct image_source *file)
{
    struct png_file in = {.file = file};
    bool out_of_memory = false;
    in.png = png_create_read_struct_2(PNG_LIBPNG_VER_STRING, NULL, on_png_error, on_png_warning,
                                      &out_of_memory, allocate_png, free_png);
    in.info = in.png ? png_create_info_struct(in.png) : NULL;
    int rc = in.info ? decode_png(&in, image) : -1;
    if (!in.info || out_of_memory)
        rc = error_set(STATUS_INTERNAL, "out of memory");
    png_destroy_read_struct(&in.png, &in.info, NULL);
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

// A PNG that is made in memory.
struct made_png {
    uint8_t *bytes;
    size_t size;
};

static void keep_png_bytes(png_structp png, png_bytep bytes, size_t size)
{
    struct made_png *made = png_get_io_ptr(png);
    if (mem_grow(&made->bytes, made->size, size, 1) < 0)
        png_longjmp(png, 1); // the message is set
    memcpy(made->bytes + made->size, bytes, size);
    made->size += size;
}

// Where the bytes of a PNG go.
struct png_sink {
    void (*write)(png_structp png, png_bytep bytes, size_t size);
    void *to;
};

static bool is_plain(const char *text)
{
    for (; *text; text++)
        if (*text & 0x80)
            return false;
    return true;
}

// Adds texts as tEXt, which every reader knows, or as iTXt if they are more than ASCII.
static void add_png_texts(png_structp png, png_infop info, const struct image_text *texts, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const bool plain = is_plain(texts[i].value);
        const png_text text = {.compression =
                                   plain ? PNG_TEXT_COMPRESSION_NONE : PNG_ITXT_COMPRESSION_NONE,
                               .key = (png_charp)texts[i].key,
                               .text = (png_charp)texts[i].value,
                               .text_length = plain ? strlen(texts[i].value) : 0,
                               .itxt_length = plain ? 0 : strlen(texts[i].value)};
        png_set_text(png, info, &text, 1);
    }
}

static int encode_png(png_structp png, png_infop info, const struct png_sink *sink,
                      const uint8_t *rgb, size_t width, size_t height,
                      const struct image_text *texts, size_t n)
{
    if (setjmp(png_jmpbuf(png)))
        return -1;
    png_set_user_limits(png, PNG_UINT_31_MAX, PNG_UINT_31_MAX);
    png_set_write_fn(png, sink->to, sink->write, on_png_flush);
    png_set_IHDR(png, info, (png_uint_32)width, (png_uint_32)height, 8, PNG_COLOR_TYPE_RGB,
                 PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    add_png_texts(png, info, texts, n);
    png_write_info(png, info);
    for (size_t y = 0; y < height; y++)
        png_write_row(png, rgb + 3 * width * y);
    png_write_end(png, info);
    return 0;
}

static int send_png(const struct png_sink *sink, const uint8_t *rgb, size_t width, size_t height,
                    const struct image_text *texts, size_t n)
{
    if (width > PNG_UINT_31_MAX || height > PNG_UINT_31_MAX)
        return error_set(STATUS_IO, "a PNG file can't hold %zu x %zu pixels", width, height);
    bool out_of_memory = false;
    png_structp png =
        png_create_write_struct_2(PNG_LIBPNG_VER_STRING, NULL, on_png_error, on_png_warning,
                                  &out_of_memory, allocate_png, free_png);
    png_infop info = png ? png_create_info_struct(png) : NULL;
    int rc = info ? encode_png(png, info, sink, rgb, width, height, texts, n) : -1;
    if (!info || out_of_memory)
        rc = error_set(STATUS_INTERNAL, "out of memory");
    png_destroy_write_struct(&png, &info);
    return rc;
}

int image_write_png(struct output *output, const uint8_t *rgb, size_t width, size_t height,
                    const struct image_text *texts, size_t n)
{
    return send_png(&(struct png_sink){write_png_bytes, output}, rgb, width, height, texts, n);
}

int image_make_png(uint8_t **png, size_t *size, const uint8_t *rgb, size_t width, size_t height)
{
    struct made_png made = {0};
    int rc = send_png(&(struct png_sink){keep_png_bytes, &made}, rgb, width, height, NULL, 0);
    if (rc < 0)
        free(made.bytes);
    *png = rc < 0 ? NULL : made.bytes;
    *size = made.size;
    return rc;
}
