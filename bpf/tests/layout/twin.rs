//! The Rust side of the layout, in the same words as the BTF's.

use std::collections::BTreeMap;

use kmesh_bpf::layout::{
    AuthChunk, AuthRun, AuthSetRecord, BackendRecord, BackendWord, COUNTERS, ConnectionKey,
    DenialRecord, DstRecord, EXEMPT_PORTS, EndpointWord, FrontendKey, FrontendWord, Hook,
    HookRecord, KIND_SERVICE, KIND_WAYPOINT, LAYOUT_VERSION, Limits, LiveRecord, LiveWhy, MAGIC,
    ManagerWord, Map, MetaRecord, NAME_CHUNK, NAME_MAX, NameChunk, POLICY_NONE, POLICY_WAIT,
    PolicyRecord, RevokedReason, RevokedRecord, SETTINGS, ServiceRecord, ServiceWord,
    SettingsWords, WaypointWord,
};

use kmesh_bpf::authz::{CLASSIFIED, ZONES};

use super::btf::{Field, Layout, MapDef, Struct};

fn size_of_field<T, F>(_: impl Fn(&T) -> &F) -> usize {
    size_of::<F>()
}

macro_rules! twin {
    ($into:ident, $rust:ty, $c:literal, { $($field:tt as $name:literal),* $(,)? }) => {{
        let fields = [$((
            $name.to_owned(),
            Field {
                offset: core::mem::offset_of!($rust, $field),
                size: size_of_field(|it: &$rust| &it.$field),
            },
        )),*];
        let of = Struct { size: size_of::<$rust>(), fields: BTreeMap::from(fields) };
        $into.insert($c.to_owned(), of);
    }};
}

/// All that Rust says.
pub fn layout() -> Layout {
    Layout { structs: structs(), enumerators: enumerators(), maps: maps() }
}

fn structs() -> BTreeMap<String, Struct> {
    let mut all = BTreeMap::new();
    twin!(all, FrontendKey, "kmesh_frontend_key", {
        addr as "addr", port as "port", kind as "kind",
    });
    twin!(all, ServiceRecord, "kmesh_service", {
        word as "word", waypoint as "waypoint", name as "name", name_len as "name_len",
        port as "port", capacity as "capacity", family as "family", kind as "kind", pad as "_pad",
    });
    twin!(all, BackendRecord, "kmesh_backend", {
        word as "word", v6 as "v6", waypoint_v4 as "waypoint_v4", waypoint_v6 as "waypoint_v6",
        name as "name", identity as "identity", name_len as "name_len",
        identity_len as "identity_len", who as "who", policies as "policies",
        policies_len as "policies_len",
    });
    twin!(all, NameChunk, "kmesh_name", { 0 as "bytes" });
    twin!(all, DstRecord, "kmesh_dst", {
        addr as "addr", port as "port", state as "state", seq as "seq",
        target as "target", target_port as "target_port", pad as "_pad",
    });
    twin!(all, AuthChunk, "kmesh_auth_chunk", { 0 as "bits" });
    twin!(all, AuthRun, "kmesh_auth_run", { at as "at", count as "count" });
    twin!(all, AuthSetRecord, "kmesh_auth_set", {
        flags as "flags", words as "words", chunks as "chunks", ends as "ends",
        source4 as "source4", source6 as "source6", destination4 as "destination4",
        destination6 as "destination6", port as "port", identities as "identities",
        nobody as "nobody", rule_ends as "rule_ends", group_ends as "group_ends",
        words_room as "words_room", chunks_room as "chunks_room", policies as "policies",
        policies_len as "policies_len", pad as "_pad",
    });
    twin!(all, PolicyRecord, "kmesh_policy", {
        flags as "flags", name as "name", text as "text", text_len as "text_len",
        name_len as "name_len", pad as "_pad",
    });
    twin!(all, ConnectionKey, "kmesh_connection", {
        cookie as "cookie", pad as "_pad",
        source as "source", destination as "destination", source_port as "source_port",
        port as "port",
    });
    twin!(all, LiveRecord, "kmesh_live", { socket as "socket", word as "word" });
    twin!(all, RevokedRecord, "kmesh_revoked", { socket as "socket", word as "word" });
    twin!(all, DenialRecord, "kmesh_denial", {
        time as "time", cookie as "cookie", source as "source", destination as "destination",
        who as "who", source_port as "source_port", port as "port", set as "set", why as "why",
        pad as "_pad",
    });
    twin!(all, HookRecord, "kmesh_hook_record", {
        build as "build", prog_id as "prog_id", pad as "_pad",
    });
    twin!(all, MetaRecord, "kmesh_meta", {
        magic as "magic", layout as "layout", root as "root", generation as "generation",
        writer_start as "writer_start", writer_pid as "writer_pid", names_end as "names_end",
        backends_end as "backends_end", endpoints_end as "endpoints_end",
        services_end as "services_end", instance as "instance", written as "written",
        hooks as "hooks",
    });
    all
}

fn maps() -> BTreeMap<String, MapDef> {
    const BY_NAME: u32 = 1; // LIBBPF_PIN_BY_NAME
    let limits = Limits::default();
    let def = |map: Map| {
        let shape = map.shape();
        let def = MapDef {
            kind: shape.kind.number(),
            key_size: shape.key_size as usize,
            value_size: shape.value_size as usize,
            max_entries: limits.of(map),
            flags: shape.flags,
            pinning: BY_NAME,
        };
        (map.name().to_owned(), def)
    };
    Map::ALL.into_iter().map(def).collect()
}

fn enumerators() -> BTreeMap<String, i64> {
    let mut all = flags();
    all.extend(numbers());
    for counter in COUNTERS {
        all.push((format!("KMESH_C_{}", counter.name.to_uppercase()), counter.index.into()));
    }
    for hook in Hook::EVERY {
        let index = i64::try_from(hook.index()).expect("a small index");
        all.push((format!("KMESH_HOOK_{}", hook.name().to_uppercase()), index));
    }
    let count = all.len();
    let all = BTreeMap::from_iter(all);
    assert_eq!(all.len(), count, "an enumerator is named twice");
    all
}

fn named<const N: usize>(all: [(&str, u64); N]) -> impl Iterator<Item = (String, i64)> {
    all.into_iter().map(|(name, value)| (name.to_owned(), value.cast_signed()))
}

/// The enumerators that are no counters and no hooks. Private constants by what they make.
fn flags() -> Vec<(String, i64)> {
    let endpoint = |v6| EndpointWord::new(0, 0, v6).0 >> 48;
    let kinds = [
        ("KMESH_FRONTEND_SERVICE", FrontendKey::SERVICE.into()),
        ("KMESH_FRONTEND_WORKLOAD", FrontendKey::WORKLOAD.into()),
        ("KMESH_KIND_SERVICE", KIND_SERVICE.into()),
        ("KMESH_KIND_WAYPOINT", KIND_WAYPOINT.into()),
        ("KMESH_C_MAX", Limits::default().of(Map::Stats).into()),
        ("KMESH_HOOK_MAX", MetaRecord::default().hooks.len() as u64),
        ("KMESH_SETTING_FLAGS", SettingsWords::FLAGS as u64),
        ("KMESH_SETTING_EXEMPT_PORTS", SettingsWords::EXEMPT as u64),
        ("KMESH_SETTINGS", SETTINGS as u64),
        ("KMESH_SET_PROXY_V2", SettingsWords::PROXY_V2),
        ("KMESH_SET_PEERNAME", SettingsWords::PEERNAME),
        ("KMESH_SET_POLICIES", SettingsWords::POLICIES),
        ("KMESH_SETTING_HOST", SettingsWords::HOST as u64),
    ];
    let service = [
        ("KMESH_SERVICE_VALID", ServiceWord::VALID.into()),
        ("KMESH_SERVICE_SYNCED", ServiceWord::SYNCED.into()),
        ("KMESH_SERVICE_WAYPOINT", ServiceWord::WAYPOINT.into()),
        ("KMESH_SERVICE_PASSTHROUGH", ServiceWord::PASSTHROUGH.into()),
        ("KMESH_SERVICE_STRICT", ServiceWord::STRICT.into()),
        ("KMESH_SERVICE_FAILOVER", ServiceWord::FAILOVER.into()),
        ("KMESH_WAYPOINT_VALID", WaypointWord::new(0).0 >> 32),
        ("KMESH_ENDPOINT_VALID", endpoint(false)),
        ("KMESH_ENDPOINT_V6", endpoint(true) ^ endpoint(false)),
    ];
    let auth = [
        ("KMESH_AUTH_DENY", 0),
        ("KMESH_AUTH_ALLOW", 1),
        ("KMESH_AUTH_DRY_DENY", 2),
        ("KMESH_AUTH_DRY_ALLOW", 3),
        ("KMESH_AUTH_ACTIONS", ZONES as u64 / 2),
        ("KMESH_POLICY_VALID", PolicyRecord::VALID.into()),
        ("KMESH_POLICY_SUPERSEDED", PolicyRecord::SUPERSEDED.into()),
        ("KMESH_AUTH_VALID", AuthSetRecord::VALID),
        ("KMESH_AUTH_ALLOWS", AuthSetRecord::ALLOWS),
        ("KMESH_AUTH_DRY_ALLOWS", AuthSetRecord::DRY_ALLOWS),
    ];
    let live = [
        ("KMESH_LIVE_JUDGED", LiveWhy::Judged.number().into()),
        ("KMESH_LIVE_NOBODY", LiveWhy::Nobody.number().into()),
        ("KMESH_LIVE_LOCAL", LiveWhy::Local.number().into()),
        ("KMESH_LIVE_HOST", LiveWhy::Host.number().into()),
        ("KMESH_REVOKED_DENIED", RevokedReason::Denied as u64),
        ("KMESH_REVOKED_NO_ALLOW", RevokedReason::NoAllow as u64),
    ];
    let rest = [
        ("KMESH_BACKEND_VALID", BackendWord::VALID.into()),
        ("KMESH_BACKEND_V4", BackendWord::V4.into()),
        ("KMESH_BACKEND_V6", BackendWord::V6.into()),
        ("KMESH_BACKEND_WAYPOINT", BackendWord::WAYPOINT.into()),
        ("KMESH_BACKEND_NO_ADDRESS", BackendWord::NO_ADDRESS.into()),
        ("KMESH_MANAGED", ManagerWord::MANAGED.into()),
        ("KMESH_BYPASS", ManagerWord::BYPASS.into()),
        ("KMESH_DST_WANTS_METADATA", DstRecord::WANTS_METADATA.into()),
        ("KMESH_DST_SENT", DstRecord::SENT.into()),
        ("KMESH_DST_IN_MAP", DstRecord::IN_MAP.into()),
        ("KMESH_DST_ABORTED", DstRecord::ABORTED.into()),
        ("KMESH_DST_PEERNAME", DstRecord::PEERNAME.into()),
        ("KMESH_DST_DIALLED", DstRecord::DIALLED.into()),
    ];
    named(kinds)
        .chain(named(service))
        .chain(named(auth))
        .chain(named(live))
        .chain(named(rest))
        .collect()
}

/// The numbers of `layout.h` that are no enumerators there: by what a word with just that part
/// looks like.
fn numbers() -> impl Iterator<Item = (String, i64)> {
    let shift = |one: u64, none: u64| u64::from((one ^ none).trailing_zeros());
    let service = |base, count, flags| ServiceWord::new(base, count, flags).0;
    let key = FrontendKey::default();
    let manager = |policies, flags| ManagerWord::new(0, Some(0), policies, flags).0;
    // a cookie whose tag is odd: its lowest bit is the tag's place
    let odd = (0..64).find(|cookie| kmesh_bpf::layout::cookie_tag(*cookie) & 1 == 1);
    let odd = odd.expect("half of all cookies are so");
    let tagged = ManagerWord::new(odd, Some(0), 0, 0).0;
    named([
        ("NUMBER_MAGIC", MAGIC),
        ("NUMBER_LAYOUT_VERSION", LAYOUT_VERSION.into()),
        ("NUMBER_FRONTEND_TAG_SHIFT", {
            let tag_shift = FrontendWord::new(&key, 0).0 / u64::from(key.tag());
            shift(tag_shift, 0)
        }),
        ("NUMBER_SERVICE_BASE_BITS", u64::from(ServiceWord::MAX_BASE.count_ones())),
        ("NUMBER_SERVICE_COUNT_BITS", u64::from(ServiceWord::MAX_COUNT.count_ones())),
        ("NUMBER_SERVICE_COUNT_SHIFT", shift(service(0, 1, 0), 0)),
        ("NUMBER_SERVICE_FLAGS_SHIFT", shift(service(0, 0, 1), 0)),
        ("NUMBER_WAYPOINT_FLAGS_SHIFT", shift(WaypointWord::new(0).0, 0)),
        (
            "NUMBER_ENDPOINT_PORT_SHIFT",
            shift(EndpointWord::new(0, 1, false).0, EndpointWord::new(0, 0, false).0),
        ),
        ("NUMBER_ENDPOINT_FLAGS_SHIFT", shift(EndpointWord::new(0, 0, false).0, 0)),
        ("NUMBER_BACKEND_FLAGS_SHIFT", shift(BackendWord::new(None, 1).0, 0)),
        ("NUMBER_NAME_CHUNK", NAME_CHUNK as u64),
        ("NUMBER_NAME_MAX", NAME_MAX as u64),
        ("NUMBER_MANAGER_BACKEND_NONE", ManagerWord::new(0, None, 0, 0).0 & 0xffff_ffff),
        ("NUMBER_MANAGER_POLICY_SHIFT", shift(manager(1, 0), manager(0, 0))),
        ("NUMBER_MANAGER_FLAGS_SHIFT", shift(manager(0, 1), manager(0, 0))),
        ("NUMBER_MANAGER_TAG_SHIFT", shift(tagged, 0)),
        ("NUMBER_EXEMPT_PORTS", EXEMPT_PORTS as u64),
        ("NUMBER_POLICY_NONE", POLICY_NONE.into()),
        ("NUMBER_POLICY_WAIT", POLICY_WAIT.into()),
        ("NUMBER_AUTH_CHUNK_WORDS", size_of::<AuthChunk>() as u64 / 8),
        ("NUMBER_AUTH_CLASSIFIED", CLASSIFIED),
        ("NUMBER_DIALLED_TIME_SHIFT", {
            let key = ConnectionKey::default();
            shift(key.word(1), key.word(0))
        }),
        ("NUMBER_LIVE_SET_SHIFT", shift(LiveRecord::new(0, LiveWhy::Judged, 1, 0).word, 0)),
        ("NUMBER_LIVE_TIME_SHIFT", shift(LiveRecord::new(0, LiveWhy::Judged, 0, 1).word, 0)),
        ("NUMBER_REVOKED_REASON_SHIFT", {
            let key = ConnectionKey::default();
            let record = RevokedRecord::new(&key, 0, RevokedReason::Denied);
            shift(record.word, key.tag().into())
        }),
    ])
}
