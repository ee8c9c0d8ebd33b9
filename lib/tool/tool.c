// Starting a program, its messages, and its end. SPDX-License-Identifier: MIT
#include "lib/tool/tool.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/cgroup.h"
#include "lib/base/cpu.h"
#include "lib/base/mem.h"
#include "lib/base/tempfile.h"
#include "lib/tool/options.h"

#define SKIPS_NAMED     20   // inputs; the rest are counted
#define PROVENANCE_SIZE 4096 // bytes of an entry; the header of a stream holds many

struct tool tool = {.progress = true,
                    .level = TOOL_LEVEL_AUTO,
                    .device = "auto",
                    .provenance = true,
                    .rank = {.count = 1, .local_count = 1}};

// The processors that this process may run on, or its share of the machine's if the launcher of
// several ranks has not divided them; but no more than the quota of its control group, rounded:
// beyond it, threads wait for each other and for their turn.
static int64_t processors(void)
{
    cpu_set_t set;
    long online = sysconf(_SC_NPROCESSORS_ONLN), n = online;
    if (sched_getaffinity(0, sizeof set, &set) == 0) // fails if there are more than a set can hold
        n = CPU_COUNT(&set);
    if (n == online)
        n /= tool.rank.local_count;
    double quota = round(cgroup_read("").processors / tool.rank.local_count);
    if (quota < (double)n)
        n = (long)quota;
    return n > 0 ? n : 1;
}

// If descriptor 0, 1 or 2 is closed, the next file that is opened would get its number, and become
// standard input or output. So the number is taken by /dev/null, opened for the wrong direction:
// using it still fails.
static void hold_standard_descriptors(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF &&
            open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) < 0)
            exit(STATUS_INTERNAL);
}

// jansson leaves out keys without a word where memory ends, so it must never see that.
static void *json_memory(size_t size)
{
    void *memory = mem_resize(NULL, size, 1);
    if (!memory)
        tool_fail();
    return memory;
}

static bool finished; // by tool_finish

// A library that gives up exits with 1, which would mean that inputs were skipped.
static void check_status(int status, void *unused)
{
    (void)unused;
    if (status != STATUS_SKIPPED || finished)
        return;
    tool_warn("internal error: a library has ended the program");
    _exit(STATUS_INTERNAL);
}

// Output errors may only show when the buffer is flushed and the file closed.
static int close_stdout(void)
{
    bool failed = ferror(stdout);
    errno = 0;
    failed |= fclose(stdout) != 0;
    if (!failed)
        return STATUS_OK;
    if (errno == EPIPE) // SIGPIPE was blocked; end as it would have
        tempfile_die(SIGPIPE);
    tool_warn("standard output: cannot write%s%s", errno ? ": " : "", errno ? strerror(errno) : "");
    return STATUS_IO;
}

char **tool_start(int argc, char **argv, const struct tool_info *info)
{
    static char **operands; // static, so that leak checkers find it reachable
    tool.info = info;
    tool.argc = argc;
    tool.argv = argv;
    progress_setup(info->name, false);
    hold_standard_descriptors();
    on_exit(check_status, NULL); // the first to be registered is the last to run
    mem_keep_freed();
    json_set_alloc_funcs(json_memory, free);
    tool_catch_bus_errors();
    signal(SIGPIPE, SIG_DFL); // the parent may have ignored it
    signal(SIGXFSZ, SIG_IGN); // beyond the limit of file size, write() fails and is reported
    free(operands);           // from an earlier call
    operands = mem_new((size_t)argc + 1, sizeof *operands);
    if (!operands)
        tool_fail();
    switch (options_parse(info->options, argc, argv, operands, tool.given)) {
    case OPTIONS_DONE:
        break;
    case OPTIONS_HELP:
        if (tool.rank.index == 0)
            options_print_help(info, stdout);
        exit(close_stdout());
    case OPTIONS_VERSION:
        if (tool.rank.index == 0)
            printf("%s (dit-tools) %s\n", info->name, DIT_TOOLS_VERSION);
        exit(close_stdout());
    default:
        tool_usage_error("%s", error_message());
    }
    progress_setup(info->name, tool.progress && !tool.quiet && tool.rank.index == 0);
    if (cpu_check() < 0)
        tool_usage_error("%s", error_message());
    if (tool.threads == 0)
        tool.threads = processors();
    return operands;
}

// zstd's level -1 spends 2 ns a byte to save a sixth of a photograph, where a pipe takes 0.3 ns to
// carry it; at LEVEL_PIPE only long repeats are found.
#define LEVEL_PIPE (-512)
#define LEVEL_FILE 1

int tool_level(const struct output *output)
{
    if (tool.level != TOOL_LEVEL_AUTO)
        return (int)tool.level;
    return output_is_file(output) ? LEVEL_FILE : LEVEL_PIPE;
}

// Appends an argument, quoted for a shell; false when the text is full.
static bool append_argument(char *text, size_t *used, const char *argument)
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
                                "_@%+=:,./-";
    bool quote = !*argument || argument[strspn(argument, plain)];
    int n = snprintf(text + *used, PROVENANCE_SIZE - *used, quote ? " '%s'" : " %s", argument);
    *used += (size_t)n;
    return *used < PROVENANCE_SIZE;
}

const char *tool_provenance(void)
{
    static char text[PROVENANCE_SIZE];
    if (!tool.provenance)
        return NULL;
    size_t used = (size_t)snprintf(text, sizeof text, "%s %s:", tool.info->name, DIT_TOOLS_VERSION);
    for (int i = 1; i < tool.argc; i++)
        if (!append_argument(text, &used, tool.argv[i])) {
            strcpy(text + sizeof text - 4, "...");
            break;
        }
    return text;
}

char **tool_inputs(char **operands)
{
    static char *standard_input[] = {"-", NULL};
    return operands[0] ? operands : standard_input;
}

const char *tool_one_input(char **operands)
{
    if (tool_count(operands) > 1)
        tool_usage_error("expected at most one input; tstream-cat joins several");
    return tool_inputs(operands)[0];
}

void tool_check(int rc)
{
    if (rc < 0)
        tool_fail();
}

size_t tool_count(char **list)
{
    size_t n = 0;
    while (list[n])
        n++;
    return n;
}

void tool_warn(const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    if (tool.rank.index == 0)
        progress_message(format, ap);
    va_end(ap);
}

void tool_note(const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    if (!tool.quiet && tool.rank.index == 0)
        progress_message(format, ap);
    va_end(ap);
}

void tool_detail(const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    if (tool.verbose && tool.rank.index == 0)
        progress_message(format, ap);
    va_end(ap);
}

void tool_fail(void)
{
    progress_finish();
    if (error_status() == STATUS_OK)
        error_set(STATUS_INTERNAL, "internal error: something failed without a message");
    if (tool.rank.count > 1 && !tool.rank.agreed) {
        char machine[64] = "";
        gethostname(machine, sizeof machine - 1);
        error_prefix("rank %d (%s)", tool.rank.index, machine);
        tool.rank.index = 0; // so that it prints, unlike other ranks
    }
    tool_warn("%s", error_message());
    exit(error_status());
}

void tool_usage_error(const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    if (tool.rank.index == 0) // all have the same arguments
        progress_message(format, ap);
    va_end(ap);
    tool_warn("try '%s --help'", tool.info->name);
    tool.rank.agreed = true;
    exit(STATUS_USAGE);
}

void tool_skip(const char *input)
{
    if (error_status() == STATUS_INTERNAL)
        tool_fail();
    uint64_t before = __atomic_fetch_add(&tool.skipped, 1, __ATOMIC_RELAXED);
    if (before >= SKIPS_NAMED && !tool.verbose) {
        if (before == SKIPS_NAMED)
            tool_warn("more inputs are skipped; --verbose names each");
        return;
    }
    const char *reason = error_message();
    size_t length = strlen(input);
    bool named = strncmp(reason, input, length) == 0 && reason[length] == ':';
    tool_warn("skipped %s%s%s", named ? "" : input, named ? "" : ": ", reason);
}

int tool_finish(void)
{
    progress_finish();
    int status = close_stdout();
    finished = true;
    if (tool.skipped == 0)
        return status;
    tool_warn("%" PRIu64 " input%s skipped", tool.skipped, tool.skipped == 1 ? " was" : "s were");
    return status ? status : STATUS_SKIPPED;
}
