/* sqlite_page: the rate at which SQLite alone reads pages of 1,000 change rows, the same rows and columns that
 * GET /api/v1/sync/changes sends. usage: sqlite_page DB SHARE_ID SECONDS; prints "pages rows cpu_seconds wall_seconds". */
#include <sqlite3.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double seconds(clockid_t id)
{
	struct timespec ts;
	clock_gettime(id, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	if (argc != 4)
		return 2;
	sqlite3 *db;
	sqlite3_stmt *st;
	if (sqlite3_open_v2(argv[1], &db, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX, NULL) != SQLITE_OK)
		return 1;
	sqlite3_exec(db, "pragma mmap_size=268435456", NULL, NULL, NULL);
	const char *sql = "select seq, resource_kind, resource_id, change_type, changed_by, changed_at, old_path, new_path,"
	                  " version_id, device_id, metadata, tenant_id from changes where share_id = ?1 and seq > ?2"
	                  " order by seq limit 1000";
	if (sqlite3_prepare_v2(db, sql, -1, &st, NULL) != SQLITE_OK) {
		fprintf(stderr, "%s\n", sqlite3_errmsg(db));
		return 1;
	}
	double wall = seconds(CLOCK_MONOTONIC), cpu = seconds(CLOCK_PROCESS_CPUTIME_ID), end = wall + atof(argv[3]);
	int64_t pages = 0, rows = 0, cursor = 0;
	volatile int64_t sink = 0;
	while (seconds(CLOCK_MONOTONIC) < end) {
		int64_t n = 0;
		sqlite3_bind_int64(st, 1, strtoll(argv[2], NULL, 10));
		sqlite3_bind_int64(st, 2, cursor);
		while (sqlite3_step(st) == SQLITE_ROW) {
			cursor = sqlite3_column_int64(st, 0);
			for (int i = 1; i < 12; i++) {
				if (i >= 6 && i != 8 && i != 11) {
					const unsigned char *text = sqlite3_column_text(st, i);
					sink += text ? text[0] + sqlite3_column_bytes(st, i) : 0;
				} else {
					sink += sqlite3_column_int64(st, i);
				}
			}
			n++;
		}
		sqlite3_reset(st);
		rows += n;
		if (n == 1000)
			pages++;
		else
			cursor = 0;
	}
	printf("%lld %lld %.6f %.6f\n", (long long)pages, (long long)rows, seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu,
	       seconds(CLOCK_MONOTONIC) - wall);
	sqlite3_finalize(st);
	sqlite3_close(db);
	return 0;
}
