#!/usr/bin/env bats
# The daemon may die at any moment, and anything may change while it is away: no connection
# notices. Each test runs the prober across what it does.

load lib
load town

setup() {
    world_begin
}

teardown() {
    world_end
}

# ---- the same thing again ----

@test "SIGTERM, SIGKILL and SIGABRT, then a start: no connection notices" {
    town
    web_mesh a b c
    daemon_up
    probe_web a,b,c --every-ms 2
    local signal
    for signal in TERM KILL ABRT; do
        daemon_stop "$signal"
        sleep 0.3
        daemon_up
        sleep 0.2
    done
    in_sync
    prober_stop 300
}

@test "SIGTERM ends the daemon within a second and with status 0" {
    town
    web_mesh a b c
    daemon_up
    local began=${EPOCHREALTIME/./}
    daemon_stop TERM
    # shellcheck disable=SC2153 # set by stop_bg
    [ "$STATUS" -eq 0 ]
    [ $((${EPOCHREALTIME/./} - began)) -lt 1000000 ]
    answered_by client "$WEB4" 20 a b c
}

@test "a second start of the same thing writes nothing to any map" {
    small_tables
    town
    web_mesh a b c
    daemon_up
    daemon_stop TERM
    start_writes_nothing
    daemon_up
    daemon_stop KILL
    start_writes_nothing
    answered_by client "$WEB4" 20 a b c
}

@test "25 kills at random instants of start, sync and reload: no connection notices" {
    town
    web_mesh a b c
    daemon_up
    probe_web a,b,c --every-ms 3
    daemon_stop KILL
    kill_storm 25
    web_mesh a b
    expect_web a,b,c
    daemon_up
    expect_web a,b
    sleep 0.3
    in_sync
    prober_stop 1000
}

@test "kills during the very first start: steered or not, never anywhere else" {
    town
    web_mesh a b c
    probe_web a,b,c,leak --every-ms 3
    local number
    for number in $(seq 10); do
        daemon_start
        sleep "0.0$((RANDOM % 10))$number"
        daemon_stop KILL
    done
    daemon_up
    expect_web a,b,c
    sleep 0.3
    in_sync
    prober_stop 100
}

# ---- the mesh changed meanwhile ----

@test "an endpoint went while the daemon was dead" {
    town
    web_mesh a b c
    daemon_up
    probe_web a,b,c
    changed_while_dead a,b,c a,b web_mesh a b
    in_sync
    prober_stop 100
}

@test "an endpoint came while the daemon was dead" {
    town
    web_mesh a b
    daemon_up
    probe_web a,b
    changed_while_dead a,b a,b,c web_mesh a b c
    in_sync
    prober_stop 100
    answered_by client "$WEB4" 60 a b c
}

@test "the last endpoint went while the daemon was dead: refused, not leaked" {
    town
    web_mesh a
    daemon_up
    probe_web a
    changed_while_dead a refused web_mesh
    prober_stop 100
    answered_by client "$WEB4" 3 refused
}

without_web() {
    mesh_begin
    enrolled client
    mesh_end
}

@test "the service went while the daemon was dead" {
    town
    web_mesh a b c
    daemon_up
    probe_web a,b,c
    changed_while_dead a,b,c leak without_web
    in_sync
    prober_stop 100
}

moved_vip() {
    mesh_begin
    service web 10.96.0.20 fd96::20
    enrolled client
    workload a web
    workload b web
    mesh_end
}

@test "the VIP moved while the daemon was dead" {
    town
    web_mesh a b
    daemon_up
    probe_web a,b --target "moved=10.96.0.20:80=leak"
    daemon_stop KILL
    moved_vip
    sleep 0.2
    expect_web a,b,leak
    prober_tell expect moved leak,a,b
    daemon_up
    expect_web leak
    prober_tell expect moved a,b
    sleep 0.2
    in_sync
    prober_stop 100
}

moved_pod() {
    mesh_begin
    service web 10.96.0.10 fd96::10
    enrolled client
    ADDRESSES="10.77.0.41 fd77::41" workload a web
    mesh_end
}

@test "a pod's address moved while the daemon was dead" {
    town
    pod elsewhere 10.77.0.41 fd77::41
    serve elsewhere elsewhere 8080
    web_mesh a
    daemon_up
    probe_web a
    changed_while_dead a elsewhere moved_pod
    in_sync
    prober_stop 100
}

waypoint_mesh() {
    mesh_begin
    service web 10.96.0.10 fd96::10
    also 'waypoint: {destination: default/waypoint.default.svc.cluster.local}'
    service waypoint 10.96.0.15 fd96::15
    enrolled client
    workload a web
    workload w waypoint
    mesh_end
}

@test "a waypoint came while the daemon was dead" {
    town
    pod w 10.77.0.51 fd77::51
    waypoint w w 15019
    web_mesh a
    daemon_up
    probe_web a
    changed_while_dead a w waypoint_mesh
    in_sync
    prober_stop 100
}

pod_came() {
    mesh_begin
    service web 10.96.0.10 fd96::10
    enrolled client
    enrolled second
    workload a web
    mesh_end
}

@test "a pod was enrolled and another let go while the daemon was dead" {
    town
    pod second 10.77.0.61 fd77::61
    web_mesh a
    daemon_up
    answered_by second "$WEB4" 3 leak
    daemon_stop KILL
    pod_came
    daemon_up
    answered_by second "$WEB4" 3 a
    answered_by client "$WEB4" 3 a
    daemon_stop KILL
    web_mesh a
    daemon_up
    answered_by second "$WEB4" 3 leak
    answered_by client "$WEB4" 3 a
}

@test "a pod's namespace died while the daemon was dead: its record goes" {
    town
    pod second 10.77.0.61 fd77::61
    pod_came
    daemon_up
    answered_by second "$WEB4" 3 a
    [ "$(bpftool -j map dump pinned "$KMESH_BPF_ROOT/maps/map_of_manager" | jq length)" -eq 2 ]
    daemon_stop KILL
    pod_gone second
    web_mesh a
    daemon_up
    [ "$(bpftool -j map dump pinned "$KMESH_BPF_ROOT/maps/map_of_manager" | jq length)" -eq 1 ]
    [ "$(find "$KMESH_BPF_ROOT/pods" -mindepth 1 -maxdepth 1 | wc -l)" -eq 1 ]
    answered_by client "$WEB4" 3 a
}

# ---- the mesh file is no help ----

stays_unready() {
    local tries
    for tries in $(seq 20); do
        bg_alive kmeshd || { fail "the daemon ended at look $tries"; return 1; }
        ! daemon_is_ready || { fail "the daemon says it is ready"; return 1; }
        sleep 0.05
    done
}

@test "a broken mesh file at the start: the last state stays, the daemon is not ready" {
    town
    web_mesh a b c
    daemon_up
    probe_web a,b,c
    daemon_stop KILL
    echo 'workloads: [{nonsense: 1}]' | mesh
    daemon_start
    stays_unready
    log_says "line 1 column"
    in_node curl -sf -m 2 -o /dev/null "http://$KMESH_ADMIN/healthz/live"
    expect_web a,b,c
    web_mesh a b
    daemon_ready
    expect_web a,b
    sleep 0.2
    in_sync
    prober_stop 100
}

@test "no mesh file at the start: the last state stays, the daemon is not ready" {
    town
    web_mesh a b c
    daemon_up
    probe_web a,b,c
    daemon_stop KILL
    rm "$MESH"
    daemon_start
    stays_unready
    log_says "$MESH"
    web_mesh a b
    daemon_ready
    expect_web a,b
    sleep 0.2
    prober_stop 100
}

# ---- reboot ----

# Everything in the kernel goes; the state dir stays; the boot id is another.
reboot() {
    local ids
    ids=$(kernel_ids)
    umount "$W/bpf"
    mount -t bpf -o mode=0700 "kmesh-${W##*.}" "$W/bpf"
    nothing_left "$ids"
    rm -rf "$KMESH_RUN_DIR"
    cat /proc/sys/kernel/random/uuid >"$W/boot_id"
}

# The daemon in a mount namespace of its own, where the boot id is the new one.
daemon_start_after_reboot() {
    # shellcheck disable=SC2016 # expanded in there
    bg kmeshd node_exec unshare --mount sh -c \
        'mount --bind "$1/boot_id" /proc/sys/kernel/random/boot_id; exec "$2/kmeshd" --mesh "$3"' \
        sh "$W" "$KMESH_BIN" "$MESH"
}

@test "after a reboot without a mesh file: the model is back from the snapshot, pods are not" {
    town
    web_mesh a b c
    daemon_up
    daemon_stop TERM
    reboot
    rm "$MESH"
    daemon_start_after_reboot
    eventually 5 says "default/web.default.svc.cluster.local" ctl dump maps
    stays_unready
    [ "$(bpftool -j map dump pinned "$KMESH_BPF_ROOT/maps/map_of_manager" | jq length)" -eq 0 ]
    answered_by client "$WEB4" 3 leak
    web_mesh a b
    daemon_ready
    answered_by client "$WEB4" 40 a b
    in_sync
}

@test "after a reboot with the mesh file: as before" {
    town
    web_mesh a b c
    daemon_up
    daemon_stop KILL
    reboot
    daemon_start_after_reboot
    daemon_ready
    answered_by client "$WEB4" 60 a b c
    answered_by client "$WEB6" 60 a b c
    in_sync
}

@test "after a reboot a damaged snapshot is told and not used" {
    town
    web_mesh a b c
    daemon_up
    daemon_stop TERM
    reboot
    find "$KMESH_STATE_DIR" -type f -exec sed -i 's/10\.96\.0\.10/10.96.0.66/' {} +
    daemon_start_after_reboot
    daemon_ready
    answered_by client "$WEB4" 60 a b c
    answered_by client 10.96.0.66:80 3 leak
    log_says checksum
}

# ---- pins ----

map_id() {
    bpftool -j map show pinned "$KMESH_BPF_ROOT/maps/$1" | jq .id
}

@test "a pin was deleted: the very map that the programs use is pinned again" {
    town
    web_mesh a b c
    daemon_up
    probe_web a,b,c
    local name before
    for name in kmesh_service kmesh_frontend map_of_manager kmesh_meta; do
        daemon_stop KILL
        before=$(map_id "$name")
        rm "$KMESH_BPF_ROOT/maps/$name"
        daemon_up
        # kmesh_meta is used by no program: nothing holds it once its pin is gone.
        [ "$name" = kmesh_meta ] || [ "$(map_id "$name")" = "$before" ]
    done
    in_sync
    prober_stop 100
}

@test "a program's or link's pin was deleted: pinned again, never a gap" {
    town
    web_mesh a b c
    daemon_up
    probe_web a,b,c
    daemon_stop KILL
    rm "$KMESH_BPF_ROOT/progs/connect4"
    daemon_up
    in_sync
    prober_stop 100
    ctl verify
}

# The daemon refuses: it ends with an error, or stays without being ready.
refuses() {
    daemon_start
    eventually 10 log_says "$1"
    log_says kmeshctl
    if daemon_is_ready; then fail "the daemon says it is ready"; fi
    daemon_stop KILL
}

@test "a foreign map in the place of a pin: refused by name, left alone, traffic goes on" {
    town
    web_mesh a b c
    daemon_up
    probe_web a,b,c
    daemon_stop KILL
    local pin=$KMESH_BPF_ROOT/maps/kmesh_service id
    rm "$pin"
    bpftool map create "$pin" type array key 4 value 8 entries 4 name foreign
    id=$(map_id kmesh_service)
    bpftool map update pinned "$pin" key 1 0 0 0 value 9 9 9 9 9 9 9 9
    refuses "$pin"
    [ "$(map_id kmesh_service)" = "$id" ]
    [ "$(bpftool -j map lookup pinned "$pin" key 1 0 0 0 | jq -r '.value[0]')" = 0x09 ]
    rm "$pin"
    daemon_up
    in_sync
    prober_stop 100
}

@test "a map of another layout: refused by name, left alone, traffic goes on" {
    town
    web_mesh a b c
    daemon_up
    probe_web a,b,c
    daemon_stop KILL
    local pin=$KMESH_BPF_ROOT/maps/kmesh_meta value other
    value=$(bpftool -j map lookup pinned "$pin" key 0 0 0 0 | jq -r '.value | join(" ")')
    # The layout version is the u32 at offset 8.
    other=$(awk '{ $9 = "0x63"; print }' <<<"$value")
    # shellcheck disable=SC2086 # one word a byte
    bpftool map update pinned "$pin" key 0 0 0 0 value $other
    refuses layout
    # shellcheck disable=SC2086
    bpftool map update pinned "$pin" key 0 0 0 0 value $value
    daemon_up
    in_sync
    prober_stop 100
}

@test "the cgroup of the links is gone: attached anew" {
    town
    export KMESH_CGROUP=$CG/client
    web_mesh a b c
    daemon_up
    answered_by client "$WEB4" 40 a b c
    daemon_stop KILL
    rmdir "$CG/client"
    mkdir "$CG/client"
    answered_by client "$WEB4" 3 leak
    daemon_up
    answered_by client "$WEB4" 40 a b c
    in_sync
    ctl verify
}

# ---- leaving ----

@test "purge leaves nothing, and purging twice is fine" {
    town
    web_mesh a b c
    daemon_up
    local ids
    ids=$(kernel_ids)
    [ -n "$ids" ]
    run ctl purge --yes
    [ "$status" -ne 0 ]
    answered_by client "$WEB4" 40 a b c
    daemon_stop TERM
    ctl purge --yes
    nothing_left "$ids"
    [ ! -e "$KMESH_BPF_ROOT" ]
    [ ! -e "$KMESH_STATE_DIR" ]
    [ ! -e "$KMESH_RUN_DIR" ]
    answered_by client "$WEB4" 3 leak
    ctl purge --yes
    daemon_up
    answered_by client "$WEB4" 40 a b c
}

@test "a second daemon is refused and told who holds the lock" {
    town
    web_mesh a b c
    daemon_up
    local pid
    pid=$(bg_pid kmeshd)
    run in_node "$KMESH_BIN/kmeshd" --mesh "$MESH" --admin 127.0.0.1:15299
    [ "$status" -ne 0 ]
    [[ $output == *"$pid"* ]]
    daemon_is_ready
}
