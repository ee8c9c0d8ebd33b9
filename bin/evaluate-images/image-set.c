// Gathers sets of images from streams and archives. SPDX-License-Identifier: MIT
#include "bin/evaluate-images/image-set.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "formats/containers/arrays.h"
#include "formats/images/image-statistics.h"
#include "formats/images/image-stream.h"
#include "formats/weights/inception-file.h"
#include "lib/base/error.h"
#include "lib/base/hash.h"
#include "lib/base/mem.h"
#include "lib/tool/tool-device.h"
#include "lib/tool/tool.h"

#define ZIP_MAGIC "PK"
#define ROWS      256 // of features that are read at a time

int feature_source_open(struct feature_source *source, const char *what)
{
    if (source->net)
        return 0;
    if (!source->path)
        return error_set(STATUS_USAGE,
                         "%s: its images need the Inception network: --inception "
                         "pt_inception-2015-12-05-6726825d.pth, or $DIT_INCEPTION; "
                         "\"get-weights.sh inception\" fetches it",
                         what);
    if (!source->device && !(source->device = tool_open_device()))
        return -1;
    float *fc;
    source->net = inception_file_load(source->device, source->path, &fc, &source->hash);
    if (!source->net)
        return -1;
    if (source->fc)
        free(fc);
    else
        source->fc = fc;
    return 0;
}

void feature_source_close(struct feature_source *source)
{
    inception_free(source->net);
    free(source->fc);
    if (source->device != source->host)
        device_close(source->device);
    device_close(source->host);
}

// -1 with an error if the set has features of another number.
static int expect_width(struct image_set *set, const char *path, size_t D)
{
    if (set->D && set->D != D)
        return error_set(STATUS_DATA, "%s: expected %zu features an image, found %zu", path, set->D,
                         D);
    set->D = D;
    return 0;
}

static int start_moments(struct moments *m, struct device *host, size_t D)
{
    return m->D ? 0 : moments_init(m, host, D);
}

// Keeps features, and lets them count for the Inception Score.
static int add_features(struct image_set *set, const float *features, size_t n)
{
    if (set->score) {
        inception_score_add(set->score, features, n);
        set->n_scored += n;
    }
    if (!set->keep)
        return 0;
    if (mem_grow(&set->features, set->n_features, n, set->D * sizeof *features) < 0)
        return -1;
    memcpy(set->features + set->n_features * set->D, features, n * set->D * sizeof *features);
    set->n_features += n;
    return 0;
}

// A run of images through the network: what is wanted of them, and memory for a batch.
struct image_run {
    struct image_set *set;
    struct feature_source *source;
    bool pool, spatial; // whether the statistics take them
    size_t height, width, n;
    uint64_t seen;   // images, of which a part is taken
    uint8_t *images; // (batch,height,width,3)
    float *features, *spatial_features;
};

static int finish_batch(struct image_run *run)
{
    struct inception *net = run->source->net;
    struct image_set *set = run->set;
    const size_t n = run->n;
    run->n = 0;
    if (n == 0)
        return 0;
    if (inception_features(net, run->images, n, run->height, run->width, run->features,
                           run->spatial_features) < 0)
        return -1;
    if (run->pool)
        moments_add(&set->pool, run->features, n);
    if (run->spatial)
        moments_add(&set->spatial, run->spatial_features, n);
    progress_add(n);
    return add_features(set, run->features, n);
}

static void image_run_end(struct image_run *run)
{
    free(run->images);
    free(run->features);
    free(run->spatial_features);
}

static int image_run_start(struct image_run *run, const char *path)
{
    struct image_set *set = run->set;
    struct feature_source *source = run->source;
    size_t size;
    if (feature_source_open(source, path) < 0 || expect_width(set, path, source->net->features) < 0)
        return -1;
    if (set->height && (set->height != run->height || set->width != run->width))
        tool_warn("%s: its images are of %zux%zu pixels, others of %zux%zu", path, run->width,
                  run->height, set->width, set->height);
    set->height = run->height;
    set->width = run->width;
    if (!size_mul(run->height, run->width, &size) || !size_mul(size, 3, &size))
        return error_set(STATUS_DATA, "%s: its images are too large", path);
    run->images = mem_new(source->batch, size);
    run->features = mem_new(source->batch, source->net->features * sizeof(float));
    run->spatial_features = mem_new(source->batch, source->net->spatial_features * sizeof(float));
    return run->images && run->features && run->spatial_features &&
                   start_moments(&set->pool, source->host, set->D) == 0 &&
                   start_moments(&set->spatial, source->host, source->net->spatial_features) == 0
               ? 0
               : -1;
}

// Where the next image goes, or NULL if it is of another part.
static uint8_t *next_image(struct image_run *run)
{
    const struct part *part = &run->set->part;
    if (run->seen++ % part->count != part->index)
        return NULL;
    run->set->n_images++;
    return run->images + run->n++ * run->height * run->width * 3;
}

static int add_stream(struct image_set *set, struct feature_source *source, const char *path)
{
    struct image_stream in;
    if (image_stream_open(&in, path, (size_t)tool.threads, false) < 0)
        return -1;
    struct image_run run = {.set = set,
                            .source = source,
                            .pool = true,
                            .spatial = true,
                            .height = in.height,
                            .width = in.width};
    int rc = image_run_start(&run, in.name);
    struct batch *batch;
    progress_start("images", in.counted ? in.count / set->part.count : 0);
    while (rc == 0 && (rc = tstream_read(in.reader, &batch)) > 0) {
        rc = 0;
        for (size_t i = 0; rc == 0 && i < batch->rows; i++) {
            uint8_t *to = next_image(&run);
            if (to)
                memcpy(to, batch->data[in.image] + i * in.image_size, in.image_size);
            rc = run.n == source->batch ? finish_batch(&run) : 0;
        }
        batch_free(batch);
    }
    if (rc == 0)
        rc = finish_batch(&run);
    progress_finish();
    image_run_end(&run);
    tstream_close(in.reader);
    return rc;
}

// The images of arr_0, for the statistics that the archive lacks.
static int add_arr_0(struct image_set *set, struct feature_source *source,
                     const struct arrays *arrays, bool pool, bool spatial)
{
    struct array *array = array_expect(arrays, "arr_0", DTYPE_U8, (const size_t[]){0, 0, 0, 3}, 4);
    if (!array)
        return -1;
    const struct npy *npy = &array->npy;
    struct image_run run = {.set = set,
                            .source = source,
                            .pool = pool,
                            .spatial = spatial,
                            .height = npy->shape[1],
                            .width = npy->shape[2]};
    int rc = npy->count == 0 ? error_set(STATUS_DATA, "%s: arr_0 is empty", arrays->path)
                             : image_run_start(&run, arrays->path);
    progress_start("images", npy->shape[0] / set->part.count);
    for (size_t i = 0; rc == 0 && i < npy->shape[0]; i++) {
        uint8_t *to = next_image(&run);
        // Images of other parts are read, too, and overwritten: an archive may be compressed.
        uint8_t *at =
            to ? to : run.images + (run.n < source->batch ? run.n : 0) * run.height * run.width * 3;
        rc = array_read(array, at, run.height * run.width * 3);
        if (rc == 0 && run.n == source->batch)
            rc = finish_batch(&run);
    }
    if (rc == 0)
        rc = finish_batch(&run);
    progress_finish();
    image_run_end(&run);
    array_close(array);
    return rc;
}

// Notes the first file that lacks something.
static void lack(const char **without, const char *path)
{
    if (!*without)
        *without = path;
}

// The features of `count` images; 0: nobody knows of how many.
static int read_features(struct image_set *set, const struct arrays *arrays, uint64_t count)
{
    struct array *array =
        array_expect(arrays, "features", DTYPE_F32, (const size_t[]){0, set->D}, 2);
    if (!array)
        return -1;
    const size_t n = array->npy.shape[0];
    if (n == 0 || (count && n != count)) {
        lack(&set->without_features, arrays->path);
        array_close(array);
        return 0;
    }
    float *rows = mem_new(ROWS, set->D * sizeof *rows);
    int rc = rows ? 0 : -1;
    for (size_t i = 0, some; rc == 0 && i < n; i += some) {
        some = n - i < ROWS ? n - i : ROWS;
        rc = array_read(array, rows, some * set->D);
        if (rc == 0)
            rc = add_features(set, rows, some);
    }
    free(rows);
    array_close(array);
    return rc;
}

// Merges a mean and covariance of `count` images; 0: nobody knows of how many.
static int add_moments(struct moments *m, struct device *host, const struct arrays *arrays,
                       const char *mean, const char *covariance, uint64_t count)
{
    struct image_statistics found;
    if (image_statistics_read(&found, arrays, mean, covariance, m->D) < 0)
        return -1;
    int rc = start_moments(m, host, found.D);
    if (rc == 0) // of one set alone the number cancels out
        moments_merge(m, count ? count : 1 << 20, found.mean, found.covariance);
    image_statistics_free(&found);
    return rc;
}

static int refuse_uncounted(const char *path)
{
    return error_set(STATUS_DATA,
                     "%s: statistics of several files are merged only if each says of how many "
                     "images (count, as --save writes it)",
                     path);
}

static int add_members(struct image_set *set, struct feature_source *source,
                       const struct arrays *arrays)
{
    // Statistics are of all images, so that a part is computed from the images themselves.
    const bool part = set->part.count > 1, wanted = set->keep || set->score;
    const bool pool = !part && arrays_have(arrays, "mu");
    const bool spatial = !part && arrays_have(arrays, "mu_s");
    const bool features = !part && arrays_have(arrays, "features");
    bool images = arrays_have(arrays, "arr_0");
    struct image_origin origin;
    if (!images && !arrays_have(arrays, "mu"))
        return error_set(STATUS_DATA,
                         "%s: expected the arrays mu and sigma, or arr_0, found neither",
                         arrays->path);
    if (part && !images)
        return error_set(STATUS_USAGE, "%s: --part takes parts of images, and it has none",
                         arrays->path);
    if (image_origin_read(&origin, arrays) < 0)
        return -1;
    // Images that are not all of those that are counted can't stand for them.
    if (pool && origin.count && origin.stored != origin.count)
        images = false;
    if (pool && origin.count == 0 && set->pool.D)
        return refuse_uncounted(arrays->path);
    set->uncounted |= pool && origin.count == 0;
    if (pool && add_moments(&set->pool, source->host, arrays, "mu", "sigma", origin.count) < 0)
        return -1;
    if (pool && expect_width(set, arrays->path, set->pool.D) < 0)
        return -1;
    if (spatial &&
        add_moments(&set->spatial, source->host, arrays, "mu_s", "sigma_s", origin.count) < 0)
        return -1;
    if (!images && !features)
        lack(&set->without_features, arrays->path);
    if (!images && !spatial)
        lack(&set->without_spatial, arrays->path);
    if (images && (!pool || !spatial || (wanted && !features)))
        return add_arr_0(set, source, arrays, !pool, !spatial);
    if (origin.height)
        set->height = origin.height, set->width = origin.width;
    set->n_images += origin.count;
    return features && wanted ? read_features(set, arrays, origin.count) : 0;
}

static int add_archive(struct image_set *set, struct feature_source *source, const char *path)
{
    struct arrays arrays;
    if (arrays_open(&arrays, path) < 0)
        return -1;
    int rc = add_members(set, source, &arrays);
    if (rc == 0)
        set->hash =
            hash_bytes(set->hash ? set->hash : HASH_START, arrays.file.data, arrays.file.size);
    arrays_close(&arrays);
    return rc;
}

// Whether a regular file begins as a zip archive does: 1 or 0. -1 with an error.
static int find_archive(const char *path)
{
    char start[sizeof ZIP_MAGIC - 1];
    size_t got = 0;
    if (strcmp(path, "-") == 0 || !file_is_regular(path))
        return 0;
    const int fd = file_open_regular(path);
    if (fd < 0)
        return -1;
    int rc = fd_read_full(fd, start, sizeof start, &got);
    if (rc < 0)
        error_set_errno(STATUS_NO_INPUT, "%s: cannot read", path);
    close(fd);
    return rc < 0 ? -1 : got == sizeof start && memcmp(start, ZIP_MAGIC, got) == 0;
}

int image_set_add(struct image_set *set, struct feature_source *source, const char *path)
{
    if (set->uncounted) // whatever comes after it can't be weighed against it
        return refuse_uncounted(path);
    const int archive = find_archive(path);
    return archive < 0 ? -1
           : archive   ? add_archive(set, source, path)
                       : add_stream(set, source, path);
}

static int save_array(struct zip_writer *zip, const char *name, enum dtype dtype,
                      const size_t *shape, size_t rank, const void *values)
{
    size_t count;
    shape_count(shape, rank, &count);
    return arrays_start(zip, name, dtype, shape, rank) < 0 ||
                   zip_write(zip, values, count * dtype_size(dtype)) < 0 || zip_end(zip) < 0
               ? -1
               : 0;
}

static int save_moments(struct zip_writer *zip, struct moments *m, const char *mean,
                        const char *covariance)
{
    double *values = mem_new(m->D, m->D * sizeof *values);
    if (!values)
        return -1;
    moments_finish(m, values);
    const size_t shape[] = {m->D, m->D};
    int rc = save_array(zip, mean, DTYPE_F64, shape, 1, m->mean);
    if (rc == 0)
        rc = save_array(zip, covariance, DTYPE_F64, shape, 2, values);
    free(values);
    return rc;
}

static int save_members(struct image_set *set, struct zip_writer *zip)
{
    const int64_t sides[2] = {(int64_t)set->height, (int64_t)set->width};
    if (save_moments(zip, &set->pool, "mu", "sigma") < 0)
        return -1;
    if (!set->without_spatial && save_moments(zip, &set->spatial, "mu_s", "sigma_s") < 0)
        return -1;
    if (set->n_features && !set->without_features &&
        save_array(zip, "features", DTYPE_F32, (const size_t[]){set->n_features, set->D}, 2,
                   set->features) < 0)
        return -1;
    if (set->height && save_array(zip, "image_size", DTYPE_I64, (const size_t[]){2}, 1, sides) < 0)
        return -1;
    const int64_t count = (int64_t)set->pool.n; // complete since save_moments
    return set->uncounted ? 0 : save_array(zip, "count", DTYPE_I64, (const size_t[]){1}, 1, &count);
}

int image_set_save(struct image_set *set, struct output *output)
{
    if (set->without_spatial)
        tool_note("%s: no spatial statistics are saved, as %s lacks those of all its images",
                  output_name(output), set->without_spatial);
    if (set->keep && set->without_features)
        tool_note("%s: no features are saved, as %s lacks those of all its images",
                  output_name(output), set->without_features);
    struct zip_writer *zip = zip_new(output);
    int rc = zip && save_members(set, zip) == 0 && zip_finish(zip) == 0 ? 0 : -1;
    zip_free(zip);
    if (rc == 0)
        return output_commit(output);
    output_discard(output);
    return rc;
}

void image_set_free(struct image_set *set)
{
    if (set->score)
        inception_score_free(set->score);
    moments_free(&set->pool);
    moments_free(&set->spatial);
    free(set->features);
}
