/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Never loaded: compiled by the test `layout_matches_btf` for its BTF, which then
 * holds every enumeration of layout.h, and its numbers (`NUMBER_…`), although no
 * program has a variable of them.
 */
#include "maps.h"

enum numbers {
	NUMBER_MAGIC = KMESH_MAGIC,
	NUMBER_LAYOUT_VERSION = KMESH_LAYOUT_VERSION,
	NUMBER_FRONTEND_TAG_SHIFT = KMESH_FRONTEND_TAG_SHIFT,
	NUMBER_SERVICE_BASE_BITS = KMESH_SERVICE_BASE_BITS,
	NUMBER_SERVICE_COUNT_BITS = KMESH_SERVICE_COUNT_BITS,
	NUMBER_SERVICE_COUNT_SHIFT = KMESH_SERVICE_COUNT_SHIFT,
	NUMBER_SERVICE_FLAGS_SHIFT = KMESH_SERVICE_FLAGS_SHIFT,
	NUMBER_WAYPOINT_FLAGS_SHIFT = KMESH_WAYPOINT_FLAGS_SHIFT,
	NUMBER_ENDPOINT_PORT_SHIFT = KMESH_ENDPOINT_PORT_SHIFT,
	NUMBER_ENDPOINT_FLAGS_SHIFT = KMESH_ENDPOINT_FLAGS_SHIFT,
	NUMBER_BACKEND_FLAGS_SHIFT = KMESH_BACKEND_FLAGS_SHIFT,
	NUMBER_NAME_CHUNK = KMESH_NAME_CHUNK,
	NUMBER_NAME_MAX = KMESH_NAME_MAX,
	NUMBER_MANAGER_BACKEND_NONE = KMESH_MANAGER_BACKEND_NONE,
	NUMBER_MANAGER_POLICY_SHIFT = KMESH_MANAGER_POLICY_SHIFT,
	NUMBER_MANAGER_FLAGS_SHIFT = KMESH_MANAGER_FLAGS_SHIFT,
	NUMBER_MANAGER_TAG_SHIFT = KMESH_MANAGER_TAG_SHIFT,
	NUMBER_EXEMPT_PORTS = KMESH_EXEMPT_PORTS,
	NUMBER_POLICY_NONE = KMESH_POLICY_NONE,
	NUMBER_POLICY_WAIT = KMESH_POLICY_WAIT,
	NUMBER_AUTH_CHUNK_WORDS = KMESH_AUTH_CHUNK_WORDS,
	NUMBER_AUTH_CLASSIFIED = KMESH_AUTH_CLASSIFIED,
	NUMBER_DIALLED_TIME_SHIFT = KMESH_DIALLED_TIME_SHIFT,
	NUMBER_LIVE_SET_SHIFT = KMESH_LIVE_SET_SHIFT,
	NUMBER_LIVE_TIME_SHIFT = KMESH_LIVE_TIME_SHIFT,
	NUMBER_REVOKED_REASON_SHIFT = KMESH_REVOKED_REASON_SHIFT,
};

struct layout {
	enum numbers numbers;
	enum kmesh_frontend_kind frontend_kind;
	enum kmesh_service_flag service_flag;
	enum kmesh_service_kind service_kind;
	enum kmesh_waypoint_flag waypoint_flag;
	enum kmesh_endpoint_flag endpoint_flag;
	enum kmesh_backend_flag backend_flag;
	enum kmesh_manager_flag manager_flag;
	enum kmesh_policy_flag policy_flag;
	enum kmesh_auth_action auth_action;
	enum kmesh_auth_flag auth_flag;
	enum kmesh_live_why live_why;
	enum kmesh_revoked_reason revoked_reason;
	struct kmesh_denial denial;
	enum kmesh_dst_state dst_state;
	enum kmesh_hook hook;
	enum kmesh_setting setting;
	enum kmesh_setting_flag setting_flag;
	enum kmesh_counter counter;
};

int layout(struct layout *layout)
{
	return layout->counter;
}
