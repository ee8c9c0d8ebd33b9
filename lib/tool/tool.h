// What all programs share: options, help, messages, progress, exit. SPDX-License-Identifier: MIT
//
//     int main(int argc, char **argv)
//     {
//         int64_t size = 256;
//         const struct option options[] = {
//             OPTION_INT("size", 's', &size, 8, 8192, "side of the images in pixels"),
//             TOOL_OPTION_THREADS,
//             TOOL_OPTION_OUTPUT,
//             TOOL_OPTIONS_COMMON,
//             OPTION_END};
//         char **paths = tool_start(
//             argc, argv,
//             &(struct tool_info){"decode-images", "[OPTION]... [PATH]...",
//                                 "Decode image files into a stream of images.", options});
//         struct output *output = output_open(tool.output);
//         if (!output)
//             tool_fail();
//         ...
//         return tool_finish();
//     }
#ifndef DIT_TOOL_H
#define DIT_TOOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/error.h"
#include "lib/base/io.h"
#include "lib/base/rank.h"
#include "lib/tool/options.h"
#include "lib/tool/progress.h"

#define DIT_TOOLS_VERSION "0.2.0" // its only source; CHANGELOG.md begins with it

// The running program. It is a global because only programs, never libraries, use it.
struct tool {
    const struct tool_info *info;
    int argc; // main's, for tool_provenance
    char **argv;
    bool *given;      // NULL, or set before tool_start: which rows of the options argv gives
    uint64_t skipped; // inputs skipped so far, by tool_skip
    // Of several processes that work as one (lib/model/ranks.h fills this) only rank 0 prints,
    // unless another one ends by an error that rank 0 doesn't know.
    struct rank rank;

    // The values of the shared options.
    bool quiet, verbose;
    bool progress;      // --no-progress clears it
    int64_t threads;    // tool_start turns 0 into one per processor that this process may run on
    int64_t level;      // TOOL_LEVEL_AUTO if not given; see tool_level
    uint64_t seed;      // 0 if not given
    const char *output; // NULL if not given: standard output
    const char *device; // "auto", "cpu", "cuda" or "cuda:N"
    int precision;      // index of the choice in TOOL_OPTION_PRECISION
    bool deterministic; // --deterministic
    bool provenance;    // --no-pg clears it; see tool_provenance
};
extern struct tool tool;

#define TOOL_LEVEL_AUTO INT64_MIN

// Rows for the options that programs share. Every program ends its table with TOOL_OPTIONS_COMMON;
// tool_start adds --help and --version.
#define TOOL_OPTIONS_COMMON                                                   \
    OPTION_FLAG("quiet", 'q', &tool.quiet, "print warnings and errors only"), \
        OPTION_FLAG("verbose", 'v', &tool.verbose, "print more messages"),    \
        OPTION_FLAG("progress", 0, &tool.progress, "show the progress (--no-progress: don't)")
#define TOOL_OPTION_OUTPUT \
    OPTION_STRING("output", 'o', &tool.output, "FILE", "write to FILE instead of standard output")
#define TOOL_OPTION_THREADS                            \
    OPTION_INT("threads", '@', &tool.threads, 0, 1024, \
               "number of threads (default: one per processor)")
#define TOOL_OPTION_LEVEL                           \
    OPTION_INT("level", 'z', &tool.level, -512, 19, \
               "zstd level, -512 to 19 (default: -512 into a pipe, 1 into a file)")
#define TOOL_OPTION_SEED \
    OPTION_SEED("seed", 0, &tool.seed, "seed of all random numbers (default 0)")
#define TOOL_OPTION_DEVICE                           \
    OPTION_STRING("device", 0, &tool.device, "NAME", \
                  "where to compute: auto, cpu, cuda or cuda:N (default auto)")
#define TOOL_OPTION_PRECISION                                                                      \
    OPTION_CHOICE("precision", 0, &tool.precision,                                                 \
                  "precision (default auto: bf16 on a GPU, f32 on a CPU)", "auto", "bf16", "tf32", \
                  "f32")
#define TOOL_OPTION_DETERMINISTIC                        \
    OPTION_FLAG("deterministic", 0, &tool.deterministic, \
                "compute the same bits in every run on a GPU, somewhat slower")
#define TOOL_OPTION_PG                     \
    OPTION_FLAG("pg", 0, &tool.provenance, \
                "record this program in the stream's history (--no-pg: don't)")

// Parses GNU-style options; operands may stand anywhere, and "--" ends the options. --help and
// --version print and exit 0; an unknown option or a bad value is reported with the nearest known
// name, exit 64. Returns the operands, NULL-terminated, which stay valid until the next call.
char **tool_start(int argc, char **argv, const struct tool_info *info);

// The number of entries of a NULL-terminated list.
size_t tool_count(char **list);
// The operands, or {"-", NULL} for standard input if there are none.
char **tool_inputs(char **operands);
// The only operand, or "-" if there is none; more are a usage error.
const char *tool_one_input(char **operands);

// Prints "PROGRAM: MESSAGE" of error_message() and exits with error_status(), never with 0.
void tool_fail(void) __attribute__((noreturn));
// Fails by tool_fail if rc, which a library function returned, is negative.
void tool_check(int rc);
// Prints "PROGRAM: ..." and a hint at --help, and exits 64.
void tool_usage_error(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));
// Print "PROGRAM: ..." on stderr, clearing the progress line first: tool_warn always, tool_note
// unless --quiet, tool_detail with --verbose.
void tool_warn(const char *format, ...) __attribute__((format(printf, 1, 2)));
void tool_note(const char *format, ...) __attribute__((format(printf, 1, 2)));
void tool_detail(const char *format, ...) __attribute__((format(printf, 1, 2)));
// Counts an input that is skipped and reports it, of many only the first unless --verbose is given;
// error_message() is the reason. If that is STATUS_INTERNAL, such as no memory, the input may be
// good, and the program fails instead.
void tool_skip(const char *input);
// The zstd level for a stream into this output: --level, else -512 into a pipe and 1 into a regular
// file.
int tool_level(const struct output *output);
// This program's entry in a stream's history, "PROGRAM VERSION: ARGUMENTS"; NULL with --no-pg.
const char *tool_provenance(void);
// Ends main: closes stdout and checks that all was written, reports the number of skipped inputs,
// and returns the exit status (0, 1 or 74).
int tool_finish(void);

// For programs that save before they stop. After tool_catch_signals, SIGINT, SIGTERM, or SIGHUP
// (unless it was ignored, as nohup(1) does) prints `answer` and makes tool_signal_stop true, and a
// second one ends the process at once; SIGUSR1 makes tool_signal_save true for one call. A reader
// of the messages that goes away no longer ends the process.
void tool_catch_signals(const char *answer);
bool tool_signal_stop(void);
bool tool_signal_save(void);
// For tool_start: a mapped file that becomes shorter, or whose disk fails, ends the process with a
// message and status 66.
void tool_catch_bus_errors(void);

#endif
