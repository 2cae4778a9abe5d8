/* planner: what a plan costs, in time and memory, by the size of the trees and by the number of differences.
 *   ninja -C build bench-planner && build/bench-planner
 * A tree has a hundred files in each folder. Differences are of all kinds in turn: edited there, edited here, moved
 * here, renamed there, new here, deleted here. CPU time of the thread, median of five plans; "whole" is the first plan
 * of a tree, that nobody touched, which looks at every node. Memory is what malloc holds. */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/must.h"
#include "reconcile/plan.h"

enum { FILES_PER_FOLDER = 100, PLANS = 5 };

static double cpu_ms(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (double)ts.tv_sec * 1e3 + (double)ts.tv_nsec / 1e6;
}

static double held_mb(void)
{
	struct mallinfo2 m = mallinfo2();
	return (double)(m.uordblks + m.hblkhd) / 1e6;
}

struct trees {
	struct tree remote, local, synced;
};

static struct node_facts facts_of(int64_t id, char name[32])
{
	int64_t folder = (id - 1) / (FILES_PER_FOLDER + 1) * (FILES_PER_FOLDER + 1) + 1;
	bool file = id != folder;
	snprintf(name, 32, file ? "document %07lld.txt" : "Folder %07lld", (long long)id);
	struct node_facts f = {.id = id, .parent = file ? folder : TREE_ROOT, .kind = file ? NODE_FILE : NODE_FOLDER};
	f.name = str_c(name);
	if (file) {
		f.size_bytes = 1000 + id;
		f.version = 1;
		f.version_id = id * 2;
		memcpy(f.checksum.b, &id, sizeof(id));
	}
	return f;
}

static void load(struct trees *t, int64_t n)
{
	tree_init(&t->remote);
	tree_init(&t->local);
	tree_init_flat(&t->synced);
	for (int64_t id = 1; id <= n; id++) {
		char name[32];
		struct node_facts f = facts_of(id, name);
		must(tree_put(&t->remote, &f) && tree_put(&t->local, &f) && tree_put(&t->synced, &f));
	}
}

/* One difference, to a file far from the others. */
static void differ(struct trees *t, int64_t n, int64_t i, int64_t of)
{
	int64_t id = 2 + i * (n / of);
	char name[48];
	struct node *r = tree_get(&t->remote, id);
	if (!r || r->f.kind == NODE_FOLDER)
		r = tree_get(&t->remote, ++id);
	must(r != NULL);
	struct node_facts f = r->f;
	f.name = str_n(name, (size_t)snprintf(name, sizeof(name), "%.*s", STR_ARG(r->f.name)));
	f.checksum.b[31] = 1;
	switch (i % 6) {
	case 0:
		f.version_id++;
		must(tree_put(&t->remote, &f) != NULL);
		break;
	case 1:
		must(tree_put(&t->local, &f) != NULL);
		break;
	case 2:
		f = r->f;
		f.name = str_c(name);
		f.parent = TREE_ROOT;
		must(tree_put(&t->local, &f) != NULL);
		break;
	case 3:
		f = r->f;
		f.name = STR("renamed");
		must(tree_put(&t->remote, &f) != NULL);
		break;
	case 4:
		f.id = -1 - i;
		f.name = STR("new");
		must(tree_put(&t->local, &f) != NULL);
		break;
	default:
		must(tree_remove(&t->local, id));
		break;
	}
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static double plan(struct trees *t, bool whole, size_t *n, double *mb)
{
	struct plan_options o = {.device = STR("bench"), .date = STR("2026-01-01"), .reserved = STR(".scaidrive")};
	double ms[PLANS];
	for (int i = 0; i < PLANS; i++) {
		struct plan p;
		if (whole)
			tree_touch_all(&t->remote);
		double before = held_mb(), start = cpu_ms();
		plan_make(&t->remote, &t->local, &t->synced, &o, &p);
		ms[i] = cpu_ms() - start;
		*n = p.n + p.waiting;
		*mb = held_mb() - before;
		plan_fini(&p);
	}
	qsort(ms, PLANS, sizeof(*ms), by_value);
	return ms[PLANS / 2];
}

int main(void)
{
	static const int64_t sizes[] = {1000, 100000, 1000000}, differences[] = {0, 10, 10000};
	printf("nodes differences operations plan_ms plan_mb whole_ms load_ms trees_mb\n");
	for (size_t s = 0; s < 3; s++) {
		for (size_t d = 0; d < 3; d++) {
			struct trees t;
			size_t n, ignored;
			double before = held_mb(), start = cpu_ms(), mb, ignored_mb;
			if (differences[d] > sizes[s] / 2)
				continue;
			load(&t, sizes[s]);
			double load_ms = cpu_ms() - start, trees_mb = held_mb() - before;
			double whole = plan(&t, true, &ignored, &ignored_mb);
			for (int64_t i = 0; i < differences[d]; i++)
				differ(&t, sizes[s], i, differences[d]);
			double ms = plan(&t, false, &n, &mb);
			printf("%lld %lld %zu %.3f %.2f %.1f %.0f %.1f\n", (long long)sizes[s],
			       (long long)differences[d], n, ms, mb, whole, load_ms, trees_mb);
			fflush(stdout);
			tree_fini(&t.remote);
			tree_fini(&t.local);
			tree_fini(&t.synced);
		}
	}
	return 0;
}
