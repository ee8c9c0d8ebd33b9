// GNU-style options: strict values, and the nearest name for one that is unknown.
// SPDX-License-Identifier: MIT
#include "lib/tool/options.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/error.h"
#include "lib/base/mem.h"

#define ARGUMENT_SIZE 96

// Every program has these besides its table. They set no variable, and have no --no-NAME.
static const struct option help_option = OPTION_FLAG("help", 'h', NULL, "show this help");
static const struct option version_option = OPTION_FLAG("version", 'V', NULL, "show the version");

// Row i of the table and the two above; NULL after the last.
static const struct option *option_at(const struct option *options, size_t i)
{
    size_t n = 0;
    while (options[n].type != OPTION_TYPE_END)
        n++;
    return i < n ? &options[i] : i == n ? &help_option : i == n + 1 ? &version_option : NULL;
}

// The fewest letters to change, add, drop or swap with a neighbour to turn one word into the other;
// SIZE_MAX if b is longer than a row.
static size_t edit_distance(const char *a, const char *b)
{
    enum { ROW = 64 };
    size_t rows[3][ROW], length = strlen(b), i;
    if (length >= ROW)
        return SIZE_MAX;
    for (i = 0; i == 0 || a[i - 1]; i++) {
        size_t *row = rows[i % 3], *above = rows[(i + 2) % 3], *swapped = rows[(i + 1) % 3];
        row[0] = i;
        for (size_t j = 1; j <= length; j++) {
            row[j] = row[j - 1] + 1;
            if (i == 0)
                continue;
            bool same = a[i - 1] == b[j - 1];
            if (above[j] + 1 < row[j])
                row[j] = above[j] + 1;
            if (above[j - 1] + !same < row[j])
                row[j] = above[j - 1] + !same;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                swapped[j - 2] + 1 < row[j])
                row[j] = swapped[j - 2] + 1;
        }
    }
    return rows[(i + 2) % 3][length];
}

// The nearest known word to one that is unknown. A word that begins with it counts as near.
struct guess {
    const char *typed;
    char best[64]; // the nearest so far
    size_t distance;
};

static void guess_try(struct guess *guess, const char *prefix, const char *word)
{
    char whole[sizeof guess->best];
    if ((size_t)snprintf(whole, sizeof whole, "%s%s", prefix, word) >= sizeof whole)
        return;
    size_t length = strlen(guess->typed);
    size_t distance = edit_distance(guess->typed, whole);
    if (length >= 2 && strncmp(guess->typed, whole, length) == 0)
        distance = 1;
    if (distance <= 1 + length / 3 && distance < guess->distance) {
        guess->distance = distance;
        memcpy(guess->best, whole, sizeof whole);
    }
}

// Whether the words of `name`, between hyphens, stand side by side in `typed`.
static bool has_words(const char *typed, const char *name)
{
    size_t length = strlen(name);
    for (const char *at = typed; (at = strstr(at, name)); at++)
        if ((at == typed || at[-1] == '-') && (!at[length] || at[length] == '-'))
            return true;
    return false;
}

// Whether `name` is the first letters of the words of `typed`.
static bool has_initials(const char *typed, const char *name)
{
    for (; typed && *name; name++) {
        if (*typed != *name)
            return false;
        typed = strchr(typed, '-');
        typed += typed != NULL;
    }
    return !typed && !*name;
}

// Other programs' names for an option: --batch-size and --learning-rate are --batch and --lr here.
static void guess_try_words(struct guess *guess, const char *name)
{
    size_t typed = strlen(guess->typed), length = strlen(name);
    size_t distance = has_initials(guess->typed, name) ? 1
                      : has_words(guess->typed, name)  ? typed - length
                                                       : SIZE_MAX;
    if (distance < guess->distance && length >= 2 && length < sizeof guess->best) {
        guess->distance = distance;
        memcpy(guess->best, name, length + 1);
    }
}

// Writes "; did you mean ...?" into text, or nothing if no word is near.
static const char *guess_text(const struct guess *guess, const char *dashes, char text[96])
{
    text[0] = 0;
    if (guess->distance != SIZE_MAX)
        snprintf(text, 96, "; did you mean '%s%s'?", dashes, guess->best);
    return text;
}

static int unknown_option(const struct option *options, const char *name)
{
    struct guess guess = {.typed = name, .distance = SIZE_MAX};
    const struct option *option;
    for (size_t i = 0; (option = option_at(options, i)); i++) {
        guess_try(&guess, "", option->name);
        guess_try_words(&guess, option->name);
        if (option->type == OPTION_TYPE_FLAG && option->value.flag)
            guess_try(&guess, "no-", option->name);
    }
    char text[96];
    return error_set(STATUS_USAGE, "unknown option '--%s'%s", name, guess_text(&guess, "--", text));
}

static int bad_value(const struct option *option, const char *value, const char *expected)
{
    return error_set(STATUS_USAGE, "option --%s: expected %s, found '%s'", option->name, expected,
                     value);
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static int parse_int(const struct option *option, const char *text)
{
    char expected[96], *end;
    snprintf(expected, sizeof expected, "a whole number from %.0f to %.0f", option->min,
             option->max);
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (!is_digit(text[text[0] == '-']) || *end || errno || (double)value < option->min ||
        (double)value > option->max)
        return bad_value(option, text, expected);
    *option->value.integer = value;
    return 0;
}

static int parse_seed(const struct option *option, const char *text)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (!is_digit(text[0]) || *end || errno)
        return bad_value(option, text, "a whole number from 0 to 18446744073709551615");
    *option->value.number = value;
    return 0;
}

static int parse_float(const struct option *option, const char *text)
{
    char expected[96], *end;
    snprintf(expected, sizeof expected, "a number from %g to %g", option->min, option->max);
    double value = strtod(text, &end);
    // strtod would also accept leading blanks, hexadecimal, "inf" and "nan".
    if (!*text || strspn(text, "+-.0123456789eE") != strlen(text) || *end || !isfinite(value) ||
        value < option->min || value > option->max)
        return bad_value(option, text, expected);
    *option->value.real = value;
    return 0;
}

static int parse_bytes(const struct option *option, const char *text)
{
    static const char units[] = "KMGT";
    char *end;
    errno = 0;
    uint64_t value = strtoull(text, &end, 10), factor = 1;
    if (is_digit(text[0]) && *end && strchr(units, *end))
        factor = (uint64_t)1 << 10 * (strchr(units, *end++) - units + 1);
    if (!is_digit(text[0]) || *end || errno || __builtin_mul_overflow(value, factor, &value))
        return bad_value(option, text, "a number of bytes, as in 4096, 64K, 256M, 2G or 1T");
    *option->value.number = value;
    return 0;
}

static int parse_choice(const struct option *option, const char *text)
{
    struct guess guess = {.typed = text, .distance = SIZE_MAX};
    char all[512] = "", hint[96];
    size_t used = 0;
    for (int i = 0; option->choices[i]; i++) {
        if (strcmp(text, option->choices[i]) == 0) {
            *option->value.choice = i;
            return 0;
        }
        guess_try(&guess, "", option->choices[i]);
        if (used < sizeof all)
            used += (size_t)snprintf(all + used, sizeof all - used, i ? ", %s" : "%s",
                                     option->choices[i]);
    }
    return error_set(STATUS_USAGE, "option --%s: expected one of %s, found '%s'%s", option->name,
                     all, text, guess_text(&guess, "", hint));
}

static int parse_part(const struct option *option, const char *text)
{
    char *slash, *end = NULL;
    errno = 0;
    unsigned long long index = strtoull(text, &slash, 10), count = 0;
    if (is_digit(text[0]) && *slash == '/' && is_digit(slash[1]))
        count = strtoull(slash + 1, &end, 10);
    if (!end || *end || errno || index < 1 || index > count)
        return bad_value(option, text, "a part I/N with 1 <= I <= N, as in 1/4");
    *option->value.part = (struct part){index - 1, count};
    return 0;
}

static int parse_value(const struct option *option, const char *text)
{
    switch (option->type) {
    case OPTION_TYPE_INT:
        return parse_int(option, text);
    case OPTION_TYPE_SEED:
        return parse_seed(option, text);
    case OPTION_TYPE_FLOAT:
        return parse_float(option, text);
    case OPTION_TYPE_SIZE:
        return parse_bytes(option, text);
    case OPTION_TYPE_CHOICE:
        return parse_choice(option, text);
    case OPTION_TYPE_PART:
        return parse_part(option, text);
    default: // OPTION_TYPE_STRING
        *option->value.string = text;
        return 0;
    }
}

int options_set_value(const struct option *option, const char *text)
{
    if (option->type != OPTION_TYPE_FLAG)
        return parse_value(option, text);
    bool on = strcmp(text, "true") == 0;
    if (!on && strcmp(text, "false") != 0)
        return bad_value(option, text, "true or false");
    *option->value.flag = on;
    return 0;
}

static char *value_text(const struct option *option)
{
    switch (option->type) {
    case OPTION_TYPE_FLAG:
        return mem_strdup(*option->value.flag ? "true" : "false");
    case OPTION_TYPE_INT:
        return mem_printf("%" PRId64, *option->value.integer);
    case OPTION_TYPE_SEED:
    case OPTION_TYPE_SIZE:
        return mem_printf("%" PRIu64, *option->value.number);
    case OPTION_TYPE_FLOAT:
        return mem_printf("%.17g", *option->value.real);
    case OPTION_TYPE_CHOICE:
        return mem_strdup(option->choices[*option->value.choice]);
    case OPTION_TYPE_PART: {
        const struct part *part = option->value.part;
        return mem_printf("%" PRIu64 "/%" PRIu64, part->index + 1, part->count);
    }
    default: // OPTION_TYPE_STRING
        return mem_strdup(*option->value.string);
    }
}

int options_value_text(const struct option *option, char **text)
{
    *text = NULL;
    if (option->type == OPTION_TYPE_STRING && !*option->value.string)
        return 0;
    *text = value_text(option);
    return *text ? 0 : -1;
}

static int set_flag(const struct option *option, bool on)
{
    if (option->value.flag)
        *option->value.flag = on;
    return option == &help_option      ? OPTIONS_HELP
           : option == &version_option ? OPTIONS_VERSION
                                       : OPTIONS_DONE;
}

// What the help calls the option's value: its choices with | between them, or a name such as "N";
// "" for a flag. Into text of ARGUMENT_SIZE bytes.
static const char *argument_text(const struct option *option, char text[ARGUMENT_SIZE])
{
    size_t used =
        (size_t)snprintf(text, ARGUMENT_SIZE, "%s", option->argument ? option->argument : "");
    for (size_t i = 0; option->choices && option->choices[i] && used < ARGUMENT_SIZE; i++)
        used += (size_t)snprintf(text + used, ARGUMENT_SIZE - used, i ? "|%s" : "%s",
                                 option->choices[i]);
    return text;
}

// The two options that are in no table aren't noted.
static void note_given(const struct option *options, const struct option *option, bool *given)
{
    if (given && option != &help_option && option != &version_option)
        given[option - options] = true;
}

// The value follows "=" or is the next argument, even one that begins with a dash.
static int parse_long(const struct option *options, char **argv, int *i, bool *given)
{
    const char *name = argv[*i] + 2, *equals = strchr(name, '=');
    size_t length = equals ? (size_t)(equals - name) : strlen(name);
    const struct option *option;
    char text[ARGUMENT_SIZE];
    for (size_t k = 0; (option = option_at(options, k)); k++) {
        bool flag = option->type == OPTION_TYPE_FLAG;
        size_t skip = flag && option->value.flag && strncmp(name, "no-", 3) == 0 ? 3 : 0;
        if (strlen(option->name) == length && memcmp(name, option->name, length) == 0)
            skip = 0;
        else if (!skip || strlen(option->name) != length - skip ||
                 memcmp(name + skip, option->name, length - skip) != 0)
            continue;
        note_given(options, option, given);
        if (flag && equals)
            return error_set(STATUS_USAGE, "option --%.*s takes no value, found '%s'", (int)length,
                             name, equals + 1);
        if (flag)
            return set_flag(option, skip == 0);
        if (equals)
            return parse_value(option, equals + 1);
        if (!argv[*i + 1])
            return error_set(STATUS_USAGE, "option --%s needs a value: %s", option->name,
                             argument_text(option, text));
        return parse_value(option, argv[++*i]);
    }
    char *typed = mem_printf("%.*s", (int)length, name);
    if (!typed)
        return -1;
    unknown_option(options, typed);
    free(typed);
    return -1;
}

// A word of short options, such as "-qv": the first that takes a value takes the rest of the word,
// or the next argument if nothing is left ("-n5", "-n 5").
static int parse_letters(const struct option *options, char **argv, int *i, bool *given)
{
    for (const char *letter = argv[*i] + 1; *letter; letter++) {
        const struct option *option = NULL;
        char text[ARGUMENT_SIZE];
        for (size_t k = 0; (option = option_at(options, k)) && option->letter != *letter; k++)
            ;
        if (!option)
            return error_set(STATUS_USAGE, "unknown option '-%c' in '%s'", *letter, argv[*i]);
        note_given(options, option, given);
        if (option->type == OPTION_TYPE_FLAG) {
            int result = set_flag(option, true);
            if (result != OPTIONS_DONE)
                return result;
            continue;
        }
        if (letter[1])
            return parse_value(option, letter + 1);
        if (!argv[*i + 1])
            return error_set(STATUS_USAGE, "option -%c (--%s) needs a value: %s", *letter,
                             option->name, argument_text(option, text));
        return parse_value(option, argv[++*i]);
    }
    return OPTIONS_DONE;
}

int options_parse(const struct option *options, int argc, char **argv, char **operands, bool *given)
{
    size_t n = 0;
    bool only_operands = false;
    for (int i = 1; i < argc; i++) {
        char *argument = argv[i];
        int result = OPTIONS_DONE;
        if (only_operands || argument[0] != '-' || !argument[1])
            operands[n++] = argument;
        else if (strcmp(argument, "--") == 0)
            only_operands = true;
        else if (argument[1] == '-')
            result = parse_long(options, argv, &i, given);
        else
            result = parse_letters(options, argv, &i, given);
        if (result != OPTIONS_DONE)
            return result;
    }
    operands[n] = NULL;
    return OPTIONS_DONE;
}

// "  -s, --size=N"
static int left_column(const struct option *option, char *text, size_t size)
{
    char letter[8] = "    ", argument[ARGUMENT_SIZE];
    if (option->letter)
        snprintf(letter, sizeof letter, "-%c, ", option->letter);
    argument_text(option, argument);
    return snprintf(text, size, "  %s--%s%s%s", letter, option->name, *argument ? "=" : "",
                    argument);
}

void options_print_help(const struct tool_info *info, FILE *file)
{
    const int widest = 30; // the help of a wider option goes on the next line
    char left[64 + ARGUMENT_SIZE];
    int width = 0;
    const struct option *option;
    for (size_t i = 0; (option = option_at(info->options, i)); i++) {
        int n = left_column(option, left, sizeof left);
        if (n > width && n <= widest)
            width = n;
    }
    fprintf(file, "Usage: %s %s\n%s\n\n", info->name, info->usage, info->summary);
    for (size_t i = 0; (option = option_at(info->options, i)); i++) {
        if (left_column(option, left, sizeof left) > width)
            fprintf(file, "%s\n%*s  %s\n", left, width, "", option->help);
        else
            fprintf(file, "%-*s  %s\n", width, left, option->help);
    }
    fprintf(file, "\nFull manual: man %s\n", info->name);
}
