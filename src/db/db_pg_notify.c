#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/log.h"
#include "base/map.h"
#include "base/must.h"
#include "db/db_pg.h"

/* One thread with one connection of its own hears other nodes and speaks to them. NOTIFY inside a write transaction
 * would take a lock that all databases' commits share (it cost 82 % of the commit rate); here it costs nothing.
 * This process hears its own notices at once from db_notify, so what comes back from the server is skipped. */

#define CHANNEL "scaidrive_changes"
#define COALESCE_US 5000
#define PENDING_MAX 4096 /* tenants; while there is no connection more are dropped, since notices are hints */
#define PAYLOAD_MAX 7900 /* PostgreSQL takes less than 8,000 bytes */
#define BACKOFF_MIN_MS 100
#define BACKOFF_MAX_MS 5000

struct notifier {
	struct db *db;
	pthread_t thread;
	pthread_mutex_t lock;
	bool running, stop;
	int wake_fd;
	struct map pending; /* tenant_id -> this */
	PGconn *pg;
};

static void wake(struct notifier *n)
{
	uint64_t one = 1;
	if (write(n->wake_fd, &one, sizeof one) < 0)
		return; /* it is awake already */
}

static bool stopped(struct notifier *n)
{
	pthread_mutex_lock(&n->lock);
	bool stop = n->stop;
	pthread_mutex_unlock(&n->lock);
	return stop;
}

static bool run(struct notifier *n, const char *sql)
{
	PGresult *res = PQexec(n->pg, sql);
	ExecStatusType st = PQresultStatus(res);
	PQclear(res);
	return st == PGRES_COMMAND_OK || st == PGRES_TUPLES_OK;
}

static bool say(struct notifier *n)
{
	pthread_mutex_lock(&n->lock);
	struct map todo = n->pending;
	n->pending = (struct map){0};
	pthread_mutex_unlock(&n->lock);
	char sql[PAYLOAD_MAX + 64];
	size_t used = 0;
	bool good = true, more;
	uint64_t key;
	void *value;
	size_t i = 0;
	do {
		more = map_next(&todo, &i, &key, &value);
		if (used > PAYLOAD_MAX - 24 || (!more && used)) {
			snprintf(sql + used, sizeof sql - used, "'");
			good = good && run(n, sql);
			used = 0;
		}
		if (more && !used)
			used = (size_t)snprintf(sql, sizeof sql, "notify " CHANNEL ", '%lld", (long long)key);
		else if (more)
			used += (size_t)snprintf(sql + used, sizeof sql - used, ",%lld", (long long)key);
	} while (more);
	map_fini(&todo);
	return good;
}

static void hear(struct notifier *n)
{
	PGnotify *got;
	while ((got = PQnotifies(n->pg))) {
		struct str rest = str_c(got->extra);
		int64_t tenant_id;
		while (got->be_pid != PQbackendPID(n->pg) && rest.p)
			if (str_to_i64(str_cut(&rest, ','), &tenant_id) && n->db->on_notice)
				n->db->on_notice(n->db->notice_arg, tenant_id);
		PQfreemem(got);
	}
}

/* Until the connection is lost or the notifier stops. */
static void serve(struct notifier *n)
{
	while (!stopped(n) && PQstatus(n->pg) == CONNECTION_OK) {
		struct pollfd fds[2] = {{.fd = PQsocket(n->pg), .events = POLLIN}, {.fd = n->wake_fd, .events = POLLIN}};
		poll(fds, 2, -1);
		if (fds[0].revents && !PQconsumeInput(n->pg))
			return;
		if (fds[1].revents) {
			uint64_t count;
			usleep(COALESCE_US);
			if (read(n->wake_fd, &count, sizeof count) > 0 && !say(n))
				return;
		}
		hear(n);
	}
}

static void *notifier_main(void *arg)
{
	struct notifier *n = arg;
	int backoff_ms = BACKOFF_MIN_MS;
	pthread_setname_np(pthread_self(), "db-notify");
	while (!stopped(n)) {
		char why[400] = "";
		n->pg = pg_connect(n->db->url, DB_CONNECT_US, why);
		if (n->pg && run(n, "listen " CHANNEL)) {
			backoff_ms = BACKOFF_MIN_MS;
			wake(n); /* what was gathered meanwhile */
			serve(n);
		}
		if (!stopped(n)) {
			log_warn("database: the notifier lost its connection", LOG_C("why", n->pg ? PQerrorMessage(n->pg) : why));
			for (int slept_ms = 0; slept_ms < backoff_ms && !stopped(n); slept_ms += 50)
				usleep(50000);
			backoff_ms = backoff_ms * 2 < BACKOFF_MAX_MS ? backoff_ms * 2 : BACKOFF_MAX_MS;
		}
		PQfinish(n->pg);
		n->pg = NULL;
	}
	return NULL;
}

static void ensure_thread(struct notifier *n)
{
	pthread_mutex_lock(&n->lock);
	if (!n->running && !n->stop)
		n->running = db_thread(&n->thread, notifier_main, n) == 0;
	pthread_mutex_unlock(&n->lock);
}

int pg_start(struct db *db, char **why)
{
	struct notifier *n = calloc(1, sizeof *n);
	must(n != NULL);
	n->db = db;
	n->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	pthread_mutex_init(&n->lock, NULL);
	db->engine = n;
	if (n->wake_fd >= 0)
		return 0;
	db_why(why, "The database's notifier cannot be made.");
	return E_DB;
}

void pg_stop(struct db *db)
{
	struct notifier *n = db->engine;
	pthread_mutex_lock(&n->lock);
	n->stop = true;
	pthread_mutex_unlock(&n->lock);
	if (n->running) {
		wake(n);
		pthread_join(n->thread, NULL);
	}
	if (n->wake_fd >= 0)
		close(n->wake_fd);
	map_fini(&n->pending);
	pthread_mutex_destroy(&n->lock);
	free(n);
	db->engine = NULL;
}

void pg_listen(struct db *db)
{
	ensure_thread(db->engine);
}

void pg_notify(struct db *db, int64_t tenant_id)
{
	struct notifier *n = db->engine;
	if (db->on_notice)
		db->on_notice(db->notice_arg, tenant_id);
	ensure_thread(n);
	pthread_mutex_lock(&n->lock);
	if (n->pending.count < PENDING_MAX)
		map_put(&n->pending, (uint64_t)tenant_id, n);
	pthread_mutex_unlock(&n->lock);
	wake(n);
}
