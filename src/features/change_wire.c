#include "features/change_wire.h"

static enum ResourceType resource_type(enum id_kind kind)
{
	return kind == ID_FILE ? RESOURCE_TYPE_FILE : kind == ID_FOLDER ? RESOURCE_TYPE_FOLDER : RESOURCE_TYPE_SHARE;
}

void wire_change(const struct change *c, struct Change *out)
{
	*out = (struct Change){
	    .id = c->seq,
	    .tenant_id = c->tenant_id,
	    .share_id = c->share_id,
	    .resource_type = resource_type(c->resource.kind),
	    .resource_id = c->resource,
	    .change_type = (enum ChangeType)c->type,
	    .changed_by = c->changed_by,
	    .changed_at = c->changed_at,
	    .old_path = c->old_path,
	    .new_path = c->new_path,
	    .version_id = c->version_id,
	    .metadata = c->metadata,
	};
}
