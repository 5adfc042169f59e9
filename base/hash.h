/* SPDX-License-Identifier: MIT */
/*
 * A table of pointers by string key (node names, export ids ...).  The keys are
 * not copied: they live in the values.  Used on one thread at a time.
 */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include <stddef.h>

struct hash_slot {
    const char *key; /* NULL: free; the tombstone has a key of its own */
    void *value;
};

struct hash {
    struct hash_slot *slots; /* NULL while empty */
    size_t size;             /* a power of two */
    size_t used, deleted;
};

/** hash_get - the value stored under @key, or NULL */
void *hash_get(const struct hash *h, const char *key);

/** hash_put - store @value (not NULL) under @key, which must live as long as the entry does
 * Return: 0; -EEXIST when the key is taken; -ENOMEM.
 */
int hash_put(struct hash *h, const char *key, void *value);

/** hash_remove - forget @key; returns its value or NULL.  Shrinks the table when it got sparse. */
void *hash_remove(struct hash *h, const char *key);

/** hash_free - release the table, not the values */
void hash_free(struct hash *h);

#endif
