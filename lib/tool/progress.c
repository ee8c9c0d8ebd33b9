// The one line of progress on stderr, and messages in its place. SPDX-License-Identifier: MIT
#include "lib/tool/progress.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/printable.h"

#define REDRAW_TERMINAL 0.1  // seconds between lines on a terminal
#define REDRAW_LOG      30.0 // and elsewhere
#define CLEAR_LINE      "\r\033[K"

static struct {
    const char *program; // NULL: the process's name
    bool shown;
} setup;
static struct {
    bool active, terminal, drawn;
    const char *unit;
    uint64_t done, skipped, total; // done: with those skipped
    double started, last;
    char text[128];
} progress;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void progress_setup(const char *program, bool shown)
{
    setup.program = program;
    setup.shown = shown;
}

static const char *program_name(void)
{
    return setup.program ? setup.program : program_invocation_short_name;
}

// Writes a line by one write(), so that the lines of a pipe's programs don't mix. All that the
// programs say passes here, with names and texts from files, so here it is made printable.
static void write_line(const char *before, char *line, const char *after)
{
    char all[2400];
    line[make_printable(line, strlen(line))] = 0;
    int n = snprintf(all, sizeof all, "%s%s%s", before, line, after);
    for (const char *c = all; n > 0;) {
        ssize_t written = write(STDERR_FILENO, c, (size_t)n);
        if (written < 0 && errno != EINTR)
            return; // an error on stderr cannot be reported
        if (written > 0)
            c += written, n -= (int)written;
    }
}

// The programs of a pipe share one terminal: the first to draw has the line until it ends. A lock
// on the terminal's file tells the others.
static bool own_terminal(void)
{
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    return fcntl(STDERR_FILENO, F_SETLK, &whole) == 0 || (errno != EAGAIN && errno != EACCES);
}

void progress_message(const char *format, va_list ap)
{
    char line[2048];
    int n = snprintf(line, sizeof line, "%s: ", program_name());
    vsnprintf(line + n, sizeof line - (size_t)n, format, ap);
    pthread_mutex_lock(&lock);
    // The line to clear may also be that of another program of the pipe.
    bool clear = progress.active && progress.terminal && (progress.drawn || !own_terminal());
    write_line(clear ? CLEAR_LINE : "", line, "\n");
    pthread_mutex_unlock(&lock);
}

// As this takes no lock, the message may come in the middle of another line, but it comes.
void progress_message_in_handler(const char *subject, const char *text)
{
    int error = errno;
    bool clear = progress.active && progress.terminal; // also the ^C that the terminal shows
    const char *parts[] = {program_name(), ": ", subject, text};
    char line[2048];
    size_t n = 0;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        for (const char *c = parts[i]; *c && n < sizeof line - 1;)
            line[n++] = *c++;
    n = make_printable(line, n);
    struct iovec pieces[] = {{(void *)(uintptr_t)CLEAR_LINE, clear ? strlen(CLEAR_LINE) : 0},
                             {line, n},
                             {(void *)(uintptr_t) "\n", 1}};
    ssize_t written = writev(STDERR_FILENO, pieces, sizeof pieces / sizeof *pieces);
    (void)written; // an error on stderr cannot be reported
    errno = error;
}

static size_t terminal_width(void)
{
    struct winsize size;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1 ? size.ws_col - 1u : 79;
}

static int format_duration(double seconds, char *text, size_t size)
{
    uint64_t s = (uint64_t)(seconds + 0.5);
    if (s >= 3600)
        return snprintf(text, size, "%" PRIu64 ":%02d:%02d", s / 3600, (int)(s / 60 % 60),
                        (int)(s % 60));
    return snprintf(text, size, "%d:%02d", (int)(s / 60), (int)(s % 60));
}

// "decode-images: 1200/5000 images 24%, 310/s, 0:12 left"
static void format_line(char *line, size_t size, double elapsed, bool finished)
{
    char time_text[32];
    double rate = elapsed > 0 ? (double)(progress.done - progress.skipped) / elapsed : 0;
    FILE *out = fmemopen(line, size, "w");
    if (!out) {
        line[0] = 0;
        return;
    }
    fprintf(out, "%s: %" PRIu64, program_name(), progress.done);
    if (progress.total)
        fprintf(out, "/%" PRIu64, progress.total);
    fprintf(out, " %s", progress.unit);
    if (progress.total)
        fprintf(out, " %d%%", (int)(100 * ((double)progress.done / (double)progress.total)));
    if (rate > 0)
        fprintf(out, rate >= 100 ? ", %.0f/s" : rate >= 1 ? ", %.1f/s" : ", %.2g/s", rate);
    if (!finished && rate > 0 && progress.total > progress.done) {
        format_duration((double)(progress.total - progress.done) / rate, time_text,
                        sizeof time_text);
        fprintf(out, ", %s left", time_text);
    } else {
        format_duration(elapsed, time_text, sizeof time_text);
        fprintf(out, ", %s", time_text);
    }
    if (progress.text[0])
        fprintf(out, ", %s", progress.text);
    fclose(out);
}

static void redraw(double time, bool finished)
{
    if (progress.terminal && !own_terminal())
        return;
    char line[512];
    format_line(line, sizeof line, time - progress.started, finished);
    if (progress.terminal && strlen(line) > terminal_width())
        line[terminal_width()] = 0;
    write_line(progress.terminal ? CLEAR_LINE : "", line,
               progress.terminal && !finished ? "" : "\n");
    progress.last = time;
    progress.drawn = true;
}

void progress_start(const char *unit, uint64_t total)
{
    if (!setup.shown)
        return;
    pthread_mutex_lock(&lock);
    const char *term = getenv("TERM");
    memset(&progress, 0, sizeof progress);
    progress.active = true;
    progress.terminal = isatty(STDERR_FILENO) && term && strcmp(term, "dumb") != 0;
    progress.unit = unit;
    progress.total = total;
    progress.started = progress.last = clock_seconds();
    pthread_mutex_unlock(&lock);
}

void progress_skip(uint64_t n)
{
    pthread_mutex_lock(&lock);
    progress.done += n;
    progress.skipped += n;
    pthread_mutex_unlock(&lock);
}

void progress_add(uint64_t n)
{
    pthread_mutex_lock(&lock);
    progress.done += n;
    double time = clock_seconds();
    if (progress.active &&
        time - progress.last >= (progress.terminal ? REDRAW_TERMINAL : REDRAW_LOG))
        redraw(time, false);
    pthread_mutex_unlock(&lock);
}

void progress_text(const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    pthread_mutex_lock(&lock);
    if (format)
        vsnprintf(progress.text, sizeof progress.text, format, ap);
    else
        progress.text[0] = 0;
    pthread_mutex_unlock(&lock);
    va_end(ap);
}

// Work that took less time than a first line ends without one.
void progress_finish(void)
{
    pthread_mutex_lock(&lock);
    if (progress.active && progress.drawn)
        redraw(clock_seconds(), true);
    progress.active = false;
    pthread_mutex_unlock(&lock);
}
