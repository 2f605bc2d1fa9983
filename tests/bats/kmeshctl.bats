#!/usr/bin/env bats
bats_require_minimum_version 1.5.0
# kmeshctl on the real kernel, with no daemon: dump and restore, every finding of verify planted by
# hand, purge. Each test has a BPF file system and a cgroup of its own.

load lib

setup() {
    world_begin
    UNDER_TEST=$W/save.yaml
}

teardown() {
    world_end
}

# ---- what the tests stand on ----

# A snapshot by hand: two services of two workloads, a waypoint.
snapshot() {
    cat >"$UNDER_TEST" <<END
schemaVersion: 1
bootId: $(cat /proc/sys/kernel/random/boot_id)
settings: {metadata: tlv, peername: false, exemptPorts: [25, 3306]}
services:
  - {name: default/web, port: 80, family: ipv4, kind: service, vips: [10.96.0.10], synced: true,
     endpoints: [{workload: c//Pod/default/a, port: 8080, family: ipv4},
                 {workload: c//Pod/default/b, port: 8080, family: ipv4}]}
  - {name: default/web, port: 80, family: ipv6, kind: service, vips: ["fd96::10"], synced: true,
     endpoints: [{workload: c//Pod/default/a, port: 8080, family: ipv6}]}
  - {name: default/way, port: 15019, family: ipv4, kind: waypoint, synced: true,
     endpoints: [{workload: c//Pod/default/b, port: 15019, family: ipv4}]}
  - {name: shop/cart, port: 443, family: ipv4, kind: service, vips: [10.96.0.11, 10.96.0.12],
     synced: true, mode: failover, waypoint: {name: default/way, port: 15019},
     endpoints: [{workload: c//Pod/default/b, port: 8443, family: ipv4}]}
workloads:
  - {uid: c//Pod/default/a, v4: 10.77.0.11, v6: "fd77::11", addresses: [10.77.0.11, "fd77::11"],
     identity: cluster.local/ns/default/sa/a}
  - {uid: c//Pod/default/b, v4: 10.77.0.12, addresses: [10.77.0.12], isWaypoint: true,
     identity: cluster.local/ns/default/sa/b}
END
}

# Kmesh installed from that snapshot.
installed() {
    snapshot
    ctl restore "$UNDER_TEST"
}

# Kmesh as a daemon leaves it that has ended: pod `a` is enrolled. Its dump is the snapshot.
left_by_daemon() {
    pod a 10.77.0.11 fd77::11
    mesh <<END
services:
  - {name: web, namespace: default, hostname: web.default.svc.cluster.local,
     vips: ["/10.96.0.10", "/fd96::10"], ports: {80: 8080}}
workloads:
  - {uid: c//Pod/default/a, name: a, namespace: default, serviceAccount: a, node: $KMESH_NODE,
     workloadIps: ["10.77.0.11", "fd77::11"], netns: $(pod_netns a),
     services: {default/web.default.svc.cluster.local: {80: 8080}}}
END
    daemon_up
    daemon_stop
    ctl dump all -o json >"$UNDER_TEST"
    COOKIE=$(jq -e '.pods[0].cookie' "$UNDER_TEST")
}

# verify must give exactly this one finding, and exit as its severity says.
finds() {
    local severity=$1 text=$2 status=0 lines
    shift 2
    lines=$(ctl verify "$@") || status=$?
    [ "$(wc -l <<<"$lines")" -eq 1 ] || fail "expected one finding, got: $lines"
    [[ $lines == "$severity: "* && $lines == *"$text"* ]] ||
        fail "expected '$severity … $text', got: $lines"
    [ "$status" -eq "$([ "$severity" = error ] && echo 1 || echo 0)" ] || fail "exit status $status"
}

is_good() {
    local lines
    lines=$(ctl verify "$@") || fail "$lines"
    [[ $lines == good:* ]] || fail "expected nothing, got: $lines"
}

# The value of an array's element, and another in its place; both as hex bytes.
element() {
    # shellcheck disable=SC2046 # bytes are words
    bpftool -j map lookup pinned "$KMESH_BPF_ROOT/maps/$1" key $(le32 "$2") |
        jq -r '.value | map(ltrimstr("0x")) | join(" ")'
}

set_element() {
    # shellcheck disable=SC2046,SC2086 # bytes are words
    bpftool map update pinned "$KMESH_BPF_ROOT/maps/$1" key $(le32 "$2") value hex $3
}

le32() {
    printf '%d %d %d %d' $(($1 & 255)) $(($1 >> 8 & 255)) $(($1 >> 16 & 255)) $(($1 >> 24 & 255))
}

# The index of the first element whose value, in hex bytes, matches.
index_of() {
    local map=$1 pattern=$2 at
    for at in $(seq 0 15); do
        [[ ! $(element "$map" "$at") =~ $pattern ]] || { echo "$at"; return; }
    done
    fail "no element of $map is like $pattern"
}

# A program of no Kmesh, for the connect4 hook.
foreign_program() {
    cat >"$W/foreign.c" <<'END'
__attribute__((section("cgroup/connect4"), used)) int foreign(void *ctx) { return 1; }
__attribute__((section("license"), used)) char _license[] = "GPL";
END
    clang-19 -O2 -g -target bpf -c "$W/foreign.c" -o "$W/foreign.o"
    bpftool prog load "$W/foreign.o" "$W/bpf/foreign" type cgroup/connect4
}

# ---- an empty place ----

@test "verify and dump say that nothing is installed; purge has nothing to do" {
    finds error "nothing is installed here"
    run -2 --separate-stderr ctl dump
    [[ $stderr == *"nothing is installed here"* ]]
    [ -z "$output" ]
    run -0 ctl purge --yes
    [ "$output" = "nothing to do: Kmesh left nothing here" ]
}

@test "a place that is on no BPF file system is named, with the command that helps" {
    for verb in dump verify "restore $W/none"; do
        mkdir -p "$W/plain"
        snapshot
        cp "$UNDER_TEST" "$W/none"
        # shellcheck disable=SC2086 # a verb with its file
        run -2 ctl --bpf-root "$W/plain/kmesh" $verb
        [[ $output == *"is not on a BPF file system"*"mount -t bpf"* ]]
    done
}

# ---- dump and restore ----

@test "restore installs on an empty place, and what is dumped is what was restored" {
    installed
    is_good --against "$UNDER_TEST"
    ctl dump all -o json >"$W/one.json"
    ctl dump all -o json >"$W/two.json"
    cmp "$W/one.json" "$W/two.json"
    jq -e '.services | length == 4' "$W/one.json"
    jq -e '.workloads | length == 2' "$W/one.json"
    jq -e '.settings.exemptPorts == [25, 3306]' "$W/one.json"
}

@test "dump, purge, restore, dump: the same bytes but for the generation" {
    left_by_daemon
    ctl dump all -o json >"$W/before.json"
    jq -e '.pods | length == 1 and .[0].uid == "c//Pod/default/a"' "$W/before.json"
    ctl purge --yes
    ctl restore "$W/before.json"
    ctl dump all -o json >"$W/after.json"
    diff <(jq 'del(.generation, .checksum)' "$W/before.json") \
        <(jq 'del(.generation, .checksum)' "$W/after.json")
    is_good --against "$W/before.json"
}

@test "restoring what is there already writes nothing, and YAML is as good as JSON" {
    installed
    ctl dump all -o json >"$W/before.json"
    ctl dump all -o yaml >"$W/before.yaml"
    run -0 ctl restore "$W/before.yaml"
    [[ ${lines[0]} == *" 0 elements written" ]]
    ctl dump all -o json | cmp - "$W/before.json"
}

@test "tables name services, endpoints, waypoints, limits and counters" {
    installed
    run -0 ctl dump maps
    [[ $output == *"shop/cart "*"443"*"10.96.0.11,10.96.0.12"*"failover"*"default/way:15019"* ]]
    [[ $output == *"c//Pod/default/b:8443"* ]]
    [[ $output == *"Waypoints (1)"* ]]
    [[ $output == *"kmesh_frontend"*"131072"*"--max-frontends"* ]]
    [[ $output != *$'\e'* ]]
    run -0 ctl dump maps --service shop/ -o json
    jq -e '[.services[].name] == ["shop/cart"] and .workloads == []' <<<"$output"
    run -0 ctl dump maps kmesh_backend -o json
    jq -e '(has("services") | not) and (.workloads | length == 2)' <<<"$output"
    run -0 ctl dump maps -o json
    jq -e '.counters.steered == 0 and .layout == 1' <<<"$output"
}

@test "dump programs and links show what runs" {
    installed
    run -0 ctl dump programs -o json
    jq -e '[.programs[] | select(.state == "running").hook] ==
        ["sk_msg", "sockops", "connect4", "connect6"]' <<<"$output"
    run -0 ctl dump links -o json
    jq -e '[.links[] | select(.attached).hook] == ["sockops", "connect4", "connect6"]' <<<"$output"
    run -0 ctl dump programs connect4
    [[ $output == *connect4*running* && $output != *sockops* ]]
}

@test "restore --dry-run says what would change, and changes nothing" {
    snapshot
    run -0 ctl restore --dry-run "$UNDER_TEST"
    [[ $output == *"nothing is installed"*"elements would be written"* ]]
    [ ! -e "$KMESH_BPF_ROOT" ]
    ctl restore "$UNDER_TEST"
    ctl dump all -o json >"$W/before.json"
    sed -i 's/10\.96\.0\.12/10.96.0.13/' "$UNDER_TEST"
    run -0 ctl restore --dry-run "$UNDER_TEST"
    [[ $output == *"shop/cart"* ]]
    ctl dump all -o json | cmp - "$W/before.json"
}

@test "restore --only leaves the rest as it is" {
    installed
    sed -e 's/10\.96\.0\.12/10.96.0.13/' -e 's/exemptPorts: .*\]/exemptPorts: [22]/' \
        -i "$UNDER_TEST"
    ctl restore --only settings "$UNDER_TEST"
    ctl dump all -o json | jq -e '.settings.exemptPorts == [22] and
        ([.services[].vips[]?] | index("10.96.0.12"))'
    ctl restore --only services "$UNDER_TEST"
    ctl dump all -o json | jq -e '[.services[].vips[]?] | index("10.96.0.13")'
}

@test "a damaged, newer, unknown or contradictory snapshot is refused before the first write" {
    installed
    ctl dump all -o json >"$W/good.json"
    sed 's/10\.96\.0\.10/10.96.0.99/' "$W/good.json" >"$W/flipped.json"
    head -c 300 "$W/good.json" >"$W/truncated.json"
    jq '.schemaVersion = 99 | del(.checksum)' "$W/good.json" >"$W/newer.json"
    jq '.surprise = 1 | del(.checksum)' "$W/good.json" >"$W/unknown.json"
    jq '.workloads += [.workloads[0]] | del(.checksum)' "$W/good.json" >"$W/twice.json"
    jq '.services[0].endpoints[0].workload = "nobody" | del(.checksum)' "$W/good.json" \
        >"$W/nobody.json"
    : >"$W/empty.json"
    for name in flipped truncated newer unknown twice nobody empty; do
        run -2 --separate-stderr ctl restore "$W/$name.json"
        [ -n "$stderr" ] && [ -z "$output" ]
        run -2 ctl restore "$W/none.json"
    done
    run -2 ctl restore "$W/flipped.json"
    [[ $output == *checksum* ]]
    run -2 ctl restore "$W/newer.json"
    [[ $output == *"newer"* ]]
    ctl dump all -o json | cmp - "$W/good.json"
}

@test "pods whose namespace is gone, or of another boot, are left out and listed" {
    left_by_daemon
    ctl purge --yes
    pod_gone a
    run -0 ctl restore "$UNDER_TEST"
    [[ $output == *"c//Pod/default/a"*"left out: its namespace is gone"* ]]
    jq '.bootId = "another" | del(.checksum)' "$UNDER_TEST" >"$W/other.json"
    run -0 ctl restore "$W/other.json"
    [[ $output == *"1 pods left out: they were saved under another boot"* ]]
    ctl dump pods -o json | jq -e '.pods == []'
}

# ---- the lock ----

@test "restore and purge refuse beside a writer, name its pid, and purge can end it" {
    installed
    bg writer node_exec flock --close "$KMESH_BPF_ROOT" sleep 60
    eventually 5 flock_is_held
    pid=$(bg_pid writer)
    run -2 ctl restore "$UNDER_TEST"
    [[ $output == *"(pid $pid)"*"kill -TERM $pid"* ]]
    run -2 ctl purge --yes
    [[ $output == *"(pid $pid)"*"--stop-daemon"* ]]
    is_good
    run -0 ctl dump
    run -0 ctl purge --yes --stop-daemon
    [[ $output == *"nothing is left"* ]]
}

flock_is_held() {
    ! flock -n "$KMESH_BPF_ROOT" true
}

# ---- verify: one fault, one finding ----

@test "verify: a map's pin missing, the map still in use" {
    installed
    rm "$KMESH_BPF_ROOT/maps/kmesh_service"
    finds error "kmesh_service: its pin is missing; the programs still use the map"
    ctl restore "$UNDER_TEST"
    is_good --against "$UNDER_TEST"
}

@test "verify: a foreign map in the place of a pin" {
    installed
    rm "$KMESH_BPF_ROOT/maps/kmesh_service"
    bpftool map create "$KMESH_BPF_ROOT/maps/kmesh_service" type hash key 4 value 4 entries 1 \
        name stranger
    finds error 'a foreign map "stranger"'
}

@test "verify: a map of another layout" {
    installed
    rm "$KMESH_BPF_ROOT/maps/kmesh_service"
    bpftool map create "$KMESH_BPF_ROOT/maps/kmesh_service" type array key 4 value 16 entries 8 \
        name kmesh_service
    finds error "kmesh_service: the map is of another layout"
}

@test "verify: the layout version differs" {
    installed
    set_element kmesh_meta 0 "$(element kmesh_meta 0 | sed -E 's/^(([0-9a-f]{2} ){8})../\163/')"
    finds error "layout 99"
}

@test "verify: a link missing" {
    installed
    rm "$KMESH_BPF_ROOT/links/connect4"
    finds error "links: connect4: the link is missing"
    ctl restore "$UNDER_TEST"
    is_good
}

@test "verify: a link in another's place" {
    installed
    mv "$KMESH_BPF_ROOT/links/connect4" "$W/bpf/aside"
    mv "$KMESH_BPF_ROOT/links/connect6" "$KMESH_BPF_ROOT/links/connect4"
    mv "$W/bpf/aside" "$KMESH_BPF_ROOT/links/connect6"
    run -1 ctl verify
    [ ${#lines[@]} -eq 2 ]
    [[ ${lines[0]} == "error: pins: "*"/links/connect4: something foreign is pinned in its place"* ]]
    [[ ${lines[1]} == "error: pins: "*"/links/connect6: something foreign is pinned in its place"* ]]
}

links_have_no_cgroup() {
    ctl dump links -o json | jq -e 'all(.links[]; .cgroupId == 0)'
}

@test "verify: the links' cgroup gone" {
    snapshot
    mkdir "$TOP/short"
    ctl --cgroup "$TOP/short" restore "$UNDER_TEST"
    rmdir "$TOP/short"
    # The kernel lets go of the cgroup a little later.
    eventually 10 links_have_no_cgroup
    finds error "sockops, connect4, connect6: the cgroup of the link is gone"
    ctl restore "$UNDER_TEST"
    is_good
}

@test "verify: the links on another cgroup" {
    installed
    mkdir "$TOP/other"
    KMESH_CGROUP=$TOP/other finds error "sockops, connect4, connect6: it is attached to another cgroup"
}

@test "verify: a program's pin missing while it runs" {
    installed
    rm "$KMESH_BPF_ROOT/progs/connect4"
    finds error "progs/connect4: the program's pin is missing; the program still runs"
    ctl restore "$UNDER_TEST"
    is_good
}

@test "verify: sk_msg not attached" {
    installed
    bpftool prog detach pinned "$KMESH_BPF_ROOT/progs/sk_msg" msg_verdict \
        pinned "$KMESH_BPF_ROOT/maps/map_of_kmesh_socket"
    finds error "sk_msg: it is not attached to map_of_kmesh_socket"
    ctl restore "$UNDER_TEST"
    is_good
}

@test "verify: a foreign connect program before ours is a warning" {
    foreign_program
    bpftool cgroup attach "$CG" connect4 pinned "$W/bpf/foreign" multi
    installed
    finds warning 'connect4: a foreign program "foreign"'
    bpftool cgroup detach "$CG" connect4 pinned "$W/bpf/foreign"
    is_good
}

@test "verify: the generation left odd by a writer that died" {
    installed
    set_element kmesh_meta 0 "$(element kmesh_meta 0 | sed -E 's/^(([0-9a-f]{2} ){16})../\1ff/')"
    finds warning "is odd: a writer is at work, or died at work"
    run -0 ctl dump maps
    [[ $output == *"a writer died at work"* ]]
    ctl restore "$UNDER_TEST"
    is_good
}

@test "verify: a frontend that leads to no service" {
    installed
    # A VIP that leads to an index far beyond the last service, with the tag of its key.
    local key word
    key=$(bpftool -j map dump pinned "$KMESH_BPF_ROOT/maps/kmesh_frontend" |
        jq -r '[.[] | select(.key[12:16] == ["0x0a", "0x60", "0x00", "0x0c"])][0]')
    word=$(jq -r '.value | map(ltrimstr("0x")) | "ff 7f 00 00 " + (.[4:8] | join(" "))' <<<"$key")
    # shellcheck disable=SC2046,SC2086 # bytes are words
    bpftool map update pinned "$KMESH_BPF_ROOT/maps/kmesh_frontend" \
        key hex $(jq -r '.key | map(ltrimstr("0x")) | join(" ")' <<<"$key") value hex $word
    finds error "10.96.0.12"
}

@test "verify: a service that counts more slots than it owns" {
    installed
    # The capacity of the record of shop/cart: bytes 24 to 27; its port, 443, are bytes 22 and 23.
    local at record
    at=$(index_of kmesh_service '^([0-9a-f]{2} ){22}bb 01')
    record=$(element kmesh_service "$at")
    set_element kmesh_service "$at" "${record:0:72}00 00 00 00${record:83}"
    finds error "counts: service shop/cart port 443 (IPv4) (record $at): uses 1 slots, owns 0"
}

@test "verify: a slot that leads to no backend" {
    installed
    # The slot at port 8443: bytes 4 and 5.
    local at slot
    at=$(index_of kmesh_endpoint '^([0-9a-f]{2} ){4}fb 20')
    slot=$(element kmesh_endpoint "$at")
    set_element kmesh_endpoint "$at" "ff 7f 00 00${slot:11}"
    finds error "shop/cart"
    ctl restore "$UNDER_TEST"
    is_good --against "$UNDER_TEST"
}

@test "verify: a name that cannot be read" {
    installed
    # shop/cart in the names.
    set_element kmesh_names "$(index_of kmesh_names '^73 68 6f 70 2f')" \
        "ff fe$(printf ' 00%.0s' $(seq 62))"
    finds error "its name cannot be read"
    ctl restore "$UNDER_TEST"
    is_good --against "$UNDER_TEST"
}

@test "verify: an entry without directory, a directory without entry, a namespace gone" {
    left_by_daemon
    rm -r "$KMESH_BPF_ROOT/pods/$COOKIE"
    finds warning "it has an entry in map_of_manager, but no directory"
    ctl restore "$UNDER_TEST"
    is_good
    # shellcheck disable=SC2046 # bytes are words
    bpftool map delete pinned "$KMESH_BPF_ROOT/maps/map_of_manager" key $(le32 "$COOKIE") 0 0 0 0
    finds error "pod c//Pod/default/a: it has a directory, but no entry in map_of_manager"
    ctl restore "$UNDER_TEST"
    is_good
    pod_gone a
    finds warning "pod c//Pod/default/a: its network namespace is gone"
}

@test "verify: a map that is nearly full is a warning that names the option" {
    mkdir -p "$KMESH_BPF_ROOT/maps"
    bpftool map create "$KMESH_BPF_ROOT/maps/kmesh_frontend" type hash key 20 value 8 entries 8 \
        name kmesh_frontend flags 1
    installed
    finds warning "--max-frontends"
}

@test "verify --against names what differs, and -o json has the same findings" {
    installed
    sed -i 's/10\.96\.0\.12/10.96.0.13/' "$UNDER_TEST"
    run -1 ctl verify --against "$UNDER_TEST"
    [[ $output == *"shop/cart"* ]]
    run -1 ctl verify --against - -o json <"$UNDER_TEST"
    jq -e '.findings | length >= 1 and all(.severity and .layer and .object and .problem and .fix)' \
        <<<"$output"
    run -2 ctl verify --against "$W/none.yaml"
}

# ---- purge ----

@test "purge leaves nothing, and the second time has nothing to do" {
    left_by_daemon
    mkdir -p "$KMESH_STATE_DIR" "$KMESH_RUN_DIR"
    touch "$KMESH_STATE_DIR/snapshot.json" "$KMESH_STATE_DIR/.snapshot.json.123" \
        "$KMESH_RUN_DIR/kmeshd.json"
    local ids
    ids=$(kernel_ids)
    [ "$(wc -l <<<"$ids")" -ge 15 ]
    run -0 ctl purge --dry-run
    [[ $output == *"detach connect4"*"remove $KMESH_STATE_DIR/snapshot.json"* ]]
    is_good
    run -0 ctl purge --yes
    [[ $output == *"nothing is left"* ]]
    nothing_left "$ids"
    [ ! -e "$KMESH_BPF_ROOT" ] && [ ! -e "$KMESH_STATE_DIR" ] && [ ! -e "$KMESH_RUN_DIR" ]
    run -0 ctl purge --yes
    [ "$output" = "nothing to do: Kmesh left nothing here" ]
}

@test "purge asks, and off a terminal refuses without --yes" {
    installed
    run -2 --separate-stderr ctl purge </dev/null
    [[ $stderr == *"--yes"* ]]
    is_good
    run script -qec "$KMESH_BIN/kmeshctl purge" /dev/null < <(sleep 0.5; echo n)
    [[ $output == *"[y/N]"*"nothing was removed"* ]]
    is_good
}

@test "purge harms no foreign program, map or pin" {
    foreign_program
    bpftool cgroup attach "$CG" connect4 pinned "$W/bpf/foreign" multi
    installed
    bpftool map create "$W/bpf/kmesh_service" type array key 4 value 32 entries 4 name kmesh_service
    bpftool map create "$W/bpf/stranger" type hash key 4 value 4 entries 4 name stranger
    run -0 ctl purge --yes
    bpftool map show pinned "$W/bpf/kmesh_service"
    bpftool map show pinned "$W/bpf/stranger"
    bpftool -j cgroup show "$CG" | jq -e 'length == 1 and .[0].name == "foreign"'
    bpftool cgroup detach "$CG" connect4 pinned "$W/bpf/foreign"
}

@test "purge leaves a foreign pin among ours alone, and says so with exit 1" {
    installed
    bpftool map create "$KMESH_BPF_ROOT/maps/stranger" type hash key 4 value 4 entries 4 name stranger
    run -1 ctl purge --yes
    [[ $output == *"not Kmesh's, left alone: $KMESH_BPF_ROOT/maps/stranger"* ]]
    [[ $output == *"left: $KMESH_BPF_ROOT/maps/stranger"* ]]
    bpftool map show pinned "$KMESH_BPF_ROOT/maps/stranger"
    [ "$(find "$KMESH_BPF_ROOT" -type f)" = "$KMESH_BPF_ROOT/maps/stranger" ]
}

@test "purge takes a foreign pin out of the place of ours" {
    installed
    rm "$KMESH_BPF_ROOT/maps/kmesh_service"
    bpftool map create "$KMESH_BPF_ROOT/maps/kmesh_service" type hash key 4 value 4 entries 1 \
        name stranger
    run -0 ctl purge --yes
    [[ $output == *"not Kmesh's, in the place of its pin"*"nothing is left"* ]]
}

@test "purge finds what lost its pins through the links at the cgroup" {
    installed
    # Another pin keeps the link; everything of ours is deleted by hand.
    mv "$KMESH_BPF_ROOT/links/connect4" "$W/bpf/elsewhere"
    rm -r "$KMESH_BPF_ROOT"
    run -1 ctl purge --yes
    [[ $output == *"detach connect4 (link "* ]]
    [[ $output == *"left: link "*"it is pinned elsewhere"* ]]
    bpftool -j cgroup show "$CG" | jq -e 'length == 0'
    rm "$W/bpf/elsewhere"
    run -0 ctl purge --yes
}

@test "purge names the process that still holds a map" {
    installed
    # bpftool keeps the map open while its output is not read.
    mkfifo "$W/fifo"
    bg reader node_exec sh -c "exec bpftool map dump pinned '$KMESH_BPF_ROOT/maps/kmesh_names' >'$W/fifo'"
    exec 9<"$W/fifo"
    eventually 5 grep -qs map_id "/proc/$(bg_pid reader)/fdinfo/3"
    run -1 ctl purge --yes
    [[ $output == *"left: map kmesh_names (id "*"held open by bpftool (pid $(bg_pid reader))"* ]]
    exec 9<&-
    eventually 5 reader_is_gone
    run -0 ctl purge --yes
}

reader_is_gone() {
    ! bg_alive reader
}

@test "purge killed at any instant is finished by the next" {
    for tenths in 1 2 3 4 5 6 7 8; do
        installed
        timeout -s KILL "0.00$tenths" "$KMESH_BIN/kmeshctl" purge --yes >"$W/log/killed" 2>&1 || true
        run -0 ctl purge --yes
        [ ! -e "$KMESH_BPF_ROOT" ]
    done
}
