// Names of classes are found and numbered, however many there are and however they were chosen.
// SPDX-License-Identifier: MIT
#include <string.h>

#include "formats/images/class-names.h"
#include "tests/tap.h"

#define BITS  16
#define COUNT ((size_t)1 << BITS)

// Name i has a pair of words for each bit of i. All of them have the same FNV hash of 64-bit words,
// from wherever it starts: an attacker's choice, against which no seed of such a hash helps.
static void make_name(size_t i, char name[16 * BITS])
{
    memset(name, 'a', 16 * BITS);
    for (size_t bit = 0; bit < BITS; bit++)
        if (i >> bit & 1) {
            char *words = name + 16 * bit;
            words[7] = words[8 + 3] = words[8 + 7] = (char)('a' | 0x80);
        }
}

static void test_many(void)
{
    struct class_names list = {0};
    char name[16 * BITS];
    size_t added = 0, again = 0, ranked = 0;
    for (size_t i = 0; i < COUNT; i++) {
        make_name(i, name);
        added += class_names_add(&list, name, sizeof name) == (int64_t)i;
    }
    ok(added == COUNT && list.n == COUNT, "%zu names that were chosen to collide are numbered",
       COUNT);
    for (size_t i = 0; i < COUNT; i++) {
        make_name(i, name);
        again += class_names_add(&list, name, sizeof name) == (int64_t)i;
    }
    ok(again == COUNT && list.n == COUNT, "the same names keep their numbers");
    static uint32_t rank[COUNT];
    class_names_sort(&list, rank);
    for (size_t i = 0; i < COUNT; i++) {
        make_name(i, name);
        ranked += class_names_find(&list, name, sizeof name) == rank[i] &&
                  memcmp(list.names[rank[i]], name, sizeof name) == 0 &&
                  (i == 0 || strcmp(list.names[i - 1], list.names[i]) < 0);
    }
    ok(ranked == COUNT, "sorted names are in order, and found by their new numbers");
    class_names_free(&list);
}

static void test_few(void)
{
    struct class_names list = {0};
    ok(class_names_find(&list, "a", 1) == -1, "an empty list has no name");
    ok(class_names_add(&list, "cat", 2) == 0 && class_names_add(&list, "cat", 3) == 1 &&
           strcmp(list.names[0], "ca") == 0,
       "a name is as long as is said");
    ok(class_names_find(&list, "c", 1) == -1 && class_names_find(&list, "cats", 4) == -1 &&
           class_names_find(&list, "cats", 3) == 1,
       "the beginning of a name is another name");
    class_names_free(&list);
}

int main(void)
{
    test_few();
    test_many();
    return tap_done();
}
