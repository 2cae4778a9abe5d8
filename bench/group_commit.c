/* The least that acknowledging small uploads needs: bytes on the disk, and a row that names them, committed.
 *
 * usage: group_commit FOLDER THREADS SECONDS
 * THREADS clients hand 4 KiB and a row each to one writer and wait. The writer takes whoever waits, appends their bytes
 * to one file, syncs it once, inserts their rows into SQLite (WAL, synchronous FULL) in one transaction, and answers.
 * Prints: uploads, seconds, processor seconds, groups. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { SIZE = 4096, THREADS_MAX = 256 };

struct upload {
	struct upload *next;
	const char *bytes;
	bool done;
	pthread_cond_t wake;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t work = PTHREAD_COND_INITIALIZER;
static struct upload *queue, **tail = &queue;
static bool stop;
static atomic_bool over;
static atomic_long total;
static long groups;
static int file;
static sqlite3 *db;

static void need(bool good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "%s: %s\n", what, db ? sqlite3_errmsg(db) : "failed");
	exit(1);
}

static void *client(void *arg)
{
	char *bytes = malloc(SIZE);
	struct upload u = {.bytes = bytes, .wake = PTHREAD_COND_INITIALIZER};
	need(bytes != NULL, "memory");
	memset(bytes, (int)(intptr_t)arg, SIZE);
	while (!atomic_load(&over)) {
		u.done = false;
		u.next = NULL;
		pthread_mutex_lock(&lock);
		*tail = &u;
		tail = &u.next;
		pthread_cond_signal(&work);
		while (!u.done)
			pthread_cond_wait(&u.wake, &lock);
		pthread_mutex_unlock(&lock);
		atomic_fetch_add(&total, 1);
	}
	free(bytes);
	return NULL;
}

static void commit(struct upload *list, sqlite3_stmt *insert)
{
	static int64_t at;
	struct upload *u;
	int64_t place = at;
	for (u = list; u; u = u->next, at += SIZE)
		need(pwrite(file, u->bytes, SIZE, at) == SIZE, "write");
	need(fdatasync(file) == 0, "fdatasync");
	need(sqlite3_exec(db, "begin immediate", NULL, NULL, NULL) == SQLITE_OK, "begin");
	for (u = list; u; u = u->next, place += SIZE) {
		sqlite3_bind_int64(insert, 1, place);
		need(sqlite3_step(insert) == SQLITE_DONE, "insert");
		sqlite3_reset(insert);
	}
	need(sqlite3_exec(db, "commit", NULL, NULL, NULL) == SQLITE_OK, "commit");
	groups++;
}

static void *writer(void *arg)
{
	sqlite3_stmt *insert = arg;
	pthread_mutex_lock(&lock);
	for (;;) {
		while (!queue && !stop)
			pthread_cond_wait(&work, &lock);
		struct upload *list = queue;
		if (!list)
			break;
		queue = NULL;
		tail = &queue;
		pthread_mutex_unlock(&lock);
		commit(list, insert);
		pthread_mutex_lock(&lock);
		for (struct upload *u = list, *next; u; u = next) {
			next = u->next;
			u->done = true;
			pthread_cond_signal(&u->wake);
		}
	}
	pthread_mutex_unlock(&lock);
	return NULL;
}

static double seconds(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static double cpu(void)
{
	struct rusage r;
	getrusage(RUSAGE_SELF, &r);
	return (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) + (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e6;
}

int main(int argc, char **argv)
{
	char path[4096];
	sqlite3_stmt *insert;
	pthread_t w, c[THREADS_MAX];
	int n = argc == 4 ? (int)strtol(argv[2], NULL, 10) : 0;
	if (n < 1 || n > THREADS_MAX)
		return fprintf(stderr, "usage: group_commit FOLDER THREADS SECONDS\n"), 2;
	snprintf(path, sizeof path, "%s/bytes", argv[1]);
	file = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	need(file >= 0, path);
	snprintf(path, sizeof path, "%s/rows.db", argv[1]);
	need(sqlite3_open(path, &db) == SQLITE_OK, path);
	need(sqlite3_exec(db, "pragma journal_mode = wal; pragma synchronous = full;"
	                      "create table files (id integer primary key, place bigint not null)", NULL, NULL, NULL) == SQLITE_OK, "schema");
	need(sqlite3_prepare_v2(db, "insert into files (place) values (?1)", -1, &insert, NULL) == SQLITE_OK, "prepare");
	need(pthread_create(&w, NULL, writer, insert) == 0, "thread");
	double begin = seconds(), cpu0 = cpu();
	for (int i = 0; i < n; i++)
		need(pthread_create(&c[i], NULL, client, (void *)(intptr_t)i) == 0, "thread");
	usleep((useconds_t)(atof(argv[3]) * 1e6));
	atomic_store(&over, true);
	for (int i = 0; i < n; i++)
		pthread_join(c[i], NULL);
	double took = seconds() - begin, used = cpu() - cpu0;
	pthread_mutex_lock(&lock);
	stop = true;
	pthread_cond_signal(&work);
	pthread_mutex_unlock(&lock);
	pthread_join(w, NULL);
	printf("%ld %.6f %.6f %ld\n", atomic_load(&total), took, used, groups);
	sqlite3_finalize(insert);
	sqlite3_close(db);
	return 0;
}
