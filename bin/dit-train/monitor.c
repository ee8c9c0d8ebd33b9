// Hands on what the log says; its keys are the names that others see. SPDX-License-Identifier: MIT
#include "bin/dit-train/monitor.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "formats/containers/event-file.h"
#include "lib/base/clock.h"
#include "lib/base/error.h"
#include "lib/base/io.h"
#include "lib/base/mem.h"
#include "lib/tool/tool.h"

#define FOLDER    "tensorboard"
#define SHEET_MAX ((size_t)256 << 20) // bytes of a PNG

struct monitor {
    const char *run;
    struct event_file events; // .fd -1: none
    const char *prometheus;   // NULL: none
    bool failed;              // what was to be written last
};

// Warns, unless the last attempt failed, too.
static void note_failure(struct monitor *m, int rc)
{
    if (rc < 0 && !m->failed)
        tool_warn("%s; training goes on, and this is left out", error_message());
    m->failed = rc < 0;
}

static int create_events(struct monitor *m, const struct run_folder *run, uint64_t step)
{
    char *path = path_join(run->path, FOLDER);
    int folder = -1, rc = -1;
    mkdirat(run->lock, FOLDER, 0777); // if this fails, so does the next line
    if (path && (folder = openat(run->lock, FOLDER, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
        error_set_errno(STATUS_CANT_CREATE, "%s", path);
    if (folder >= 0) {
        rc = event_file_create(&m->events, folder, path);
        close(folder);
    }
    free(path);
    return rc < 0 ? -1 : event_file_add_start(&m->events, clock_read(CLOCK_REALTIME), step + 1);
}

// Prints the value of a label; a name may hold anything.
static void print_label(FILE *out, const char *text)
{
    for (; *text; text++)
        if (*text == '\n')
            fputs("\\n", out);
        else
            fprintf(out, *text == '"' || *text == '\\' ? "\\%c" : "%c", *text);
}

static int write_prometheus(const struct monitor *m, const json_t *line)
{
    char *text = NULL;
    size_t size = 0;
    const char *key;
    json_t *value;
    FILE *out = open_memstream(&text, &size);
    if (!out)
        return error_set_errno(STATUS_INTERNAL, "%s", m->prometheus);
    json_object_foreach((json_t *)line, key, value)
    {
        if (!json_is_number(value))
            continue;
        fprintf(out, "# TYPE dit_train_%s gauge\ndit_train_%s{run=\"", key, key);
        print_label(out, m->run);
        fprintf(out, "\"} %.9g\n", json_number_value(value));
    }
    fclose(out);
    struct output *output = output_open(m->prometheus);
    int rc = output ? output_write(output, text, size) : -1;
    if (rc == 0)
        rc = output_commit(output);
    else
        output_discard(output);
    free(text);
    return rc;
}

struct monitor *monitor_open(const struct run_folder *run, bool tensorboard, const char *prometheus,
                             uint64_t step)
{
    struct monitor *m = mem_new(1, sizeof *m);
    if (!m)
        return NULL;
    *m = (struct monitor){.run = run->path, .events = {.fd = -1}, .prometheus = prometheus};
    json_t *line = json_pack("{sI sI}", "step", (json_int_t)step, "time", (json_int_t)time(NULL));
    int rc = tensorboard ? create_events(m, run, step) : 0;
    if (rc == 0 && prometheus && (rc = write_prometheus(m, line)) < 0)
        error_prefix("--prometheus");
    json_decref(line);
    if (rc == 0)
        return m;
    monitor_close(m);
    return NULL;
}

void monitor_close(struct monitor *m)
{
    if (m)
        event_file_close(&m->events);
    free(m);
}

// A partial line is left out: the next one tells of its steps again.
static int add_line(struct monitor *m, const json_t *line)
{
    const char *tags[64], *key;
    double values[64];
    size_t n = 0;
    json_t *value;
    if (json_object_get(line, "partial"))
        return 0;
    json_object_foreach((json_t *)line, key, value)
    {
        if (!json_is_number(value) || strcmp(key, "step") == 0 || strcmp(key, "time") == 0 ||
            n == sizeof tags / sizeof *tags)
            continue;
        tags[n] = key;
        values[n++] = json_number_value(value);
    }
    return event_file_add_scalars(&m->events, clock_read(CLOCK_REALTIME),
                                  (uint64_t)json_integer_value(json_object_get(line, "step")), n,
                                  tags, values);
}

void monitor_log(struct monitor *m, const json_t *line)
{
    int rc = 0;
    if (!m)
        return;
    if (m->events.fd >= 0)
        rc = add_line(m, line);
    if (rc == 0 && m->prometheus)
        rc = write_prometheus(m, line);
    note_failure(m, rc);
}

void monitor_sheet(struct monitor *m, uint64_t step, const char *path)
{
    uint8_t *png = NULL;
    size_t size;
    if (!m || m->events.fd < 0)
        return;
    int rc = file_read_regular(path, &png, &size, SHEET_MAX);
    if (rc == 0)
        rc = event_file_add_image(&m->events, clock_read(CLOCK_REALTIME), step, "samples", png,
                                  size);
    free(png);
    note_failure(m, rc);
}
