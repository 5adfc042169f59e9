/* SPDX-License-Identifier: MIT */
/* Tables and text for terminals. */
#include "tools/ctl-table.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

#include "base/cleanup.h"

enum { GAP = 2 /* blanks between columns */, NOT_UTF8 = 0x110000 };

/* The character at *@text, which goes past it; NOT_UTF8: one byte that is none. */
static uint32_t take_character(const char **text)
{
    const unsigned char *s = (const unsigned char *)*text;
    unsigned more = s[0] < 0x80 ? 0 : s[0] < 0xC2 ? 9 : s[0] < 0xE0 ? 1 : s[0] < 0xF0 ? 2 : 3;
    static const uint32_t least[] = { 0, 0x80, 0x800, 0x10000 };
    uint32_t c = more ? s[0] & (0x3Fu >> more) : s[0];

    (*text)++;
    if (more == 9 || s[0] > 0xF4)
        return NOT_UTF8;
    for (unsigned i = 1; i <= more; i++) {
        if ((s[i] & 0xC0) != 0x80)
            return NOT_UTF8;
        c = c << 6 | (s[i] & 0x3F);
    }
    if (c < least[more] || c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF))
        return NOT_UTF8;
    *text += more;
    return c;
}

/* What a terminal would obey, or what makes text look like another one. */
static bool is_control(uint32_t c)
{
    return c < 0x20 || (c >= 0x7F && c < 0xA0) || (c >= 0x200B && c <= 0x200F) ||
           (c >= 0x2028 && c <= 0x202E) || (c >= 0x2066 && c <= 0x2069) || c == 0xFEFF;
}

char *ctl_escape(const char *text)
{
    autofree char *out = NULL;
    size_t size;
    FILE *f = open_memstream(&out, &size);

    if (!f)
        return NULL;
    while (*text) {
        const char *start = text;
        uint32_t c = take_character(&text);

        if (c == NOT_UTF8 || (c < 0x80 && is_control(c)))
            fprintf(f, "\\x%02x", (unsigned char)*start);
        else if (is_control(c))
            fprintf(f, "\\u{%x}", c);
        else
            fwrite(start, 1, (size_t)(text - start), f);
    }
    if (fclose(f) != 0)
        return NULL;
    return take_ptr(&out);
}

size_t ctl_width(const char *text)
{
    size_t width = 0;

    while (*text) {
        int w = wcwidth((wchar_t)take_character(&text));

        width += w < 0 ? 1 : (size_t)w; /* -1: the locale does not know it */
    }
    return width;
}

static void add_cell(struct ctl_table *t, char *cell)
{
    if (cell && t->count == t->room) {
        size_t room = t->room ? t->room * 2 : 64;
        char **cells = reallocarray(t->cells, room, sizeof *cells);

        if (cells) {
            t->cells = cells;
            t->room = room;
        }
    }
    if (!cell || t->count == t->room) {
        free(cell);
        t->failed = true;
        return;
    }
    t->cells[t->count++] = cell;
}

void ctl_table_add(struct ctl_table *t, const char *text)
{
    add_cell(t, ctl_escape(text ? text : ""));
}

void ctl_table_addf(struct ctl_table *t, const char *fmt, ...)
{
    autofree char *text = NULL;
    va_list ap;

    va_start(ap, fmt);
    if (vasprintf(&text, fmt, ap) < 0) {
        text = NULL;
        t->failed = true;
    }
    va_end(ap);
    ctl_table_add(t, text);
}

static void print_row(const struct ctl_table *t, char *const *cells, const size_t *widths,
                      FILE *out)
{
    size_t blanks = 0;

    for (size_t i = 0; i < t->columns; i++) {
        if (!widths[i])
            continue;
        size_t pad = widths[i] - ctl_width(cells[i]);
        bool right = t->right && t->right[i];

        if (right)
            blanks += pad;
        if (*cells[i]) {
            fprintf(out, "%*s%s", (int)blanks, "", cells[i]);
            blanks = 0;
        }
        blanks += (right ? 0 : pad) + GAP;
    }
    fputc('\n', out);
}

static void widen(size_t *column, const char *cell)
{
    size_t width = ctl_width(cell);

    if (width > *column)
        *column = width;
}

int ctl_table_print(const struct ctl_table *t, FILE *out)
{
    autofree size_t *widths = calloc(t->columns, sizeof *widths);

    if (!widths || t->failed)
        return -ENOMEM;
    for (size_t i = t->drop_empty && t->count > t->columns ? t->columns : 0; i < t->count; i++)
        widen(&widths[i % t->columns], t->cells[i]);
    for (size_t i = 0; i < t->columns && i < t->count; i++)
        if (widths[i])
            widen(&widths[i], t->cells[i]);
    for (size_t i = 0; i + t->columns <= t->count; i += t->columns)
        print_row(t, t->cells + i, widths, out);
    return 0;
}

void ctl_table_clear(struct ctl_table *t)
{
    for (size_t i = 0; i < t->count; i++)
        free(t->cells[i]);
    free(t->cells);
    t->cells = NULL;
    t->count = t->room = 0;
    t->failed = false;
}

void ctl_print_columns(char *const *words, size_t count, size_t width, FILE *out)
{
    size_t widest = 1, columns, rows;
    struct ctl_table t = { 0 };

    for (size_t i = 0; i < count; i++)
        widen(&widest, words[i]);
    columns = width / (widest + GAP);
    columns = columns < 1 ? 1 : columns > count ? count : columns;
    if (!columns)
        return;
    rows = (count + columns - 1) / columns;
    t.columns = columns;
    for (size_t i = 0; i < rows * columns; i++) {
        size_t word = i % columns * rows + i / columns;
        ctl_table_add(&t, word < count ? words[word] : "");
    }
    ctl_table_print(&t, out);
    ctl_table_clear(&t);
}

/* @v in three digits or so; whole numbers as they are. */
static const char *scaled(double v, const char *unit, char *out)
{
    int digits = v == (double)(int64_t)v || v >= 100 ? 0 : v >= 10 ? 1 : 2;

    snprintf(out, CTL_NUMBER_MAX, "%.*f %s", digits, v, unit);
    return out;
}

const char *ctl_size_text(double bytes, char out[CTL_NUMBER_MAX])
{
    static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
    unsigned i = 0;

    for (; bytes >= 1024 && i < 6; i++)
        bytes /= 1024;
    return scaled(bytes, units[i], out);
}

const char *ctl_time_text(double ns, char out[CTL_NUMBER_MAX])
{
    static const char *const units[] = { "ns", "us", "ms", "s" };
    unsigned i = 0;

    if (ns <= 0)
        return strcpy(out, "-");
    for (; ns >= 1000 && i < 3; i++)
        ns /= 1000;
    return scaled(ns, units[i], out);
}
