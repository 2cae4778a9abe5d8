#include "io/logsink.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/must.h"

enum { BATCH = 64 << 10, PENDING_MAX = 4 << 20, PERIOD_MS = 100 };

static struct {
	pthread_mutex_t lock, writing; /* writing: held by who writes a batch, taken before lock */
	pthread_cond_t ready;
	pthread_t thread;
	struct buf pending;
	uint64_t dropped;
	int fd;
	bool open, urgent;
} sink = {.lock = PTHREAD_MUTEX_INITIALIZER, .writing = PTHREAD_MUTEX_INITIALIZER, .ready = PTHREAD_COND_INITIALIZER};

/* A log that cannot be written is no reason to stop: what fails is lost. */
static void write_all(int fd, const char *p, size_t n)
{
	while (n) {
		ssize_t done = write(fd, p, n);
		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return;
		p += done;
		n -= (size_t)done;
	}
}

void logsink_flush(void)
{
	struct buf batch = {0};
	char note[96];
	int note_n = 0;
	pthread_mutex_lock(&sink.writing);
	pthread_mutex_lock(&sink.lock);
	batch = sink.pending;
	sink.pending = (struct buf){0};
	if (sink.dropped)
		note_n = snprintf(note, sizeof note, "{\"level\":\"warn\",\"msg\":\"log lines dropped\",\"count\":%llu}\n",
		                  (unsigned long long)sink.dropped);
	sink.dropped = 0;
	sink.urgent = false;
	int fd = sink.fd;
	pthread_mutex_unlock(&sink.lock);
	write_all(fd, batch.p, batch.n);
	if (note_n > 0)
		write_all(fd, note, (size_t)note_n);
	buf_clear(&batch);
	pthread_mutex_lock(&sink.lock);
	if (!sink.pending.p && batch.cap <= 2 * BATCH) {
		sink.pending = batch; /* the memory serves again */
		batch = (struct buf){0};
	}
	pthread_mutex_unlock(&sink.lock);
	pthread_mutex_unlock(&sink.writing);
	buf_fini(&batch);
}

static void *run(void *arg)
{
	(void)arg;
	pthread_mutex_lock(&sink.lock);
	while (sink.open) {
		if (!sink.pending.n && !sink.dropped) { /* nothing to do: no wake-ups on an idle server */
			pthread_cond_wait(&sink.ready, &sink.lock);
			if (!sink.open)
				break;
		}
		if (!sink.urgent && sink.pending.n < BATCH) {
			struct timespec until;
			clock_gettime(CLOCK_REALTIME, &until);
			until.tv_nsec += PERIOD_MS * 1000000L;
			if (until.tv_nsec >= 1000000000L) {
				until.tv_sec++;
				until.tv_nsec -= 1000000000L;
			}
			pthread_cond_timedwait(&sink.ready, &sink.lock, &until);
		}
		pthread_mutex_unlock(&sink.lock);
		logsink_flush();
		pthread_mutex_lock(&sink.lock);
	}
	pthread_mutex_unlock(&sink.lock);
	return NULL;
}

static void on_line(const char *line, size_t n)
{
	pthread_mutex_lock(&sink.lock);
	size_t before = sink.pending.n;
	if (before + n > PENDING_MAX)
		sink.dropped++;
	else
		buf_put(&sink.pending, line, n);
	bool error = memmem(line, n < 80 ? n : 80, "\"level\":\"error\"", 15) != NULL;
	sink.urgent |= error;
	bool wake = before == 0 || error || (before < BATCH && sink.pending.n >= BATCH);
	if (wake)
		pthread_cond_signal(&sink.ready);
	pthread_mutex_unlock(&sink.lock);
}

void logsink_open(int fd, enum log_level least)
{
	must(!sink.open);
	sink.fd = fd;
	sink.open = true;
	must(pthread_create(&sink.thread, NULL, run, NULL) == 0);
	pthread_setname_np(sink.thread, "log");
	log_set(on_line, least);
}

void logsink_close(void)
{
	if (!sink.open)
		return;
	log_set(NULL, LOG_ERROR);
	pthread_mutex_lock(&sink.lock);
	sink.open = false;
	pthread_cond_signal(&sink.ready);
	pthread_mutex_unlock(&sink.lock);
	pthread_join(sink.thread, NULL);
	logsink_flush();
	buf_fini(&sink.pending);
}
