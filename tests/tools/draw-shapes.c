// Draws labelled JPEG pictures for the demo and the tests: ten shapes and textures, a folder for
// each, varied in position, size, angle and colour. SPDX-License-Identifier: MIT
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include <jpeglib.h>

#include "lib/base/io.h"
#include "lib/base/mem.h"
#include "lib/base/rng.h"
#include "lib/tool/tool.h"

#define SAMPLES 3 // per pixel in each direction, for antialiasing
#define QUALITY 92
#define PI      3.14159265358979323846
#define PERIOD  1.4 // of textures, in units of the shape

// cover tells how much of the point (x, y) the shape covers, 0 to 1. Shapes fill about the unit
// circle, y pointing up; textures have no bounds.
struct shape {
    const char *name;
    double (*cover)(double x, double y);
};

static double wave(double x)
{
    return sin(2 * PI * x / PERIOD);
}

static double checkers(double x, double y)
{
    return wave(x) * wave(y) > 0;
}

static double circle(double x, double y)
{
    return x * x + y * y < 1;
}

static double cross(double x, double y)
{
    x = fabs(x);
    y = fabs(y);
    return fmax(x, y) < 1 && fmin(x, y) < 0.3;
}

static double dots(double x, double y)
{
    return wave(x) + wave(y) > 0.9;
}

static double gradient(double x, double y)
{
    (void)y;
    return fmin(fmax(0.5 + 0.35 * x, 0), 1);
}

static double ring(double x, double y)
{
    double square = x * x + y * y;
    return square < 1 && square > 0.3;
}

static double square(double x, double y)
{
    return fmax(fabs(x), fabs(y)) < 0.85;
}

// How many of n half planes contain the point. Their edges are at this distance from the origin, in
// equally spaced directions.
static int half_planes(double x, double y, int n, double first_angle, double distance)
{
    int holding = 0;
    for (int i = 0; i < n; i++) {
        double angle = first_angle + 2 * PI * i / n;
        holding += x * cos(angle) + y * sin(angle) < distance;
    }
    return holding;
}

static double star(double x, double y)
{
    return half_planes(x / 1.15, y / 1.15, 5, PI / 2, cos(2 * PI / 5)) >= 4;
}

static double stripes(double x, double y)
{
    (void)x;
    return wave(y) > 0;
}

static double triangle(double x, double y)
{
    return half_planes(x / 1.15, y / 1.15, 3, -PI / 2, 0.5) == 3;
}

static const struct shape shapes[] = {
    {"checkers", checkers}, {"circle", circle},     {"cross", cross},   {"dots", dots},
    {"gradient", gradient}, {"ring", ring},         {"square", square}, {"star", star},
    {"stripes", stripes},   {"triangle", triangle},
};
#define N_SHAPES (sizeof shapes / sizeof *shapes)

// The random numbers of one picture, used in order.
struct dice {
    struct rng rng;
    uint32_t next;
};

static double roll(struct dice *dice, double low, double high)
{
    return low + (high - low) * rng_uniform(&dice->rng, dice->next++);
}

// The RGB of a hue in [0, 6).
static void set_color(double rgb[3], double hue, double saturation, double value)
{
    for (int c = 0; c < 3; c++) {
        double k = fmod(hue + 5 - 2 * c, 6);
        rgb[c] = 255 * value * (1 - saturation * fmax(0, fmin(fmin(k, 4 - k), 1)));
    }
}

// Draws the shape in a strong, dark colour on a light background.
static void draw(const struct shape *shape, struct dice *dice, size_t side, uint8_t *rgb)
{
    double radius = roll(dice, 0.8, 1.2) * 0.34, angle = roll(dice, -0.1, 0.1);
    double x0 = 0.5 + roll(dice, -0.05, 0.05), y0 = 0.5 + roll(dice, -0.05, 0.05);
    double front[3], back[3];
    double hue = roll(dice, 0, 6), saturation = roll(dice, 0.7, 1), value = roll(dice, 0.4, 0.8);
    set_color(front, hue, saturation, value);
    hue = roll(dice, 0, 6), saturation = roll(dice, 0.05, 0.3), value = roll(dice, 0.9, 1);
    set_color(back, hue, saturation, value);
    double cosine = cos(angle) / radius, sine = sin(angle) / radius;
    for (size_t i = 0; i < side * side; i++) {
        double cover = 0;
        for (int s = 0; s < SAMPLES * SAMPLES; s++) {
            double x = ((double)(i % side) + (s % SAMPLES + 0.5) / SAMPLES) / (double)side - x0;
            double y = y0 - ((double)(i / side) + (s / SAMPLES + 0.5) / SAMPLES) / (double)side;
            cover += shape->cover(x * cosine + y * sine, y * cosine - x * sine);
        }
        cover /= SAMPLES * SAMPLES;
        for (int c = 0; c < 3; c++)
            rgb[3 * i + c] = (uint8_t)(back[c] + cover * (front[c] - back[c]) + 0.5);
    }
}

// An error in libjpeg ends the program with its message.
static void write_jpeg(const char *path, const uint8_t *rgb, size_t side)
{
    struct jpeg_compress_struct info;
    struct jpeg_error_mgr errors;
    FILE *file = fopen(path, "wb");
    if (!file) {
        error_set_errno(STATUS_CANT_CREATE, "%s: cannot create", path);
        tool_fail();
    }
    info.err = jpeg_std_error(&errors);
    jpeg_create_compress(&info);
    jpeg_stdio_dest(&info, file);
    info.image_width = info.image_height = (JDIMENSION)side;
    info.input_components = 3;
    info.in_color_space = JCS_RGB;
    jpeg_set_defaults(&info);
    jpeg_set_quality(&info, QUALITY, TRUE);
    jpeg_start_compress(&info, TRUE);
    while (info.next_scanline < info.image_height) {
        JSAMPROW row = (uint8_t *)(uintptr_t)rgb + 3 * side * info.next_scanline;
        jpeg_write_scanlines(&info, &row, 1);
    }
    jpeg_finish_compress(&info);
    jpeg_destroy_compress(&info);
    if (fclose(file)) {
        error_set_errno(STATUS_IO, "%s: cannot write", path);
        tool_fail();
    }
}

int main(int argc, char **argv)
{
    const char *folder = NULL;
    int64_t count = 1000, side = 96;
    const struct option options[] = {
        OPTION_STRING("output", 'o', &folder, "FOLDER",
                      "make a folder of pictures for each class in FOLDER"),
        OPTION_INT("count", 'n', &count, 1, 10000000, "draw N pictures in all (default 1000)"),
        OPTION_INT("size", 's', &side, 8, 4096, "make pictures of N x N pixels (default 96)"),
        TOOL_OPTION_SEED,
        TOOL_OPTIONS_COMMON,
        OPTION_END,
    };
    char **operands = tool_start(
        argc, argv,
        &(struct tool_info){"draw-shapes", "-o FOLDER [OPTION]...",
                            "Draw labelled JPEG pictures of ten shapes and textures.", options});
    if (operands[0] || !folder)
        tool_usage_error(folder ? "unexpected operand: %s" : "no folder; use -o FOLDER",
                         operands[0]);
    uint8_t *rgb = mem_new((size_t)(side * side), 3);
    for (size_t i = 0; i < N_SHAPES; i++) {
        char *path = path_join(folder, shapes[i].name);
        if (!path || folder_make(path))
            tool_fail();
        free(path);
    }
    progress_start("pictures", (uint64_t)count);
    for (int64_t i = 0; i < count; i++) {
        const struct shape *shape = &shapes[(size_t)i % N_SHAPES];
        struct dice dice = {{tool.seed, RNG_TEST, 0, (uint64_t)i}, 0};
        char *path = mem_printf("%s/%s/%06lld.jpg", folder, shape->name, (long long)i);
        if (!rgb || !path)
            tool_fail();
        draw(shape, &dice, (size_t)side, rgb);
        write_jpeg(path, rgb, (size_t)side);
        free(path);
        progress_add(1);
    }
    free(rgb);
    return tool_finish();
}
