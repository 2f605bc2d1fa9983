# shellcheck shell=bash
# shellcheck disable=SC2154,SC2034 # set by lib.bash; used by the suite
# A real istiod in the node's namespace before a Kubernetes that the suite fills; what the tables say
# of it. Stands on tests/bats/lib.bash, town.bash and traffic.bash.

XDS=http://127.0.0.1:15010
XDS_TLS=https://127.0.0.1:15012

# ---- istiod, and what it is told ----

# istiod_start [NAME=VALUE…]: with these variables; nodes, namespaces and the waypoints' class exist.
istiod_start() {
    rm -f "$W/kube.sock"
    bg istiod node_exec env "$@" "$KMESH_ISTIOD" --grpc 127.0.0.1:15010 --tls 127.0.0.1:15012 \
        --root "$W/root.pem" --control "$W/kube.sock"
    eventually 30 test -S "$W/kube.sock"
    {
        node node1 r1/z1
        node node2 r1/z2
        node node3 r2/z3
        namespace_object istio-system
        namespace_object default
        namespace_object other
        jq -n '{apiVersion: "gateway.networking.k8s.io/v1", kind: "GatewayClass",
            metadata: {name: "istio-waypoint"}, spec: {controllerName: "istio.io/mesh-controller"}}'
    } | apply
}

# Documents on stdin, JSON or YAML, become so.
apply() {
    documents | curl -sS --fail-with-body --unix-socket "$W/kube.sock" --data-binary @- http://kube/apply
}

# The objects on stdin are gone.
removed() {
    documents | curl -sS --fail-with-body --unix-socket "$W/kube.sock" --data-binary @- http://kube/delete
}

# delete KIND NAME: it is gone.
delete() {
    object "$@" | removed
}

# JSON values get lines between them; YAML has them already.
documents() {
    local text
    text=$(cat)
    if [[ $text == '{'* ]]; then jq -c . <<<"$text" | sed 's/^/---\n/'; else echo "$text"; fi
}

declare -gA GROUP=(
    [Pod]=v1 [Service]=v1 [Namespace]=v1 [Node]=v1 [EndpointSlice]=discovery.k8s.io/v1
    [ServiceEntry]=networking.istio.io/v1 [WorkloadEntry]=networking.istio.io/v1
    [AuthorizationPolicy]=security.istio.io/v1 [PeerAuthentication]=security.istio.io/v1
    [Gateway]=gateway.networking.k8s.io/v1
)

# object KIND NAME [JSON]: in namespace default, or where the name says: `namespace/name`. The JSON
# is merged in, deep.
object() {
    local name=${2#*/} namespace=default
    [[ $2 != */* ]] || namespace=${2%%/*}
    jq -n --arg group "${GROUP[$1]}" --arg kind "$1" --arg name "$name" --arg namespace "$namespace" \
        --argjson more "${3-"{}"}" '{apiVersion: $group, kind: $kind,
            metadata: {name: $name, namespace: $namespace}} * $more'
}

# node NAME REGION/ZONE
node() {
    jq -n --arg name "$1" --arg region "${2%/*}" --arg zone "${2#*/}" '{apiVersion: "v1", kind: "Node",
        metadata: {name: $name, labels: {"topology.kubernetes.io/region": $region,
            "topology.kubernetes.io/zone": $zone}}}'
}

# namespace_object NAME [LABELS]
namespace_object() {
    jq -n --arg name "$1" --argjson more "${2-"{}"}" '{apiVersion: "v1", kind: "Namespace",
        metadata: {name: $name, labels: ({"istio.io/dataplane-mode": "ambient"} + $more)}}'
}

# pod_object [NAMESPACE/]NAME [JSON]: ready, on node1, label app = its name and set = web, at the
# addresses of the test's pod of that name.
pod_object() {
    local ips
    ips=$(cat "$W/addresses/${1#*/}" 2>/dev/null) || true
    object Pod "$1" "$(jq -n --arg name "${1#*/}" --arg ips "$ips" --argjson more "${2-"{}"}" '
        ($ips | split(" ") | map(select(. != "") | {ip: .})) as $ips | {
            metadata: {labels: {app: $name, set: "web"}},
            spec: {nodeName: "node1", serviceAccountName: $name,
                containers: [{name: "c", image: "i", ports: [{name: "http", containerPort: 8080, protocol: "TCP"}]}]},
            status: {phase: "Running", podIP: $ips[0].ip, podIPs: $ips,
                conditions: [{type: "Ready", status: "True"}]},
        } * $more')"
}

NOT_READY='{"status": {"conditions": [{"type": "Ready", "status": "False"}]}}'

# service_object [NAMESPACE/]NAME IP[,IP] [JSON]: port 80 leads to 8080 of the pods of set = web.
service_object() {
    object Service "$1" "$(jq -n --arg ips "$2" --argjson more "${3-"{}"}" '
        ($ips | split(",")) as $ips | {spec: {
            type: "ClusterIP", clusterIP: $ips[0], clusterIPs: $ips,
            ipFamilies: ($ips | map(if contains(":") then "IPv6" else "IPv4" end)),
            selector: {set: "web"},
            ports: [{name: "http", port: 80, targetPort: 8080, protocol: "TCP"}],
        }} * $more')"
}

# web POD…: service web at WEB4 and WEB6, and these pods of it.
web() {
    {
        service_object web 10.96.0.10,fd96::10
        for pod in "$@"; do pod_object "$pod"; done
    } | apply
}

# ---- the daemon ----

# governed_by_istiod POD…: the mesh file names these pods' namespaces; what they are, istiod says.
governed_by_istiod() {
    govern "$@"
    daemon_up --xds "$XDS"
}

govern() {
    local pod
    for pod in "$@"; do
        jq -n --arg name "$pod" --arg netns "$W/netns/$pod" \
            '{name: $name, namespace: "default", netns: $netns}'
    done | jq -s '{workloads: .}' | mesh
}

# Nothing that istiod ever said was refused.
nothing_refused() {
    ! grep -F 'refused of' "$W/log/kmeshd" || { fail "the daemon refused something"; return 1; }
    # istiod's own view: it logs each rejection.
    grep -q 'WDS: PUSH' "$W/log/istiod" || { fail "istiod never pushed"; return 1; }
    ! grep -E 'ACK ERROR' "$W/log/istiod" || fail "istiod heard a rejection"
}

# ---- what the tables say ----

# said NAME PORT [FAMILY [KIND]]: `a:8080 b:8080`, by the last part of the uid, sorted; `via NAME`
# where there is a waypoint; the mode, where it is another than standard; `-`: no such record.
said() {
    local name=$1
    [[ $name == */* ]] || name=default/$name.default.svc.cluster.local
    ctl dump all -o json | jq -r --arg name "$name" --argjson port "$2" --arg family "${3-ipv4}" \
        --arg kind "${4-service}" '
        [.services[] | select(.name == $name and .port == $port and .family == $family and .kind == $kind)]
        | if . == [] then "-" else .[0] | [
            (.endpoints[]? | (.workload | split("/")[-1]) + ":\(.port)" +
                if .family != $family then "!" else "" end),
            (if .mode and .mode != "standard" then .mode else empty end),
            (if .waypoint then "via \(.waypoint.name)" else empty end),
            (if .synced then empty else "unsynced" end)] | join(" ") end'
}

# says_of TEXT NAME PORT [FAMILY [KIND]]
says_of() {
    local want=$1 got
    shift
    got=$(said "$@")
    [ "$got" = "$want" ] || fail "the tables say '$got' of $*, not '$want'"
}

# becomes TEXT NAME PORT [FAMILY [KIND]]: soon
becomes() {
    eventually 10 says_of "$@"
}

# A change that was made earlier is in force: istiod sends them in their order, many at a time.
settled() {
    MARK=$((${MARK-0} + 1))
    service_object "mark-$MARK" "10.96.200.$MARK" '{"metadata": {"labels": {"istio.io/use-waypoint": "none"}},
        "spec": {"selector": {"set": "none"}}}' | apply
    becomes "" "mark-$MARK" 80
}

# workload_says JQ-FILTER NAME: of the workload whose uid ends so
workload_says() {
    ctl dump all -o json | jq -e --arg name "$2" \
        "[.workloads[] | select(.uid | endswith(\$name))] | $1" >/dev/null ||
        fail "not true of workload $2: $1: $(ctl dump all -o json | jq -c --arg name "$2" \
            '[.workloads[] | select(.uid | endswith($name))]')"
}
