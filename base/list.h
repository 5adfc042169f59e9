/* SPDX-License-Identifier: MIT */
/*
 * An intrusive doubly linked list.  A head is a struct list that points at
 * itself when empty; an element that is in no list points at itself, too, so
 * list_remove() may be called twice.
 */
#ifndef BASE_LIST_H
#define BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list {
    struct list *next, *prev;
};

#define LIST_INIT(head)                                                                            \
    {                                                                                              \
        &(head), &(head)                                                                           \
    }

#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

static inline void list_init(struct list *l)
{
    l->next = l->prev = l;
}

static inline bool list_empty(const struct list *l)
{
    return l->next == l;
}

static inline void list_insert_before(struct list *at, struct list *item)
{
    item->next = at;
    item->prev = at->prev;
    at->prev->next = item;
    at->prev = item;
}

static inline void list_push_back(struct list *head, struct list *item)
{
    list_insert_before(head, item);
}

static inline void list_push_front(struct list *head, struct list *item)
{
    list_insert_before(head->next, item);
}

static inline void list_remove(struct list *item)
{
    item->prev->next = item->next;
    item->next->prev = item->prev;
    list_init(item);
}

/* First element, removed; NULL when empty. */
static inline struct list *list_pop_front(struct list *head)
{
    struct list *item = head->next;
    if (item == head)
        return NULL;
    list_remove(item);
    return item;
}

#define list_for_each(pos, head, member)                                                           \
    for (pos = container_of((head)->next, __typeof__(*pos), member); &pos->member != (head);       \
         pos = container_of(pos->member.next, __typeof__(*pos), member))

/* The body may remove pos (and only pos). */
#define list_for_each_safe(pos, tmp, head, member)                                                 \
    for (pos = container_of((head)->next, __typeof__(*pos), member),                               \
        tmp = container_of(pos->member.next, __typeof__(*pos), member);                            \
         &pos->member != (head);                                                                   \
         pos = tmp, tmp = container_of(tmp->member.next, __typeof__(*pos), member))

#endif
