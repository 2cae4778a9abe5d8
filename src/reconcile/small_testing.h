/* small: all small worlds, numbered. Four nodes in step, and every pair and triple of things that users can do at the
 * same time on the two sides, on disks that fold names and such that do not. Each must end, be equal on both sides and
 * lose nothing (world_testing.h), and the outcome must not depend on the order in which a plan is carried out. */
#ifndef SD_RECONCILE_SMALL_TESTING_H
#define SD_RECONCILE_SMALL_TESTING_H

#include "reconcile/world_testing.h"

enum { SMALL_DEEDS = 128, SMALL_NODES = 4, SMALL_STAGES = 6 };

struct small_menu {
	struct deed deeds[SMALL_DEEDS];
	size_t n;
};

struct small {
	struct world world;
	struct small_menu server[SMALL_STAGES], disk[SMALL_STAGES];
	uint64_t played;   /* those that were possible */
	const char *fault; /* of the last one; NULL: none */
};

/* Heap: it is large. */
struct small *small_new(void);
void small_free(struct small *s);
/* How many there are of `deeds` (2 or 3) deeds, possible or not. */
uint64_t small_count(const struct small *s, int deeds);
/* Plays it in order and shuffled. False: see fault; verbose tells the whole story. */
bool small_play(struct small *s, int deeds, uint64_t no, bool verbose);

#endif
