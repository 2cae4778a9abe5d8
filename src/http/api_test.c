/* The generated readers, writers and argument parsers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "api.h"
#include "base/json.h"
#include "http/handler.h"
#include "http/validate.h"

struct fixture {
	struct arena arena;
	struct ctx ctx;
};

static int setup(void **state)
{
	struct fixture *f = test_calloc(1, sizeof *f);
	arena_init(&f->arena);
	ctx_init(&f->ctx, &f->arena, &clock_system, NULL);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	arena_fini(&f->arena);
	test_free(f);
	return 0;
}

static struct json_object *doc_of(const char *text)
{
	struct json_object *doc;
	assert_null(json_parse(str_c(text), &doc));
	return doc;
}

/* Reads text as a schema, and frees the document: what was read must not lean on it. */
#define READ(f, schema, text, out) \
	({ \
		struct json_object *doc_ = doc_of(text); \
		int err_ = read_##schema(&(f)->ctx, doc_, (out)); \
		json_free(&doc_); \
		err_; \
	})

static bool contains(struct str s, const char *part)
{
	return s.p && memmem(s.p, s.n, part, strlen(part)) != NULL;
}

#define ASSERT_STR(s, literal) assert_true(str_eq((s), STR(literal)))

static void every_failing_field_is_named(void **state)
{
	struct fixture *f = *state;
	struct ShareCreate in;
	assert_int_equal(READ(f, ShareCreate, "{\"share_type\":\"big\",\"quota_bytes\":-1,\"description\":7}", &in), E_INVALID);
	assert_int_equal(f->ctx.err, E_INVALID);
	struct json_object *list;
	assert_null(json_parse(f->ctx.invalid, &list));
	assert_int_equal(json_len(list), 4);
	struct str all = f->ctx.invalid;
	assert_true(contains(all, "{\"type\":\"missing\",\"loc\":[\"body\",\"name\"],\"msg\":\"Field required\",\"input\":null}"));
	assert_true(contains(all, "{\"type\":\"enum\",\"loc\":[\"body\",\"share_type\"],\"msg\":\"Input should be 'central', "
	                          "'personal' or 'project'\",\"input\":\"big\"}"));
	assert_true(contains(all, "\"greater_than_equal\",\"loc\":[\"body\",\"quota_bytes\"]"));
	assert_true(contains(all, "\"string_type\",\"loc\":[\"body\",\"description\"]"));
	json_free(&list);
}

static void nested_places_are_named(void **state)
{
	struct fixture *f = *state;
	struct ApplyRequest in;
	assert_int_equal(READ(f, ApplyRequest,
	                      "{\"device_id\":\"d\",\"share_id\":\"shr_1\",\"changes\":[{\"resource_type\":\"file\",\"change_type\":"
	                      "\"created\"},{\"resource_type\":\"file\",\"change_type\":\"created\",\"metadata\":{\"size\":\"x\"}}]}",
	                      &in),
	                 E_INVALID);
	assert_true(contains(f->ctx.invalid, "\"loc\":[\"body\",\"changes\",1,\"metadata\",\"size\"]"));
}

static void absent_and_null_are_alike(void **state)
{
	struct fixture *f = *state;
	struct FileUpdate a, b;
	assert_int_equal(READ(f, FileUpdate, "{}", &a), 0);
	assert_int_equal(READ(f, FileUpdate, "{\"name\":null,\"mtime\":null,\"executable\":null,\"restore\":null}", &b), 0);
	assert_null(a.name.p);
	assert_null(b.name.p);
	assert_false(a.has_mtime || b.has_mtime || a.has_executable || b.has_executable || b.has_restore);
	/* but not where the root of a share is named by null */
	struct ApplyMetadata m;
	assert_int_equal(READ(f, ApplyMetadata, "{\"parent_id\":null}", &m), 0);
	assert_true(m.given_parent_id);
	assert_int_equal(m.parent_id, 0);
	assert_int_equal(READ(f, ApplyMetadata, "{}", &m), 0);
	assert_false(m.given_parent_id);
}

static void a_required_null_fails(void **state)
{
	struct fixture *f = *state;
	struct LoginRequest in;
	assert_int_equal(READ(f, LoginRequest, "{\"email\":null,\"password\":\"p\"}", &in), E_INVALID);
	assert_true(contains(f->ctx.invalid, "\"string_type\",\"loc\":[\"body\",\"email\"]"));
}

static void secrets_are_not_echoed(void **state)
{
	struct fixture *f = *state;
	struct LoginRequest in;
	assert_int_equal(READ(f, LoginRequest, "{\"email\":\"a@b\",\"password\":424242}", &in), E_INVALID);
	assert_false(contains(f->ctx.invalid, "424242"));
}

static void integers_are_exact(void **state)
{
	struct fixture *f = *state;
	struct ApplyMetadata m;
	assert_int_equal(READ(f, ApplyMetadata, "{\"size\":9223372036854775807}", &m), 0);
	assert_true(m.has_size && m.size == INT64_MAX);
	assert_int_equal(READ(f, ApplyMetadata, "{\"size\":9007199254740993}", &m), 0);
	assert_true(m.size == INT64_C(9007199254740993));
	static const char *const bad[] = {"9223372036854775808", "18446744073709551616", "1.5", "1e300", "true", "\"1\"", "-1"};
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		char text[64];
		snprintf(text, sizeof text, "{\"size\":%s}", bad[i]);
		ctx_clear(&f->ctx);
		assert_int_equal(READ(f, ApplyMetadata, text, &m), E_INVALID);
	}
}

static void cursors_may_be_strings_and_have_their_own_error(void **state)
{
	struct fixture *f = *state;
	struct ApplyRequest in;
#define APPLY(cursor) "{\"device_id\":\"d\",\"share_id\":\"shr_1\",\"changes\":[],\"base_cursor\":" cursor "}"
	assert_int_equal(READ(f, ApplyRequest, APPLY("\"9007199254740991\""), &in), 0);
	assert_true(in.has_base_cursor && in.base_cursor == INT64_C(9007199254740991));
	assert_int_equal(READ(f, ApplyRequest, APPLY("17"), &in), 0);
	assert_int_equal(in.base_cursor, 17);
	assert_int_equal(READ(f, ApplyRequest, APPLY("\"x\""), &in), E_CURSOR_INVALID);
	ctx_clear(&f->ctx);
	assert_int_equal(READ(f, ApplyRequest, APPLY("-1"), &in), E_CURSOR_INVALID);
	ctx_clear(&f->ctx);
	assert_int_equal(READ(f, ApplyRequest, APPLY("9007199254740992"), &in), E_CURSOR_INVALID);
#undef APPLY
}

static void aliases_are_accepted(void **state)
{
	struct fixture *f = *state;
	struct MoveRequest in;
	assert_int_equal(READ(f, MoveRequest, "{\"target_parent_id\":\"fld_2\",\"new_name\":\"x\",\"unknown\":[1]}", &in), 0);
	assert_int_equal(in.target_folder_id, 2);
	ASSERT_STR(in.name, "x");
}

static void strings_are_bounded(void **state)
{
	struct fixture *f = *state;
	struct FolderCreate in;
	char text[1200] = "{\"share_id\":\"shr_1\",\"name\":\"";
	size_t head = strlen(text);
	for (size_t i = 0; i < 128; i++)
		memcpy(text + head + 2 * i, "\xc3\xa4", 2); /* 128 characters, 256 bytes */
	memcpy(text + head + 256, "\"}", 3);
	assert_int_equal(READ(f, FolderCreate, text, &in), E_INVALID);
	assert_true(contains(f->ctx.invalid, "at most 255 bytes"));
	ctx_clear(&f->ctx);
	text[head] = 'a'; /* replaces one character: 255 bytes */
	memmove(text + head + 1, text + head + 2, strlen(text + head + 2) + 1);
	assert_int_equal(READ(f, FolderCreate, text, &in), 0);
	assert_int_equal(in.name.n, 255);
	assert_int_equal(READ(f, FolderCreate, "{\"share_id\":\"shr_1\",\"name\":\"\"}", &in), E_INVALID);
	ctx_clear(&f->ctx);
	assert_int_equal(READ(f, FolderCreate, "{\"share_id\":\"shr_1\",\"name\":\"a\\u0000b\"}", &in), E_INVALID);
}

static void failures_are_bounded(void **state)
{
	struct fixture *f = *state;
	struct buf b = {0};
	buf_lit(&b, "{\"preferences\":[");
	for (int i = 0; i < 1000; i++)
		buf_fmt(&b, "%s{}", i ? "," : "");
	buf_lit(&b, "]}");
	buf_char(&b, 0);
	struct PreferencesPut in;
	assert_int_equal(READ(f, PreferencesPut, b.p, &in), E_INVALID);
	struct json_object *list;
	assert_null(json_parse(f->ctx.invalid, &list));
	assert_int_equal(json_len(list), 100);
	json_free(&list);
	buf_fini(&b);
}

static void lists_and_documents_of_another_type_fail(void **state)
{
	struct fixture *f = *state;
	struct PreferencesPut in;
	static const char *const bad[] = {"[]", "null", "1", "{\"preferences\":{}}", "{\"preferences\":[null]}",
	                                  "{\"preferences\":[[]]}", "{\"preferences\":null}"};
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		ctx_clear(&f->ctx);
		assert_int_equal(READ(f, PreferencesPut, bad[i], &in), E_INVALID);
		assert_true(f->ctx.invalid.n > 2);
	}
}

static void an_empty_selection_is_not_none(void **state)
{
	struct fixture *f = *state;
	struct PreferencePut p;
	assert_int_equal(READ(f, PreferencePut, "{\"selected_folders\":[],\"excluded_folders\":null}", &p), 0);
	assert_true(p.has_selected_folders && p.n_selected_folders == 0 && !p.has_excluded_folders && p.sync_enabled);
	struct Preference out = {.share_id = 1, .has_selected_folders = true};
	struct buf b = {0};
	write_Preference(&b, &out);
	ASSERT_STR(buf_as_str(&b), "{\"share_id\":\"shr_0000000000001\",\"sync_enabled\":false,\"selected_folders\":[],"
	                           "\"excluded_folders\":null}");
	buf_fini(&b);
}

static void a_writer_writes_every_field(void **state)
{
	(void)state;
	struct buf b = {0};
	struct Change c = {.id = 1, .tenant_id = 2, .share_id = 3, .resource_type = RESOURCE_TYPE_FILE,
	                   .resource_id = {ID_FILE, 4}, .change_type = CHANGE_TYPE_RENAMED, .changed_by = 5,
	                   .changed_at = INT64_C(1776939300000000), .old_path = STR("/a\"b"), .metadata = STR("{\"size\":1}")};
	write_Change(&b, &c);
	ASSERT_STR(buf_as_str(&b),
	           "{\"id\":\"chg_0000000000001\",\"tenant_id\":\"tnt_0000000000002\",\"share_id\":\"shr_0000000000003\","
	           "\"resource_type\":\"file\",\"resource_id\":\"fil_0000000000004\",\"change_type\":\"renamed\","
	           "\"changed_by\":\"usr_0000000000005\",\"changed_at\":\"2026-04-23T10:15:00Z\",\"old_path\":\"/a\\\"b\","
	           "\"new_path\":null,\"version_id\":null,\"metadata\":{\"size\":1}}");
	buf_fini(&b);
}

static void what_is_written_reads_back(void **state)
{
	struct fixture *f = *state;
	struct File in = {.id = INT64_MAX, .tenant_id = 2, .share_id = 3, .name = STR("n"), .path = STR("/n"), .mime_type = STR("a/b"),
	                  .size = INT64_C(1) << 53, .has_checksum_sha256 = true, .checksum_sha256 = sha256_of("x", 1), .version = 7,
	                  .version_id = 8, .has_mtime = true, .mtime = 1776939300123456, .executable = true,
	                  .owner_id = {ID_GROUP, 9}, .created_by = 10, .modified_by = 11};
	struct File out;
	struct buf b = {0};
	write_File(&b, &in);
	buf_char(&b, 0);
	assert_int_equal(READ(f, File, b.p, &out), 0);
	assert_true(out.id == in.id && out.size == in.size && out.mtime == in.mtime && out.executable && out.folder_id == 0);
	assert_true(out.owner_id.kind == ID_GROUP && out.owner_id.n == 9 && !out.has_vectorized_at);
	assert_true(sha256_eq(&out.checksum_sha256, &in.checksum_sha256));
	buf_fini(&b);
}

static void the_mirror_repeats_the_object(void **state)
{
	(void)state;
	struct buf b = {0};
	struct CursorState s = {.cursor_position = 42};
	buf_lit(&b, "x");
	write_CursorState(&b, &s);
	api_mirror(&b, 1);
	ASSERT_STR(buf_as_str(&b), "x{\"cursor_position\":42,\"last_sync_at\":null,\"data\":"
	                           "{\"cursor_position\":42,\"last_sync_at\":null}}");
	buf_clear(&b);
	buf_lit(&b, "{}");
	api_mirror(&b, 0);
	ASSERT_STR(buf_as_str(&b), "{\"data\":{}}");
	buf_fini(&b);
}

static void path_ids_are_not_found_and_query_ids_are_422(void **state)
{
	struct fixture *f = *state;
	struct FolderChildrenIn in;
	struct request req = {.method = HTTP_GET, .params = {STR("root")}, .query = STR("share_id=shr_5&limit=7")};
	assert_int_equal(args_folder_children(&f->ctx, &req, &in), 0);
	assert_true(in.folder_id == 0 && in.share_id == 5 && in.limit == 7 && !in.include_deleted);
	req.params[0] = STR("fil_1"); /* another kind */
	req.query = STR("share_id=zzz");
	assert_int_equal(args_folder_children(&f->ctx, &req, &in), E_NOT_FOUND);
	ctx_clear(&f->ctx);
	req.params[0] = STR("fld_1");
	assert_int_equal(args_folder_children(&f->ctx, &req, &in), E_INVALID);
	assert_true(contains(f->ctx.invalid, "[\"query\",\"share_id\"]"));
}

static void query_parameters_are_checked(void **state)
{
	struct fixture *f = *state;
	struct SyncChangesIn in;
	struct request req = {.method = HTTP_GET, .query = STR("share_id=shr_5")};
	assert_int_equal(args_sync_changes(&f->ctx, &req, &in), 0);
	assert_true(in.limit == 1000 && !in.has_cursor);
	req.query = STR("cursor=12&limit=5001&share_id=");
	assert_int_equal(args_sync_changes(&f->ctx, &req, &in), E_INVALID);
	assert_true(contains(f->ctx.invalid, "limit") && contains(f->ctx.invalid, "share_id"));
	ctx_clear(&f->ctx);
	req.query = STR("cursor=12a");
	assert_int_equal(args_sync_changes(&f->ctx, &req, &in), E_CURSOR_INVALID);
	struct SyncStatusIn s;
	ctx_clear(&f->ctx);
	req.query = STR("device_id=%ff");
	assert_int_equal(args_sync_status(&f->ctx, &req, &s), E_INVALID);
	assert_true(contains(f->ctx.invalid, "\"missing\",\"loc\":[\"query\",\"share_id\"]"));
	assert_true(contains(f->ctx.invalid, "[\"query\",\"device_id\"]"));
}

static void a_body_that_is_no_json_is_a_422(void **state)
{
	struct fixture *f = *state;
	struct ShareCreateIn in;
	struct request req = {.method = HTTP_POST, .body = STR("{\"name\":")};
	assert_int_equal(args_share_create(&f->ctx, &req, &in), E_INVALID);
	assert_true(contains(f->ctx.invalid, "json_invalid"));
	ctx_clear(&f->ctx);
	req.body = STR("");
	assert_int_equal(args_share_create(&f->ctx, &req, &in), E_INVALID);
	assert_true(contains(f->ctx.invalid, "{\"type\":\"missing\",\"loc\":[\"body\"]"));
}

static void forms_are_read_like_bodies(void **state)
{
	struct fixture *f = *state;
	struct FileUploadForm form;
	struct http_header good[] = {{STR("share_id"), STR("shr_5")}, {STR("staged"), STR("true")},
	                             {STR("mtime"), STR("2026-04-23T10:15:00.5Z")}, {STR("parent_id"), STR("fld_7")},
	                             {STR("conflict_resolution"), STR("KEEP_BOTH")}, {STR("other"), STR("1")}};
	assert_int_equal(read_form_FileUploadForm(&f->ctx, good, 6, &form), 0);
	assert_true(form.share_id == 5 && form.folder_id == 7 && form.staged && form.has_mtime && !form.has_executable);
	assert_int_equal(form.mtime, 1776939300500000);
	assert_int_equal(form.conflict_resolution, CONFLICT_RESOLUTION_KEEP_BOTH);
	struct http_header bad[] = {{STR("share_id"), STR("5")}, {STR("staged"), STR("maybe")}};
	assert_int_equal(read_form_FileUploadForm(&f->ctx, bad, 2, &form), E_INVALID);
	assert_true(contains(f->ctx.invalid, "[\"body\",\"share_id\"]") && contains(f->ctx.invalid, "bool_parsing"));
}

static void enum_names_go_both_ways(void **state)
{
	(void)state;
	assert_int_equal(parse_ShareRole(STR("contributor")), SHARE_ROLE_CONTRIBUTOR);
	assert_int_equal(parse_ShareRole(STR("Contributor")), 0);
	ASSERT_STR(name_ShareRole(SHARE_ROLE_READER), "reader");
	assert_null(name_ShareRole((enum ShareRole)0).p);
	assert_null(name_ShareRole((enum ShareRole)5).p);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
	    T(every_failing_field_is_named), T(nested_places_are_named), T(absent_and_null_are_alike), T(a_required_null_fails),
	    T(secrets_are_not_echoed), T(integers_are_exact), T(cursors_may_be_strings_and_have_their_own_error),
	    T(aliases_are_accepted), T(strings_are_bounded), T(failures_are_bounded), T(lists_and_documents_of_another_type_fail),
	    T(an_empty_selection_is_not_none), T(a_writer_writes_every_field), T(what_is_written_reads_back),
	    T(the_mirror_repeats_the_object), T(path_ids_are_not_found_and_query_ids_are_422), T(query_parameters_are_checked),
	    T(a_body_that_is_no_json_is_a_422), T(forms_are_read_like_bodies), T(enum_names_go_both_ways),
	};
	return cmocka_run_group_tests_name("api", tests, NULL, NULL);
}
