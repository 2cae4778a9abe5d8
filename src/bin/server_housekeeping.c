/* The thread that calls drive/housekeeping.h: looks every minute whether a round is due, and at the start. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/must.h"
#include "bin/server.h"
#include "drive/housekeeping.h"
#include "http/metrics.h"

enum { LOOK_S = 60 };

struct housekeeper {
	struct drive *drive;
	struct counter *removed[HOUSEKEEPING_KINDS], *ok, *failed;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	_Atomic bool stopping;
};

static void look(struct housekeeper *h)
{
	struct housekeeping_round round;
	int64_t total = 0;
	int err = housekeeping_run(h->drive, &h->stopping, &round);
	for (int i = 0; i < HOUSEKEEPING_KINDS; i++) {
		counter_add(h->removed[i], (uint64_t)round.removed[i]);
		total += round.removed[i];
	}
	if (err)
		log_warn("housekeeping failed; it is tried again", LOG_C("why", err_info(err)->sentence));
	else if (total)
		log_info("housekeeping", LOG_I("rows", total));
	if (err || round.ran)
		counter_add(err ? h->failed : h->ok, 1);
}

static void *keep(void *arg)
{
	struct housekeeper *h = arg;
	pthread_mutex_lock(&h->lock);
	while (!h->stopping) {
		pthread_mutex_unlock(&h->lock);
		look(h);
		pthread_mutex_lock(&h->lock);
		struct timespec until;
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_sec += LOOK_S;
		while (!h->stopping && pthread_cond_timedwait(&h->wake, &h->lock, &until) != ETIMEDOUT)
			;
	}
	pthread_mutex_unlock(&h->lock);
	return NULL;
}

struct housekeeper *housekeeper_start(struct drive *drive, struct metrics *metrics)
{
	static const char name[] = "scaidrive_queue_jobs_processed_total", help[] = "Rounds of background work, by result.";
	struct housekeeper *h = calloc(1, sizeof *h);
	must(h);
	h->drive = drive;
	h->ok = metrics_counter(metrics, name, help, "queue=\"housekeeping\",result=\"ok\"");
	h->failed = metrics_counter(metrics, name, help, "queue=\"housekeeping\",result=\"error\"");
	for (int i = 0; i < HOUSEKEEPING_KINDS; i++) {
		char label[64];
		snprintf(label, sizeof label, "kind=\"%s\"", housekeeping_names[i]);
		h->removed[i] = metrics_counter(metrics, "scaidrive_housekeeping_removed_total",
		                                "Rows whose time was over.", label);
	}
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_mutex_init(&h->lock, NULL);
	pthread_cond_init(&h->wake, &attr);
	pthread_condattr_destroy(&attr);
	must(pthread_create(&h->thread, NULL, keep, h) == 0);
	return h;
}

void housekeeper_stop(struct housekeeper *h)
{
	if (!h)
		return;
	pthread_mutex_lock(&h->lock);
	h->stopping = true;
	pthread_cond_signal(&h->wake);
	pthread_mutex_unlock(&h->lock);
	pthread_join(h->thread, NULL);
	pthread_cond_destroy(&h->wake);
	pthread_mutex_destroy(&h->lock);
	free(h);
}
