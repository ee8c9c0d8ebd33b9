// Parsing a table of options and printing it as help; what tool_start is made of.
// SPDX-License-Identifier: MIT
#ifndef DIT_OPTIONS_H
#define DIT_OPTIONS_H

#include <stdio.h>

#include "lib/tool/tool.h"

enum options_result {
    OPTIONS_DONE,
    OPTIONS_HELP,    // --help was met; what follows it is not looked at
    OPTIONS_VERSION, // --version
};

// Stores the values that argv[1..] gives, and the operands, NULL-terminated, into operands[argc].
// An enum options_result, or -1 with an error (STATUS_USAGE).
int options_parse(const struct option *options, int argc, char **argv, char **operands);

// The value as text that options_set_value takes back exactly; malloc'd, NULL for a string that is
// not set. -1 with an error.
int options_value_text(const struct option *option, char **text);
// As if --NAME=TEXT were given; a flag takes "true" and "false". -1 with an error.
int options_set_value(const struct option *option, const char *text);

void options_print_help(const struct tool_info *info, FILE *file);

#endif
