/* world: a server (model.h) and one disk that the planner brings into step, for tests: users disturb both sides, plans
 * are carried out in any order, operations and replies get lost.
 *
 * What must hold is checked as it goes: bytes that vanish from the disk are stored on the server; a plan made from what
 * was touched is the plan made from everything; and when all is in step, what was edited is live (or, under strategies
 * that give up a side, stored), and what was deleted stays deleted. What fails first is told in `fault`.
 *
 * Everything comes from the seed. A disturbance is an event with a number and random numbers of its own, so that a
 * failing case can be shrunk by leaving events out.
 */
#ifndef SD_RECONCILE_WORLD_TESTING_H
#define SD_RECONCILE_WORLD_TESTING_H

#include "base/rng.h"
#include "reconcile/model.h"
#include "reconcile/plan.h"

enum world_side { WORLD_SERVER, WORLD_DISK };

/* What a user does on one side. */
enum deed_verb { DEED_FOLDER, DEED_FILE, DEED_EDIT, DEED_MODE, DEED_MOVE, DEED_SWAP, DEED_DELETE, DEED_RESTORE };

struct deed {
	enum deed_verb verb;
	int64_t id;       /* of what; FOLDER, FILE: unused */
	int64_t other;    /* SWAP */
	int64_t parent;   /* FOLDER, FILE, MOVE */
	const char *name; /* the same */
	int64_t content;  /* FILE, EDIT */
};

enum { WORLD_CONTENTS = 4096, WORLD_EVENTS = 256, WORLD_ROUNDS_MAX = 200 };

struct world {
	struct model model;
	struct tree server, disk, synced;    /* the truth; synced is the client's record */
	struct tree view_remote, view_local; /* what the planner sees */
	int64_t server_seq, seen_seq;        /* up to where server and view_remote have read the model's log */
	int64_t next_local, next_content;
	struct arena arena;
	struct plan_options options;
	bool keeps_all;              /* the strategy gives up no side */
	bool wanted[WORLD_CONTENTS]; /* contents that must be live in the end */
	struct map gone;             /* ids of files that must not be */
	struct map stay;     /* ids that both sides have: whatever moves or is edited, they must be there in the end */
	struct map restored; /* ids that somebody took out of the trash: they may be */
	struct rng_seeded rng; /* of execution: order, losses */
	bool decomposes;       /* the disk stores names in another Unicode form than it was told */
	bool losing;           /* a part of the operations and replies is lost */
	bool shuffled;         /* a batch is carried out in random order */
	uint64_t seed;
	int late; /* rounds that are disturbed while the plan is carried out */
	size_t events, plans;
	const bool *left_out; /* WORLD_EVENTS flags, or NULL */
	const char *fault;    /* what went wrong first, or NULL */
	bool verbose;
	void (*on_plan)(struct world *w, const struct plan *p); /* told of each plan before it is carried out, or NULL */
};

/* An empty world whose execution draws from the seed. */
void world_init(struct world *w, uint64_t seed);
void world_fini(struct world *w);
/* False: not possible there, nothing happened. */
bool world_do(struct world *w, enum world_side side, const struct deed *d);
/* What is on the server comes to the disk and is agreed, without a plan. */
void world_in_step(struct world *w);
/* A line for each node: path, kind, content; in order. Ids, case, and the suffixes of twins and copies do not show. */
struct str world_shape(struct world *w, struct arena *a);
/* Notes what has to survive from here on, and what has to stay deleted. */
void world_expect(struct world *w);
/* Plans and executes until both sides are in step, then checks what was expected. False: see fault. */
bool world_settle(struct world *w);
/* A whole random run of the seed. False: see fault. */
bool world_run(struct world *w, uint64_t seed, const bool *left_out, bool verbose);
/* Prints why the seed fails and the command that replays it, with as many events left out as can be. */
void world_report(uint64_t seed);
/* "SD_SIM_SKIP": event numbers that are left out, separated by commas. */
void world_skip_list(const char *text, bool left_out[WORLD_EVENTS]);

#endif
