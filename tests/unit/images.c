// Image files are decoded and cropped exactly as Pillow does; broken ones are refused.
// SPDX-License-Identifier: MIT
#include <png.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <jpeglib.h> // after stdio.h

#include "formats/images/image-file.h"
#include "formats/images/png.h"
#include "formats/images/resample.h"
#include "formats/weights/weights.h"
#include "lib/base/error.h"
#include "lib/base/mem.h"
#include "lib/base/rng.h"
#include "tests/tap.h"

#define FILE_SIZE_MAX ((size_t)16 << 20)

static const struct image_options whole_image;

struct file {
    uint8_t *data;
    size_t size;
};

static struct file read_image(const char *name)
{
    struct file file;
    char *path = mem_printf("%s/images/%s", reference_dir(), name);
    if (file_read_all(path, &file.data, &file.size, FILE_SIZE_MAX)) {
        ok(false, "can't go on: %s", error_message());
        exit(1);
    }
    free(path);
    return file;
}

static void test_reference(void)
{
    struct weights expected;
    char *path = mem_printf("%s/images-expected.safetensors", reference_dir());
    if (!ok(weights_open(&expected, path) == 0, "%s opens", path)) {
        diag("%s", error_message());
        return;
    }
    for (size_t i = 0; i < expected.n_weights; i++) {
        const struct weight *tensor = &expected.all[i];
        const char *colon = strrchr(tensor->name, ':');
        char *name = strndup(tensor->name, (size_t)(colon - tensor->name));
        size_t side = strtoul(colon + 1, NULL, 10), bytes = 3 * side * side;
        struct file file = read_image(name);
        struct image image;
        uint8_t *out = malloc(bytes);
        for (int plain = 0; plain < 2; plain++) {
            bool same = weight_count(tensor) == bytes &&
                        !image_decode(&image, file.data, file.size,
                                      &(struct image_options){.crop = plain ? 0 : side});
            same = same && (plain ? resample_crop_plain
                                  : resample_crop)(image.rgb, image.width, image.height, side,
                                                   RESAMPLE_HORIZONTAL_FIRST, out) == 0;
            same = same && memcmp(out, tensor->data, bytes) == 0;
            ok(same, "%s equals Pillow, %s kernels", tensor->name, plain ? "plain" : "fast");
            image_free(&image);
        }
        free(out);
        free(file.data);
        free(name);
    }
    weights_close(&expected);
    free(path);
}

static void refused(const struct file *file, const char *text, const char *name)
{
    struct image image;
    bool bad = image_decode(&image, file->data, file->size, &whole_image) < 0;
    ok(bad && error_status() == STATUS_DATA && strstr(error_message(), text) && !image.rgb,
       "%s is refused: \"%s\"", name, bad ? error_message() : "no");
    image_free(&image);
}

static void test_broken(void)
{
    static const char *const names[][2] = {{"truncated.jpg", "Premature end"},
                                           {"empty.jpg", "empty"},
                                           {"text.jpg", "expected an image file"}};
    for (size_t i = 0; i < 3; i++) {
        struct file file = read_image(names[i][0]);
        refused(&file, names[i][1], names[i][0]);
        free(file.data);
    }

    static const char *const cut[] = {"small.jpg", "palette.png"};
    for (size_t i = 0; i < 2; i++) {
        struct file file = read_image(cut[i]);
        size_t taken = 0, end = file.size;
        struct image image;
        if (i == 1) // a PNG has all its pixels even without its last 16 bytes
            end -= 16;
        for (size_t size = 0; size < end; size += i == 0 ? 1 : 61) {
            // Exactly the size, so that a sanitizer sees reads past the end.
            uint8_t *exact = malloc(size + !size);
            memcpy(exact, file.data, size);
            for (size_t crop = 0; crop <= 16; crop += 16) {
                taken +=
                    image_decode(&image, exact, size, &(struct image_options){.crop = crop}) == 0;
                image_free(&image);
            }
            free(exact);
        }
        ok(taken == 0, "%s, cut anywhere, is refused", cut[i]);
        // A changed byte may go unnoticed, but does no harm.
        bool sound = true;
        for (size_t at = 0; at < file.size; at += i == 0 ? 1 : 29) {
            file.data[at] ^= (uint8_t)(1 << at % 8);
            const bool decoded = image_decode(&image, file.data, file.size,
                                              &(struct image_options){.exif = true}) == 0;
            sound = sound && (decoded ? image.rgb && image.width && image.height
                                      : !image.rgb && error_status() == STATUS_DATA);
            image_free(&image);
            file.data[at] ^= (uint8_t)(1 << at % 8);
        }
        ok(sound, "%s with changed bytes is refused or decoded", cut[i]);
        free(file.data);
    }

    struct file png = read_image("palette.png");
    memcpy(png.data + 16, "\0\1\0\0\0\1\0\0", 8);
    uint32_t crc = (uint32_t)crc32(0, png.data + 12, 17);
    for (size_t i = 0; i < 4; i++)
        png.data[29 + i] = (uint8_t)(crc >> (24 - 8 * i));
    refused(&png, "65536 x 65536 pixels; the limit is", "a PNG that claims 2^32 pixels");
    free(png.data);
    struct file jpeg = read_image("small.jpg");
    for (size_t at = 0; at + 9 < jpeg.size; at++)
        if (jpeg.data[at] == 0xFF && jpeg.data[at + 1] == 0xC0) {
            memset(jpeg.data + at + 5, 0xF0, 4);
            break;
        }
    refused(&jpeg, "61680 x 61680 pixels; the limit is", "a JPEG that claims 61680^2 pixels");
    free(jpeg.data);
}

// Decoding for a crop gives the same pixels in the crop's window as decoding all, or fails with the
// same message.
static bool window_agrees(const struct file *file, size_t side)
{
    struct image whole, part;
    int rc = image_decode(&whole, file->data, file->size, &whole_image);
    char *text = mem_strdup(rc ? error_message() : "");
    bool same =
        image_decode(&part, file->data, file->size, &(struct image_options){.crop = side}) == rc &&
        (!rc || strcmp(error_message(), text) == 0);
    struct resample_window w = {0};
    if (same && !rc)
        w = resample_crop_window(whole.width, whole.height, side);
    for (size_t y = w.y; same && y < w.y + w.height; y++) {
        size_t at = 3 * (y * whole.width + w.x);
        same = memcmp(whole.rgb + at, part.rgb + at, 3 * w.width) == 0;
    }
    image_free(&whole);
    image_free(&part);
    free(text);
    return same;
}

// How make_jpeg encodes a file.
struct coding {
    const char *name;
    int components, factors[4]; // of sampling: 0x21 is 2 horizontally, 1 vertically
    int restart;
    enum { TOGETHER, APART, PROGRESSIVE, COARSE } scans;
};

static uint64_t seed; // of the contents of JPEG files

static struct file make_jpeg(const struct coding *coding, size_t width, size_t height)
{
    struct jpeg_compress_struct info;
    struct jpeg_error_mgr errors;
    unsigned char *data = NULL;
    unsigned long size = 0;
    info.err = jpeg_std_error(&errors);
    jpeg_create_compress(&info);
    jpeg_mem_dest(&info, &data, &size);
    info.image_width = (JDIMENSION)width;
    info.image_height = (JDIMENSION)height;
    info.input_components = coding->components;
    info.in_color_space = coding->components == 1   ? JCS_GRAYSCALE
                          : coding->components == 3 ? JCS_RGB
                                                    : JCS_CMYK;
    jpeg_set_defaults(&info);
    for (int i = 0; i < coding->components; i++) {
        info.comp_info[i].h_samp_factor = coding->factors[i] >> 4;
        info.comp_info[i].v_samp_factor = coding->factors[i] & 15;
    }
    info.restart_interval = (unsigned)coding->restart;
    static const jpeg_scan_info apart[] = {
        {1, {0}, 0, 63, 0, 0}, {1, {1}, 0, 63, 0, 0}, {1, {2}, 0, 63, 0, 0}};
    static const jpeg_scan_info coarse[] = {{3, {0, 1, 2}, 0, 0, 0, 0}};
    if (coding->scans == PROGRESSIVE) {
        jpeg_simple_progression(&info);
    } else if (coding->scans != TOGETHER) {
        info.scan_info = coding->scans == APART ? apart : coarse;
        info.num_scans = coding->scans == APART ? 3 : 1;
    }
    jpeg_start_compress(&info, TRUE);
    uint8_t *row = malloc(4 * width);
    JSAMPROW rows[1] = {row};
    const struct rng rng = {.seed = seed, .purpose = RNG_TEST, .sample = width};
    for (size_t y = 0; y < height; y++) {
        for (size_t i = 0; i < 4 * width; i++)
            row[i] = (uint8_t)(rng_u32(&rng, 4 * width * y + i) % 64 + 3 * y + i % 128);
        jpeg_write_scanlines(&info, rows, 1);
    }
    jpeg_finish_compress(&info);
    jpeg_destroy_compress(&info);
    free(row);
    return (struct file){data, size};
}

static void test_windows(void)
{
    static const struct coding codings[] = {
        {"4:4:4", 3, {0x11, 0x11, 0x11}, 0, TOGETHER},
        {"4:2:2", 3, {0x21, 0x11, 0x11}, 0, TOGETHER},
        {"4:2:0", 3, {0x22, 0x11, 0x11}, 0, TOGETHER},
        {"4:2:0 with restarts", 3, {0x22, 0x11, 0x11}, 3, TOGETHER},
        {"4:4:0", 3, {0x12, 0x11, 0x11}, 0, TOGETHER},
        {"4:1:1", 3, {0x41, 0x11, 0x11}, 5, TOGETHER},
        {"4:1:0", 3, {0x42, 0x11, 0x11}, 0, TOGETHER},
        {"factors 3 and 2", 3, {0x32, 0x11, 0x11}, 0, TOGETHER},
        {"chroma finer than luma", 3, {0x11, 0x22, 0x12}, 0, TOGETHER},
        {"one scan per component", 3, {0x22, 0x11, 0x11}, 0, APART},
        {"progressive", 3, {0x22, 0x11, 0x11}, 0, PROGRESSIVE},
        {"progressive, without details", 3, {0x22, 0x11, 0x11}, 0, COARSE},
        {"gray", 1, {0x11}, 0, TOGETHER},
        {"gray with factors", 1, {0x22}, 7, TOGETHER},
        {"CMYK", 4, {0x11, 0x11, 0x11, 0x11}, 0, TOGETHER},
    };
    static const size_t sizes[][3] = {{1, 1, 8},     {97, 31, 16},  {31, 97, 16},  {300, 40, 20},
                                      {40, 300, 20}, {170, 90, 40}, {90, 171, 80}, {33, 200, 32}};
    for (size_t i = 0; i < sizeof codings / sizeof *codings; i++) {
        bool whole = true, broken = true;
        for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
            struct file file = make_jpeg(&codings[i], sizes[k][0], sizes[k][1]);
            whole &= window_agrees(&file, sizes[k][2]);
            // Damages a byte before the window, within it and after it.
            for (size_t at = 1; at <= 12; at++) {
                struct file cut = {file.data, (file.size - 4) * at / 12};
                broken &= window_agrees(&cut, sizes[k][2]);
                file.data[cut.size] ^= 0x10;
                broken &= window_agrees(&file, sizes[k][2]);
                file.data[cut.size] ^= 0x10;
            }
            free(file.data);
        }
        ok(whole, "JPEG, %s: a crop's window is decoded as in the whole image", codings[i].name);
        ok(broken, "JPEG, %s: broken files are decoded or refused alike", codings[i].name);
    }
}

static void test_exif(void)
{
    uint8_t tiff[] = {'I',  'I', '*', 0, 8, 0, 0, 0, 2, 0,        // header, number of entries
                      0,    1,   3,   0, 1, 0, 0, 0, 5, 0, 0, 0,  // width
                      0x12, 1,   3,   0, 1, 0, 0, 0, 6, 0, 0, 0}; // orientation
    ok(exif_orientation(tiff, sizeof tiff) == 6, "EXIF: a little-endian orientation");
    bool harmless = true;
    for (size_t size = 0; size < sizeof tiff; size++) {
        uint8_t *exact = malloc(size + !size);
        memcpy(exact, tiff, size);
        harmless &= exif_orientation(exact, size) == 1;
        free(exact);
    }
    ok(harmless, "EXIF: a block that is cut anywhere has no orientation");
    tiff[24] = 4;
    ok(exif_orientation(tiff, sizeof tiff) == 6, "EXIF: an orientation as LONG");
    tiff[24] = 1;
    ok(exif_orientation(tiff, sizeof tiff) == 6, "EXIF: an orientation as BYTE");
    tiff[24] = 3;
    tiff[30] = 9;
    ok(exif_orientation(tiff, sizeof tiff) == 1, "EXIF: orientation 9 is ignored");
    memset(tiff + 4, 0xFF, 4);
    ok(exif_orientation(tiff, sizeof tiff) == 1, "EXIF: a directory past the end is ignored");
    const uint8_t big[] = {'M',  'M', 0, '*', 0, 0, 0, 8, 0, 1, 1,
                           0x12, 0,   3, 0,   0, 0, 1, 0, 8, 0, 0};
    ok(exif_orientation(big, sizeof big) == 8, "EXIF: a big-endian orientation");

    struct file file = read_image("exif-rotated.jpg");
    struct image stored, turned;
    if (!ok(image_decode(&stored, file.data, file.size, &whole_image) == 0 &&
                image_decode(&turned, file.data, file.size,
                             &(struct image_options){.exif = true}) == 0,
            "exif-rotated.jpg decodes both ways"))
        return;
    bool same = stored.width == turned.height && stored.height == turned.width;
    for (size_t y = 0; same && y < turned.height; y++)
        for (size_t x = 0; x < turned.width; x++) {
            size_t from = (stored.height - 1 - x) * stored.width + y;
            same &= memcmp(turned.rgb + 3 * (y * turned.width + x), stored.rgb + 3 * from, 3) == 0;
        }
    ok(same, "exif-rotated.jpg: orientation 6 is rotated by 90 degrees clockwise");
    image_free(&stored);
    image_free(&turned);
    free(file.data);
}

// A PNG file of 3 x 2 pixels of one kind, and the RGB that it decodes to.
struct kind {
    const char *name;
    int color, depth, interlace;
    const char *rows[2];
    size_t row_bytes;
    const char *expected; // (2, 3, 3)
};

static void append(png_structp png, png_bytep bytes, size_t size)
{
    struct file *file = png_get_io_ptr(png);
    file->data = realloc(file->data, file->size + size);
    memcpy(file->data + file->size, bytes, size);
    file->size += size;
}

static struct file make_png(const struct kind *kind)
{
    struct file file = {0};
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop info = png_create_info_struct(png);
    if (setjmp(png_jmpbuf(png)))
        abort();
    png_set_write_fn(png, &file, append, NULL);
    png_set_IHDR(png, info, 3, 2, kind->depth, kind->color, kind->interlace, 0, 0);
    if (kind->color == PNG_COLOR_TYPE_PALETTE) {
        const png_color colors[] = {{1, 2, 3}, {40, 50, 60}, {250, 251, 252}};
        png_set_PLTE(png, info, colors, 3);
        png_set_tRNS(png, info, (const png_byte[]){0, 128}, 2, NULL);
    }
    png_write_info(png, info);
    png_bytep rows[2];
    for (size_t y = 0; y < 2; y++) {
        rows[y] = malloc(kind->row_bytes);
        memcpy(rows[y], kind->rows[y], kind->row_bytes);
    }
    png_write_image(png, rows);
    png_write_end(png, info);
    png_destroy_write_struct(&png, &info);
    free(rows[0]);
    free(rows[1]);
    return file;
}

static void test_png_kinds(void)
{
    static const struct kind kinds[] = {
        {"gray, 1 bit",
         PNG_COLOR_TYPE_GRAY,
         1,
         0,
         {"\xA0", "\x40"},
         1,
         "\xFF\xFF\xFF\0\0\0\xFF\xFF\xFF\0\0\0\xFF\xFF\xFF\0\0\0"},
        {"gray, 4 bits",
         PNG_COLOR_TYPE_GRAY,
         4,
         0,
         {"\x0F\x10", "\x23\xA0"},
         2,
         "\0\0\0\xFF\xFF\xFF\x11\x11\x11\x22\x22\x22\x33\x33\x33\xAA\xAA\xAA"},
        {"gray, 16 bits",
         PNG_COLOR_TYPE_GRAY,
         16,
         0,
         {"\x01\x02\x03\x04\x80\xFF", "\0\1\2\3\4\5"},
         6,
         "\1\1\1\3\3\3\x80\x80\x80\0\0\0\2\2\2\4\4\4"},
        {"gray with alpha",
         PNG_COLOR_TYPE_GRAY_ALPHA,
         8,
         0,
         {"\1\0\2\x80\3\xFF", "\4\0\5\0\6\0"},
         6,
         "\1\1\1\2\2\2\3\3\3\4\4\4\5\5\5\6\6\6"},
        {"a palette with transparency",
         PNG_COLOR_TYPE_PALETTE,
         2,
         0,
         {"\x18", "\x90"},
         1,
         "\1\2\3\x28\x32\x3C\xFA\xFB\xFC\xFA\xFB\xFC\x28\x32\x3C\1\2\3"},
        {"RGB, 16 bits",
         PNG_COLOR_TYPE_RGB,
         16,
         0,
         {"\1\xFF\2\xFF\3\xFF\4\0\5\0\6\0\7\0\x08\0\x09\0",
          "\x0A\0\x0B\0\x0C\0\x0D\0\x0E\0\x0F\0\x10\0\x11\0\x12\0"},
         18,
         "\1\2\3\4\5\6\7\x08\x09\x0A\x0B\x0C\x0D\x0E\x0F\x10\x11\x12"},
        {"RGBA, interlaced",
         PNG_COLOR_TYPE_RGB_ALPHA,
         8,
         PNG_INTERLACE_ADAM7,
         {"\1\2\3\0\4\5\6\x80\7\x08\x09\xFF", "\x0A\x0B\x0C\0\x0D\x0E\x0F\1\x10\x11\x12\2"},
         12,
         "\1\2\3\4\5\6\7\x08\x09\x0A\x0B\x0C\x0D\x0E\x0F\x10\x11\x12"},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        struct file file = make_png(&kinds[i]);
        struct image image;
        bool same = image_decode(&image, file.data, file.size, &whole_image) == 0 &&
                    image.width == 3 && image.height == 2 &&
                    memcmp(image.rgb, kinds[i].expected, 18) == 0;
        ok(same, "PNG: %s", kinds[i].name);
        image_free(&image);
        free(file.data);
    }
    struct file file = read_image("gray16.png");
    struct image image;
    ok(image_decode(&image, file.data, file.size, &whole_image) == 0, "gray16.png decodes");
    size_t high = 0, gray = 0, n = image.width * image.height;
    for (size_t i = 0; i < n; i++) {
        high += image.rgb[3 * i] == 255;
        gray +=
            image.rgb[3 * i] == image.rgb[3 * i + 1] && image.rgb[3 * i] == image.rgb[3 * i + 2];
    }
    ok(gray == n && high < n / 10, "gray16.png: 16 bits are scaled, not clipped");
    image_free(&image);
    free(file.data);
}

static void test_png_write(void)
{
    struct file file = read_image("landscape.jpg"), written;
    struct image image, back = {0};
    char path[] = "/tmp/images-test-XXXXXX";
    close(mkstemp(path));
    image_decode(&image, file.data, file.size, &whole_image);
    struct output *output = output_open(path);
    bool good = output &&
                image_write_png(output, image.rgb, image.width, image.height, NULL, 0) == 0 &&
                output_commit(output) == 0;
    good = good && file_read_all(path, &written.data, &written.size, FILE_SIZE_MAX) == 0;
    good = good && image_decode(&back, written.data, written.size, &whole_image) == 0;
    ok(good && back.width == image.width && back.height == image.height &&
           memcmp(back.rgb, image.rgb, 3 * image.width * image.height) == 0,
       "a PNG that image_write_png wrote decodes to the same pixels");
    if (good)
        free(written.data);
    unlink(path);
    image_free(&image);
    image_free(&back);
    free(file.data);
}

int main(void)
{
    seed = tap_seed(0);
    test_reference();
    test_broken();
    test_windows();
    test_exif();
    test_png_kinds();
    test_png_write();
    return tap_done();
}
