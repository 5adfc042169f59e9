/* SPDX-License-Identifier: MIT */
/* Scalars of option rows: their C widths, and their text form on command lines and in defaults. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/parse.h"
#include "base/row-private.h"

int row_set_int(const struct row_type *type, bool negative, uint64_t v, void *out)
{
    bool is_signed = type->kind >= ROW_INT && type->kind <= ROW_INT32;
    unsigned bits = 8 * (unsigned)type->size;
    uint64_t max = UINT64_MAX >> (64 - bits + is_signed);

    /* A negative number -m is in range when m - 1, which is ~v, is. */
    if (negative ? !is_signed || ~v > max : v > max)
        return -ERANGE;
    switch (type->size) {
    case 1: *(uint8_t *)out = (uint8_t)v; break;
    case 2: *(uint16_t *)out = (uint16_t)v; break;
    case 4: *(uint32_t *)out = (uint32_t)v; break;
    default: *(uint64_t *)out = v; break;
    }
    return 0;
}

static int set_int_text(const struct row_type *type, const char *text, void *out)
{
    int64_t number;
    uint64_t v;
    int r;

    if (*text == '-') {
        r = parse_i64(text, &number);
        return r < 0 ? r : row_set_int(type, number < 0, (uint64_t)number, out);
    }
    r = parse_u64(text, &v);
    return r < 0 ? r : row_set_int(type, false, v, out);
}

static int set_number_text(const char *text, double *out)
{
    char *end;

    if (!strchr("-0123456789", *text) || !*text || strpbrk(text, "xXnNiI"))
        return -EINVAL; /* strtod() would also take white space, hexadecimals, nan and inf */
    double v = strtod(text, &end);
    if (*end || !isfinite(v))
        return -EINVAL;
    *out = v;
    return 0;
}

int row_set_text(const struct row_type *type, const char *text, void *out)
{
    char *copy;
    int value;

    switch (type->kind) {
    case ROW_BOOL: return parse_bool(text, out);
    case ROW_SIZE: return parse_size(text, out);
    case ROW_NUMBER: return set_number_text(text, out);
    case ROW_STR:
        copy = strdup(text);
        *(char **)out = copy;
        return copy ? 0 : -ENOMEM;
    case ROW_ENUM:
        value = row_enum_value(type, text);
        if (value < 0)
            return -EINVAL;
        *(int *)out = value;
        return 0;
    case ROW_INT:
    case ROW_INT8:
    case ROW_INT16:
    case ROW_INT32:
    case ROW_UINT8:
    case ROW_UINT16:
    case ROW_UINT32:
    case ROW_UINT64: return set_int_text(type, text, out);
    default: return -EINVAL;
    }
}
