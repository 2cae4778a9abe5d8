/* Devices and what they want of each share. */
#include "api.h"
#include "drive/device.h"
#include "drive/preference.h"

_Static_assert((int)DEVICE_PLATFORM_CLI == (int)DEVICE_CLI && (int)DEVICE_PLATFORM_LINUX == (int)DEVICE_LINUX,
               "the API's words are the domain's");

static void wire_device(const struct device *d, struct Device *out)
{
	*out = (struct Device){
	    .id = d->id,
	    .device_id = d->device_id,
	    .device_name = d->name,
	    .platform = (enum DevicePlatform)d->platform,
	    .client_version = d->client_version,
	    .is_active = d->is_active,
	    .last_seen_at = d->last_seen_at,
	    .has_last_seen_at = d->last_seen_at != 0,
	    .user_id = d->user_id,
	    .created_at = d->created_at,
	};
}

static int answer(int err, const struct device *d, struct Device *out)
{
	if (!err)
		wire_device(d, out);
	return err;
}

int device_list(struct ctx *ctx, const struct DeviceListIn *in, struct DeviceList *out)
{
	struct device_list list;
	(void)in;
	int err = drive_device_list(ctx, &list);
	if (err)
		return err;
	*out = (struct DeviceList){.items = arena_many(ctx->arena, list.n, struct Device), .n_items = list.n};
	for (size_t i = 0; i < list.n; i++)
		wire_device(&list.items[i], &out->items[i]);
	return 0;
}

int device_register(struct ctx *ctx, const struct DeviceRegisterIn *in, struct Device *out)
{
	struct device d;
	struct device_register_in want = {
	    .device_id = in->body.device_id,
	    .name = in->body.device_name,
	    .client_version = in->body.client_version,
	    .platform = (enum device_platform)in->body.platform,
	};
	return answer(drive_device_register(ctx, &want, &d), &d, out);
}

int device_get(struct ctx *ctx, const struct DeviceGetIn *in, struct Device *out)
{
	struct device d;
	return answer(drive_device_get(ctx, in->device_id, &d), &d, out);
}

int device_update(struct ctx *ctx, const struct DeviceUpdateIn *in, struct Device *out)
{
	struct device d;
	struct device_update_in want = {
	    .device_id = in->device_id,
	    .name = in->body.device_name,
	    .has_active = in->body.has_is_active,
	    .is_active = in->body.is_active,
	};
	return answer(drive_device_update(ctx, &want, &d), &d, out);
}

int device_delete(struct ctx *ctx, const struct DeviceDeleteIn *in)
{
	return drive_device_delete(ctx, in->device_id);
}

int device_heartbeat(struct ctx *ctx, const struct DeviceHeartbeatIn *in)
{
	return drive_device_heartbeat(ctx, in->device_id);
}

/* ---- preferences ---- */

static void wire_preference(const struct preference *p, struct Preference *out)
{
	*out = (struct Preference){
	    .share_id = p->share_id,
	    .sync_enabled = p->sync_enabled,
	    .selected_folders = p->selected,
	    .n_selected_folders = p->n_selected,
	    .has_selected_folders = p->has_selected,
	    .excluded_folders = p->excluded,
	    .n_excluded_folders = p->n_excluded,
	    .has_excluded_folders = p->has_excluded,
	};
}

static int answer_all(struct ctx *ctx, int err, const struct preference_list *list, struct Preferences *out)
{
	if (err)
		return err;
	*out = (struct Preferences){.preferences = arena_many(ctx->arena, list->n, struct Preference),
	                            .n_preferences = list->n};
	for (size_t i = 0; i < list->n; i++)
		wire_preference(&list->items[i], &out->preferences[i]);
	return 0;
}

int preference_list(struct ctx *ctx, const struct PreferenceListIn *in, struct Preferences *out)
{
	struct preference_list list;
	return answer_all(ctx, drive_preference_list(ctx, in->device_id, &list), &list, out);
}

int preference_put_all(struct ctx *ctx, const struct PreferencePutAllIn *in, struct Preferences *out)
{
	struct preference_list list;
	const struct PreferencesPut *body = &in->body;
	struct preference *items = arena_many(ctx->arena, body->n_preferences, struct preference);
	for (size_t i = 0; i < body->n_preferences; i++) {
		const struct PreferenceEntry *e = &body->preferences[i];
		items[i] = (struct preference){
		    .share_id = e->share_id,
		    .sync_enabled = e->sync_enabled,
		    .has_selected = e->has_selected_folders,
		    .selected = e->selected_folders,
		    .n_selected = e->n_selected_folders,
		    .has_excluded = e->has_excluded_folders,
		    .excluded = e->excluded_folders,
		    .n_excluded = e->n_excluded_folders,
		};
	}
	return answer_all(ctx, drive_preference_put(ctx, in->device_id, items, body->n_preferences, true, &list), &list, out);
}

int preference_put(struct ctx *ctx, const struct PreferencePutIn *in, struct Preference *out)
{
	struct preference_list list;
	const struct preference p = {
	    .share_id = in->share_id,
	    .sync_enabled = in->body.sync_enabled,
	    .has_selected = in->body.has_selected_folders,
	    .selected = in->body.selected_folders,
	    .n_selected = in->body.n_selected_folders,
	    .has_excluded = in->body.has_excluded_folders,
	    .excluded = in->body.excluded_folders,
	    .n_excluded = in->body.n_excluded_folders,
	};
	int err = drive_preference_put(ctx, in->device_id, &p, 1, false, &list);
	if (!err)
		wire_preference(&p, out);
	return err;
}
