// Tables of options: how they are written, parsed and printed as help. SPDX-License-Identifier: MIT
//
//     static int64_t side = 256; // holds the default, then the given value
//     static const struct option options[] = {
//         OPTION_INT("size", 's', &side, 8, 8192, "side of the images in pixels (default 256)"),
//         OPTION_END};
#ifndef DIT_OPTIONS_H
#define DIT_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "lib/base/part.h"

enum option_type {
    OPTION_TYPE_END, // ends the table
    OPTION_TYPE_FLAG,
    OPTION_TYPE_INT,
    OPTION_TYPE_SEED,
    OPTION_TYPE_FLOAT,
    OPTION_TYPE_STRING,
    OPTION_TYPE_SIZE,
    OPTION_TYPE_CHOICE,
    OPTION_TYPE_PART,
};

struct option {
    const char *name; // without dashes
    char letter;      // of the short option, or 0
    enum option_type type;
    union {
        bool *flag;          // FLAG
        int64_t *integer;    // INT
        uint64_t *number;    // SEED, SIZE
        double *real;        // FLOAT
        const char **string; // STRING
        int *choice;         // CHOICE: an index into choices
        struct part *part;   // PART
    } value;
    const char *argument;       // what the help calls the value; NULL for FLAG and CHOICE
    double min, max;            // INT, FLOAT
    const char *const *choices; // CHOICE: NULL-terminated
    const char *help;           // one line that can be read without the name
};

// Rows of a table. `letter` is that of the short option, or 0; `value` the address of the variable.

// A boolean, which --NAME sets and --no-NAME clears.
#define OPTION_FLAG(name, letter, value, help) \
    OPTION_ROW(name, letter, FLAG, flag, value, NULL, 0, 0, NULL, help)
// A whole number in [min, max].
#define OPTION_INT(name, letter, value, min, max, help) \
    OPTION_ROW(name, letter, INT, integer, value, "N", min, max, NULL, help)
// Any unsigned 64-bit number.
#define OPTION_SEED(name, letter, value, help) \
    OPTION_ROW(name, letter, SEED, number, value, "N", 0, 0, NULL, help)
// A finite number in [min, max].
#define OPTION_FLOAT(name, letter, value, min, max, help) \
    OPTION_ROW(name, letter, FLOAT, real, value, "X", min, max, NULL, help)
// Text, which is not copied.
#define OPTION_STRING(name, letter, value, argument, help) \
    OPTION_ROW(name, letter, STRING, string, value, argument, 0, 0, NULL, help)
// Bytes, with an optional K, M, G or T (powers of 1024).
#define OPTION_SIZE(name, letter, value, help) \
    OPTION_ROW(name, letter, SIZE, number, value, "SIZE", 0, 0, NULL, help)
// One of the words after the help.
#define OPTION_CHOICE(name, letter, value, help, ...)           \
    OPTION_ROW(name, letter, CHOICE, choice, value, NULL, 0, 0, \
               ((const char *const[]){__VA_ARGS__, NULL}), help)
// I/N with 1 <= I <= N.
#define OPTION_PART(name, letter, value, help) \
    OPTION_ROW(name, letter, PART, part, value, "I/N", 0, 0, NULL, help)

#define OPTION_ROW(name, letter, type, member, value, ...)               \
    {                                                                    \
        name, letter, OPTION_TYPE_##type, {.member = value}, __VA_ARGS__ \
    }
#define OPTION_END              \
    {                           \
        .type = OPTION_TYPE_END \
    }

// What a program is, for its help and its messages.
struct tool_info {
    const char *name;    // "decode-images"
    const char *usage;   // what follows the name in the usage line
    const char *summary; // one sentence
    const struct option *options;
};

enum options_result {
    OPTIONS_DONE,
    OPTIONS_HELP,    // --help was given; later arguments were not parsed
    OPTIONS_VERSION, // --version was given; likewise
};

// Parses argv[1..]: stores the options' values, and the operands, NULL-terminated, into
// operands[argc]; sets given[i] (unless NULL) for each row i that is given. --help and --version
// are known without being in the table. An enum options_result, or -1 with an error (STATUS_USAGE).
int options_parse(const struct option *options, int argc, char **argv, char **operands,
                  bool *given);

// The value as text from which options_set_value restores it exactly; malloc'd, or NULL for a
// string that is NULL. -1 with an error.
int options_value_text(const struct option *option, char **text);
// Sets the value as --NAME=TEXT does; flags take "true" and "false". -1 with an error.
int options_set_value(const struct option *option, const char *text);

void options_print_help(const struct tool_info *info, FILE *file);

#endif
