/* sim: the whole system in one thread from one seed: the real client over the real handlers, with disks, network, clocks
 * and randomness of our own. After the idea of FoundationDB's simulation and TigerBeetle's VOPR, and of Dropbox's Trinity.
 *
 *   schedule.c  what happens: a list of actions drawn from the seed; any part of it is a schedule again (shrinking)
 *   user.c      people and programs that edit on a device, and API clients that edit on the server
 *   fs.c        a device's file system in memory: inodes, stamps, power failures
 *   root_sim.c  the client's root over fs.c
 *   device.c    one client: start, round, crash, its state lost or old
 *   server.c    one server: start, crash, backup and restore
 *   memory.c    malloc and free
 *   care.c      its jobs
 *   vfs.c       SQLite over an io/disk.h disk
 *   kept.c      its connections, used again
 *   net.c       requests on their way, and what happens to them there
 *   oracle.c    what must hold: after every step, and when all is quiet
 *   trace.c     for itself: the trace of a real folder, played on in the planner's world
 *
 * Time and actions pass at hooks: every call of the file system by the client, every request, every step of a user's
 * writing. An action can run inside a hook, so a device's round is interrupted by edits, by other devices, by crashes.
 */
#ifndef SD_SIM_H
#define SD_SIM_H

#include "client/agent.h"
#include "drive/drive.h"
#include "fs.h"
#include "http/dispatch.h"
#include "io/disk_fault.h"

enum { DEVICES_MAX = 3, USERS = 2, SHARES = 2, GHOSTS_MAX = 8, DEPTH_MAX = 3 };

struct sim;

struct sim_clock {
	struct clock clock;
	const struct sim *sim;
	int64_t offset_us, greatest_us; /* greatest: that it ever had */
};

/* ---- contents ---- */

/* Everything a file ever held, by number. */
struct content_row {
	struct sha256 hash;
	const char *p;
	size_t n;
	bool tracked;  /* a user wrote it, whole, and it is nowhere else */
	bool released; /* a user overwrote or deleted it, knowing it; or it was lost where nobody can help */
	bool at_risk;  /* it was somewhere when a machine, or a backup, last took things away */
	int device;    /* that wrote it; -1: an API client */
};

/* Registers bytes (copied); the number. */
int content_add(struct sim *s, const void *p, size_t n);
/* -1: nobody ever wrote that. */
int content_find(const struct sim *s, const struct sha256 *hash);
/* A new one that nobody has; size 0: of any. */
int content_make(struct sim *s, struct rng *rng, size_t size, int device);
void content_release(struct sim *s, int number, const char *why);

/* ---- devices ---- */

enum net_fault {
	NET_OK,
	NET_DROP,      /* the request never arrives */
	NET_LOST,      /* handled, the answer never arrives */
	NET_TWICE,     /* delivered twice, the second answer counts */
	NET_GHOST,     /* the client gives up; the request arrives later */
	NET_CUT,       /* the answer breaks off */
	NET_PROXY_503, /* a proxy answers */
	NET_PROXY_404,
	NET_PORTAL,    /* 200 and a page */
	NET_FLIP,      /* a byte of downloaded content is another */
	NET_FAULTS
};

struct device {
	struct sim *sim;
	int number, share; /* share: that it syncs */
	struct sim_clock clock;
	struct rng_seeded rng;
	struct fs fs;
	struct disk *disk; /* of its state */
	struct http_client http;
	bool open, busy;
	bool lost_state;  /* the state is to begin anew */
	struct replica replica;
	struct root *root;
	struct remote remote;
	struct agent agent;
	struct str token, old_state; /* old_state: a copy of the state's file */
	struct str marker;           /* on its disk */
	enum net_fault net;
	int die_in;       /* hooks until the process ends; 0: it lives on */
	bool dead, power; /* power: the machine fails with it */
	int root_fault_in, root_fault; /* a call of the root fails */
	struct inode *writer; /* a program writes this file on and on ... */
	int writer_left;      /* ... so many times */
	bool list_fault; /* the next folder below the root cannot be listed */
	bool allow_mass_delete, registered;
	/* Of the last rounds. */
	bool in_step;
	size_t done, trashed;
};

#define STATE_NAME "state.db"

/* The database of a device that was started once. */
void device_make_state(struct sim *s, struct disk *disk);
int device_start(struct device *d);
/* One round or several. */
void device_round(struct device *d, bool settle);
/* Ends the process, and with power the machine's memory is lost. */
void device_stop(struct device *d, bool power);
/* The process ends at a hook, or at a call of its state's disk. */
void device_die_soon(struct device *d, struct rng *rng);
struct root *root_sim_new(struct device *d);
struct http_client net_client(struct device *d);

/* ---- the server ---- */

struct server {
	struct sim *sim;
	struct sim_clock clock;
	struct rng_seeded rng;
	struct disk *db_disk, *pack_disk;
	bool open;
	struct db *db;
	struct idgen ids;
	struct store *store;
	struct drive drive;
	struct authenticator auth;
	struct http *http;
	struct collection *collection; /* under way; NULL: none */
	int collect_steps;
	bool power;         /* the next crash loses what is not durable */
	int power_in;       /* calls of its disk after the next start until the power fails; 0: it does not */
	int64_t acked_seq;  /* the log's head when the last answer to a write was delivered */
	int64_t tenant_id, share_ids[SHARES], root_ids[SHARES], user_ids[USERS];
	struct str backup_db;
	struct str *backup_packs;
	size_t n_backup_packs;
	int unreachable;    /* requests that met no server */
};

/* Once a process: the databases of server and device as a first start leaves them. */
void server_make_template(void);
struct str server_template_state(void);
void server_init(struct server *v, struct sim *s);
void server_fini(struct server *v);
void server_start(struct server *v);
/* The disks have died: everything in memory goes. */
void server_stop(struct server *v);
bool server_is_dead(struct server *v);
void server_backup(struct server *v);
/* By a clock that never goes back; or, with back_us, on a machine whose clock is so much behind. */
void server_restore(struct server *v, int64_t back_us);
/* Time passes, and a job does some work. */
void care_act(struct server *v, struct rng *rng);
/* Nobody is there any more: all garbage goes. */
void care_clean(struct server *v);
/* A collection that is under way is given up. */
void care_end(struct server *v);
/* A request as it arrives; the exchange is the caller's to free. NULL: the server died. */
struct exchange *server_request(struct server *v, struct str method, struct str target, struct str token,
                                struct str content_type, const struct str *headers, size_t n_headers, struct str body);
int64_t server_i64(struct server *v, const char *sql, int64_t a);
/* The nodes of the shares but their roots, in id order; in the sim's arena. False: the database cannot be read. */
struct server_node {
	int64_t id, parent_id, version_id;
	int share;
	bool is_folder, live, executable; /* live: no trashed folder above either */
	struct str name;
	struct sha256 hash;
	const struct server_node *up; /* NULL: the root */
};
bool server_nodes(struct server *v, struct server_node **out, size_t *n);
/* Whether some version holds it. */
int server_has(struct server *v, const struct sha256 *hash, bool *out);
void sim_clock_init(struct sim_clock *c, struct sim *s);
struct disk *sim_vfs(int slot, struct disk *disk); /* makes "simSLOT" lead to the disk; returns it */
void sim_vfs_register(struct sim *s);
struct str disk_read_all(struct arena *a, struct disk *d, const char *name);
void disk_write_all(struct disk *d, const char *name, struct str bytes);

/* ---- the schedule ---- */

enum action_kind {
	A_ROUND, A_USER, A_API, A_NET, A_GHOST, A_DEVICE_DIES, A_SERVER_DIES, A_SERVER_DISK, A_DEVICE_DISK, A_CLOCK, A_SLEEP,
	A_BACKUP, A_RESTORE, A_STATE_LOST, A_STATE_COPY, A_STATE_OLD, A_RIGHTS, A_QUOTA, A_CARE, A_RESTORE_BACK, A_KINDS
};

/* Seeds from here on are drawn with more kinds of actions, A_CARE and A_RESTORE_BACK; those below as regressions.txt knows them. */
enum { SECOND_DRAW = 10000000, THIRD_DRAW = 20000000 };

struct action {
	enum action_kind kind;
	int device, wait; /* wait: hooks to let pass; 0: until nothing is under way */
	uint64_t seed;
	bool kept;
};

struct ghost {
	struct str method, path, token, content_type, body;
	struct str headers[HTTP_CALL_HEADERS];
	size_t n_headers;
};

struct sim {
	uint64_t seed;
	struct rng_seeded rng; /* of time and noise */
	struct arena arena;    /* of this run */
	int64_t now_us;
	struct server server;
	struct device devices[DEVICES_MAX];
	int n_devices, n_shares; /* with two, API clients move things between them */
	struct content_row *contents;
	size_t n_contents, cap_contents;
	struct map by_hash;
	struct action *actions;
	size_t n_actions, next;
	int waited, depth;
	struct ghost ghosts[GHOSTS_MAX];
	size_t n_ghosts;
	bool calm;   /* faults are over */
	bool faulty; /* the server's disk was told to fail */
	bool verbose;
	uint64_t trace;
	int64_t hooks;
	bool look_for_lost; /* when the server is there again */
	bool restored; /* from a backup, at least once */
	char why[600]; /* the first violation; empty: none */
};

struct sim_result {
	uint64_t trace;
	int64_t hooks;
	char why[600];
};

/* Draws the actions of a seed. */
size_t schedule_draw(uint64_t seed, struct action **out);
/* Runs what is kept of them. */
void sim_run(uint64_t seed, struct action *actions, size_t n, bool verbose, struct sim_result *out);

/* Something passes by: time, and perhaps the next action. d: whose hook; NULL: a user's. */
void sim_hook(struct sim *s, struct device *d);
void sim_note(struct sim *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void sim_violation(struct sim *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static inline bool sim_failed(const struct sim *s)
{
	return s->why[0] != 0;
}

void user_edit(struct sim *s, struct device *d, uint64_t seed);
/* At a hook of the device: the program that writes on. */
void user_writes_on(struct sim *s, struct device *d);
void api_edit(struct sim *s, uint64_t seed);
void api_member(struct sim *s, int share, int user, const char *role);
void api_quota(struct sim *s, int64_t bytes);
void net_deliver_ghost(struct sim *s, size_t i);

/* When all is quiet: every device settles, then everything is compared. */
void oracle_quiet(struct sim *s);
/* After a restart: what was acknowledged is there. */
void oracle_acked(struct sim *s);
/* After a power failure or the restoring of a backup: what is nowhere any more is not asked for. */
/* Before a machine, or a backup, takes things away: only what is there now can be excused with that. */
void oracle_at_risk(struct sim *s);
void oracle_lost(struct sim *s);
/* A restore takes away the files that it does not know, and what was put into others. A content that such a file alone held may
 * still be in a history, where somebody had overwritten it. */
struct living {
	struct server_node *v;
	size_t n;
};
void oracle_before_restore(struct sim *s, struct living *out);
void oracle_after_restore(struct sim *s, const struct living *before);

/* Prints what is planned from where the trace stands until all is in step. 0, 1 when a check fails, 2 when the file is no
 * good. */
int trace_replay(const char *file);

#endif
