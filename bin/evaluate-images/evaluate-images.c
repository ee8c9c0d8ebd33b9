// evaluate-images: images -> FID and its kin, as ADM's evaluator computes them.
// SPDX-License-Identifier: MIT
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bin/evaluate-images/figures.h"
#include "formats/weights/inception-file.h"
#include "lib/base/hash.h"
#include "lib/base/mem.h"
#include "lib/evaluation/kernel-distance.h"
#include "lib/tool/tool.h"

// What the options say.
static struct {
    const char *reference, *save, *metrics, *inception;
    bool half;
    int64_t batch;
    struct part part;
} given = {.batch = INCEPTION_BATCH, .part = {0, 1}};

static const struct option options[] = {
    OPTION_STRING("reference", 'r', &given.reference, "FILE",
                  "the images or statistics (.npz) to compare with"),
    OPTION_STRING("save", 0, &given.save, "FILE",
                  "write the statistics and features of the images to FILE (.npz)"),
    OPTION_STRING(
        "metrics", 'm', &given.metrics, "LIST",
        "what to compute, of fid,sfid,inception-score,precision,recall,kid (default: all)"),
    OPTION_STRING("inception", 0, &given.inception, "FILE",
                  "weights of the network (default: $DIT_INCEPTION, or inception)"),
    OPTION_FLAG("half-distances", 0, &given.half,
                "round the distances of precision and recall to half precision, as ADM does"),
    OPTION_PART("part", 0, &given.part, "take only images I, I+N, I+2N, ..."),
    OPTION_INT("batch", 'b', &given.batch, 1, 4096, "images at a time (default 16)"),
    TOOL_OPTION_SEED,
    TOOL_OPTION_DEVICE,
    TOOL_OPTION_PRECISION,
    TOOL_OPTION_THREADS,
    TOOL_OPTION_OUTPUT,
    TOOL_OPTIONS_COMMON,
    OPTION_END,
};

// Prepares the Inception Score; takes it from the wanted figures, unless --metrics names it, if the
// weights lack the last layer, on which it rests.
static void start_score(struct image_set *set, struct feature_source *source,
                        struct inception_score *score, struct figures *figures)
{
    if (!source->path && !given.metrics)
        return; // report_missing tells of it
    tool_check(feature_source_open(source, "the Inception Score"));
    if (source->fc) {
        tool_check(inception_score_init(score, source->host, source->fc, INCEPTION_CLASSES,
                                        source->net->features, SCORE_SPLIT));
        set->score = score;
    } else if (given.metrics) {
        error_set(STATUS_DATA, "%s: the Inception Score needs the network's last layer, fc.weight",
                  source->path);
        tool_fail();
    } else {
        tool_note("%s has no last layer (fc.weight): no Inception Score", source->path);
        figures->wanted &= ~(unsigned)FIGURE_SCORE;
    }
}

static void add_files(struct image_set *set, struct feature_source *source, char **paths)
{
    for (; *paths; paths++)
        tool_check(image_set_add(set, source, *paths));
    if (set->pool.D == 0 || set->pool.n + set->pool.n_pending == 0) {
        error_set(STATUS_DATA, "%s: expected images, found none", set->name);
        tool_fail();
    }
    const uint64_t n = set->pool.n + set->pool.n_pending;
    if (!set->uncounted && n <= set->D)
        tool_warn("%s: %" PRIu64 " %s too few for %zu features: the covariance lacks full "
                  "rank, and FID is biased upwards",
                  set->name, n, n == 1 ? "image is" : "images are", set->D);
}

static json_t *hash_text(uint64_t hash)
{
    return json_sprintf("%016" PRIx64, hash);
}

static json_t *describe_results(const struct figures *f, const struct feature_source *source,
                                const struct image_set *samples, const struct image_set *reference)
{
    json_t *all = json_object();
    const struct {
        enum figure figure;
        const char *key;
        double value;
    } rows[] = {{FIGURE_FID, "fid", f->fid},
                {FIGURE_SFID, "sfid", f->sfid},
                {FIGURE_SCORE, "inception_score", f->score},
                {FIGURE_PRECISION, "precision", f->precision},
                {FIGURE_RECALL, "recall", f->recall},
                {FIGURE_KID, "kid", f->kid}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (f->possible & rows[i].figure)
            json_object_set_new(all, rows[i].key, json_real(rows[i].value));
    if (f->possible & FIGURE_KID && f->kid_subsets > 1)
        json_object_set_new(all, "kid_std", json_real(f->kid_deviation));
    if (samples->n_images)
        json_object_set_new(all, "images", json_integer((json_int_t)samples->n_images));
    if (f->possible & FIGURE_KID) {
        json_object_set_new(all, "kid_subsets", json_integer((json_int_t)f->kid_subsets));
        json_object_set_new(all, "kid_subset_size", json_integer((json_int_t)f->kid_size));
        json_object_set_new(all, "seed", json_integer((json_int_t)f->seed));
    }
    if (f->possible & (FIGURE_PRECISION | FIGURE_RECALL))
        json_object_set_new(all, "half_distances", json_boolean(f->half));
    if (f->possible & FIGURE_SCORE)
        json_object_set_new(all, "inception_score_split", json_integer(SCORE_SPLIT));
    if (given.part.count > 1)
        json_object_set_new(
            all, "part",
            json_sprintf("%" PRIu64 "/%" PRIu64, given.part.index + 1, given.part.count));
    if (source->net) {
        json_object_set_new(all, "inception", json_string(source->path));
        json_object_set_new(all, "inception_hash", hash_text(source->hash));
        json_object_set_new(all, "device", json_string(source->device->description));
    }
    if (reference) {
        json_object_set_new(all, "reference", json_string(reference->name));
        if (reference->hash)
            json_object_set_new(all, "reference_hash", hash_text(reference->hash));
        if (reference->n_images)
            json_object_set_new(all, "reference_images",
                                json_integer((json_int_t)reference->n_images));
    }
    return all;
}

// A line for people.
static void print_line(const struct figures *f)
{
    char line[256] = "";
    size_t used = 0;
    const struct {
        enum figure figure;
        const char *format;
        double value;
    } rows[] = {{FIGURE_FID, "FID %.4f", f->fid},
                {FIGURE_SFID, "sFID %.4f", f->sfid},
                {FIGURE_SCORE, "Inception Score %.3f", f->score},
                {FIGURE_PRECISION, "precision %.4f", f->precision},
                {FIGURE_RECALL, "recall %.4f", f->recall},
                {FIGURE_KID, "KID %.6f", f->kid}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (f->possible & rows[i].figure) {
            char text[64];
            snprintf(text, sizeof text, rows[i].format, rows[i].value);
            used +=
                (size_t)snprintf(line + used, sizeof line - used, "%s%s", used ? ", " : "", text);
        }
    if (used)
        tool_note("%s", line);
}

// Writes the results as JSON; output NULL: to standard output, which may be a terminal.
static void write_results(struct output *output, json_t *results)
{
    char *text =
        json_dumps(results, JSON_INDENT(2) | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(15));
    json_decref(results);
    if (!text) {
        error_set(STATUS_INTERNAL, "out of memory");
        tool_fail();
    }
    if (output) {
        tool_check(output_write(output, text, strlen(text)));
        tool_check(output_write(output, "\n", 1));
        tool_check(output_commit(output));
    } else {
        puts(text);
    }
    free(text);
}

// Figures that can't be computed are an error if --metrics names them; else each gets a note.
static void report_missing(const struct figures *f, const struct image_set *samples,
                           const struct image_set *reference)
{
    char why[512];
    for (unsigned figure = 1; figure < FIGURE_ALL; figure *= 2) {
        if (!(f->wanted & figure) || f->possible & figure || (!reference && figure != FIGURE_SCORE))
            continue;
        figure_explain(figure, samples, reference, why, sizeof why);
        if (given.metrics) {
            error_set(STATUS_DATA, "%s can't be computed: %s", figure_name(figure), why);
            tool_fail();
        }
        tool_note("no %s: %s", figure_name(figure), why);
    }
}

// An output must not replace an input, nor the other output. Fails with a usage error.
static void check_output(const char *option, const char *path, const char *other, const char *what)
{
    if (path && other && file_is_same(path, other))
        tool_usage_error("%s: %s is %s, too", option, path, what);
}

static const char *path_or(const char *path, const char *standard)
{
    return path && strcmp(path, "-") == 0 ? standard : path;
}

static void check_paths(char **inputs)
{
    const char *reference = path_or(given.reference, "/dev/stdin");
    const char *saved = path_or(given.save, "/dev/stdout");
    const char *output = tool.output ? path_or(tool.output, "/dev/stdout") : "/dev/stdout";
    for (char **i = inputs; given.reference && *i; i++)
        if (strcmp(given.reference, "-") == 0 && strcmp(*i, "-") == 0)
            tool_usage_error("--reference and the images can't both be standard input");
    check_output("--save", saved, output, "where the figures go");
    check_output("--save", saved, reference, "the reference");
    check_output("--output", output, reference, "the reference");
    for (; *inputs; inputs++) {
        const char *input = path_or(*inputs, "/dev/stdin");
        check_output("--save", saved, input, "an input");
        check_output("--output", output, input, "an input");
    }
}

int main(int argc, char **argv)
{
    char **operands =
        tool_start(argc, argv,
                   &(struct tool_info){"evaluate-images", "[OPTION]... [FILE]...",
                                       "Compare images with a reference: FID, sFID, Inception "
                                       "Score, precision, recall and KID.",
                                       options});
    char **inputs = tool_inputs(operands), why[256];
    struct figures figures = {.wanted = FIGURE_ALL, .half = given.half, .seed = tool.seed};
    if (given.metrics)
        tool_check(figures_parse(given.metrics, &figures.wanted));
    if (!given.reference && !given.save && given.metrics &&
        figures.wanted & ~(unsigned)FIGURE_SCORE)
        tool_usage_error("these --metrics need a --reference, or --save for later");

    check_paths(inputs);

    struct output *output = tool.output ? output_open(tool.output) : NULL;
    if (tool.output && !output)
        tool_fail();
    struct output *saved = given.save ? output_open(given.save) : NULL;
    struct feature_source source = {.path = inception_file_choose(given.inception),
                                    .batch = (size_t)given.batch};
    if (given.save && !saved)
        tool_fail();
    if (!(source.host = device_open("cpu", (int)tool.threads, why))) {
        error_set(STATUS_INTERNAL, "%s", why);
        tool_fail();
    }
    const bool keep = (given.reference || given.save) && figures.wanted & FIGURE_OF_FEATURES;
    struct image_set reference = {.name = given.reference, .keep = keep, .part = {0, 1}};
    struct image_set samples = {.name = file_name(*inputs), .keep = keep, .part = given.part};
    struct inception_score score;
    if (figures.wanted & FIGURE_SCORE)
        start_score(&samples, &source, &score, &figures);
    if (given.reference)
        add_files(&reference, &source, (char *[]){(char *)given.reference, NULL});
    add_files(&samples, &source, inputs);
    if (given.reference && samples.D != reference.D) {
        error_set(STATUS_DATA, "%s: expected %zu features an image, as the samples have, found %zu",
                  given.reference, samples.D, reference.D);
        tool_fail();
    }
    if (given.reference && samples.height && reference.height &&
        (samples.height != reference.height || samples.width != reference.width))
        tool_warn("the images are of %zux%zu pixels, those of the reference of %zux%zu",
                  samples.width, samples.height, reference.width, reference.height);
    struct image_set *compared = given.reference ? &reference : NULL;
    figures_choose(&figures, &samples, compared);
    report_missing(&figures, &samples, compared);
    if (saved)
        tool_check(image_set_save(&samples, saved));
    tool_check(figures_compute(&figures, source.host, &samples, compared));
    print_line(&figures);
    write_results(output, describe_results(&figures, &source, &samples, compared));
    image_set_free(&samples);
    image_set_free(&reference);
    feature_source_close(&source);
    return tool_finish();
}
