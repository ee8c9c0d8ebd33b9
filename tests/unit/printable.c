// What make_printable lets pass, and what not. SPDX-License-Identifier: MIT
#include "lib/base/printable.h"

#include <string.h>

#include "tests/tap.h"

static void becomes(const char *text, const char *expected)
{
    char got[128];
    strcpy(got, text);
    got[make_printable(got, strlen(got))] = 0;
    if (!ok(strcmp(got, expected) == 0, "\"%s\" is what is printed", expected))
        diag("got \"%s\"", got);
}

int main(void)
{
    becomes("plain ~text~", "plain ~text~");
    becomes("\u00fcber \u732b \U0001F408", "\u00fcber \u732b \U0001F408");
    becomes("\33]0;title\7\33[31m\n\t\177", "?]0;title??[31m???");
    becomes("C1: \302\233"
            "31m \302\205",
            "C1: ?31m ?");
    becomes("turned: \u202egnp.exe\u2066\u200f\u061c", "turned: ?gnp.exe???");
    becomes("unseen: \u200b\ufeff\u00ad\U000E0041", "unseen: ????");
    becomes("lines: \u2028\u2029", "lines: ??");
    becomes("no UTF-8: \233 \377 \300\257 \355\240\200 \364\220\200\200",
            "no UTF-8: ? ? ?? ??? ????");
    becomes("cut: \346\226", "cut: ??");
    char zero[] = "a\0b";
    ok(make_printable(zero, 3) == 3 && memcmp(zero, "a?b", 3) == 0, "a NUL within is replaced");
    return tap_done();
}
