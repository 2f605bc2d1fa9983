# shellcheck shell=bash
# shellcheck disable=SC2154 # set by lib.bash
# A control plane in the node's namespace, and the town as it says it. Stands on lib.bash and
# town.bash.

XDS=http://127.0.0.1:15010

# plane_start [OPTION…]: a control plane that serves nothing yet.
plane_start() {
    bg plane node_exec "$KMESH_BIN/kmesh-fake-istiod" serve --listen 127.0.0.1:15010 \
        --control "$W/plane.sock" "$@"
    eventually 5 plane_tell '"report"'
}

# plane_tell JSON
plane_tell() {
    "$KMESH_BIN/kmesh-fake-istiod" tell "$W/plane.sock" "$1"
}

# heard FILTER: does what the control plane has heard satisfy it?
heard() {
    plane_tell '"report"' | jq -e "$1" >/dev/null
}

# plane_workload POD [FIELD…]: JSON of a workload that serves web.
plane_workload() {
    local v4 v6
    read -r v4 v6 <"$W/addresses/$1"
    jq -cn --arg name "$1" --arg v4 "$v4" --arg v6 "$v6" '{
        uid: "Kubernetes//Pod/default/\($name)", namespace: "default", account: $name,
        node: "node1", ips: [$v4, $v6],
        services: {"default/web.default.svc.cluster.local": {"80": 8080}}} + ($ARGS.named.more // {})' \
        --argjson more "${2-null}"
}

# plane_web POD…: service web with these endpoints.
plane_web() {
    local name
    for name in "$@"; do plane_workload "$name"; done | jq -cs '{set: {workloads: ., services: [{
        namespace: "default", hostname: "web.default.svc.cluster.local",
        vips: ["10.96.0.10", "fd96::10"], ports: {"80": 8080}}]}}' >"$W/command"
    plane_tell "$(<"$W/command")"
}

plane_remove() {
    plane_tell "{\"set\":{\"remove\":[\"Kubernetes//Pod/default/$1\"]}}"
}

# The mesh file names the governed pod, the control plane everything else.
client_mesh() {
    mesh_begin
    sed -i 's/services:/services: []/' "$W/mesh.services"
    enrolled client
    mesh_end
}

xds_up() {
    daemon_up --xds "$XDS" "$@"
}

# The value of a metric.
metric() {
    metrics | sed -n "s/^$1 //; T; s/\.0$//; p"
}

metric_is() {
    [ "$(metric "$1")" = "$2" ]
}

# names_only NAME…: the VIP is answered by exactly these.
names_only() {
    answered_by client "$WEB4" 20 "$@"
}
