/* The simulator's memory: lists of free blocks by size, for one thread. What is freed is taken again first, while it is in the
 * cache, and nothing is ever joined, split or given back; glibc's took an eighth of a schedule's time. Not with the sanitizers. */
#include <errno.h>
#include <malloc.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/must.h"

#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && !__has_feature(address_sanitizer) && !__has_feature(memory_sanitizer)

enum { STEP = 16, SMALL = 1024, CLASSES = 256, AREA = 32 << 20 };

/* Before each block; alignment of what follows it is STEP. */
struct block {
	size_t class;
	struct block *next; /* free: the next one; in use: where it begins, if what was asked for is aligned more */
};

static struct block *all[CLASSES];
static char *at, *end;

/* Steps of 16 bytes up to SMALL, then four sizes for each power of two. */
static size_t class_of(size_t n)
{
	if (n <= SMALL)
		return (n + STEP - 1) / STEP;
	unsigned power = 63 - (unsigned)__builtin_clzll(n - 1);
	return SMALL / STEP + 1 + (power - 10) * 4 + ((n - 1) >> (power - 2) & 3);
}

static size_t size_of(size_t class)
{
	if (class <= SMALL / STEP)
		return class * STEP;
	size_t k = class - SMALL / STEP - 1;
	return ((size_t)5 + k % 4) << (k / 4 + 8);
}

static struct block *more(size_t class)
{
	size_t n = sizeof(struct block) + size_of(class);
	if ((size_t)(end - at) < n) {
		size_t area = n > AREA ? n : AREA;
		at = mmap(NULL, area, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (at == MAP_FAILED) {
			at = end = NULL;
			return NULL;
		}
		end = at + area;
	}
	struct block *b = (struct block *)at;
	at += n;
	b->class = class;
	return b;
}

static void *take(size_t n)
{
	if (n > (size_t)1 << 40) {
		errno = ENOMEM;
		return NULL;
	}
	size_t class = class_of(n);
	struct block *b = all[class];
	if (b)
		all[class] = b->next;
	else if (!(b = more(class)))
		return NULL;
	b->next = b;
	return b + 1;
}

void *malloc(size_t n)
{
	return take(n);
}

void free(void *p)
{
	if (!p)
		return;
	struct block *b = ((struct block *)p - 1)->next;
	b->next = all[b->class];
	all[b->class] = b;
}

void *calloc(size_t n, size_t size)
{
	size_t bytes;
	void *p = __builtin_mul_overflow(n, size, &bytes) ? NULL : take(bytes);
	return p ? memset(p, 0, bytes) : NULL;
}

size_t malloc_usable_size(void *p)
{
	if (!p)
		return 0;
	struct block *b = ((struct block *)p - 1)->next;
	return size_of(b->class) - (size_t)((char *)p - (char *)(b + 1));
}

void *realloc(void *p, size_t n)
{
	size_t was = malloc_usable_size(p);
	if (p && n <= was)
		return p;
	void *q = take(n);
	if (q && p) {
		memcpy(q, p, was);
		free(p);
	}
	return q;
}

void *memalign(size_t align, size_t n)
{
	if (align <= STEP)
		return take(n);
	char *p = take(n + align + sizeof(struct block));
	if (!p)
		return NULL;
	struct block *b = (struct block *)p - 1;
	char *q = (char *)(((uintptr_t)p + sizeof(struct block) + align - 1) & ~(uintptr_t)(align - 1));
	((struct block *)(void *)q - 1)->next = b;
	return q;
}

void *aligned_alloc(size_t align, size_t n)
{
	return memalign(align, n);
}

int posix_memalign(void **out, size_t align, size_t n)
{
	*out = memalign(align, n);
	return *out ? 0 : ENOMEM;
}

#endif
