/* The synced folder on a real disk: nothing leaves it, nothing that changed meanwhile is overwritten. Everything runs twice:
 * with openat2 and renameat2, and in a process where a seccomp filter takes them away. */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "client/root.h"

static char base[64], top[96], outside[96];
static struct arena arena;
static struct ctx ctx;
static struct root *root;
static bool may_mount;
static const struct root_mark mark = {.id = STR("me"), .share = STR("shr_1"), .server = STR("http://a")};

static const char *in(const char *name)
{
	return arena_fmt(&arena, "%s/%s", top, name).p;
}

static void put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	assert_true(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	close(fd);
}

static const char *get(const char *path)
{
	static char text[64];
	int fd = open(path, O_RDONLY);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
	if (fd >= 0)
		close(fd);
	text[n < 0 ? 0 : n] = 0;
	return n < 0 ? "(none)" : text;
}

static int setup(void **s)
{
	(void)s;
	snprintf(base, sizeof base, "/tmp/scaidrive-root-XXXXXX");
	assert_non_null(mkdtemp(base));
	snprintf(top, sizeof top, "%s/top", base);
	snprintf(outside, sizeof outside, "%s/outside", base);
	assert_int_equal(mkdir(outside, 0700), 0);
	arena_init(&arena);
	ctx_init(&ctx, &arena, &clock_system, &rng_system);
	return root_open(&ctx, top, true, &mark, &root);
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
	(void)st, (void)kind, (void)at;
	return remove(path);
}

static int teardown(void **s)
{
	(void)s;
	root_free(root);
	arena_fini(&arena);
	return nftw(base, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static struct root_entry look(const char *name)
{
	struct root_entry e;
	assert_int_equal(root->ops->stat(root, &ctx, str_c(name), &e), 0);
	return e;
}

static int write_file(const char *name, const struct disk_stamp *assumed, const char *text, struct root_entry *out)
{
	struct root_stage *stage;
	ctx_clear(&ctx);
	assert_int_equal(root->ops->stage(root, &ctx, &stage), 0);
	assert_int_equal(root->ops->stage_write(stage, text, strlen(text)), 0);
	return root->ops->stage_commit(stage, &ctx, str_c(name), assumed, 1000000, false, out);
}

static bool staging_is_empty(void)
{
	bool empty = true;
	for (int i = 0; i < 32; i++) {
		const char *room = in(arena_fmt(&arena, ".scaidrive/staging/%c", i < 10 ? '0' + i : 'a' + i - 10).p);
		empty = empty && rmdir(room) == 0 && mkdir(room, 0700) == 0;
	}
	return empty;
}

/* Every operation on a path that leads outside, or is no path, fails, and outside stays as it was. */
static void refuse(const char *path)
{
	struct root_entry e, *list;
	struct root_file *file;
	struct disk_stamp any = {0};
	size_t n;
	struct str p = str_c(path);
	put(arena_fmt(&arena, "%s/victim", outside).p, "safe");
	put(in("mine"), "mine");
	struct root_entry mine = look("mine");
#define REFUSED(call) (ctx_clear(&ctx), assert_int_not_equal((call), 0))
	REFUSED(root->ops->open(root, &ctx, p, &file, &e));
	REFUSED(root->ops->list(root, &ctx, p, &list, &n));
	REFUSED(write_file(path, NULL, "evil", &e));
	REFUSED(write_file(path, &any, "evil", &e));
	REFUSED(root->ops->rename(root, &ctx, STR("mine"), &mine.stamp, p, &e));
	REFUSED(root->ops->rename(root, &ctx, p, &any, STR("taken"), &e));
	REFUSED(root->ops->trash(root, &ctx, p, &any, STR("today")));
	REFUSED(root->ops->remove_folder(root, &ctx, p, &any));
	REFUSED(root->ops->set_mode(root, &ctx, p, &any, true, &e));
	REFUSED(root->ops->make_folder(root, &ctx, p, &e));
	assert_string_equal(get(arena_fmt(&arena, "%s/victim", outside).p), "safe");
	assert_string_equal(get(in("mine")), "mine");
}

static void escapes(void **s)
{
	(void)s;
	assert_int_equal(mkdir(in("d"), 0755), 0);
	assert_int_equal(symlink("../outside", in("link")), 0);
	assert_int_equal(symlink("../../outside", in("d/link")), 0);
	assert_int_equal(symlink(outside, in("abs")), 0);
	assert_int_equal(symlink("/proc/self/root", in("magic")), 0);
	static const char *const paths[] = {"link/victim", "d/link/victim", "abs/victim",  "magic/etc/hostname", "../outside/victim",
	                                    "d/../../outside/victim", "..", ".", "", "/etc/hostname", "d/..", "d/.", "d//"};
	for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
		if (*paths[i])
			refuse(paths[i]);
	struct root_entry e;
	assert_int_equal(root->ops->stat(root, &ctx, STR("link"), &e), 0);
	assert_int_equal(e.kind, ENTRY_OTHER);
	struct root_file *file;
	assert_int_not_equal(root->ops->open(root, &ctx, STR("link"), &file, &e), 0);
}

/* The folder that held the file when it was looked at is a link when it is written. */
static void parents_that_are_swapped(void **s)
{
	(void)s;
	struct root_entry e;
	assert_int_equal(mkdir(in("d"), 0755), 0);
	put(in("d/victim"), "old");
	e = look("d/victim");
	assert_int_equal(rename(in("d"), in("was")), 0);
	assert_int_equal(symlink(outside, in("d")), 0);
	put(arena_fmt(&arena, "%s/victim", outside).p, "safe");
	assert_int_not_equal(write_file("d/victim", &e.stamp, "evil", &e), 0);
	assert_int_not_equal(write_file("d/new", NULL, "evil", &e), 0);
	ctx_clear(&ctx);
	assert_int_not_equal(root->ops->trash(root, &ctx, STR("d/victim"), &e.stamp, STR("t")), 0);
	assert_string_equal(get(arena_fmt(&arena, "%s/victim", outside).p), "safe");
	assert_string_equal(get(in("was/victim")), "old");
	assert_int_equal(access(arena_fmt(&arena, "%s/new", outside).p, F_OK), -1);
	assert_true(staging_is_empty());
}

static void mount_points(void **s)
{
	(void)s;
	if (!may_mount)
		skip();
	assert_int_equal(mkdir(in("m"), 0755), 0);
	if (mount("none", in("m"), "tmpfs", 0, "size=64k"))
		skip();
	put(in("m/file"), "x");
	struct root_entry e = look("m"), *list;
	size_t n;
	assert_int_equal(e.kind, ENTRY_OTHER);
	assert_int_not_equal(root->ops->list(root, &ctx, STR("m"), &list, &n), 0);
	assert_int_not_equal(write_file("m/new", NULL, "evil", &e), 0);
	assert_int_equal(umount(in("m")), 0);
}

static void writing(void **s)
{
	(void)s;
	struct root_entry e, f, g;
	assert_int_equal(write_file("a", NULL, "one", &e), 0);
	assert_true(e.kind == ENTRY_FILE && e.stamp.size_bytes == 3 && e.stamp.mtime_ns == 1000000000);
	assert_int_equal(write_file("a", NULL, "two", &f), E_CONFLICT); /* something is there */
	assert_string_equal(get(in("a")), "one");
	assert_int_equal(write_file("a", &e.stamp, "three", &f), 0);
	assert_string_equal(get(in("a")), "three");
	int writer = open(in("a"), O_WRONLY | O_APPEND); /* what it writes later must not go into a file without a name */
	assert_true(writer >= 0);
	assert_int_equal(write_file("a", &f.stamp, "3 1/2", &g), E_CHANGED);
	assert_string_equal(get(in("a")), "three");
	close(writer);
	assert_int_equal(write_file("a", &e.stamp, "four", &f), E_CHANGED); /* of an older look */
	put(in("a"), "by hand");
	assert_int_equal(write_file("a", &f.stamp, "five", &f), E_CHANGED);
	assert_int_equal(unlink(in("a")), 0);
	assert_int_equal(write_file("a", &f.stamp, "six", &f), E_CHANGED); /* gone */
	assert_int_equal(access(in("a"), F_OK), -1);
	assert_int_equal(mkdir(in("a"), 0755), 0);
	assert_int_equal(write_file("a", &f.stamp, "seven", &f), E_CHANGED); /* a folder now */
	assert_true(staging_is_empty());
}

/* Parts of a file, on a boundary of blocks and off it, more than a piece of the copying. */
static void copying(void **s)
{
	enum { SIZE = (9 << 20) + 77 };
	(void)s;
	struct root_stage *stage;
	struct root_file *from;
	struct root_entry e;
	char *bytes = malloc(SIZE), *got = malloc(SIZE);
	assert_true(bytes && got);
	for (uint32_t i = 0, x = 1; i < SIZE; i++)
		bytes[i] = (char)((x = x * 1664525 + 1013904223) >> 24);
	int fd = open(in("from"), O_RDWR | O_CREAT, 0644);
	assert_true(fd >= 0 && write(fd, bytes, SIZE) == SIZE);
	assert_int_equal(root->ops->open(root, &ctx, STR("from"), &from, &e), 0);
	assert_int_equal(root->ops->stage(root, &ctx, &stage), 0);
	struct sha256_state *sha = sha256_new();
	sha256_update(sha, "x", 1);
	assert_int_equal(root->ops->stage_write(stage, "x", 1), 0);
	assert_int_equal(root->ops->stage_copy(stage, from, 10, 5000, sha), 0);
	assert_int_equal(root->ops->stage_copy(stage, from, 0, SIZE - 5001, sha), 0);
	assert_int_equal(root->ops->stage_copy(stage, from, SIZE, 0, sha), 0);
	assert_int_equal(root->ops->stage_commit(stage, &ctx, STR("to"), NULL, 0, false, &e), 0);
	close(fd);
	assert_true((fd = open(in("to"), O_RDONLY)) >= 0 && read(fd, got, SIZE) == SIZE);
	assert_true(got[0] == 'x' && !memcmp(got + 1, bytes + 10, 5000) && !memcmp(got + 5001, bytes, SIZE - 5001));
	struct sha256 said = sha256_final(sha), is = sha256_of(got, SIZE);
	assert_memory_equal(&said, &is, sizeof is);
	assert_int_equal(root->ops->stage(root, &ctx, &stage), 0);
	assert_int_equal(root->ops->stage_copy(stage, from, SIZE - 5, 6, sha), E_CHANGED);
	root->ops->stage_abort(stage);
	assert_true(staging_is_empty());
	close(fd);
	root->ops->close(from);
	sha256_free(sha);
	free(bytes);
	free(got);
}

static void is_written(void **s)
{
	(void)s;
	struct root_file *f;
	struct root_entry e;
	put(in("a"), "a");
	assert_int_equal(root->ops->open(root, &ctx, STR("a"), &f, &e), 0);
	assert_false(root->ops->is_written(f));
	int fd = open(in("a"), O_WRONLY | O_APPEND | O_NONBLOCK); /* nothing of ours is in its way */
	assert_true(fd >= 0);
	bool written = root->ops->is_written(f);
	close(fd);
	assert_true(written || getuid() != 0);
	assert_false(root->ops->is_written(f));
	root->ops->close(f);
}

static void moving(void **s)
{
	(void)s;
	struct root_entry e, f;
	put(in("a"), "a");
	put(in("b"), "b");
	assert_int_equal(mkdir(in("d"), 0755), 0);
	e = look("a");
	assert_int_equal(root->ops->rename(root, &ctx, STR("a"), &e.stamp, STR("b"), &f), E_CONFLICT);
	ctx_clear(&ctx);
	assert_int_equal(root->ops->rename(root, &ctx, STR("b"), &e.stamp, STR("c"), &f), E_CHANGED);
	ctx_clear(&ctx);
	struct disk_stamp older = e.stamp; /* of a file that is gone, whose inode was used again */
	older.birth_ns -= 1000000;
	if (e.stamp.birth_ns)
		assert_int_equal(root->ops->rename(root, &ctx, STR("a"), &older, STR("c"), &f), E_CHANGED);
	ctx_clear(&ctx);
	assert_int_equal(root->ops->rename(root, &ctx, STR("a"), &e.stamp, STR("d/c"), &f), 0);
	assert_true(f.stamp.ino == e.stamp.ino);
	assert_string_equal(get(in("d/c")), "a");
	assert_string_equal(get(in("b")), "b");
	e = look("d");
	assert_int_equal(root->ops->remove_folder(root, &ctx, STR("d"), &e.stamp), E_CONFLICT);
	ctx_clear(&ctx);
	assert_int_equal(root->ops->rename(root, &ctx, STR("d"), &e.stamp, STR("e"), &f), 0);
	assert_string_equal(get(in("e/c")), "a");
}

static void trash(void **s)
{
	(void)s;
	struct root_entry e;
	for (int i = 0; i < 3; i++) {
		assert_true(i || mkdir(in("d"), 0755) == 0);
		put(in("d/x"), i ? "again" : "first");
		e = look("d/x");
		assert_int_equal(root->ops->trash(root, &ctx, STR("d/x"), &e.stamp, STR("2026-11-21")), 0);
	}
	assert_string_equal(get(in(".scaidrive/trash/2026-11-21/d/x")), "first");
	assert_string_equal(get(in(".scaidrive/trash/2026-11-21/d/x~2")), "again");
	assert_string_equal(get(in(".scaidrive/trash/2026-11-21/d/x~3")), "again");
	/* A folder has the name that a file had. */
	assert_true(unlink(in("d/x")) == 0 || errno == ENOENT);
	assert_int_equal(mkdir(in("d/x"), 0755), 0);
	put(in("d/x/y"), "below");
	e = look("d/x/y");
	assert_int_equal(root->ops->trash(root, &ctx, STR("d/x/y"), &e.stamp, STR("2026-11-21")), 0);
	assert_string_equal(get(in(".scaidrive/trash/2026-11-21/d/x~4/y")), "below");
	assert_int_equal(rmdir(in("d/x")), 0);
	put(in("d/x"), "new");
	assert_int_equal(root->ops->trash(root, &ctx, STR("d/x"), &e.stamp, STR("t")), E_CHANGED);
	assert_string_equal(get(in("d/x")), "new");
}

static void modes(void **s)
{
	(void)s;
	struct root_entry e;
	put(in("x"), "x");
	assert_int_equal(chmod(in("x"), 0640), 0);
	assert_false(root->modeless);
	e = look("x");
	assert_int_equal(root->ops->set_mode(root, &ctx, STR("x"), &e.stamp, true, &e), 0);
	struct stat st;
	assert_int_equal(stat(in("x"), &st), 0);
	assert_int_equal(st.st_mode & 0777, 0750);
	assert_true(e.executable);
	assert_int_equal(root->ops->set_mode(root, &ctx, STR("x"), &e.stamp, false, &e), 0);
	assert_int_equal(stat(in("x"), &st), 0);
	assert_int_equal(st.st_mode & 0777, 0640);
	struct disk_stamp old = e.stamp;
	put(in("x"), "changed");
	assert_int_equal(root->ops->set_mode(root, &ctx, STR("x"), &old, true, &e), E_CHANGED);
}

static int reopen(bool fresh, const char *id, const char *share, const char *server)
{
	struct root_mark other = {str_c(id), str_c(share), str_c(server)};
	root_free(root);
	root = NULL;
	ctx_clear(&ctx);
	return root_open(&ctx, top, fresh, &other, &root);
}

static void markers(void **s)
{
	(void)s;
	struct root *second;
	assert_int_equal(root_open(&ctx, top, false, &mark, &second), E_LEASE);
	assert_int_equal(root->ops->check(root, &ctx), 0);
	assert_int_equal(reopen(false, "me", "shr_1", "http://a"), 0);
	assert_int_equal(reopen(false, "me", "shr_1", "https://moved"), 0);
	assert_int_equal(reopen(false, "you", "shr_1", "https://moved"), E_CONFLICT); /* has been synced elsewhere before */
	assert_int_equal(reopen(true, "you", "shr_2", "https://moved"), E_CONFLICT);
	assert_int_equal(reopen(true, "you", "shr_1", "http://a"), E_CONFLICT);
	assert_int_equal(reopen(true, "you", "shr_1", "https://moved"), 0); /* of a lost state */
	assert_int_equal(reopen(false, "me", "shr_1", "https://moved"), E_CONFLICT);
	assert_int_equal(reopen(false, "you", "shr_1", "https://moved"), 0);
	assert_int_equal(root->generation, 0);
	assert_int_equal(root->ops->set_generation(root, &ctx, 7), 0);
	assert_int_equal(reopen(false, "you", "shr_1", "https://moved"), 0);
	assert_int_equal(root->generation, 7);
	assert_int_equal(reopen(false, "you", "shr_1", "https://again"), 0); /* the server's address is not the state's age */
	assert_int_equal(root->generation, 7);
	assert_int_equal(reopen(true, "he", "shr_1", "https://again"), 0); /* another state begins anew */
	assert_int_equal(root->generation, 0);
	assert_int_equal(reopen(true, "you", "shr_1", "https://again"), 0);
	assert_int_equal(reopen(false, "you", "shr_1", "https://moved"), 0);
	put(in(".scaidrive/id"), "you\nshr_1\nhttps://moved\n"); /* as written before there were generations */
	assert_int_equal(reopen(false, "you", "shr_1", "https://moved"), 0);
	assert_int_equal(root->generation, 0);
	assert_int_equal(unlink(in(".scaidrive/id")), 0);
	assert_int_equal(root->ops->check(root, &ctx), E_NOT_FOUND);
	assert_int_equal(root->ops->set_generation(root, &ctx, 8), E_NOT_FOUND);
	assert_int_equal(reopen(false, "you", "shr_1", "https://moved"), E_NOT_FOUND);
	put(in(".scaidrive/id"), "");
	assert_int_equal(reopen(true, "you", "shr_1", "https://moved"), E_CONFLICT);
	assert_int_equal(unlink(in(".scaidrive/id")), 0);
	assert_int_equal(reopen(true, "you", "shr_1", "https://moved"), 0);
	assert_int_equal(rename(top, outside), 0);
	assert_int_equal(root->ops->check(root, &ctx), E_NOT_FOUND);
	assert_int_equal(rename(outside, top), 0);
	assert_int_equal(mkdir(outside, 0700), 0);
}

static void what_a_crash_left(void **s)
{
	(void)s;
	put(in(".scaidrive/staging/5/new-1"), "half");
	assert_int_equal(reopen(false, "me", "shr_1", "http://a"), 0);
	assert_true(staging_is_empty());
}

static int run(const char *name)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {T(escapes), T(parents_that_are_swapped), T(writing), T(copying), T(is_written), T(moving), T(trash),
	                                   T(modes),   T(markers), T(what_a_crash_left), T(mount_points)};
	return cmocka_run_group_tests_name(name, tests, NULL, NULL);
}

/* In a child: the old ways, as on kernels and file systems without the new ones. */
static int run_without(void)
{
	struct sock_filter code[] = {
	    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat2, 0, 1),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_renameat2, 1, 0),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_copy_file_range, 0, 1),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EINVAL),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {sizeof code / sizeof *code, code};
	fflush(NULL);
	pid_t child = fork();
	if (child == 0) {
		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) {
			fprintf(stderr, "no seccomp here: the fallbacks were not run\n");
			_exit(0);
		}
		int failed = run("without openat2 and renameat2");
		fflush(NULL);
		_exit(failed ? 1 : 0);
	}
	int status;
	return waitpid(child, &status, 0) != child || status != 0;
}

int main(void)
{
	/* Before any descriptor is opened, since it would see the mounts of its own namespace alone. */
	may_mount = unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
	return run_without() + run("native");
}
