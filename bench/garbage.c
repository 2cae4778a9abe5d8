/* What garbage is left on the disk by rounds of random edits of which the last version alone is kept, before and after one
 * collection, by an hour and a half of a clock that is put forward.
 *
 * usage: garbage [ROUNDS [FILES [FILE_MIB]]]     in TMPDIR */
#include <stdio.h>
#include <stdlib.h>

#include "base/must.h"
#include "base/rng.h"
#include "drive/collect.h"
#include "drive/drive_testing.h"

enum { EDITS = 20, EDIT_BYTES = 4096 };

static struct testing t;
static struct arena arena;
static struct ctx ctx;

static int thin_op(struct dtx *d, void *arg)
{
	const struct version *v = arg;
	return version_remove(d, v->id);
}

static void keep_the_last(int64_t file_id)
{
	struct file_versions all;
	must(drive_file_versions(&ctx, file_id, false, 0, 0, &all) == 0);
	for (size_t i = 1; i < all.n; i++)
		must(drive_write(&ctx, thin_op, &all.items[i]) == 0);
}

static void collect(struct collect_totals *totals)
{
	struct collection *c = collection_new(&(struct collection_config){.drive = &t.drive});
	bool done;
	must(collection_go_on(c, &done) == 0 && done);
	collection_totals(c, totals);
	collection_free(c);
}

static void tell(const char *when, const struct collect_totals *a)
{
	int64_t live = a->sweep.stored_bytes - a->sweep.garbage_bytes - a->sweep.removed_bytes;
	printf("%-22s %8.1f MB in packs, %8.1f MB live, garbage %5.1f %% of it; %lld removed, %.1f MB moved\n", when,
	       (double)a->packs.file_bytes / 1e6, (double)live / 1e6, 100.0 * (double)(a->packs.file_bytes - live) / (double)live,
	       (long long)a->sweep.removed, (double)a->packs.moved_bytes / 1e6);
}

int main(int argc, char **argv)
{
	long rounds = argc > 1 ? strtol(argv[1], NULL, 10) : 100, files = argc > 2 ? strtol(argv[2], NULL, 10) : 32;
	size_t n = (size_t)(argc > 3 ? strtol(argv[3], NULL, 10) : 8) << 20;
	struct rng_seeded rng;
	struct node *nodes = calloc((size_t)files, sizeof *nodes);
	uint8_t **bytes = calloc((size_t)files, sizeof *bytes);
	must(nodes && bytes);
	rng_seeded_init(&rng, 1);
	testing_open(&t, NULL);
	arena_init(&arena);
	ctx = testing_ctx(&t, &arena, &t.users[1]);
	int64_t share = testing_share(&ctx, "share");
	for (long i = 0; i < files; i++) {
		char name[32];
		snprintf(name, sizeof name, "f%ld", i);
		bytes[i] = malloc(n);
		must(bytes[i]);
		rng.base.fill(&rng.base, bytes[i], n);
		must(testing_file(&t, &ctx, share, 0, name, str_n(bytes[i], n), &nodes[i]) == 0);
	}
	for (long r = 0; r < rounds; r++) {
		bool touched[4096] = {0};
		for (int e = 0; e < EDITS; e++) {
			uint64_t f = rng_below(&rng.base, (uint64_t)files);
			rng.base.fill(&rng.base, bytes[f] + rng_below(&rng.base, n - EDIT_BYTES), EDIT_BYTES);
			touched[f % 4096] = true;
		}
		for (long i = 0; i < files; i++) {
			struct version_result v;
			if (touched[i % 4096])
				must(testing_edit(&t, &ctx, nodes[i].id, 0, RESOLVE_LAST_WRITER_WINS, str_n(bytes[i], n), &v) == 0);
			arena_reset(&arena);
		}
	}
	for (long i = 0; i < files; i++) {
		keep_the_last(nodes[i].id);
		arena_reset(&arena);
	}
	struct collect_totals a;
	t.clock.offset_us += SECONDS_US(50 * 3600);
	collect(&a); /* the first look */
	tell("condemned", &a);
	int64_t mono = clock_mono(&clock_system);
	for (int i = 0; i < 2; i++) { /* the second look; files go an hour later */
		t.clock.offset_us += SECONDS_US(5400);
		collect(&a);
		tell(i ? "files deleted" : "chunks removed", &a);
	}
	printf("%.2f s\n", (double)(clock_mono(&clock_system) - mono) / 1e6);
	collect(&a);
	tell("after", &a);
	testing_close(&t);
	arena_fini(&arena);
	for (long i = 0; i < files; i++)
		free(bytes[i]);
	free(bytes);
	free(nodes);
	return 0;
}
