// Classes are chosen by number, by name and by quoted name. SPDX-License-Identifier: MIT
#include <string.h>

#include "formats/images/class-choice.h"
#include "lib/base/error.h"
#include "tests/tap.h"

static const char names[] = "[\"tench, Tinca tinca\", \"great grey owl\", \"7\", \"a \\\"b\\\"\", "
                            "\" c\", \"none\"]";

// Passes if the choice is `expected`, of n classes.
static void chooses(const char *spec, size_t n, const int32_t *expected)
{
    struct class_choice choice;
    bool good = class_choice_parse(&choice, spec, names, 10, true) == 0;
    ok(good && choice.kind == CLASSES_LISTED && choice.n == n &&
           memcmp(choice.list, expected, n * sizeof *expected) == 0,
       "%s is chosen", spec);
    if (!good)
        diag("%s", error_message());
    else
        class_choice_free(&choice);
}

static void refuses(const char *spec, const char *text)
{
    struct class_choice choice;
    bool bad = class_choice_parse(&choice, spec, names, 10, true) < 0;
    ok(bad && error_status() == STATUS_USAGE && strstr(error_message(), text), "%s is refused: %s",
       spec, bad ? error_message() : "no");
}

int main(void)
{
    chooses("8,3", 2, (const int32_t[]){8, 3});
    chooses("great grey owl,7", 2, (const int32_t[]){1, 2});
    chooses("8, great grey owl,  9", 3, (const int32_t[]){8, 1, 9});
    chooses("\"tench, Tinca tinca\",8", 2, (const int32_t[]){0, 8});
    chooses("8, \"tench, Tinca tinca\"", 2, (const int32_t[]){8, 0});
    chooses("\"a \"\"b\"\"\",a \"b\"", 2, (const int32_t[]){3, 3});
    chooses("\" c\"", 1, (const int32_t[]){4});
    chooses("\"none\",none", 2, (const int32_t[]){5, 5});
    refuses("tench, Tinca tinca", "no class is called \"tench\"");
    refuses("\"8\"", "no class is called \"8\"");
    refuses("\"great grey owl",
            "expected a closing quote, and then a comma or the end, in \"great");
    refuses("\"7\"8", "expected a closing quote");
    refuses("8,", "no class is called \"\"");
    refuses("", "no class is called \"\"");
    return tap_done();
}
