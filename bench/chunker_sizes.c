/* chunker_sizes: what chunks of other lengths would cost, on the files that chunker_sizes.py makes. Reads lines from stdin:
 *   case NAME
 *   old PATH      what the server has
 *   new PATH      what is sent then
 * and prints, for each case and each least/average/greatest length, what is sent of the new files, and how many chunks,
 * index rows and recipe bytes they are. The cuts are those of chunks/chunker.c with other numbers in it; for the numbers
 * that we use, each file is cut by both. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/map.h"
#include "base/must.h"
#include "chunks/chunker.h"

enum { MAX_FILES = 4096, LINE = 4096, INGEST_BYTES_MS = 500000 };

static const size_t averages[] = {16 << 10, 32 << 10, 64 << 10, 128 << 10, 256 << 10};
static struct gear gear;

struct sizes {
	size_t least, average, greatest;
	uint64_t hard, easy;
};

static struct sizes sizes_of(size_t average)
{
	int bits = __builtin_ctzll(average);
	return (struct sizes){
	    .least = average / 4,
	    .average = average,
	    .greatest = average * 4,
	    .hard = ~UINT64_C(0) << (62 - bits),
	    .easy = ~UINT64_C(0) << (66 - bits),
	};
}

/* Length of the chunk at p. */
static size_t cut(const struct sizes *s, const uint8_t *p, size_t n)
{
	size_t i = s->least - CHUNK_WINDOW_BYTES, end = n < s->greatest ? n : s->greatest;
	uint64_t hash = 0;
	for (; i < end; i++) {
		hash = (hash << 1) + gear.table[p[i]];
		if (i + 1 >= s->least && !(hash & (i < s->average ? s->hard : s->easy)))
			return i + 1;
	}
	return end;
}

struct input {
	char path[LINE];
	bool is_new;
	uint8_t *p;
	size_t n;
};

struct outcome {
	struct map had; /* hash -> anything */
	int64_t new_bytes, sent_bytes, chunks, sent_chunks, recipe_bytes;
};

static size_t varint_bytes(uint64_t v)
{
	size_t n = 1;
	for (; v >= 0x80; v >>= 7)
		n++;
	return n;
}

static void check_cut(const struct input *f, size_t at, size_t n)
{
	struct chunker c;
	bool found;
	chunker_init(&c, &gear);
	size_t want = chunker_scan(&c, f->p + at, f->n - at, &found);
	must(want == n);
}

static void one_file(const struct sizes *s, const struct input *f, struct outcome *o)
{
	size_t ms = 0; /* ids are as an upload would give them: a millisecond is worth 2^22 */
	for (size_t at = 0, n; at < f->n; at += n) {
		n = cut(s, f->p + at, f->n - at);
		if (s->average == CHUNK_AVG_BYTES)
			check_cut(f, at, n);
		uint64_t hash = xxh3_64(f->p + at, n) | 1;
		bool had = map_get(&o->had, hash) != NULL;
		map_put(&o->had, hash, o);
		if (!f->is_new)
			continue;
		o->recipe_bytes += (int64_t)(varint_bytes(2 * ((at / INGEST_BYTES_MS - ms) << 22) + 2) + varint_bytes(n)); /* recipe.c */
		ms = at / INGEST_BYTES_MS;
		o->new_bytes += (int64_t)n;
		o->chunks++;
		o->sent_bytes += had ? 0 : (int64_t)n;
		o->sent_chunks += !had;
	}
}

static void one_case(const char *name, struct input *files, size_t n)
{
	for (size_t k = 0; k < sizeof averages / sizeof *averages; k++) {
		struct sizes s = sizes_of(averages[k]);
		struct outcome o = {0};
		for (size_t i = 0; i < n; i++)
			one_file(&s, &files[i], &o);
		map_fini(&o.had);
		double gib = (double)o.new_bytes / (1 << 30);
		printf("%-34s %4zu/%zu/%zu KiB  sent %8.2f MiB (%5.2f %%) in %6lld chunks;  %7.0f chunks, %8.0f recipe bytes a GiB\n", name,
		       s.least >> 10, s.average >> 10, s.greatest >> 10, (double)o.sent_bytes / (1 << 20),
		       100 * (double)o.sent_bytes / (double)o.new_bytes, (long long)o.sent_chunks, (double)o.chunks / gib,
		       (double)o.recipe_bytes / gib);
		fflush(stdout);
	}
}

static void map_file(struct input *f)
{
	int fd = open(f->path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	must(fd >= 0 && fstat(fd, &st) == 0);
	f->n = (size_t)st.st_size;
	f->p = f->n ? mmap(NULL, f->n, PROT_READ, MAP_PRIVATE, fd, 0) : NULL;
	must(f->p != MAP_FAILED);
	close(fd);
}

static void end_case(const char *name, struct input *files, size_t *n)
{
	if (*n)
		one_case(name, files, *n);
	for (size_t i = 0; i < *n; i++)
		if (files[i].p)
			munmap(files[i].p, files[i].n);
	*n = 0;
}

int main(void)
{
	static struct input files[MAX_FILES];
	char line[LINE], name[LINE] = "";
	size_t n = 0;
	gear_init(&gear, (const uint8_t *)"the key of a tenant in a test...");
	while (fgets(line, sizeof line, stdin)) {
		line[strcspn(line, "\n")] = 0;
		if (strncmp(line, "case ", 5) == 0) {
			end_case(name, files, &n);
			memcpy(name, line + 5, strlen(line + 5) + 1);
			continue;
		}
		must(n < MAX_FILES && strlen(line) > 4);
		files[n] = (struct input){.is_new = strncmp(line, "new ", 4) == 0};
		memcpy(files[n].path, line + 4, strlen(line + 4) + 1);
		map_file(&files[n++]);
	}
	end_case(name, files, &n);
	return 0;
}
