/* SPDX-License-Identifier: MIT */
/* Numbers, sizes and switches out of text: the whole text counts, white space is not skipped. */
#include <errno.h>
#include <string.h>

#include "base/parse.h"

static int digit_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return 16;
}

/* Digits (decimal, or hexadecimal after 0x) up to *@end; 0, -EINVAL (none), -ERANGE. */
static int take_digits(const char *text, uint64_t *out, const char **end)
{
    unsigned base = 10;
    bool over = false;
    uint64_t v = 0;

    if (text[0] == '0' && (text[1] == 'x' || text[1] == 'X')) {
        base = 16;
        text += 2;
    }
    const char *s = text;
    for (; (unsigned)digit_value(*s) < base; s++) {
        over |= __builtin_mul_overflow(v, (uint64_t)base, &v);
        over |= __builtin_add_overflow(v, (uint64_t)digit_value(*s), &v);
    }
    *end = s;
    *out = v;
    if (s == text)
        return -EINVAL;
    return over ? -ERANGE : 0;
}

int parse_u64(const char *text, uint64_t *out)
{
    const char *end;
    uint64_t v;
    int r = take_digits(text, &v, &end);

    if (r == -EINVAL || *end)
        return -EINVAL;
    if (!r)
        *out = v;
    return r;
}

int parse_i64(const char *text, int64_t *out)
{
    bool negative = *text == '-';
    uint64_t v = 0;
    int r = parse_u64(text + negative, &v);

    if (r < 0)
        return r;
    if (v > (uint64_t)INT64_MAX + negative)
        return -ERANGE;
    *out = (int64_t)(negative ? -v : v);
    return 0;
}

/* log2 of the factor that a suffix stands for; -1 when it is none. */
static int suffix_shift(char c)
{
    static const char upper[] = "BKMGTPE", lower[] = "bkmgtpe";

    for (int i = 0; upper[i]; i++) {
        if (c == upper[i] || c == lower[i])
            return 10 * i;
    }
    return -1;
}

/* The part after the point, as a number below 10^digits; digits past the 18th change no byte. */
static int take_fraction(const char *text, uint64_t *num, uint64_t *den, const char **end)
{
    *num = 0;
    *den = 1;
    for (*end = text; **end >= '0' && **end <= '9'; ++*end) {
        if (*den < 1000000000000000000u) {
            *num = 10 * *num + (uint64_t)(**end - '0');
            *den *= 10;
        }
    }
    return *end == text ? -EINVAL : 0;
}

int parse_size(const char *text, uint64_t *out)
{
    bool hex = text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
    uint64_t whole, num = 0, den = 1, bytes;
    const char *end;
    int shift = 0, r = take_digits(text, &whole, &end);

    if (r == -EINVAL)
        return r;
    if (*end == '.' && (hex || take_fraction(end + 1, &num, &den, &end) < 0))
        return -EINVAL;
    if (*end) {
        /* B and E are hexadecimal digits, so no suffix goes with 0x. */
        shift = hex || end[1] ? -1 : suffix_shift(*end);
        if (shift < 0)
            return -EINVAL;
    }
    if (num && !shift)
        return -EINVAL; /* a part of a byte */
    if (r < 0 || whole > UINT64_MAX >> shift)
        return -ERANGE;
    /* num < den, so the fraction is below one unit and can't overflow what the shift left free. */
    bytes = (whole << shift) + (uint64_t)(((unsigned __int128)num << shift) / den);
    *out = bytes;
    return 0;
}

int parse_bool(const char *text, bool *out)
{
    static const char *const words[][2] = {
        { "off", "on" }, { "no", "yes" }, { "false", "true" }, { "n", "y" }
    };

    for (unsigned i = 0; i < sizeof words / sizeof *words; i++) {
        for (unsigned value = 0; value < 2; value++) {
            if (!strcmp(text, words[i][value])) {
                *out = value;
                return 0;
            }
        }
    }
    return -EINVAL;
}

bool id_is_well_formed(const char *id)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                  "0123456789-._";
    size_t letters = 52;

    return id[0] && memchr(allowed, id[0], letters) && id[strspn(id, allowed)] == '\0';
}
