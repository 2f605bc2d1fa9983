# shellcheck shell=bash
# shellcheck disable=SC2034,SC2119,SC2120,SC2153 # set and called by the suites
# A small machine of its own for each test: a BPF file system, a branch of the cgroup2 tree, a node
# namespace with a bridge, pods (network namespaces) linked to it, a daemon whose directories are
# all private. `world_begin` in setup(), `world_end` in teardown(): the latter ends every process
# by its pid, removes everything, and fails if anything of the test is left in the kernel.
#
# It refuses to touch what is not its own: the root of the cgroup2 tree, /sys/fs/bpf, the host's
# network namespace.
#
#   node (10.77.0.1, fd77::1)  the daemon runs here; so does `leak`, a server that answers on every
#     │ bridge                 VIP (10.96.0.0/16, fd96::/64): a connection that nobody steered
#     ├── client  10.77.0.x    lands there and is known as ungoverned
#     └── server  10.77.0.y
#
# Paths: $W/{bpf,netns,log,state,run}; $TOP, the test's branch of the cgroup2 tree; $CG = $TOP/mesh,
# the cgroup that Kmesh governs, with one child for each pod.

# ---- the world ----

# Where everything of this test lies; set by world_begin.
W=
# Where the binaries are.
REPOSITORY=$(readlink -f "${BASH_SOURCE[0]%/*}/../..")
: "${KMESH_BIN:=${CARGO_TARGET_DIR:-$REPOSITORY/target}/debug}"
export KMESH_BIN REPOSITORY

cgroup2_mount() {
    awk '{ for (i = 7; i < NF; i++) if ($i == "-" && $(i + 1) == "cgroup2") { print $5; exit } }' \
        /proc/self/mountinfo
}

world_begin() {
    local mount
    [ "$(id -u)" -eq 0 ] || fail "the suites need root" || return 1
    [ -x "$KMESH_BIN/kmeshd" ] || { echo "no kmeshd in $KMESH_BIN: run just build" >&2; return 1; }
    mount=$(cgroup2_mount)
    [ -n "$mount" ] || { echo "no cgroup2 mount in /proc/self/mountinfo" >&2; return 1; }
    W=$(mktemp -d "${TMPDIR:-/tmp}/kmesh-test.XXXXXX")
    mkdir "$W"/{bpf,netns,addresses,pids,log,ready,state,run}
    mount -t bpf -o mode=0700 "kmesh-${W##*.}" "$W/bpf"
    TOP=$mount/${W##*/}
    CG=$TOP/mesh
    mkdir -p "$TOP/node" "$CG/node"
    MESH=$W/mesh.yaml
    export W TOP CG MESH
    export KMESH_BPF_ROOT=$W/bpf/kmesh KMESH_CGROUP=$CG
    export KMESH_STATE_DIR=$W/state/kmesh KMESH_RUN_DIR=$W/run/kmesh
    export KMESH_NODE=node1 KMESH_ADMIN=127.0.0.1:15200
    namespace node
    in_node ip link add br0 type bridge
    in_node ip link set br0 up
    in_node ip addr add 10.77.0.1/16 dev br0
    in_node ip addr add fd77::1/64 dev br0 nodad
    in_node ip route add local 10.96.0.0/16 dev lo
    in_node ip -6 route add local fd96::/64 dev lo
}

# Ends every process of the test, removes everything, and answers whether nothing is left.
world_end() {
    [ -n "$W" ] && [ -d "$W" ] || return 0
    local status=0 file ids
    [ -n "${BATS_TEST_COMPLETED-done}" ] || show_logs
    ids=$(kernel_ids)
    for file in "$W"/pids/*; do
        [ -e "$file" ] && stop_bg "${file##*/}" KILL
    done
    kill_cgroup
    umount "$W/bpf" || status=1
    for file in "$W"/netns/*; do
        if mountpoint -q "$file"; then umount "$file" || status=1; fi
    done
    find "$TOP" -depth -type d -exec rmdir {} \; || status=1
    nothing_left "$ids" || status=1
    [ $status -ne 0 ] || rm -rf "$W"
    W=
    return $status
}

show_logs() {
    local log
    for log in "$W"/log/*; do
        [ -s "$log" ] || continue
        echo "--- ${log##*/}"
        tail -n 30 "$log"
    done
}

# Ends whatever the test's processes started; only what is in the cgroups of this test.
kill_cgroup() {
    local pid tries
    for tries in 1 2 3 4 5 6 7 8 9 10; do
        while read -r pid; do
            kill -KILL "$pid" 2>/dev/null || true
        done < <(find "$TOP" -name cgroup.procs -exec cat {} +)
        [ -n "$(find "$TOP" -name cgroup.procs -exec cat {} +)" ] || return 0
        sleep "0.0$tries"
    done
}

# ---- what is in the kernel ----

# "map 7", "prog 9", "link 3": everything pinned below the root or attached at the cgroup.
kernel_ids() {
    local pin kind
    for kind in map prog link; do
        while read -r pin; do
            bpftool -j "$kind" show pinned "$pin" 2>/dev/null |
                jq -r --arg k "$kind" '"\($k) \(.id)", (select(.prog_id) | "prog \(.prog_id)")'
        done < <(find "$KMESH_BPF_ROOT" -path "*/${kind}s/*" -type f 2>/dev/null)
    done
    bpftool -j cgroup show "$CG" 2>/dev/null | jq -r '.[]? | "prog \(.id)"'
    pods_ids
}

pods_ids() {
    local pin
    while read -r pin; do
        bpftool -j link show pinned "$pin" 2>/dev/null | jq -r '"link \(.id)", "prog \(.prog_id)"'
    done < <(find "$KMESH_BPF_ROOT/pods" -type f 2>/dev/null)
}

# The kernel frees objects a little after their last reference is gone.
nothing_left() {
    local ids=$1 left kind id tries
    for tries in $(seq 50); do
        left=
        while read -r kind id; do
            if [ -n "$kind" ] && bpftool "$kind" show id "$id" >/dev/null 2>&1; then
                left+=" $kind:$id"
            fi
        done < <(sort -u <<<"$ids")
        [ -n "$left" ] || return 0
        sleep 0.1
    done
    echo "left in the kernel after $tries looks:$left" >&2
    return 1
}

# ---- namespaces and processes ----

namespace() {
    touch "$W/netns/$1"
    unshare --net="$W/netns/$1" true
    nsenter --net="$W/netns/$1" ip link set lo up
}

# pod NAME V4 [V6]: a network namespace on the bridge and a cgroup. Its routers are the node, at
# GATEWAY4 and GATEWAY6 if those are set.
pod() {
    local name=$1 v4=$2 v6=${3-}
    namespace "$name"
    mkdir "$CG/$name"
    echo "$v4 $v6" >"$W/addresses/$name"
    in_node ip link add "v-$name" type veth peer name eth0 netns "$W/netns/$name"
    in_node ip link set "v-$name" master br0 up
    nsenter --net="$W/netns/$name" sh -ec "
        ip link set eth0 up
        ip addr add $v4/16 dev eth0
        ip route add default via ${GATEWAY4:-10.77.0.1}
        [ -z '$v6' ] || ip addr add $v6/64 dev eth0 nodad
        [ -z '$v6' ] || ip -6 route add default via ${GATEWAY6:-fd77::1}
    "
}

# Takes a pod's namespace away, as a runtime does after its last process. Its device goes too.
pod_gone() {
    umount "$W/netns/$1"
    rm "$W/netns/$1"
}

pod_netns() {
    echo "$W/netns/$1"
}

# Replaces this shell by a command in a pod. Pod `node` is the host: the node's namespace, below the
# governed cgroup.
pod_exec() {
    local name=$1
    shift
    echo "$BASHPID" >"$CG/$name/cgroup.procs"
    exec nsenter --net="$W/netns/$name" -- "$@"
}

# The same in the node's namespace and outside the governed cgroup.
node_exec() {
    echo "$BASHPID" >"$TOP/node/cgroup.procs"
    exec nsenter --net="$W/netns/node" -- "$@"
}

in_pod() {
    (pod_exec "$@")
}

in_node() {
    (node_exec "$@")
}

# When a process began, in ticks since boot: with its pid, its identity.
began() {
    sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d ' ' -f 20
}

# bg NAME COMMAND…: in the background, its output appended to log/NAME, ended by world_end. The
# command is pod_exec or node_exec with theirs: so its children are found and ended, too.
bg() {
    local name=$1
    shift
    "$@" >>"$W/log/$name" 2>&1 </dev/null 3>&- 4>&- &
    echo "$! $(began $!)" >"$W/pids/$name"
}

bg_pid() {
    cut -d ' ' -f 1 "$W/pids/$1"
}

bg_alive() {
    local pid start
    read -r pid start <"$W/pids/$1" && [ -n "$start" ] && [ "$(began "$pid")" = "$start" ] &&
        [ "$(sed 's/.*) //' "/proc/$pid/stat" 2>/dev/null | cut -c 1)" != Z ]
}

# stop_bg NAME [SIGNAL]: sends it, waits until the process is gone (SIGKILL after 5 s), and
# leaves its exit status in STATUS.
stop_bg() {
    local name=$1 signal=${2-TERM} pid tries
    pid=$(bg_pid "$name")
    if bg_alive "$name"; then
        kill -s "$signal" "$pid" || true
        for tries in $(seq 500); do
            bg_alive "$name" || break
            [ "$tries" -ne 499 ] || kill -KILL "$pid" || true
            sleep 0.01
        done
    fi
    STATUS=0
    wait "$pid" || STATUS=$?
    rm -f "$W/pids/$name"
} 2>/dev/null # where bash tells of the killed

# eventually SECONDS COMMAND…: until it succeeds.
eventually() {
    local until=$((SECONDS + $1 + 1))
    shift
    until "$@" >"$W/log/eventually" 2>&1; do
        if [ $SECONDS -ge $until ]; then
            echo "not within the time: $*" >&2
            cat "$W/log/eventually" >&2
            return 1
        fi
        sleep 0.02
    done
}

# shellcheck source=tests/bats/prober.bash
. "${BASH_SOURCE[0]%/*}/prober.bash"

# ---- the daemon ----

# Writes the mesh file from stdin, in one step, as an editor does.
mesh() {
    cat >"$MESH.new"
    mv "$MESH.new" "$MESH"
}

daemon_start() {
    bg kmeshd node_exec "$KMESH_BIN/kmeshd" --mesh "$MESH" "$@"
}

daemon_stop() {
    stop_bg kmeshd "${1-TERM}"
}

daemon_is_ready() {
    in_node curl -sf -m 2 -o /dev/null "http://$KMESH_ADMIN/healthz/ready"
}

# daemon_ready [SECONDS]
daemon_ready() {
    local until=$((SECONDS + ${1-10} + 1))
    until daemon_is_ready; do
        bg_alive kmeshd || { fail "the daemon ended before it was ready"; return 1; }
        [ $SECONDS -lt $until ] || { fail "the daemon is not ready"; return 1; }
        sleep 0.02
    done
}

daemon_up() {
    daemon_start "$@"
    daemon_ready
}

metrics() {
    in_node curl -sf -m 2 "http://$KMESH_ADMIN/metrics"
}

ctl() {
    "$KMESH_BIN/kmeshctl" "$@"
}

# Do the maps say what the mesh file says?
in_sync() {
    "$KMESH_BIN/kmeshd" snapshot --mesh "$MESH" | ctl verify --against -
}

# ---- assertions ----

fail() {
    echo "$*" >&2
    return 1
}

# says TEXT COMMAND…: the command's output (both streams) has the text.
says() {
    local text=$1 output
    shift
    output=$("$@" 2>&1) || true
    [[ $output == *"$text"* ]] || fail "expected '$text' in the output of $*: $output"
}

log_says() {
    grep -qF -- "$1" "$W/log/kmeshd" || fail "expected '$1' in the daemon's log"
}
