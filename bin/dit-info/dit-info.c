// dit-info: files -> a description of what they hold. SPDX-License-Identifier: MIT
#include <stdlib.h>

#include "bin/dit-info/facts.h"
#include "lib/base/error.h"
#include "lib/base/io.h"
#include "lib/tool/tool.h"

static int report(const char *path, bool check, bool json, bool classes, FILE *out)
{
    json_t *facts = facts_of(path, check);
    int rc = facts ? 0 : -1;
    if (facts && classes)
        rc = facts_print_classes(out, file_name(path), facts);
    else if (facts)
        (json ? facts_print_json : facts_print_text)(out, file_name(path), facts);
    json_decref(facts);
    return rc;
}

int main(int argc, char **argv)
{
    bool check = false, json = false, classes = false;
    const struct option options[] = {
        OPTION_FLAG("check", 'c', &check, "read the whole file and compare its checksums"),
        OPTION_FLAG("json", 'j', &json, "print a JSON object on one line for each file"),
        OPTION_FLAG("classes", 0, &classes, "print only the classes: number, tab, name"),
        TOOL_OPTION_OUTPUT,
        TOOL_OPTION_THREADS,
        TOOL_OPTIONS_COMMON,
        OPTION_END,
    };
    char **operands = tool_start(
        argc, argv,
        &(struct tool_info){"dit-info", "[OPTION]... [FILE]...",
                            "Show what streams, weights, arrays and runs hold.", options});
    if (json && classes)
        tool_usage_error("--json and --classes exclude each other; --json lists the classes, too");
    struct output *output = tool.output ? output_open(tool.output) : NULL;
    if (tool.output && !output)
        tool_fail();
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (!out) {
        error_set_errno(STATUS_INTERNAL, "out of memory");
        tool_fail();
    }
    int status = STATUS_OK;
    progress_start("records", 0);
    for (char **input = tool_inputs(operands); *input; input++)
        if (report(*input, check, json, classes, out) < 0) {
            tool_warn("%s", error_message());
            status = status ? status : (int)error_status();
        }
    progress_finish();
    fclose(out);
    if (output) {
        tool_check(output_write(output, text, size));
        tool_check(output_commit(output));
    } else {
        fwrite(text, 1, size, stdout); // tool_finish reports errors
    }
    free(text);
    int finished = tool_finish();
    return status ? status : finished;
}
