// Options are parsed strictly, errors suggest the nearest name, and the help is in columns.
// SPDX-License-Identifier: MIT
#include "lib/tool/options.h"

#include <stdint.h>
#include <string.h>

#include "lib/base/error.h"
#include "tests/tap.h"

static struct values {
    bool flag, color;
    int64_t threads, level;
    uint64_t seed, memory;
    double rate, lr;
    const char *name;
    int mode;
    struct part part;
} values;

static const struct option options[] = {
    OPTION_FLAG("flag", 'f', &values.flag, "a flag"),
    OPTION_FLAG("color", 'c', &values.color, "another"),
    OPTION_INT("threads", '@', &values.threads, 0, 1024, "a count"),
    OPTION_INT("level", 'z', &values.level, -7, 19, "a level"),
    OPTION_SEED("seed", 0, &values.seed, "a seed"),
    OPTION_SIZE("memory", 'm', &values.memory, "bytes"),
    OPTION_FLOAT("rate", 0, &values.rate, 0, 1, "a rate"),
    OPTION_STRING("name", 'n', &values.name, "NAME", "a name"),
    OPTION_CHOICE("a-mode-with-a-name-that-is-long", 0, &values.mode, "a mode", "linear", "cosine",
                  "constant"),
    OPTION_CHOICE("mode", 0, &values.mode, "a mode", "linear", "cosine", "constant"),
    OPTION_PART("part", 0, &values.part, "a part"),
    OPTION_FLOAT("lr", 0, &values.lr, 0, 1, "another rate"),
    OPTION_END};

static char *operands[16];

// Parses the words of a line, split at blanks.
static int parse(const char *line)
{
    static char text[256];
    char *argv[16] = {(char[]){"program"}};
    int argc = 1;
    memset(&values, 0, sizeof values);
    snprintf(text, sizeof text, "%s", line);
    for (char *word = strtok(text, " "); word; word = strtok(NULL, " "))
        argv[argc++] = word;
    return options_parse(options, argc, argv, operands, NULL);
}

static void refuses(const char *line, const char *message)
{
    int rc = parse(line);
    if (!ok(rc == -1 && error_status() == STATUS_USAGE && strcmp(error_message(), message) == 0,
            "%s: %s", line, message))
        diag("%d: %s", rc, error_message());
}

#define accepts(line, condition) ok(parse(line) == OPTIONS_DONE && (condition), "%s", line)

static void test_forms(void)
{
    accepts("", operands[0] == NULL);
    accepts("--level=3", values.level == 3);
    accepts("--level 3", values.level == 3);
    accepts("-z3", values.level == 3);
    accepts("-z 3", values.level == 3);
    accepts("-fcz3", values.flag && values.color && values.level == 3);
    accepts("-fn x", values.flag && strcmp(values.name, "x") == 0);
    accepts("-z -1", values.level == -1);
    accepts("-z-1", values.level == -1);
    accepts("--level -1", values.level == -1);
    accepts("--level=-1", values.level == -1);
    accepts("--name=a=b", strcmp(values.name, "a=b") == 0);
    accepts("--name=", values.name && !*values.name);
    accepts("--name --flag", strcmp(values.name, "--flag") == 0 && !values.flag);
    accepts("--flag --no-flag --color", !values.flag && values.color);
    accepts("-z 1 -z 2", values.level == 2);
    accepts("-@ 4", values.threads == 4);
}

static void test_operands(void)
{
    accepts("a -f b", values.flag && strcmp(operands[0], "a") == 0 &&
                          strcmp(operands[1], "b") == 0 && !operands[2]);
    accepts("- -f", values.flag && strcmp(operands[0], "-") == 0 && !operands[1]);
    accepts("-f -- -c --", values.flag && !values.color && strcmp(operands[0], "-c") == 0 &&
                               strcmp(operands[1], "--") == 0 && !operands[2]);
}

static void test_values(void)
{
    accepts("--seed 18446744073709551615", values.seed == UINT64_MAX);
    accepts("-m 12", values.memory == 12);
    accepts("-m 3K", values.memory == 3072);
    accepts("-m 2G", values.memory == (uint64_t)2 << 30);
    accepts("-m 16777215T", values.memory == (uint64_t)16777215 << 40);
    accepts("--rate 1e-4", values.rate == 1e-4);
    accepts("--rate 1", values.rate == 1);
    accepts("--rate .5", values.rate == 0.5);
    accepts("--mode cosine", values.mode == 1);
    accepts("--part 2/3", values.part.index == 1 && values.part.count == 3);
    accepts("--threads 1024", values.threads == 1024);
    accepts("--threads 0", values.threads == 0);
}

static void test_refusals(void)
{
    refuses("--thread 3", "unknown option '--thread'; did you mean '--threads'?");
    refuses("--thraeds=3", "unknown option '--thraeds'; did you mean '--threads'?");
    refuses("--no-colour", "unknown option '--no-colour'; did you mean '--no-color'?");
    refuses("--mem 3", "unknown option '--mem'; did you mean '--memory'?");
    refuses("--hepl", "unknown option '--hepl'; did you mean '--help'?");
    refuses("--falg", "unknown option '--falg'; did you mean '--flag'?");
    refuses("--no-level", "unknown option '--no-level'; did you mean '--level'?");
    refuses("--xyzzy", "unknown option '--xyzzy'");
    refuses("--level-of-detail 3", "unknown option '--level-of-detail'; did you mean '--level'?");
    refuses("--host-memory-size 3",
            "unknown option '--host-memory-size'; did you mean '--memory'?");
    refuses("--learning-rate 3", "unknown option '--learning-rate'; did you mean '--lr'?");
    refuses("--levels-of-it 3", "unknown option '--levels-of-it'");
    refuses("--no-help", "unknown option '--no-help'; did you mean '--help'?");
    refuses("-x", "unknown option '-x' in '-x'");
    refuses("-fx", "unknown option '-x' in '-fx'");
    refuses("--flag=1", "option --flag takes no value, found '1'");
    refuses("--help=1", "option --help takes no value, found '1'");
    refuses("--level", "option --level needs a value: N");
    refuses("-fz", "option -z (--level) needs a value: N");
    refuses("--mode", "option --mode needs a value: linear|cosine|constant");
    const char *numbers[] = {
        "20", "-8", "x", "3x", "0x3", "+3", "1.5", "-", "--", "1e1", "99999999999999999999"};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        char line[64], message[128];
        snprintf(line, sizeof line, "--level %s", numbers[i]);
        snprintf(message, sizeof message,
                 "option --level: expected a whole number from -7 to 19, found '%s'", numbers[i]);
        refuses(line, message);
    }
    refuses("--level=", "option --level: expected a whole number from -7 to 19, found ''");
    refuses("--seed=-1",
            "option --seed: expected a whole number from 0 to 18446744073709551615, found '-1'");
    refuses("--seed 18446744073709551616",
            "option --seed: expected a whole number from 0 to 18446744073709551615, found "
            "'18446744073709551616'");
    refuses("--rate 1.1", "option --rate: expected a number from 0 to 1, found '1.1'");
    refuses("--rate nan", "option --rate: expected a number from 0 to 1, found 'nan'");
    refuses("--rate 0x1p-1", "option --rate: expected a number from 0 to 1, found '0x1p-1'");
    refuses("--rate=", "option --rate: expected a number from 0 to 1, found ''");
    const char *sizes[] = {"16777216T", "-1", "3X", "3KB", "K", "1.5G"};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char line[64], message[160];
        snprintf(line, sizeof line, "-m %s", sizes[i]);
        snprintf(message, sizeof message,
                 "option --memory: expected a number of bytes, as in 4096, 64K, 256M, 2G or 1T, "
                 "found '%s'",
                 sizes[i]);
        refuses(line, message);
    }
    refuses("--mode cosin",
            "option --mode: expected one of linear, cosine, constant, found 'cosin'; did you mean "
            "'cosine'?");
    refuses("--mode zigzag",
            "option --mode: expected one of linear, cosine, constant, found 'zigzag'");
    const char *parts[] = {"0/3", "4/3", "1", "1/", "/3", "1/3/", "-1/3", "1/-3", "a/b"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        char line[64], message[128];
        snprintf(line, sizeof line, "--part %s", parts[i]);
        snprintf(message, sizeof message,
                 "option --part: expected a part I/N with 1 <= I <= N, as in 1/4, found '%s'",
                 parts[i]);
        refuses(line, message);
    }
}

static void test_values_as_text(void)
{
    parse("--flag --level=-3 --seed 18446744073709551615 -m 3K --rate 0.1 --name x --mode cosine "
          "--part 2/3");
    struct values before = values;
    char *texts[sizeof options / sizeof *options] = {0};
    bool good = true;
    for (size_t i = 0; options[i].type != OPTION_TYPE_END; i++)
        good &= options_value_text(&options[i], &texts[i]) == 0 && texts[i];
    memset(&values, 0, sizeof values);
    for (size_t i = 0; good && options[i].type != OPTION_TYPE_END; i++)
        good &= options_set_value(&options[i], texts[i]) == 0;
    ok(good && values.flag && !values.color && values.level == -3 && values.seed == UINT64_MAX &&
           values.memory == 3072 && values.rate == 0.1 && strcmp(values.name, before.name) == 0 &&
           values.mode == 1 && values.part.index == 1 && values.part.count == 3,
       "every value is restored from its text");
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        free(texts[i]);
    parse("");
    char *text = NULL;
    ok(options_value_text(&options[7], &text) == 0 && !text,
       "a string that is not set has no text");
    ok(options_set_value(&options[0], "yes") == -1 && strstr(error_message(), "true or false"),
       "the text of a flag is true or false");
    ok(options_set_value(&options[3], "20") == -1,
       "the text of a number is checked against its bounds");
}

static void test_help(void)
{
    ok(parse("-f --help --xyzzy") == OPTIONS_HELP && values.flag, "--help ends the parsing");
    ok(parse("-fh") == OPTIONS_HELP, "-h is found among letters");
    ok(parse("--version") == OPTIONS_VERSION && parse("-V") == OPTIONS_VERSION,
       "--version and -V are found");
    char *text;
    size_t size;
    FILE *file = open_memstream(&text, &size);
    const struct option some[] = {options[0], options[2], options[8], OPTION_END};
    options_print_help(&(struct tool_info){"tool", "[FILE]...", "Does it.", some}, file);
    fclose(file);
    const char *expected = "Usage: tool [FILE]...\n"
                           "Does it.\n"
                           "\n"
                           "  -f, --flag       a flag\n"
                           "  -@, --threads=N  a count\n"
                           "      --a-mode-with-a-name-that-is-long=linear|cosine|constant\n"
                           "                   a mode\n"
                           "  -h, --help       show this help\n"
                           "  -V, --version    show the version\n"
                           "\n"
                           "Full manual: man tool\n";
    if (!ok(strcmp(text, expected) == 0, "the help has columns"))
        diag("%s", text);
    free(text);
}

int main(void)
{
    test_forms();
    test_operands();
    test_values();
    test_refusals();
    test_values_as_text();
    test_help();
    return tap_done();
}
