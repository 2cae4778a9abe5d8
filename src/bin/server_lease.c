/* Node numbers: rows "node:N" of leases, held for ten minutes and renewed every minute (D28). */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/log.h"
#include "bin/server.h"

enum { NUMBERS = 512, HELD_S = 600, RENEW_S = 60 };

struct node_lease {
	struct drive *drive;
	void (*lost)(void);
	char holder[33], name[16];
	int64_t number;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	bool stopping;
};

static int take_op(struct tx *tx, void *arg)
{
	struct node_lease *l = arg;
	int64_t now = clock_now(l->drive->clock), changed = 0;
	for (l->number = 0; l->number < NUMBERS; l->number++) {
		snprintf(l->name, sizeof l->name, "node:%d", (int)l->number);
		int err = tx_exec(tx,
		                  "insert into leases (name, holder, expires_at, value) values ($1, $2, $3, $4)"
		                  " on conflict (name) do update set holder = excluded.holder, expires_at = excluded.expires_at"
		                  " where leases.expires_at < $5",
		                  DB_ARGS(V_T(str_c(l->name)), V_T(str_c(l->holder)), V_I(now + SECONDS_US(HELD_S)),
		                          V_I(l->number), V_I(now)),
		                  &changed);
		if (err || changed)
			return err;
	}
	return E_BUSY;
}

static int renew_op(struct tx *tx, void *arg)
{
	struct node_lease *l = arg;
	int64_t changed = 0;
	int err = tx_exec(tx, "update leases set expires_at = $1 where name = $2 and holder = $3",
	                  DB_ARGS(V_I(clock_now(l->drive->clock) + SECONDS_US(HELD_S)), V_T(str_c(l->name)),
	                          V_T(str_c(l->holder))),
	                  &changed);
	return err ? err : changed ? 0 : E_NOT_FOUND;
}

static int drop_op(struct tx *tx, void *arg)
{
	struct node_lease *l = arg;
	return tx_exec(tx, "delete from leases where name = $1 and holder = $2",
	               DB_ARGS(V_T(str_c(l->name)), V_T(str_c(l->holder))), NULL);
}

static void *renew(void *arg)
{
	struct node_lease *l = arg;
	int64_t good = clock_mono(l->drive->clock);
	pthread_mutex_lock(&l->lock);
	while (!l->stopping) {
		struct timespec until;
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_sec += RENEW_S;
		while (!l->stopping && pthread_cond_timedwait(&l->wake, &l->lock, &until) != ETIMEDOUT)
			;
		if (l->stopping)
			break;
		pthread_mutex_unlock(&l->lock);
		int err = db_write(l->drive->db, 0, renew_op, l);
		int64_t now = clock_mono(l->drive->clock);
		if (!err)
			good = now;
		pthread_mutex_lock(&l->lock);
		if (err == E_NOT_FOUND || now - good > SECONDS_US(HELD_S - RENEW_S)) {
			l->lost();
			break;
		}
	}
	pthread_mutex_unlock(&l->lock);
	return NULL;
}

int node_lease_take(struct drive *drive, void (*lost)(void), struct node_lease **out, int64_t *number)
{
	uint8_t random[16];
	struct node_lease *l = calloc(1, sizeof *l);
	must(l);
	l->drive = drive;
	l->lost = lost;
	drive->rng->fill(drive->rng, random, sizeof random);
	hex_encode(random, sizeof random, l->holder);
	int err = db_write(drive->db, 0, take_op, l);
	if (err) {
		free(l);
		return err;
	}
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_mutex_init(&l->lock, NULL);
	pthread_cond_init(&l->wake, &attr);
	must(pthread_create(&l->thread, NULL, renew, l) == 0);
	*number = l->number;
	*out = l;
	return 0;
}

void node_lease_drop(struct node_lease *l)
{
	pthread_mutex_lock(&l->lock);
	l->stopping = true;
	pthread_cond_signal(&l->wake);
	pthread_mutex_unlock(&l->lock);
	pthread_join(l->thread, NULL);
	(void)db_write(l->drive->db, 0, drop_op, l);
	free(l);
}
