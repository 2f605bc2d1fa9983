#!/usr/bin/env bats
# shellcheck disable=SC2154 # set by run
bats_require_minimum_version 1.5.0
# kmeshctl dump on the real kernel: what it shows, what it refuses, and beside writers.
# Each test has a BPF file system and a cgroup of its own.

load lib
load ctl
load town

setup() {
    ctl_begin
}

teardown() {
    world_end
}

# refuses TEXT ARGUMENT…: dump fails, says so, and writes nothing to standard output.
refuses() {
    local text=$1
    shift
    run -2 --separate-stderr ctl dump "$@"
    [[ $stderr == *"$text"* ]] || fail "expected '$text', got: $stderr"
    [ -z "$output" ] || fail "wrote: $output"
}

# A reader so slow that something changes under each of its looks.
slow_dump() {
    strace -D -qq -o "$W/strace" -e trace=bpf -e inject=bpf:delay_enter=20000 \
        "$KMESH_BIN/kmeshctl" -v dump "$@"
}

# ---- snapshots ----

@test "dump, purge, restore, dump: the same bytes but for generation, time and pods" {
    left_by_daemon
    ctl dump all -o json >"$W/before.json"
    jq -e '.pods | length == 1 and .[0].uid == "c//Pod/default/a"' "$W/before.json"
    ctl purge --yes
    ctl restore "$W/before.json"
    ctl dump all -o json >"$W/after.json"
    diff <(jq 'del(.generation, .checksum, .time)' "$W/before.json") \
        <(jq 'del(.generation, .checksum, .time)' "$W/after.json")
    is_good --against "$W/before.json"
}

@test "two dumps of one state are the same bytes, and say where and of when it is" {
    installed
    local format
    for format in json yaml table wide; do
        ctl dump all -o "$format" >"$W/one"
        sleep 1.1
        ctl dump all -o "$format" >"$W/two"
        cmp "$W/one" "$W/two"
    done
    ctl dump all -o json >"$W/one"
    jq -e --arg kernel "$(uname -r)" --arg boot "$(cat /proc/sys/kernel/random/boot_id)" '
        .schemaVersion == 2 and .node == "node1" and .kernel == $kernel and .bootId == $boot
        and .consistent and (has("unfinished") | not) and (.generation % 2 == 0)
        and (.time | fromdate > 1.7e9) and (.checksum | startswith("sha256:"))' "$W/one"
    # The checksum as docs/snapshot.md tells it, and the same in YAML.
    [ "sha256:$(jq -cj 'del(.checksum)' "$W/one" | sha256sum | cut -d ' ' -f 1)" = \
        "$(jq -r .checksum "$W/one")" ]
    ctl dump all -o yaml | grep -qF "$(jq -r .checksum "$W/one")"
    # One line for each entry.
    [ "$(grep -c '^    {"uid"' "$W/one")" -eq 2 ]
}

@test "a snapshot in YAML is taken by restore and verify" {
    installed
    ctl dump all -o yaml >"$W/saved.yaml"
    is_good --against "$W/saved.yaml"
    ctl restore "$W/saved.yaml"
    ctl dump all -o yaml >"$W/again.yaml"
    cmp "$W/saved.yaml" "$W/again.yaml"
}

@test "a view is no snapshot: restore refuses it" {
    installed
    ctl dump maps -o json >"$W/view.json"
    run -2 ctl restore "$W/view.json"
}

# ---- what is shown ----

@test "tables name services, endpoints, waypoints, limits and counters" {
    installed
    run -0 ctl dump
    [[ $output == *"layout 1, generation "*", written 20"*"Z, last full sync unknown"* ]]
    [[ $output == *"shop/cart "*"443"*"10.96.0.11,10.96.0.12"*"failover"*"default/way:15019"* ]]
    [[ $output == *"c//Pod/default/b:8443"* ]]
    [[ $output == *"Waypoints (1)"* ]]
    [[ $output == *"kmesh_frontend"*"131072"*"--max-frontends"* ]]
    [[ $output != *$'\e'* ]]
    run -0 ctl dump maps -o wide
    [[ $output == *"cluster.local/ns/default/sa/b"*"refused_stale"*"20 B"* ]]
    run -0 ctl dump maps kmesh_backend -o json
    jq -e '(has("services") | not) and (.workloads | length == 2)
        and [.maps[].name] == ["kmesh_backend"]' <<<"$output"
    run -0 ctl dump maps kmesh_stats map_of_manager -o json
    jq -e '.counters.steered == 0 and .pods == [] and (has("settings") | not)' <<<"$output"
    run -0 ctl dump maps -o json
    jq -e '.viewVersion == 1 and .layout == 1 and .lastSyncAgeSeconds == null and
        (.maps[] | select(.name == "kmesh_backend") | .used == 2 and .limit == 65536)' <<<"$output"
}

@test "dump all shows everything to people" {
    left_by_daemon
    run -0 ctl dump all
    local part
    for part in Services Workloads "Pods (1)" Settings Counters Maps Programs Links; do
        [[ $output == *"$part"* ]] || fail "no $part"
    done
}

@test "the age of the last full sync is told where the run directory says it" {
    left_by_daemon
    mkdir -p "$KMESH_RUN_DIR"
    cat >"$KMESH_RUN_DIR/last-sync.json" <<END
{"bootId": "$(cat /proc/sys/kernel/random/boot_id)", "atSeconds": 1, "sources": ["mesh file"]}
END
    run -0 ctl dump maps kmesh_meta
    [[ $output =~ "last full sync "[0-9]+" "(s|min|h|d)" "([0-9]+" "(s|min|h)" ")?ago ]]
    run -0 ctl dump maps kmesh_meta -o json
    jq -e '.lastSyncAgeSeconds > 1' <<<"$output"
    sed -i 's/"bootId": "./&another/' "$KMESH_RUN_DIR/last-sync.json"
    run -0 ctl dump maps kmesh_meta
    [[ $output == *"last full sync unknown"* ]]
}

@test "dump programs and links show what runs, all of it or what is named" {
    installed
    run -0 ctl dump programs -o json
    jq -e '[.programs[] | select(.state == "running").hook] ==
        ["sk_msg", "sockops", "connect4", "connect6"] and (has("links") | not)' <<<"$output"
    run -0 ctl dump links -o json
    jq -e '[.links[] | select(.attached).hook] == ["sockops", "connect4", "connect6"]' <<<"$output"
    run -0 ctl dump programs connect4
    [[ $output == *connect4*running* && $output != *sockops* ]]
    run -0 ctl dump links connect6 sockops -o yaml
    [[ $output == *sockops*connect6* && $output != *connect4* ]]
    run -0 ctl dump programs connect4 -o wide
    [[ $output == *VERIFIED* ]]
}

@test "each filter shows what has to do with it; together all of them hold" {
    left_by_daemon
    ctl restore --only services,workloads <(snapshot; cat "$UNDER_TEST")
    chosen() { # SERVICES WORKLOADS PODS FILTER…: how many there are of each
        local counts=$1,$2,$3
        shift 3
        run -0 --separate-stderr ctl dump maps "$@" -o json
        [ "$(jq -r '[.services, .workloads, .pods | length] | join(",")' <<<"$output")" = \
            "$counts" ] || fail "$*: $output"
        jq -e '(has("maps") or has("counters")) | not' <<<"$output"
        run -0 ctl dump all "$@"
    }
    chosen 2 2 1 --service default/web
    chosen 3 2 1 --service default/
    chosen 1 1 0 --service shop/cart
    chosen 3 1 0 --workload c//Pod/default/b
    chosen 2 1 1 --workload default/a
    chosen 2 1 1 --pod default/a
    chosen 2 1 1 --pod "$COOKIE"
    chosen 1 0 0 --address 10.96.0.12
    chosen 0 1 1 --address fd77::11
    chosen 0 1 1 --address ::ffff:10.77.0.11
    chosen 1 0 0 --service default/web --workload default/a --pod default/a --address fd96::10
    chosen 0 1 1 --service default/web --workload default/a --pod default/a --address 10.77.0.11
    chosen 0 0 0 --service shop/cart --pod default/a
    [[ $stderr == *"nothing here is what the filters name"* ]]
    chosen 0 0 0 --service default/we
    chosen 0 0 0 --pod 12345
}

@test "dump pods takes the pods' names" {
    left_by_daemon
    local name
    for name in default/a a c//Pod/default/a "$COOKIE"; do
        run -0 ctl dump pods "$name" -o json
        jq -e '(.pods | length == 1) and (has("services") | not)' <<<"$output"
    done
    run -0 --separate-stderr ctl dump pods default/b
    [[ $output == *"Pods (0)"* && $stderr == *"nothing here"* ]]
}

@test "a wide dump of what is long has it whole, a narrow one says how much is left out" {
    snapshot
    sed -i 's/vips: \[10.96.0.10\]/vips: [10.96.0.20, 10.96.0.21, 10.96.0.22, 10.96.0.23]/' "$UNDER_TEST"
    ctl restore "$UNDER_TEST"
    run -0 ctl dump maps kmesh_service
    [[ $output == *"10.96.0.22,+1 more"* ]]
    run -0 ctl dump maps kmesh_service -o wide
    [[ $output == *"10.96.0.22,10.96.0.23"* ]]
}

@test "docs/snapshot.md tells the fields of every view, and no other" {
    installed
    local meta
    meta=$(element kmesh_meta 0)
    set_element kmesh_meta 0 "${meta:0:48}07${meta:50}"
    # shellcheck disable=SC2016 # marks of Markdown
    awk '/^## Views/ { on = 1 } on && /^\| `/ { print $0 }' "$REPOSITORY/docs/snapshot.md" |
        cut -d '|' -f 2 | grep -o '`[^`]*`' | tr -d '`' | sort >"$W/told"
    for what in maps programs links; do
        ctl dump "$what" -o json | jq -r 'keys[]'
    done | sort -u >"$W/shown"
    diff "$W/told" "$W/shown"
}

# ---- what is refused ----

@test "names, filters and formats that mean nothing are refused, and what there is is named" {
    installed
    refuses '"kmesh_nothing" is no map of Kmesh; there are: kmesh_meta' maps kmesh_nothing
    refuses '"kmesh_meta" is no hook of Kmesh; there are: sk_msg' programs kmesh_meta
    refuses '"nowhere" is no hook' links nowhere
    refuses 'dump all shows everything' all kmesh_meta
    refuses 'name hooks instead' links --address 10.96.0.10
    refuses 'name hooks instead' programs --pod a
    refuses 'a snapshot is whole' all -o json --service shop/cart
    refuses 'a snapshot is whole' all -o yaml --pod default/a
    refuses '--raw shows the bytes of maps' all --raw
    refuses '--raw shows the bytes of maps' maps --raw --service shop/cart
    refuses "invalid value 'xml'" maps -o xml
    refuses "invalid value 'a.b.c.d'" maps --address a.b.c.d
    refuses "invalid value 'everything'" everything
}

@test "where nothing is installed, or a pin is missing, it says what to do" {
    local what
    for what in maps programs links pods all; do
        refuses 'nothing is installed here' "$what"
    done
    installed
    rm "$KMESH_BPF_ROOT/maps/kmesh_settings"
    refuses 'no kmesh_settings at' maps
    refuses 'map kmesh_settings is not pinned' maps kmesh_settings --raw
    ctl dump maps kmesh_meta --raw
}

@test "a reader that has seen enough is no error" {
    installed
    for format in json yaml table; do
        ctl dump all -o $format | head -c 10 >"$W/begin"
        [ "${PIPESTATUS[*]}" = "0 0" ]
        [ "$(wc -c <"$W/begin")" -eq 10 ]
    done
    ctl dump maps --raw | head -n 1
    [ "${PIPESTATUS[*]}" = "0 0" ]
}

# ---- bytes ----

@test "--raw shows the bytes of every map as bpftool has them" {
    left_by_daemon
    run -0 ctl dump maps --raw -o json
    local pins
    pins=$(find "$KMESH_BPF_ROOT/maps" -type f | wc -l)
    [ "$pins" -ge 11 ]
    jq -e --argjson pins "$pins" '[.rawMaps[].name] | length == $pins and contains(["map_of_dst_info"])' <<<"$output"
    [ "$(jq -r '.rawMaps[] | select(.name == "kmesh_meta").elements[0][1]' <<<"$output")" = \
        "$(element kmesh_meta 0 | tr -d ' ')" ]
    jq -e --argjson cookie "$COOKIE" '.rawMaps[] | select(.name == "map_of_manager")
        | .keySize == 8 and .valueSize == 8 and (.elements | length == 1)' <<<"$output"
    jq -e '.rawMaps[] | select(.name == "kmesh_endpoint") | .elements | length == 2' <<<"$output"
    run -0 ctl dump maps kmesh_backend --raw
    [[ $output == "kmesh_backend: id "*", type 2, key 4 B, value 64 B, limit 65536, flags 0x400"* ]]
    [[ ${lines[1]} == "00000000 $(element kmesh_backend 0 | tr -d ' ')" ]]
    run -0 ctl dump maps map_of_dst_info --raw
    [[ $output == *"the kernel does not list its elements"* ]]
    run -0 ctl dump maps kmesh_frontend --raw -o yaml
    [[ $output == *"- name: kmesh_frontend"* ]]
}

@test "--raw works where the layout is another one or a map has other sizes" {
    installed
    local meta
    meta=$(element kmesh_meta 0)
    set_element kmesh_meta 0 "${meta:0:24}63${meta:26}"
    refuses 'is of layout 99' maps
    ctl dump maps kmesh_meta --raw >"$W/meta"
    grep -q "^00000000 $(tr -d ' ' <<<"${meta:0:24}")63" "$W/meta"
    rm "$KMESH_BPF_ROOT/maps/kmesh_names"
    bpftool map create "$KMESH_BPF_ROOT/maps/kmesh_names" type hash key 3 value 5 entries 7 name other
    bpftool map update pinned "$KMESH_BPF_ROOT/maps/kmesh_names" key 1 2 3 value 4 5 6 7 8
    run -0 ctl dump maps --raw
    [[ $output == *"type 1, key 3 B, value 5 B, limit 7"*"010203 0405060708"* ]]
    run -0 ctl dump maps kmesh_names --raw -o json
    jq -e '.rawMaps[0].elements == [["010203", "0405060708"]]' <<<"$output"
}

# ---- beside writers ----

@test "what a dead writer left is read, and marked" {
    installed
    local meta
    meta=$(element kmesh_meta 0)
    # The generation, 8 bytes at 16: odd.
    set_element kmesh_meta 0 "${meta:0:48}07${meta:50}"
    run -0 --separate-stderr ctl dump all -o json
    jq -e '.unfinished and .consistent and .generation % 2 == 1 and (.services | length == 4)' \
        <<<"$output"
    [[ $stderr == *"a writer died at work"*"kmeshctl restore FILE"* ]]
    run -0 --separate-stderr ctl dump
    [[ $output == *"(left unfinished by a writer)"* ]]
    ctl dump all -o json >"$W/left.json"
    ctl restore "$W/left.json"
    ctl dump all -o json | jq -e '(has("unfinished") | not) and .generation % 2 == 0'
}

@test "beside a writer that never rests and answers nobody: not consistent, exit 1" {
    pod client 10.77.0.2 fd77::2
    mesh_begin
    enrolled client
    mesh_end
    daemon_up
    daemon_stop TERM
    bg torture pod_exec client "$KMESH_BIN/kmesh-torture" --seconds 60 --clients 1
    sleep 1
    run -1 --separate-stderr slow_dump all -o json
    jq -e '.consistent == false and (.services | length > 0)' <<<"$output"
    [[ $stderr == *"the writer was not held"*"kmesh-torture"*"this is not consistent"* ]]
    run -1 slow_dump maps
    [[ $output == *"(not consistent)"* ]]
    stop_bg torture
    run -0 ctl dump all -o json
}

@test "beside a daemon that never rests: it is asked to hold its writes, and the dump is whole" {
    local try
    pod client 10.77.0.2 fd77::2
    for try in 1 2; do
        mesh_begin
        service web "10.96.0.1$try"
        service "also-$try" "10.96.0.2$try"
        enrolled client web
        mesh_end
        cp "$MESH" "$W/mesh.$try"
    done
    daemon_up
    # shellcheck disable=SC2016 # expanded there
    bg changes bash -c 'while :; do
        for try in 1 2; do cp "$W/mesh.$try" "$MESH.new"; mv "$MESH.new" "$MESH"; sleep 0.06; done
    done'
    run -0 --separate-stderr slow_dump all -o json
    [[ $stderr == *"asking the daemon to hold its writes"* ]]
    jq -e '.consistent and [.services[].name | sub("\\..*"; "")] as $names |
        .services | (map(.vips[0]) | sort) as $vips |
        ($names == ["default/also-1", "default/web"] and $vips == ["10.96.0.11", "10.96.0.21"]) or
        ($names == ["default/also-2", "default/web"] and $vips == ["10.96.0.12", "10.96.0.22"])' \
        <<<"$output"
    stop_bg changes
    # Its writes go on.
    cp "$W/mesh.1" "$MESH"
    eventually 5 in_sync
}
