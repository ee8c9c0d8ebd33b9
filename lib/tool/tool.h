// What every program does alike: options, help, messages, progress, exit.
// SPDX-License-Identifier: MIT
//
//     int main(int argc, char **argv)
//     {
//         int64_t size = 256;
//         const struct option options[] = {
//             {"size", 's', OPTION_INT, &size, "N", "side of the images in pixels", .min = 8, .max
//             = 8192}, TOOL_OPTIONS_COMMON, TOOL_OPTION_OUTPUT, TOOL_OPTION_THREADS, OPTION_END};
//         char **inputs = tool_start(argc, argv, &(struct tool_info){
//             "decode-images", "[OPTION]... [PATH]...", "Decode image files into a stream of
//             images.", options});
//         ...
//         return tool_finish();
//     }
#ifndef DIT_TOOL_H
#define DIT_TOOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "lib/base/error.h"
#include "lib/base/io.h"
#include "lib/base/part.h"
#include "lib/base/rank.h"

#define DIT_TOOLS_VERSION "0.1.0"

enum option_type {
    OPTION_NONE,   // ends the table
    OPTION_FLAG,   // bool *; also --no-NAME
    OPTION_INT,    // int64_t *, in [min, max]
    OPTION_SEED,   // uint64_t *, any 64-bit number
    OPTION_FLOAT,  // double *, finite, in [min, max]
    OPTION_STRING, // const char **, points into argv
    OPTION_SIZE,   // uint64_t *, bytes with an optional K, M, G or T (powers of 1024)
    OPTION_CHOICE, // int *, index into choices
    OPTION_PART,   // struct part *, I/N with 1 <= I <= N
};

struct option {
    const char *name; // long name without dashes
    char letter;      // or 0
    enum option_type type;
    void *value;                // holds the default before, the given value after
    const char *argument;       // its name in the help, "N"; NULL for flags
    const char *help;           // one line; the default is added by the caller's words if of use
    double min, max;            // OPTION_INT, OPTION_FLOAT: both 0 means no bound but the type's
    const char *const *choices; // OPTION_CHOICE: NULL-terminated
};
#define OPTION_END          \
    {                       \
        .type = OPTION_NONE \
    }

struct tool_info {
    const char *name;    // "decode-images"
    const char *usage;   // what follows the name in the usage line
    const char *summary; // one sentence
    const struct option *options;
};

// The tool's own state; the one global of the support library (DESIGN 6.8).
struct tool {
    const struct tool_info *info;
    int argc; // as given, for the provenance in a stream's header
    char **argv;
    bool quiet;
    bool verbose;
    bool progress;   // draw it; default: not quiet
    int64_t threads; // 0 = one per processor this process may run on; resolved by tool_start
    int64_t level;   // zstd level, or TOOL_LEVEL_AUTO: see tool_level
    uint64_t seed;
    const char *output; // -o FILE, or NULL for standard output
    const char *device; // "auto", "cpu", "cuda", "cuda:N"
    int precision;      // the device's own, bf16, tf32, f32
    bool provenance;    // --no-pg clears it
    uint64_t skipped;   // inputs skipped so far (tool_skip)
    // Of several processes that work as one (lib/model/ranks.h fills this) only rank 0 prints,
    // unless another one ends by an error that rank 0 doesn't know.
    struct rank rank;
};
extern struct tool tool;

#define TOOL_LEVEL_AUTO INT64_MIN

// Table entries for the options that programs share. Every program takes COMMON
// (help, version, quiet, verbose, progress; handled by tool_start), the others where they apply.
#define TOOL_OPTIONS_COMMON                                                                        \
    {"quiet", 'q', OPTION_FLAG, &tool.quiet, NULL, "say nothing but errors", 0, 0, NULL},          \
        {"verbose", 'v', OPTION_FLAG, &tool.verbose, NULL, "say more", 0, 0, NULL},                \
    {                                                                                              \
        "progress", 0, OPTION_FLAG, &tool.progress, NULL, "show progress (--no-progress: do not)", \
            0, 0, NULL                                                                             \
    }
#define TOOL_OPTION_OUTPUT                                      \
    {                                                           \
        "output", 'o', OPTION_STRING, &tool.output, "FILE",     \
            "write to FILE, not to standard output", 0, 0, NULL \
    }
#define TOOL_OPTION_THREADS                                                                        \
    {                                                                                              \
        "threads", '@', OPTION_INT, &tool.threads, "N", "threads (default: one per processor)", 0, \
            1024, NULL                                                                             \
    }
#define TOOL_OPTION_LEVEL                                                                       \
    {                                                                                           \
        "level", 'z', OPTION_INT, &tool.level, "N",                                             \
            "zstd level, -512 to 19 (default: -512 into a pipe, 1 into a file)", -512, 19, NULL \
    }
#define TOOL_OPTION_SEED                                                                         \
    {                                                                                            \
        "seed", 0, OPTION_SEED, &tool.seed, "N", "seed of all random numbers (default 0)", 0, 0, \
            NULL                                                                                 \
    }
#define TOOL_OPTION_DEVICE                                                                         \
    {"device", 0, OPTION_STRING, &tool.device, "NAME", "auto, cpu, cuda or cuda:N (default auto)", \
     0,        0, NULL},                                                                           \
    {                                                                                              \
        "precision", 0, OPTION_CHOICE, &tool.precision, "NAME",                                    \
            "of a GPU: bf16, tf32 or f32 (default auto: bf16)", 0, 0, (const char *const[])        \
        {                                                                                          \
            "auto", "bf16", "tf32", "f32", NULL                                                    \
        }                                                                                          \
    }
#define TOOL_OPTION_PG                                                                  \
    {                                                                                   \
        "pg", 0, OPTION_FLAG, &tool.provenance, NULL,                                   \
            "record this program in the stream's history (--no-pg: do not)", 0, 0, NULL \
    }

// Parses the options (GNU style: long and short, `--name=value`, grouped letters, `--`, operands
// anywhere). --help and --version print and exit 0; an unknown option or bad value names itself,
// suggests the nearest name and exits 64. Returns the operands, NULL-terminated, owned by the tool
// until it is called again.
char **tool_start(int argc, char **argv, const struct tool_info *info);

// The number of entries of a NULL-terminated list.
size_t tool_count(char **list);

// Prints "PROGRAM: MESSAGE" of error_message() and exits with error_status().
void tool_fail(void) __attribute__((noreturn));
// Prints "PROGRAM: ..." and the hint at --help, exits 64.
void tool_usage_error(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));
// "PROGRAM: ..." on stderr: always; unless --quiet; with --verbose. They clear the progress line.
void tool_warn(const char *format, ...) __attribute__((format(printf, 1, 2)));
void tool_note(const char *format, ...) __attribute__((format(printf, 1, 2)));
void tool_detail(const char *format, ...) __attribute__((format(printf, 1, 2)));
// Names an input that is skipped, with error_message() as the reason, and counts it.
void tool_skip(const char *input);
// The zstd level for a stream into this output: --level, else -512 into a pipe and 1 into a regular
// file.
int tool_level(const struct output *output);
// This program's entry in a stream's history, "PROGRAM VERSION: ARGUMENTS"; NULL with --no-pg.
const char *tool_provenance(void);
// For main's end: closes stdout with a check, reports the number skipped; the exit status (0, 1 or
// 74).
int tool_finish(void);

// Progress on stderr. A terminal: one line redrawn at most 10 times a second; else a line every
// 30 s. Nothing with --quiet or --no-progress. Safe to call from any thread.
// total 0 = unknown. unit is plural: "images".
void progress_start(const char *unit, uint64_t total);
void progress_add(uint64_t n);
// Text after the rate, such as "loss 0.153"; NULL for none. Copied.
void progress_text(const char *format, ...) __attribute__((format(printf, 1, 2)));
void progress_finish(void);

// SIGINT, SIGTERM: tool_signal_stop() becomes true; a second one kills at once. SIGUSR1:
// tool_signal_save() is true once. For programs that save before they stop.
void tool_catch_signals(void);
bool tool_signal_stop(void);
bool tool_signal_save(void);

#endif
