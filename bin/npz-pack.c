// npz-pack: a stream of images -> a NumPy archive. SPDX-License-Identifier: MIT
#include <stdlib.h>
#include <string.h>

#include "formats/images/image-stream.h"
#include "formats/images/npz.h"
#include "formats/tstream/tstream.h"
#include "lib/base/io.h"
#include "lib/base/mem.h"
#include "lib/tool/tool.h"

// The labels of all images, kept in memory: their array follows that of the images.
struct labels {
    size_t n;
    int64_t *values;
};

static int labels_append(struct labels *labels, const uint8_t *data, size_t n)
{
    if (mem_grow(&labels->values, labels->n, n, sizeof *labels->values) < 0)
        return -1;
    memcpy(labels->values + labels->n, data, n * sizeof *labels->values);
    labels->n += n;
    return 0;
}

int main(int argc, char **argv)
{
    bool with_labels = false;
    const struct option options[] = {
        OPTION_FLAG("labels", 'l', &with_labels, "also pack the labels, as arr_1"),
        TOOL_OPTION_THREADS,
        TOOL_OPTION_OUTPUT,
        TOOL_OPTIONS_COMMON,
        OPTION_END,
    };
    char **operands =
        tool_start(argc, argv,
                   &(struct tool_info){"npz-pack", "[OPTION]... [FILE]",
                                       "Pack a stream of images into a NumPy archive.", options});
    const char *input = tool_one_input(operands);

    struct output *output = output_open(tool.output);
    struct image_stream in;
    if (!output || image_stream_open(&in, input, (size_t)tool.threads, with_labels) < 0)
        tool_fail();
    struct npz_writer *npz =
        npz_create(output, in.height, in.width, in.counted ? in.count : NPZ_COUNT_UNKNOWN);
    if (!npz)
        tool_fail();

    struct labels labels = {0};
    struct batch *batch;
    int rc;
    progress_start("images", in.count);
    while ((rc = tstream_read(in.reader, &batch)) > 0) {
        tool_check(npz_write(npz, batch->data[in.image], batch->rows));
        if (with_labels)
            tool_check(labels_append(&labels, batch->data[in.label], batch->rows));
        progress_add(batch->rows);
        batch_free(batch);
    }
    progress_finish();
    tool_check(rc);
    tool_check(npz_finish(npz, labels.values, with_labels));
    tstream_close(in.reader);
    free(labels.values);
    return tool_finish();
}
