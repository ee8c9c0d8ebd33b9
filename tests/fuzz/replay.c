// replay TARGET FOLDER: gives each file of the folder to a fuzz target, and prints the file's name
// before, so that the last one is that which ended the process. It needs no libFuzzer.
// SPDX-License-Identifier: MIT
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/base/error.h"
#include "lib/base/io.h"
#include "tests/fuzz/fuzz.h"

static int replay_file(const char *path)
{
    uint8_t *bytes, *exact;
    size_t size;
    puts(path);
    fflush(stdout);
    if (file_read_all(path, &bytes, &size, SIZE_MAX - 1) < 0)
        return -1;
    // A sanitizer sees reads past a block that ends where the input ends.
    exact = realloc(bytes, size ? size : 1);
    LLVMFuzzerTestOneInput(exact ? exact : bytes, size);
    free(exact ? exact : bytes);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc != 3 || fuzz_choose(argv[1]) < 0) {
        fputs("usage: replay TARGET FOLDER\n", stderr);
        return STATUS_USAGE;
    }
    DIR *dir = opendir(argv[2]);
    size_t inputs = 0;
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        if (*entry->d_name == '.')
            continue;
        char *path = path_join(argv[2], entry->d_name);
        if (!path || replay_file(path) < 0) {
            fprintf(stderr, "replay: %s\n", error_message());
            return STATUS_NO_INPUT;
        }
        free(path);
        inputs++;
    }
    if (dir)
        closedir(dir);
    if (inputs == 0)
        fprintf(stderr, "replay: %s: no inputs\n", argv[2]);
    return inputs ? 0 : STATUS_NO_INPUT;
}
