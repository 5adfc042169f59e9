/* SPDX-License-Identifier: MIT */
/*
 * Open addressing with linear probing.  Invariants: at least one slot in four
 * has no key at all, so that every probe ends; a removed entry leaves a
 * tombstone (its own key, value NULL), so that probes run on past it.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"

enum { SIZE_MIN = 16 };

static const char tombstone[] = "";

/* FNV-1a, with the high bits folded in because the low ones choose the slot. */
static size_t key_hash(const char *key)
{
    uint64_t x = 0xcbf29ce484222325u;

    for (; *key; key++)
        x = (x ^ (uint8_t)*key) * 0x100000001b3u;
    return (size_t)(x ^ x >> 32);
}

/* The slot that holds @key, or NULL. */
static struct hash_slot *find(const struct hash *h, const char *key)
{
    if (!h->slots)
        return NULL;
    for (size_t i = key_hash(key);; i++) {
        struct hash_slot *s = &h->slots[i & (h->size - 1)];

        if (!s->key)
            return NULL;
        if (s->value && !strcmp(s->key, key))
            return s;
    }
}

/* The first slot of the probe of @key that holds nothing (free, or a tombstone); there is one. */
static struct hash_slot *vacancy(struct hash_slot *slots, size_t size, const char *key)
{
    size_t i = key_hash(key);

    while (slots[i & (size - 1)].value)
        i++;
    return &slots[i & (size - 1)];
}

/* Move all entries to a table of @size slots, without the tombstones. */
static int resize(struct hash *h, size_t size)
{
    struct hash_slot *slots = calloc(size, sizeof *slots);

    if (!slots)
        return -ENOMEM;
    for (size_t i = 0; i < h->size; i++) {
        if (h->slots[i].value)
            *vacancy(slots, size, h->slots[i].key) = h->slots[i];
    }
    free(h->slots);
    h->slots = slots;
    h->size = size;
    h->deleted = 0;
    return 0;
}

void *hash_get(const struct hash *h, const char *key)
{
    struct hash_slot *s = find(h, key);

    return s ? s->value : NULL;
}

int hash_put(struct hash *h, const char *key, void *value)
{
    if (find(h, key))
        return -EEXIST;
    if (4 * (h->used + h->deleted + 1) > 3 * h->size) {
        size_t size = h->size ? h->size : SIZE_MIN;

        /* Twice the room when half is in use; else it is full of tombstones only. */
        if (2 * (h->used + 1) > size)
            size *= 2;
        if (resize(h, size) < 0)
            return -ENOMEM;
    }
    struct hash_slot *s = vacancy(h->slots, h->size, key);
    if (s->key)
        h->deleted--;
    *s = (struct hash_slot){ .key = key, .value = value };
    h->used++;
    return 0;
}

void *hash_remove(struct hash *h, const char *key)
{
    struct hash_slot *s = find(h, key);

    if (!s)
        return NULL;
    void *value = s->value;
    *s = (struct hash_slot){ .key = tombstone };
    h->used--;
    h->deleted++;
    if (!h->used)
        hash_free(h);
    else if (h->size > SIZE_MIN && 8 * h->used < h->size)
        (void)resize(h, h->size / 2); /* no memory: then it stays as large as it is */
    return value;
}

void hash_free(struct hash *h)
{
    free(h->slots);
    *h = (struct hash){ 0 };
}
