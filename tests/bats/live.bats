#!/usr/bin/env bats
# shellcheck disable=SC2154 # set by lib.bash
# Live connections under the real daemon: when what let them in has changed, exactly those that would
# be denied now end, and no other.

load lib
load traffic

CLIENT=10.77.0.2
OTHER=10.77.0.3
A=10.77.0.11

setup() {
    world_begin
    mkdir "$W/release"
    pod client $CLIENT fd77::2
    pod other $OTHER fd77::3
    pod a $A fd77::11
    hear a a 8080
}

teardown() {
    world_end
}

# ---- meshes ----

# mesh_of A_MORE POLICY…: client and other are known by the accounts of their names, or by what
# CLIENT_ACCOUNT says; A_MORE is added to workload a (JSON).
mesh_of() {
    local more=$1
    shift
    jq -n --arg account "${CLIENT_ACCOUNT-client}" --argjson more "$more" '
        def pod($name; $account; $ips): {uid: "Kubernetes//Pod/default/\($name)", name: $name,
            namespace: "default", serviceAccount: $account, workloadIps: $ips, services: {}};
        {workloads: [pod("client"; $account; ["10.77.0.2", "fd77::2"]),
            pod("other"; "other"; ["10.77.0.3", "fd77::3"]),
            pod("a"; "a"; ["10.77.0.11", "fd77::11"]) + $more],
         policies: $ARGS.positional}' --jsonargs "$@" | mesh
}

# enrolled [JSON]: workload a is governed
enrolled() {
    jq -cn --arg netns "$W/netns/a" --argjson more "${1-"{}"}" '{netns: $netns} + $more'
}

# deny ACCOUNT: a policy of the namespace
deny() {
    jq -cn --arg who "cluster.local/ns/default/sa/$1" '{name: "deny-\($who | split("/")[-1])",
        namespace: "default", scope: "Namespace", action: "Deny",
        rules: [[[{principals: [{Exact: $who}]}]]]}'
}

# allow_known: only who has an identity
allow_known() {
    jq -cn '{name: "known", namespace: "default", scope: "Namespace", action: "Allow",
        rules: [[[{principals: ["Presence"]}]]]}'
}

# ---- connections ----

# The client's input ends when the test says so, or is over.
held() {
    local name=$1 pod=$2
    shift 2
    pod_exec "$pod" timeout 120 "$TRAFFIC" dial "$@" --way hold < <(
        while [ -d "$W/release" ] && [ ! -e "$W/release/$name" ]; do sleep 0.05; done
    )
}

# hold NAME POD ADDR:PORT [OPTION…]: a connection that stands until it is let go.
hold() {
    bg "hold-$1" held "$@"
    eventually 10 grep -q connected "$W/log/hold-$1"
}

# alive NAME: it is let go, and was alive until then.
alive() {
    touch "$W/release/$1"
    eventually 10 grep -q "a from .* heard 68656c6c6f" "$W/log/hold-$1"
}

# was_cut NAME PEER: the pod's end is gone by itself; the client's saw a reset.
was_cut() {
    eventually 10 apart "$2"
    touch "$W/release/$1"
    eventually 10 grep -qiE "reset by peer|broken pipe|not connected" "$W/log/hold-$1"
}

# joined PEER, apart PEER: has the pod a connection from there?
joined() {
    in_pod a ss -Htn state established | grep -qF "$1"
}

apart() {
    ! joined "$1"
}

ended() {
    metrics | awk '/^kmesh_live_ended/ { sum += $2 } END { print sum + 0 }'
}

has_ended() {
    [ "$(ended)" -eq "$1" ]
}

notes() {
    bpftool -j map dump pinned "$KMESH_BPF_ROOT/maps/$1" | jq length
}

@test "a policy ends exactly what it denies" {
    mesh_of "$(enrolled)"
    daemon_up
    hold client4 client $A:8080
    hold client6 client '[fd77::11]:8080'
    hold other4 other $A:8080
    hold other6 other '[fd77::11]:8080'
    mesh_of "$(enrolled)" "$(deny client)"
    was_cut client4 "$CLIENT:"
    was_cut client6 "[fd77::2]:"
    alive other4
    alive other6
    [ "$(ended)" -eq 2 ]
    [ "$(notes map_of_auth)" -eq 0 ]
    log_says "ended a live connection that policies deny"
}

@test "an identity that changes ends what its address has open" {
    mesh_of "$(enrolled)" "$(deny bad)"
    daemon_up
    hold client client $A:8080
    hold other other $A:8080
    [ "$(notes map_of_tuple)" -eq 2 ]
    CLIENT_ACCOUNT=bad mesh_of "$(enrolled)" "$(deny bad)"
    was_cut client "$CLIENT:"
    alive other
    eventually 10 [ "$(notes map_of_tuple)" -eq 0 ]
}

@test "a pod that is enrolled with connections open" {
    mesh_of '{}' "$(deny client)"
    daemon_up
    hold client client $A:8080
    hold other other $A:8080
    mesh_of "$(enrolled)" "$(deny client)"
    was_cut client "$CLIENT:"
    alive other
}

@test "a policy that came while the daemon was away" {
    mesh_of "$(enrolled)"
    daemon_up
    hold client client $A:8080
    hold other other $A:8080
    daemon_stop KILL
    mesh_of "$(enrolled)" "$(deny client)"
    sleep 0.3
    joined "$CLIENT:"
    daemon_up
    was_cut client "$CLIENT:"
    alive other
}

@test "bypass lifts everything, and its end judges again" {
    mesh_of "$(enrolled '{"bypass": true}')" "$(deny client)"
    daemon_up
    hold client client $A:8080
    hold more client $A:8080
    sleep 0.5
    alive more
    mesh_of "$(enrolled)" "$(deny client)"
    was_cut client "$CLIENT:"
}

@test "probes of the host, the pod's own and dialled connections live on" {
    hear client client 8080
    mesh_of "$(enrolled)"
    daemon_up
    hold probe node $A:8080
    hold own a $A:8080
    hold out a $CLIENT:8080
    hold other other $A:8080
    mesh_of "$(enrolled)" "$(deny client)" "$(allow_known)" \
        "$(deny other)"
    was_cut other "$OTHER:"
    alive probe
    alive own
    touch "$W/release/out"
    eventually 10 grep -q "client from" "$W/log/hold-out"
    [ "$(ended)" -eq 1 ]
}

# xdp_at POD: does a program stand at its interface?
xdp_at() {
    in_pod "$1" ip link show eth0 | grep -q xdpgeneric
}

no_xdp_at() {
    ! xdp_at "$1"
}

@test "--revoke=xdp ends exactly what a policy denies, and nothing of it stays" {
    mesh_of "$(enrolled)"
    daemon_up --revoke=xdp
    hold client4 client $A:8080
    hold client6 client '[fd77::11]:8080'
    hold other4 other $A:8080
    mesh_of "$(enrolled)" "$(deny client)"
    eventually 10 xdp_at a
    eventually 10 has_ended 2
    # a restart finds it there
    daemon_stop KILL
    daemon_up --revoke=xdp
    xdp_at a
    ctl verify
    # with the next packet of the client
    touch "$W/release/client4"
    eventually 10 apart "$CLIENT:"
    joined "[fd77::2]:"
    alive other4
    # another way of ending takes it away, and what is still to end with it
    daemon_stop
    daemon_up --revoke=destroy
    was_cut client6 "[fd77::2]:"
    eventually 10 no_xdp_at a
    [ "$(notes map_of_auth)" -eq 0 ]
    in_sync
}

@test "purge takes the XDP program of --revoke=xdp away" {
    mesh_of "$(enrolled)"
    daemon_up --revoke=xdp
    hold client client $A:8080
    mesh_of "$(enrolled)" "$(deny client)"
    eventually 10 xdp_at a
    daemon_stop
    run -0 ctl purge --yes
    [[ $output == *"xdp at interface"* ]]
    no_xdp_at a
    alive client
    run -0 ctl purge --yes
    [ "$output" = "nothing to do: Kmesh left nothing here" ]
}
