#include "base/arena.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#include "base/must.h"

/* From LARGE_TOTAL on an arena grows by huge pages, where the kernel has some: touching memory for the first time then costs a sixth,
 * which is some 10 ms of a request that takes 20 MB. */
enum { BLOCK_MIN = 8 * 1024, BLOCK_MAX = 1 << 20, HUGE_PAGE = 2 << 20, LARGE_TOTAL = 4 << 20, ALIGN = 16 };

struct arena_block {
	struct arena_block *next;
	size_t size;
	_Alignas(16) char data[];
};

/* Where memory is fragmented, the kernel first moves others out of the way: 6 ms a huge page were measured, 10 at most, where small ones
 * cost 1.4. After one that took longer than DEAR_US of processor time, so many blocks are made of small ones. */
enum { DEAR_US = 3000, SMALL_BLOCKS = 256 };
static _Atomic int small_blocks;

static int64_t busy_us(void)
{
	struct timespec t;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* Touches the first huge page, if there is to be one; small ones do as well. */
static void advise(char *p, size_t size)
{
	if (atomic_load_explicit(&small_blocks, memory_order_relaxed) > 0) {
		atomic_fetch_sub_explicit(&small_blocks, 1, memory_order_relaxed);
		return;
	}
	int64_t begin = busy_us();
	(void)madvise(p, size, MADV_HUGEPAGE);
	*(volatile char *)p = 0;
	if (busy_us() - begin > DEAR_US)
		atomic_store_explicit(&small_blocks, SMALL_BLOCKS, memory_order_relaxed);
}

/* Whole huge pages, at the address of one. */
static void *map_huge(size_t size)
{
	char *p = mmap(NULL, size + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	must(p != MAP_FAILED);
	size_t before = (HUGE_PAGE - (uintptr_t)p % HUGE_PAGE) % HUGE_PAGE;
	if (before)
		munmap(p, before);
	munmap(p + before + size, HUGE_PAGE - before);
	advise(p + before, size);
	return p + before;
}

static bool is_huge(const struct arena_block *b)
{
	return b->size + sizeof *b >= HUGE_PAGE;
}

static struct arena_block *block_new(size_t size)
{
	must(size <= SIZE_MAX / 2);
	bool huge = size + sizeof(struct arena_block) >= HUGE_PAGE;
	if (huge)
		size = (size + sizeof(struct arena_block) + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE - sizeof(struct arena_block);
	struct arena_block *b = huge ? map_huge(size + sizeof *b) : malloc(size + sizeof *b);
	must(b != NULL);
	b->size = size;
	return b;
}

static void block_free(struct arena_block *b)
{
	if (is_huge(b))
		munmap(b, b->size + sizeof *b);
	else
		free(b);
}

void arena_init(struct arena *a)
{
	*a = (struct arena){0};
}

void arena_fini(struct arena *a)
{
	struct arena_block *b = a->head;
	while (b) {
		struct arena_block *next = b->next;
		block_free(b);
		b = next;
	}
	*a = (struct arena){0};
}

void arena_reset(struct arena *a)
{
	struct arena_block *keep = a->head;
	if (!keep)
		return;
	struct arena_block *b = keep->next;
	while (b) {
		struct arena_block *next = b->next;
		block_free(b);
		b = next;
	}
	if (keep->size > 64 * BLOCK_MIN) { /* do not let one huge request pin its memory */
		block_free(keep);
		*a = (struct arena){0};
		return;
	}
	keep->next = NULL;
	a->at = keep->data;
	a->end = keep->data + keep->size;
	a->total = keep->size;
}

static void grow(struct arena *a, size_t n)
{
	size_t size = a->total < BLOCK_MIN ? BLOCK_MIN : a->total < BLOCK_MAX ? a->total : BLOCK_MAX;
	if (a->total >= LARGE_TOTAL)
		size = HUGE_PAGE - sizeof(struct arena_block);
	struct arena_block *b = block_new(size < n ? n : size);
	b->next = a->head;
	a->head = b;
	a->at = b->data;
	a->end = b->data + b->size;
	a->total += b->size;
}

static void *take(struct arena *a, size_t n)
{
	must(n <= SIZE_MAX - ALIGN);
	n = (n + ALIGN - 1) & ~(size_t)(ALIGN - 1);
	if (n == 0)
		n = ALIGN;
	if ((size_t)(a->end - a->at) < n)
		grow(a, n);
	void *p = a->at;
	a->at += n;
	return p;
}

void *arena_alloc(struct arena *a, size_t n)
{
	return memset(take(a, n), 0, n);
}

void *arena_array(struct arena *a, size_t count, size_t size)
{
	size_t n;
	must(!__builtin_mul_overflow(count, size, &n));
	return arena_alloc(a, n);
}

char *arena_cstr(struct arena *a, struct str s)
{
	must(s.n < SIZE_MAX);
	char *p = take(a, s.n + 1);
	if (s.n)
		memcpy(p, s.p, s.n);
	p[s.n] = 0;
	return p;
}

struct str arena_str(struct arena *a, struct str s)
{
	return s.p ? (struct str){arena_cstr(a, s), s.n} : s;
}

struct str arena_vfmt(struct arena *a, const char *fmt, va_list ap)
{
	char brief[256]; /* most are: they are made once, and copied */
	va_list again;
	va_copy(again, ap);
	int n = vsnprintf(brief, sizeof brief, fmt, again);
	va_end(again);
	must(n >= 0);
	if ((size_t)n < sizeof brief)
		return arena_str(a, str_n(brief, (size_t)n));
	char *p = arena_alloc(a, (size_t)n + 1);
	vsnprintf(p, (size_t)n + 1, fmt, ap);
	return (struct str){p, (size_t)n};
}

struct str arena_fmt(struct arena *a, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	struct str s = arena_vfmt(a, fmt, ap);
	va_end(ap);
	return s;
}
