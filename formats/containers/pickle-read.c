// Executes a pickle's operations (Python's Lib/pickletools.py documents them) on a stack of values.
// SPDX-License-Identifier: MIT
#include "formats/containers/pickle.h"

#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/bytes.h"
#include "lib/base/error.h"
#include "lib/base/mem.h"

#define NUMBER_MAX 64 // characters of a decimal number

enum opcode {
    OP_MARK = '(',
    OP_EMPTY_TUPLE = ')',
    OP_STOP = '.',
    OP_POP = '0',
    OP_POP_MARK = '1',
    OP_DUP = '2',
    OP_BINBYTES = 'B',
    OP_SHORT_BINBYTES = 'C',
    OP_FLOAT = 'F',
    OP_BINFLOAT = 'G',
    OP_INT = 'I',
    OP_BININT = 'J',
    OP_BININT1 = 'K',
    OP_LONG = 'L',
    OP_BININT2 = 'M',
    OP_NONE = 'N',
    OP_PERSID = 'P',
    OP_BINPERSID = 'Q',
    OP_REDUCE = 'R',
    OP_STRING = 'S',
    OP_BINSTRING = 'T',
    OP_SHORT_BINSTRING = 'U',
    OP_UNICODE = 'V',
    OP_BINUNICODE = 'X',
    OP_EMPTY_LIST = ']',
    OP_APPEND = 'a',
    OP_BUILD = 'b',
    OP_GLOBAL = 'c',
    OP_DICT = 'd',
    OP_APPENDS = 'e',
    OP_GET = 'g',
    OP_BINGET = 'h',
    OP_INST = 'i',
    OP_LONG_BINGET = 'j',
    OP_LIST = 'l',
    OP_OBJ = 'o',
    OP_PUT = 'p',
    OP_BINPUT = 'q',
    OP_LONG_BINPUT = 'r',
    OP_SETITEM = 's',
    OP_TUPLE = 't',
    OP_SETITEMS = 'u',
    OP_EMPTY_DICT = '}',
    OP_PROTO = 0x80,
    OP_NEWOBJ = 0x81,
    OP_EXT1 = 0x82,
    OP_EXT2 = 0x83,
    OP_EXT4 = 0x84,
    OP_TUPLE1 = 0x85,
    OP_TUPLE2 = 0x86,
    OP_TUPLE3 = 0x87,
    OP_NEWTRUE = 0x88,
    OP_NEWFALSE = 0x89,
    OP_LONG1 = 0x8A,
    OP_LONG4 = 0x8B,
    OP_SHORT_BINUNICODE = 0x8C,
    OP_BINUNICODE8 = 0x8D,
    OP_BINBYTES8 = 0x8E,
    OP_EMPTY_SET = 0x8F,
    OP_ADDITEMS = 0x90,
    OP_FROZENSET = 0x91,
    OP_NEWOBJ_EX = 0x92,
    OP_STACK_GLOBAL = 0x93,
    OP_MEMOIZE = 0x94,
    OP_FRAME = 0x95,
    OP_BYTEARRAY8 = 0x96,
    OP_NEXT_BUFFER = 0x97,
    OP_READONLY_BUFFER = 0x98,
};

struct reader {
    struct pickle *pickle;
    const uint8_t *bytes;
    size_t at, size;
    struct pickle_value *stack;
    size_t n;
    struct pickle_value *memo; // unset entries are MARKs
    size_t memo_end, memo_n;   // one past the highest entry; entries that are set
};

// The next `size` bytes; NULL with an error if fewer are left.
static const uint8_t *next_bytes(struct reader *r, uint64_t size)
{
    if (size > r->size - r->at) {
        error_set(STATUS_DATA, "expected %" PRIu64 " more bytes, found %zu", size, r->size - r->at);
        return NULL;
    }
    r->at += (size_t)size;
    return r->bytes + r->at - size;
}

static int next_uint(struct reader *r, size_t size, uint64_t *number)
{
    const uint8_t *bytes = next_bytes(r, size);
    if (!bytes)
        return -1;
    *number = get_le(bytes, size);
    return 0;
}

static int init_bytes(enum pickle_type type, const uint8_t *bytes, uint64_t size,
                      struct pickle_value *value)
{
    if (size > UINT32_MAX) {
        error_set(STATUS_DATA, "expected at most 4 GiB of text or bytes, found %" PRIu64, size);
        return -1;
    }
    *value = (struct pickle_value){type, (uint32_t)size, .text = (const char *)bytes};
    return 0;
}

// The text up to the next newline, which is skipped.
static int next_text_line(struct reader *r, struct pickle_value *text)
{
    const uint8_t *line = r->bytes + r->at;
    const uint8_t *end = memchr(line, '\n', r->size - r->at);
    if (!end) {
        error_set(STATUS_DATA, "expected a line of text, found the end of the file");
        return -1;
    }
    r->at += (size_t)(end - line) + 1;
    return init_bytes(PICKLE_TEXT, line, (uint64_t)(end - line), text);
}

static int push(struct reader *r, struct pickle_value value)
{
    if (mem_grow(&r->stack, r->n, 1, sizeof *r->stack) < 0)
        return -1;
    r->stack[r->n++] = value;
    return 0;
}

// The value on top of the stack; NULL with an error if there is none.
static struct pickle_value *top(struct reader *r)
{
    if (r->n && r->stack[r->n - 1].type != PICKLE_MARK)
        return &r->stack[r->n - 1];
    error_set(STATUS_DATA, "expected a value on the stack, found %s", r->n ? "a mark" : "none");
    return NULL;
}

static int pop(struct reader *r, struct pickle_value *value)
{
    const struct pickle_value *last = top(r);
    if (!last)
        return -1;
    *value = *last;
    r->n--;
    return 0;
}

// For POP, which may also remove a mark.
static int pop_any(struct reader *r)
{
    if (r->n == 0)
        return error_set(STATUS_DATA, "expected a value on the stack, found none");
    r->n--;
    return 0;
}

// Removes the last mark and the values after it. *items stays valid until the next push.
static int pop_to_mark(struct reader *r, const struct pickle_value **items, size_t *n)
{
    size_t i = r->n;
    while (i > 0 && r->stack[i - 1].type != PICKLE_MARK)
        i--;
    if (i == 0) {
        error_set(STATUS_DATA, "expected a mark on the stack, found none");
        return -1;
    }
    *items = r->stack + i;
    *n = r->n - i;
    r->n = i - 1;
    return 0;
}

static int push_number(struct reader *r, size_t size)
{
    uint64_t number;
    if (next_uint(r, size, &number) < 0)
        return -1;
    int64_t integer = size == 4 ? (int32_t)(uint32_t)number : (int64_t)number;
    return push(r, (struct pickle_value){PICKLE_INT, 0, .integer = integer});
}

static int push_truth(struct reader *r, bool truth)
{
    return push(r, (struct pickle_value){PICKLE_BOOL, 0, .truth = truth});
}

// LONG1 and LONG4, in two's complement.
static int push_long(struct reader *r, size_t length_size)
{
    uint64_t length;
    struct pickle_value value;
    if (next_uint(r, length_size, &length) < 0)
        return -1;
    const uint8_t *bytes = next_bytes(r, length);
    if (!bytes)
        return -1;
    if (length > 8)
        return init_bytes(PICKLE_INTEGER, bytes, length, &value) < 0 ? -1 : push(r, value);
    uint64_t number = length && bytes[length - 1] & 0x80 ? UINT64_MAX : 0;
    for (size_t i = (size_t)length; i > 0; i--)
        number = number << 8 | bytes[i - 1];
    return push(r, (struct pickle_value){PICKLE_INT, 0, .integer = (int64_t)number});
}

static int push_binary_float(struct reader *r)
{
    const uint8_t *bytes = next_bytes(r, 8);
    uint64_t bits;
    struct pickle_value value = {.type = PICKLE_FLOAT};
    if (!bytes)
        return -1;
    memcpy(&bits, bytes, 8);
    bits = be64toh(bits);
    memcpy(&value.number, &bits, 8);
    return push(r, value);
}

// INT, LONG and FLOAT: a number in a line of text.
static int push_text_number(struct reader *r, enum opcode opcode)
{
    struct pickle_value line, value = {.type = opcode == OP_FLOAT ? PICKLE_FLOAT : PICKLE_INT};
    char text[NUMBER_MAX + 1], *end = text;
    if (next_text_line(r, &line) < 0)
        return -1;
    if (opcode == OP_INT && (pickle_is_text(&line, "00") || pickle_is_text(&line, "01")))
        return push_truth(r, line.text[1] == '1');
    size_t size = line.size;
    if (opcode == OP_LONG && size && line.text[size - 1] == 'L')
        size--;
    if (size <= NUMBER_MAX) {
        memcpy(text, line.text, size);
        text[size] = 0;
        errno = 0;
        if (opcode == OP_FLOAT)
            value.number = strtod(text, &end);
        else
            value.integer = strtoll(text, &end, 10);
    }
    if (end == text || end != text + size)
        return error_set(STATUS_DATA, "expected a number in text of at most %d characters",
                         NUMBER_MAX);
    if (opcode != OP_FLOAT && errno == ERANGE)
        value = (struct pickle_value){PICKLE_INTEGER, line.size, .text = line.text};
    return push(r, value);
}

// Text and bytes, stored after their length.
static int push_bytes(struct reader *r, enum pickle_type type, size_t length_size)
{
    uint64_t length;
    struct pickle_value value;
    if (next_uint(r, length_size, &length) < 0)
        return -1;
    const uint8_t *bytes = next_bytes(r, length);
    if (!bytes || init_bytes(type, bytes, length, &value) < 0)
        return -1;
    return push(r, value);
}

// STRING, which has quotes, and UNICODE, which has none.
static int push_line(struct reader *r, bool quoted)
{
    struct pickle_value line;
    if (next_text_line(r, &line) < 0)
        return -1;
    if (quoted) {
        if (line.size < 2 || (line.text[0] != '\'' && line.text[0] != '"') ||
            line.text[line.size - 1] != line.text[0])
            return error_set(STATUS_DATA, "expected text in quotes");
        line.text++;
        line.size -= 2;
    }
    if (memchr(line.text, '\\', line.size))
        line.type = PICKLE_ESCAPED;
    return push(r, line);
}

static int push_tuple(struct reader *r, const struct pickle_value *items, size_t n)
{
    struct pickle_value *copy = n ? pickle_allocate(r->pickle, n * sizeof *copy) : NULL;
    if (n && !copy)
        return -1;
    if (n)
        memcpy(copy, items, n * sizeof *copy);
    return push(r, (struct pickle_value){PICKLE_TUPLE, (uint32_t)n, .items = copy});
}

// TUPLE1 to TUPLE3.
static int push_short_tuple(struct reader *r, size_t n)
{
    struct pickle_value items[3];
    for (size_t i = n; i > 0; i--)
        if (pop(r, &items[i - 1]) < 0)
            return -1;
    return push_tuple(r, items, n);
}

static int expect_pairs(size_t n)
{
    return n % 2 ? error_set(STATUS_DATA, "expected keys and values, found %zu values", n) : 0;
}

static int push_list(struct reader *r, enum pickle_type type, const struct pickle_value *items,
                     size_t n)
{
    struct pickle_value value = {.type = type};
    value.list = pickle_allocate(r->pickle, sizeof *value.list);
    if (!value.list || (type == PICKLE_DICT && expect_pairs(n) < 0) ||
        pickle_list_add(r->pickle, value.list, items, n) < 0)
        return -1;
    return push(r, value);
}

// Adds items to the value on top of the stack: a container, or an object of a class derived from
// one.
static int add_items(struct reader *r, enum pickle_type type, const struct pickle_value *items,
                     size_t n)
{
    struct pickle_value *target = top(r);
    char found[PICKLE_SHOWN_SIZE];
    if (!target || (type == PICKLE_DICT && expect_pairs(n) < 0))
        return -1;
    if (target->type == PICKLE_CALL)
        return type == PICKLE_DICT ? pickle_list_add(r->pickle, &target->call->items, items, n) : 0;
    if (target->type != type)
        return error_set(STATUS_DATA, "expected a %s to add to, found %s",
                         type == PICKLE_DICT   ? "dict"
                         : type == PICKLE_LIST ? "list"
                                               : "set",
                         pickle_shown(target, found));
    return pickle_list_add(r->pickle, target->list, items, n);
}

// APPEND and SETITEM, which add the last n values.
static int add_last(struct reader *r, enum pickle_type type, size_t n)
{
    struct pickle_value items[2];
    for (size_t i = n; i > 0; i--)
        if (pop(r, &items[i - 1]) < 0)
            return -1;
    return add_items(r, type, items, n);
}

static int push_pair(struct reader *r, enum pickle_type type, struct pickle_value first,
                     struct pickle_value second)
{
    struct pickle_value *pair = pickle_allocate(r->pickle, 2 * sizeof *pair);
    if (!pair)
        return -1;
    pair[0] = first;
    pair[1] = second;
    return push(r, (struct pickle_value){type, 2, .items = pair});
}

static int push_global(struct reader *r)
{
    struct pickle_value module, name;
    return next_text_line(r, &module) < 0 || next_text_line(r, &name) < 0
               ? -1
               : push_pair(r, PICKLE_GLOBAL, module, name);
}

static int push_stack_global(struct reader *r)
{
    struct pickle_value module, name;
    if (pop(r, &name) < 0 || pop(r, &module) < 0)
        return -1;
    if (module.type != PICKLE_TEXT || name.type != PICKLE_TEXT)
        return error_set(STATUS_DATA,
                         "expected the names of a module and of a class or function as text");
    return push_pair(r, PICKLE_GLOBAL, module, name);
}

static int push_call(struct reader *r, struct pickle_value callee, struct pickle_value args)
{
    struct pickle_value value = {.type = PICKLE_CALL};
    if (!(value.call = pickle_allocate(r->pickle, sizeof *value.call)))
        return -1;
    value.call->callee = callee;
    value.call->args = args;
    return push(r, value);
}

// REDUCE, NEWOBJ and NEWOBJ_EX. The last one also has keyword arguments, which are dropped.
static int push_call_of_stack(struct reader *r, bool by_name)
{
    struct pickle_value callee, args, named;
    if ((by_name && pop(r, &named) < 0) || pop(r, &args) < 0 || pop(r, &callee) < 0)
        return -1;
    return push_call(r, callee, args);
}

// INST and OBJ. The values after the mark are the arguments; with OBJ the first one is the class.
static int push_instance(struct reader *r, enum opcode opcode)
{
    const struct pickle_value *items;
    struct pickle_value callee, args;
    size_t n;
    if (pop_to_mark(r, &items, &n) < 0)
        return -1;
    if (opcode == OP_OBJ && n == 0)
        return error_set(STATUS_DATA, "expected a class after the mark, found nothing");
    if (opcode == OP_OBJ)
        callee = items[0];
    if (push_tuple(r, items + (opcode == OP_OBJ), n - (opcode == OP_OBJ)) < 0 || pop(r, &args) < 0)
        return -1;
    if (opcode == OP_INST && (push_global(r) < 0 || pop(r, &callee) < 0))
        return -1;
    return push_call(r, callee, args);
}

static int execute_build(struct reader *r)
{
    struct pickle_value state;
    char found[PICKLE_SHOWN_SIZE];
    struct pickle_value *object = pop(r, &state) < 0 ? NULL : top(r);
    if (!object)
        return -1;
    if (object->type != PICKLE_CALL)
        return error_set(STATUS_DATA, "expected an object to give a state, found %s",
                         pickle_shown(object, found));
    object->call->state = state;
    return 0;
}

static int push_persistent(struct reader *r, struct pickle_value id)
{
    struct pickle_persistent *other = pickle_allocate(r->pickle, sizeof *other);
    if (!other)
        return -1;
    other->id = id;
    other->next = r->pickle->others;
    r->pickle->others = other;
    return push(r, (struct pickle_value){PICKLE_PERSISTENT, 1, .items = &other->id});
}

static int put_memo(struct reader *r, uint64_t index)
{
    const struct pickle_value *value = top(r);
    if (!value)
        return -1;
    if (index >= PICKLE_OPERATIONS_MAX)
        return error_set(STATUS_DATA,
                         "expected a memo of at most %zu values, found number %" PRIu64,
                         PICKLE_OPERATIONS_MAX, index);
    if (index >= r->memo_end) {
        if (mem_grow(&r->memo, r->memo_end, index + 1 - r->memo_end, sizeof *r->memo) < 0)
            return -1;
        while (r->memo_end <= index)
            r->memo[r->memo_end++].type = PICKLE_MARK;
    }
    r->memo_n += r->memo[index].type == PICKLE_MARK;
    r->memo[index] = *value;
    return 0;
}

static int get_memo(struct reader *r, uint64_t index)
{
    if (index >= r->memo_end || r->memo[index].type == PICKLE_MARK)
        return error_set(STATUS_DATA, "value %" PRIu64 " of the memo was not set", index);
    return push(r, r->memo[index]);
}

static int next_memo_index(struct reader *r, enum opcode opcode, uint64_t *index)
{
    struct pickle_value number;
    if (opcode != OP_GET && opcode != OP_PUT)
        return next_uint(r, opcode == OP_BINGET || opcode == OP_BINPUT ? 1 : 4, index);
    if (push_text_number(r, OP_LONG) < 0 || pop(r, &number) < 0)
        return -1;
    if (number.type != PICKLE_INT || number.integer < 0)
        return error_set(STATUS_DATA, "expected an index into the memo");
    *index = (uint64_t)number.integer;
    return 0;
}

static int check_protocol(struct reader *r)
{
    uint64_t protocol;
    if (next_uint(r, 1, &protocol) < 0)
        return -1;
    return protocol > 5
               ? error_set(STATUS_DATA, "expected protocol 0 to 5, found %" PRIu64, protocol)
               : 0;
}

static int check_frame(struct reader *r)
{
    uint64_t size;
    if (next_uint(r, 8, &size) < 0)
        return -1;
    return size > r->size - r->at
               ? error_set(STATUS_DATA, "a frame of %" PRIu64 " bytes, where %zu are left", size,
                           r->size - r->at)
               : 0;
}

// Operations that push a number, text or bytes.
static int execute_plain(struct reader *r, uint8_t opcode)
{
    switch (opcode) {
    case OP_NONE:
        return push(r, (struct pickle_value){.type = PICKLE_NONE});
    case OP_NEWTRUE:
    case OP_NEWFALSE:
        return push_truth(r, opcode == OP_NEWTRUE);
    case OP_BININT:
        return push_number(r, 4);
    case OP_BININT1:
        return push_number(r, 1);
    case OP_BININT2:
        return push_number(r, 2);
    case OP_LONG1:
        return push_long(r, 1);
    case OP_LONG4:
        return push_long(r, 4);
    case OP_BINFLOAT:
        return push_binary_float(r);
    case OP_INT:
    case OP_LONG:
    case OP_FLOAT:
        return push_text_number(r, opcode);
    case OP_SHORT_BINSTRING:
    case OP_SHORT_BINUNICODE:
        return push_bytes(r, PICKLE_TEXT, 1);
    case OP_BINSTRING:
    case OP_BINUNICODE:
        return push_bytes(r, PICKLE_TEXT, 4);
    case OP_BINUNICODE8:
        return push_bytes(r, PICKLE_TEXT, 8);
    case OP_SHORT_BINBYTES:
        return push_bytes(r, PICKLE_BYTES, 1);
    case OP_BINBYTES:
        return push_bytes(r, PICKLE_BYTES, 4);
    case OP_BINBYTES8:
    case OP_BYTEARRAY8:
        return push_bytes(r, PICKLE_BYTES, 8);
    case OP_STRING:
    case OP_UNICODE:
        return push_line(r, opcode == OP_STRING);
    case OP_EXT1:
    case OP_EXT2:
    case OP_EXT4:
        return error_set(STATUS_DATA, "opcode EXT%d: the registry of extensions is not supported",
                         opcode == OP_EXT4 ? 4 : opcode - OP_EXT1 + 1);
    case OP_NEXT_BUFFER:
    case OP_READONLY_BUFFER:
        return error_set(STATUS_DATA, "opcode %s: buffers outside the pickle are not supported",
                         opcode == OP_NEXT_BUFFER ? "NEXT_BUFFER" : "READONLY_BUFFER");
    default:
        return error_set(STATUS_DATA, "expected an opcode of a pickle, found 0x%02X", opcode);
    }
}

// Operations that take all values after a mark.
static int execute_marked(struct reader *r, uint8_t opcode)
{
    const struct pickle_value *items;
    size_t n;
    if (pop_to_mark(r, &items, &n) < 0)
        return -1;
    switch (opcode) {
    case OP_TUPLE:
        return push_tuple(r, items, n);
    case OP_LIST:
        return push_list(r, PICKLE_LIST, items, n);
    case OP_DICT:
        return push_list(r, PICKLE_DICT, items, n);
    case OP_FROZENSET:
        return push_list(r, PICKLE_SET, items, n);
    case OP_APPENDS:
        return add_items(r, PICKLE_LIST, items, n);
    case OP_SETITEMS:
        return add_items(r, PICKLE_DICT, items, n);
    case OP_ADDITEMS:
        return add_items(r, PICKLE_SET, items, n);
    default: // OP_POP_MARK
        return 0;
    }
}

static int execute_stop(struct reader *r)
{
    if (pop(r, &r->pickle->root) < 0)
        return -1;
    return r->n ? error_set(STATUS_DATA, "expected one value at the end, found %zu more", r->n) : 0;
}

static int execute(struct reader *r, uint8_t opcode)
{
    struct pickle_value value;
    uint64_t index;
    switch (opcode) {
    case OP_PROTO:
        return check_protocol(r);
    case OP_FRAME:
        return check_frame(r);
    case OP_STOP:
        return execute_stop(r);
    case OP_MARK:
        return push(r, (struct pickle_value){.type = PICKLE_MARK});
    case OP_POP:
        return pop_any(r);
    case OP_DUP:
        return top(r) ? push(r, *top(r)) : -1;
    case OP_EMPTY_TUPLE:
        return push_tuple(r, NULL, 0);
    case OP_TUPLE1:
    case OP_TUPLE2:
    case OP_TUPLE3:
        return push_short_tuple(r, (size_t)opcode - OP_TUPLE1 + 1);
    case OP_EMPTY_LIST:
        return push_list(r, PICKLE_LIST, NULL, 0);
    case OP_EMPTY_DICT:
        return push_list(r, PICKLE_DICT, NULL, 0);
    case OP_EMPTY_SET:
        return push_list(r, PICKLE_SET, NULL, 0);
    case OP_APPEND:
        return add_last(r, PICKLE_LIST, 1);
    case OP_SETITEM:
        return add_last(r, PICKLE_DICT, 2);
    case OP_POP_MARK:
    case OP_TUPLE:
    case OP_LIST:
    case OP_DICT:
    case OP_FROZENSET:
    case OP_APPENDS:
    case OP_SETITEMS:
    case OP_ADDITEMS:
        return execute_marked(r, opcode);
    case OP_GLOBAL:
        return push_global(r);
    case OP_STACK_GLOBAL:
        return push_stack_global(r);
    case OP_REDUCE:
    case OP_NEWOBJ:
    case OP_NEWOBJ_EX:
        return push_call_of_stack(r, opcode == OP_NEWOBJ_EX);
    case OP_INST:
    case OP_OBJ:
        return push_instance(r, opcode);
    case OP_BUILD:
        return execute_build(r);
    case OP_PERSID:
        return next_text_line(r, &value) < 0 ? -1 : push_persistent(r, value);
    case OP_BINPERSID:
        return pop(r, &value) < 0 ? -1 : push_persistent(r, value);
    case OP_GET:
    case OP_BINGET:
    case OP_LONG_BINGET:
        return next_memo_index(r, opcode, &index) < 0 ? -1 : get_memo(r, index);
    case OP_PUT:
    case OP_BINPUT:
    case OP_LONG_BINPUT:
        return next_memo_index(r, opcode, &index) < 0 ? -1 : put_memo(r, index);
    case OP_MEMOIZE:
        return put_memo(r, r->memo_n);
    default:
        return execute_plain(r, opcode);
    }
}

static int execute_all(struct reader *r)
{
    uint8_t opcode = OP_NONE;
    for (size_t n = 0; opcode != OP_STOP; n++) {
        const size_t at = r->at;
        if (n == PICKLE_OPERATIONS_MAX)
            return error_set(STATUS_DATA, "byte %zu: expected a pickle of at most %zu operations",
                             at, PICKLE_OPERATIONS_MAX);
        const uint8_t *byte = next_bytes(r, 1);
        if (!byte || execute(r, opcode = *byte) < 0)
            return error_prefix("byte %zu", at);
    }
    return 0;
}

int pickle_read(struct pickle *pickle, const uint8_t *bytes, size_t start, size_t size)
{
    struct reader r = {.pickle = pickle, .bytes = bytes, .at = start, .size = size};
    *pickle = (struct pickle){0};
    int rc = execute_all(&r);
    pickle->end = r.at;
    free(r.stack);
    free(r.memo);
    if (rc)
        pickle_free(pickle);
    return rc;
}
