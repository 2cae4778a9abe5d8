/* sim [--first N] [--seeds N] [--seconds S] [--jobs J]: runs schedules and stops at the first that fails, which is shrunk.
 * --traces prints each one's, for comparing builds.
 * sim --seed N [--keep LIST] [--verbose]: replays one.
 * sim --trace FILE: plays on from where a real folder stood (trace.c). */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/must.h"
#include "base/mutant.h"
#include "sim.h"

struct options {
	uint64_t first, seeds;
	int64_t seconds;
	int jobs;
	bool one, verbose, no_shrink, go_on, mutants, no_twice, traces;
	const char *keep, *replays, *trace;
};

enum { PROGRESS = 10000 };

static uint64_t at_work; /* for the handler */
static volatile sig_atomic_t enough;

static void on_term(int sig)
{
	(void)sig;
	enough = 1;
}

static void on_death(int sig)
{
	char text[120];
	int n = snprintf(text, sizeof(text), "sim: the product ended by signal %d; replay: sim --seed %llu\n", sig, (unsigned long long)at_work);
	if (write(2, text, (size_t)n) < 0)
		_exit(3);
	_exit(2);
}

/* "1,4-7": which actions stay. */
static void keep_only(struct action *v, size_t n, const char *list)
{
	for (size_t i = 0; i < n; i++)
		v[i].kept = false;
	for (const char *p = list; *p;) {
		char *end;
		unsigned long a = strtoul(p, &end, 10), b = a;
		if (*end == '-')
			b = strtoul(end + 1, &end, 10);
		for (; a <= b && a < n; a++)
			v[a].kept = true;
		p = *end == ',' ? end + 1 : end + strlen(end);
	}
}

static void print_kept(const struct action *v, size_t n, FILE *to)
{
	const char *comma = "";
	for (size_t i = 0; i < n; i++) {
		size_t k = i;
		if (!v[i].kept)
			continue;
		while (k + 1 < n && v[k + 1].kept)
			k++;
		if (k > i)
			fprintf(to, "%s%zu-%zu", comma, i, k);
		else
			fprintf(to, "%s%zu", comma, i);
		comma = ",";
		i = k;
	}
}

/* 1..199: violations of one kind, whatever their names and numbers. */
static int kind_of(const char *why)
{
	char text[600];
	size_t n = 0;
	bool quoted = false;
	for (; *why; why++) {
		quoted ^= *why == '"';
		if (!quoted && !(*why >= '0' && *why <= '9'))
			text[n++] = *why;
	}
	return 1 + (int)(xxh3_64(text, n < 24 ? n : 24) % 199);
}

/* Ends a process that runs in circles, however busy the machine is. */
static void end_after(int cpu_seconds)
{
	struct itimerval t = {.it_value.tv_sec = cpu_seconds};
	must(setitimer(ITIMER_VIRTUAL, &t, NULL) == 0);
}

/* Whether it still fails in this way; 0: in any. In a process of its own: what aborts, fails. */
static bool fails(uint64_t seed, struct action *v, size_t n, int kind)
{
	fflush(stdout);
	pid_t pid = fork();
	must(pid >= 0);
	if (pid == 0) {
		struct sim_result r;
		if (!freopen("/dev/null", "w", stderr))
			_exit(3);
		end_after(20);
		sim_run(seed, v, n, false, &r);
		_exit(r.why[0] ? kind_of(r.why) : 0);
	}
	int status = 0;
	waitpid(pid, &status, 0);
	return kind ? WIFEXITED(status) && WEXITSTATUS(status) == kind : status != 0;
}

/* Leaves out ever smaller parts while it still fails (delta debugging, Zeller and Hildebrandt 2002). */
static void shrink(uint64_t seed, struct action *v, size_t n, int kind)
{
	bool *before = malloc(n * sizeof(*before));
	must(before != NULL);
	for (size_t part = n / 2; part > 0;) {
		bool less = false;
		for (size_t at = 0; at < n; at += part) {
			bool any = false;
			for (size_t i = at; i < n && i < at + part; i++) {
				before[i] = v[i].kept;
				any |= v[i].kept;
				v[i].kept = false;
			}
			if (any && fails(seed, v, n, kind)) {
				less = true;
				continue;
			}
			for (size_t i = at; i < n && i < at + part; i++)
				v[i].kept = before[i];
		}
		part = less && part == 1 ? 1 : part / 2;
	}
	free(before);
}

static int report(uint64_t seed, struct action *v, size_t n, const char *why, bool shrinking)
{
	printf("sim: seed %llu: %s\n", (unsigned long long)seed, why);
	if (shrinking && fails(seed, v, n, kind_of(why)))
		shrink(seed, v, n, kind_of(why));
	printf("replay: sim --seed %llu --keep ", (unsigned long long)seed);
	print_kept(v, n, stdout);
	printf(" --verbose\n");
	fflush(stdout);
	return 1;
}

static int run_seed(uint64_t seed, const struct options *o)
{
	struct action *v;
	struct sim_result r, again;
	size_t n = schedule_draw(seed, &v);
	int code = 0;
	at_work = seed;
	if (o->keep)
		keep_only(v, n, o->keep);
	sim_run(seed, v, n, o->verbose, &r);
	if (!r.why[0] && seed % 100 == 0 && !o->no_twice) {
		sim_run(seed, v, n, false, &again);
		if (again.trace != r.trace)
			snprintf(r.why, sizeof(r.why), "the same seed ran in two ways");
	}
	if (r.why[0])
		code = report(seed, v, n, r.why, !o->no_shrink && !o->keep);
	else if (o->one || o->traces)
		printf("sim: seed %llu holds: %lld hooks, trace %016llx\n", (unsigned long long)seed, (long long)r.hooks, (unsigned long long)r.trace);
	free(v);
	return code;
}

static void tell_rate(const struct options *o, int job, uint64_t done, int64_t begin, const char *when)
{
	double seconds = (double)(clock_mono(&clock_system) - begin) / 1e6;
	printf("sim: %llu schedules %s in %.1f s, %.0f/s, from %llu, every %d.\n", (unsigned long long)done, when, seconds, (double)done / seconds,
	       (unsigned long long)(o->first + (uint64_t)job), o->jobs);
	fflush(stdout);
}

/* SIGTERM ends it behind the schedule that runs. */
static int run_many(const struct options *o, int job)
{
	int64_t begin = clock_mono(&clock_system), until = o->seconds ? begin + SECONDS_US(o->seconds) : INT64_MAX;
	uint64_t done = 0;
	int code = 0;
	signal(SIGTERM, on_term);
	for (uint64_t i = (uint64_t)job; i < o->seeds && clock_mono(&clock_system) < until && !enough && (!code || o->go_on); i += (uint64_t)o->jobs) {
		code |= run_seed(o->first + i, o);
		if (++done % PROGRESS == 0)
			tell_rate(o, job, done, begin, "so far");
	}
	tell_rate(o, job, done, begin, "done");
	return code;
}

static int run_jobs(const struct options *o)
{
	int code = 0, status;
	fflush(stdout);
	for (int j = 0; j < o->jobs; j++) {
		pid_t pid = fork();
		must(pid >= 0);
		if (pid == 0)
			_exit((run_many(o, j) ? 1 : 0) | (fflush(stdout) ? 1 : 0));
	}
	for (int j = 0; j < o->jobs; j++) {
		wait(&status);
		code |= status != 0;
	}
	return code;
}

/* ---- seeded bugs (base/mutant.h) ---- */

#ifdef SD_MUTANTS
/* The first seed from o->first on that sees the bug, and what it says; false: none of o->seeds did, or the time is over. */
static bool caught(enum mutant_name bug, const struct options *o, uint64_t *tries, char why[600])
{
	int to[2];
	struct {
		uint64_t tries;
		char why[600];
	} said = {0};
	must(pipe(to) == 0);
	fflush(NULL);
	pid_t pid = fork();
	must(pid >= 0);
	if (pid == 0) {
		int64_t until = clock_mono(&clock_system) + SECONDS_US(o->seconds ? o->seconds : 600);
		bool hit = false;
		mutant_on = bug;
		must(freopen("/dev/null", "w", stderr) != NULL);
		for (uint64_t i = 0; !hit && i < o->seeds && clock_mono(&clock_system) < until; i++) {
			struct action *v;
			struct sim_result r;
			size_t n = schedule_draw(o->first + i, &v);
			said.tries = i + 1;
			snprintf(said.why, sizeof(said.why), "the process ends");
			must(write(to[1], &said, sizeof(said)) > 0);
			end_after(30);
			sim_run(o->first + i, v, n, false, &r);
			hit = r.why[0];
			memcpy(said.why, r.why, sizeof(said.why));
			must(write(to[1], &said, sizeof(said)) > 0);
			free(v);
		}
		_exit(hit ? 1 : 0);
	}
	close(to[1]);
	while (read(to[0], &said, sizeof(said)) == (ssize_t)sizeof(said))
		;
	close(to[0]);
	int status = 0;
	waitpid(pid, &status, 0);
	*tries = said.tries;
	memcpy(why, said.why, sizeof(said.why));
	return status != 0;
}

static bool choose_mutant(const char *label)
{
	for (enum mutant_name bug = M_NONE + 1; bug < M_COUNT; bug++)
		if (strcmp(label, mutant_label(bug)) == 0)
			mutant_on = bug;
	return mutant_on != M_NONE;
}

static int run_mutants(const struct options *o)
{
	int missed = 0;
	for (enum mutant_name bug = M_NONE + 1; bug < M_COUNT; bug++) {
		uint64_t tries;
		char why[600];
		if (o->keep && !strstr(mutant_label(bug), o->keep))
			continue;
		bool hit = caught(bug, o, &tries, why);
		missed += !hit;
		printf("| `%s` | %s | %s | %llu |\n", mutant_label(bug), mutant_bug(bug), hit ? why : "**not seen**", (unsigned long long)tries);
		fflush(stdout);
	}
	return missed ? 1 : 0;
}
#else
static bool choose_mutant(const char *label)
{
	return !label;
}

static int run_mutants(const struct options *o)
{
	(void)o;
	fprintf(stderr, "sim: a release build has no seeded bugs; set one up with -Dbuildtype=debugoptimized\n");
	return 2;
}
#endif

/* Lines "SEED LIST": schedules that failed once. */
static int run_replays(struct options *o)
{
	char line[4096];
	int code = 0, n = 0;
	FILE *f = fopen(o->replays, "r");
	if (!f) {
		perror(o->replays);
		return 2;
	}
	while (fgets(line, sizeof(line), f)) {
		char *rest;
		uint64_t seed = strtoull(line, &rest, 10);
		if (rest == line)
			continue; /* a remark */
		rest += strspn(rest, " ");
		rest[strcspn(rest, " \n")] = 0;
		o->keep = *rest ? rest : NULL;
		code |= run_seed(seed, o);
		n++;
	}
	fclose(f);
	printf("sim: %d schedules that failed once\n", n);
	return code;
}

static bool parse(int argc, char **argv, struct options *o)
{
	for (int i = 1; i < argc; i++) {
		const char *a = argv[i], *value = i + 1 < argc ? argv[i + 1] : "";
		if (!strcmp(a, "--verbose"))
			o->verbose = true;
		else if (!strcmp(a, "--no-shrink"))
			o->no_shrink = true;
		else if (!strcmp(a, "--go-on"))
			o->go_on = true;
		else if (!strcmp(a, "--traces"))
			o->traces = true;
		else if (!strcmp(a, "--mutants"))
			o->mutants = true;
		else if (i + 1 == argc)
			return false;
		else if (++i && !strcmp(a, "--seed"))
			o->one = true, o->first = strtoull(value, NULL, 10);
		else if (!strcmp(a, "--first"))
			o->first = strtoull(value, NULL, 10);
		else if (!strcmp(a, "--seeds"))
			o->seeds = strtoull(value, NULL, 10);
		else if (!strcmp(a, "--seconds"))
			o->seconds = strtoll(value, NULL, 10), o->seeds = 100000000;
		else if (!strcmp(a, "--jobs"))
			o->jobs = (int)strtol(value, NULL, 10);
		else if (!strcmp(a, "--keep"))
			o->keep = value;
		else if (!strcmp(a, "--mutant") && choose_mutant(value))
			o->no_twice = true;
		else if (!strcmp(a, "--replays"))
			o->replays = value;
		else if (!strcmp(a, "--trace"))
			o->trace = value;
		else
			return false;
	}
	return o->jobs > 0;
}

int main(int argc, char **argv)
{
	struct options o = {.first = 1, .seeds = 2000, .jobs = 1};
	if (!parse(argc, argv, &o)) {
		fprintf(stderr, "usage: sim [--first N] [--seeds N] [--seconds S] [--jobs J] [--traces] [--go-on] [--no-shrink] [--mutant NAME]\n"
		                "       sim --seed N [--keep LIST] [--verbose]\n       sim --replays FILE | --trace FILE\n"
		                "       sim --mutants [--keep PART_OF_A_NAME] [--seconds S]\n");
		return 2;
	}
	signal(SIGABRT, on_death);
	signal(SIGSEGV, on_death);
	if (o.trace)
		return trace_replay(o.trace);
	server_make_template();
	if (o.mutants)
		return run_mutants(&o);
	if (o.replays)
		return run_replays(&o);
	if (o.one)
		return run_seed(o.first, &o);
	return o.jobs > 1 ? run_jobs(&o) : run_many(&o, 0);
}
