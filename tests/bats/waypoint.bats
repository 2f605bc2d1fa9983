#!/usr/bin/env bats
# shellcheck disable=SC2154 # set by lib.bash
# Connections by a waypoint: the first bytes that it hears are the original destination, in every
# way of sending; what could slip past that is refused or cut, and counted.

load lib
load traffic

HELLO=68656c6c6f
# the metadata of 10.96.0.10:80, [::ffff:10.96.0.10]:80 and [fd96::10]:80
TLV4=01000000060a60000a0050fe00000000
TLV6=0100000012fd9600000000000000000000000000100050fe00000000
PROXY=0d0a0d0a000d0a515549540a21

setup() {
    world_begin
    pod client 10.77.0.2 fd77::2
    pod a 10.77.0.11 fd77::11
    pod w 10.77.0.21 fd77::21
    hear a a 8080
    hear w w 15019
    hear leak leak 80
}

teardown() {
    world_end
}

# The client and the waypoint are enrolled; service web leads to a by waypoint wp.
waypoint_town() {
    enrol client w
    tables_begin
    workload client
    workload a
    workload w '{"isWaypoint": true}'
    waypoint wp ipv4 15019 "w:15019"
    waypoint wp ipv6 15019 "w:15019"
    service web 10.96.0.10 80 "a:8080" "$(by wp 15019)"
    service web fd96::10 80 "a:8080" "$(by wp 15019)"
}

# What the waypoint heard, over all its connections, must begin with metadata.
nothing_bare() {
    ! grep -vE 'heard 0 bytes|bytes: (01000000|0d0a0d0a)' "$W/log/hear-w" ||
        fail "the waypoint heard payload without metadata"
}

# port_of LINE: the client's port, as the server saw it, in hex
port_of() {
    local peer=${1#* from }
    peer=${peer%% heard *}
    printf '%04x' "${peer##*:}"
}

@test "the first bytes are the original destination, as the Kmesh TLV" {
    waypoint_town
    tables_end
    count_from
    reaches w $TLV4$HELLO client 10.96.0.10:80
    reaches w $TLV4$HELLO client '[::ffff:10.96.0.10]:80'
    reaches w $TLV6$HELLO client '[fd96::10]:80'
    counted waypoint=3 metadata_sent=3
    eventually 2 no_sockets
}

@test "the same as PROXY protocol v2" {
    local got
    waypoint_town
    settings '{"metadata": "proxy-v2"}'
    tables_end
    count_from
    got=$(dial client 10.96.0.10:80)
    [[ $got == *" heard ${PROXY}11000c0a4d00020a60000a$(port_of "$got")0050$HELLO "* ]] || fail "$got"
    got=$(dial client '[::ffff:10.96.0.10]:80')
    [[ $got == *" heard ${PROXY}11000c0a4d00020a60000a$(port_of "$got")0050$HELLO "* ]] || fail "$got"
    got=$(dial client '[fd96::10]:80')
    # the server shows the first 64 bytes: 52 of metadata, 5 of payload
    [[ $got == *" heard ${PROXY}210024fd770000000000000000000000000002fd960000000000000000000000000010$(port_of "$got")0050$HELLO "* ]] || fail "$got"
    counted waypoint=3 metadata_sent=3
}

@test "a waypoint of the other family: both addresses of the metadata are of one" {
    local got
    waypoint_town
    waypoint four ipv6 15019 "w:15019:ipv4"
    waypoint six ipv4 15019 "w:15019:ipv6"
    service v6-by-v4 fd96::64 80 "a:8080" "$(by four 15019)"
    service v4-by-v6 10.96.0.46 80 "a:8080" "$(by six 15019)"
    tables_end
    reaches w "0100000012fd9600000000000000000000000000640050fe00000000$HELLO" client '[fd96::64]:80'
    reaches w "01000000060a60002e0050fe00000000$HELLO" client '[::ffff:10.96.0.46]:80'
    count_from
    ends "connect: Connection refused" client 10.96.0.46:80
    counted refused_family=1
    settings '{"metadata": "proxy-v2"}'
    tables_end
    got=$(dial client '[fd96::64]:80')
    [[ $got == *" heard ${PROXY}21002400000000000000000000ffff0a4d0002fd960000000000000000000000000064$(port_of "$got")0050$HELLO "* ]] || fail "$got"
    got=$(dial client '[::ffff:10.96.0.46]:80')
    [[ $got == *" heard ${PROXY}210024fd77000000000000000000000000000200000000000000000000ffff0a60002e$(port_of "$got")0050$HELLO "* ]] || fail "$got"
}

@test "every way of sending first" {
    waypoint_town
    tables_end
    count_from
    reaches w $TLV4$HELLO client 10.96.0.10:80 --payload empty
    reaches w $TLV4$HELLO client 10.96.0.10:80 --payload more
    reaches w $TLV4$HELLO$HELLO client 10.96.0.10:80 --payload twice
    says "$TLV4$HELLO" dial client 10.96.0.10:80 --payload writev
    says "$TLV4$HELLO" dial client 10.96.0.10:80 --payload sendfile
    says "$TLV4$HELLO" dial client 10.96.0.10:80 --payload splice
    says "$TLV6$HELLO" dial client '[fd96::10]:80' --payload big
    counted waypoint=7 metadata_sent=7
    # whole, and nothing twice: 100,000, 2^20, 4,096 and 2^20 bytes and the metadata
    grep -q 'heard 100016 bytes' "$W/log/hear-w"
    grep -q 'heard 1048592 bytes' "$W/log/hear-w"
    grep -q 'heard 4112 bytes' "$W/log/hear-w"
    grep -q 'heard 1048604 bytes' "$W/log/hear-w"
    nothing_bare
}

@test "a connection that sends nothing says nothing" {
    waypoint_town
    tables_end
    count_from
    # many: the acknowledgement of the FIN may or may not find the client in receive
    [ "$(dial client 10.96.0.10:80 --way silent --count 100 | grep -c '^w from .* heard  peer ')" -eq 100 ]
    counted waypoint=100
    eventually 2 no_sockets
}

@test "Fast Open in both forms is refused" {
    waypoint_town
    tables_end
    count_from
    ends "connect: Operation not supported" client 10.96.0.10:80 --way fastopen-msg
    ends "connect: Operation not supported" client '[fd96::10]:80' --way fastopen-msg
    ends "connect: Operation not supported" client 10.96.0.10:80 --way fastopen-connect
    ends "connect: Operation not supported" client '[::ffff:10.96.0.10]:80' --way fastopen-connect
    counted refused_fastopen=4
    [ ! -s "$W/log/hear-w" ]
}

@test "MPTCP is refused" {
    waypoint_town
    tables_end
    count_from
    ends "connect: Operation not supported" client 10.96.0.10:80 --way mptcp
    ends "connect: Operation not supported" client '[fd96::10]:80' --way mptcp
    counted refused_mptcp=2
    [ ! -s "$W/log/hear-w" ]
}

@test "payload queued before the connection stands: cut, nothing of it leaves" {
    waypoint_town
    tables_end
    count_from
    # the waypoint cannot be resolved until its link is up: the handshake takes a second
    in_pod client ip neigh flush all
    in_node ip link set v-w down
    dial client 10.96.0.10:80 --way early >"$W/early" &
    sleep 0.5
    in_node ip link set v-w up
    wait $!
    [[ $(<"$W/early") == *": "*"imed out"* || $(<"$W/early") == *"unreachable"* ]] || fail "$(<"$W/early")"
    counted waypoint=1 aborted_early_data=1
    [ ! -s "$W/log/hear-w" ]
    no_sockets
    # the next one goes through
    reaches w $TLV4$HELLO client 10.96.0.10:80
}

@test "no room in map_of_kmesh_socket: cut, never without metadata" {
    local got
    DAEMON_OPTIONS="--max-sockets 1" waypoint_town
    tables_end
    mkfifo "$W/held"
    dial client 10.96.0.10:80 --way wait <"$W/held" >"$W/first" &
    exec 9>"$W/held"
    eventually 5 grep -q connected "$W/first"
    [ "$(sockets)" -eq 1 ]
    count_from
    # a client that sends, and one that only listens: both learn it
    ends "receive: Connection timed out" client 10.96.0.10:80
    got=$(dial client '[fd96::10]:80' --way listen)
    [[ $got == "receive: "@("Connection timed out"|"Network is unreachable")* ]] || fail "$got"
    counted waypoint=2 aborted_sockhash=2
    exec 9>&-
    wait $!
    [[ $(<"$W/first") == *"heard $TLV4$HELLO "* ]] || fail "$(<"$W/first")"
    eventually 2 no_sockets
    reaches w $TLV4$HELLO client 10.96.0.10:80
    nothing_bare
}

@test "a socket leaves map_of_kmesh_socket after its first send, or when it closes" {
    local number
    waypoint_town
    tables_end
    mkfifo "$W/held"
    dial client 10.96.0.10:80 --way hold <"$W/held" >"$W/hold" &
    exec 9>"$W/held"
    eventually 5 grep -q connected "$W/hold"
    eventually 2 no_sockets
    exec 9>&-
    wait $!
    # sockets whose round trip is never measured: they close before they send
    for number in 1 2 3 4 5; do
        mkfifo "$W/held$number"
        dial client 10.96.0.10:80 --way wait <"$W/held$number" >"$W/wait$number" &
        exec 9>"$W/held$number"
        eventually 5 grep -q connected "$W/wait$number"
        [ "$(sockets)" -eq 1 ]
        kill_cgroup_of client
        exec 9>&-
        wait $! || true
        eventually 2 no_sockets
    done
}

# Ends what the test runs in this pod.
kill_cgroup_of() {
    local pid
    while read -r pid; do
        kill -KILL "$pid" || true
    done <"$CG/$1/cgroup.procs"
}

@test "exempt ports meet no waypoint" {
    waypoint_town
    service mail 10.96.0.25 25 "a:8080" "$(by wp 15019)"
    settings '{"exemptPorts": [22, 25, 80, 3306, 5432]}'
    tables_end
    count_from
    reaches a $HELLO client 10.96.0.10:80
    reaches a $HELLO client 10.96.0.25:25
    counted steered=2
    settings '{"exemptPorts": [22, 25]}'
    tables_end
    reaches w $TLV4$HELLO client 10.96.0.10:80
}

@test "a waypoint's own connections meet none" {
    waypoint_town
    tables_end
    count_from
    reaches a $HELLO w 10.96.0.10:80
    reaches a $HELLO w '[fd96::10]:80'
    counted waypoint_self=2
}

@test "a waypoint without endpoints refuses, and so does one that is not synced" {
    waypoint_town
    waypoint gone ipv4 15019 ""
    waypoint unknown ipv4 15019 "" '{"synced": false}'
    service web2 10.96.0.11 80 "a:8080" "$(by gone 15019)"
    service web3 10.96.0.12 80 "a:8080" "$(by unknown 15019)"
    service web4 10.96.0.13 80 "" "$(by gone 15019)"
    tables_end
    count_from
    ends "connect: Connection refused" client 10.96.0.11:80
    ends "connect: Connection refused" client 10.96.0.12:80
    ends "connect: Connection refused" client 10.96.0.13:80
    counted refused_waypoint=3
}

@test "a service without endpoints still goes by its waypoint, and so does PASSTHROUGH" {
    waypoint_town
    service none 10.96.0.14 80 "" "$(by wp 15019)"
    service through 10.96.0.15 80 "a:8080" "$(by wp 15019 | jq -c '. + {mode: "passthrough"}')"
    tables_end
    count_from
    reaches w "01000000060a60000e0050fe00000000$HELLO" client 10.96.0.14:80
    reaches w "01000000060a60000f0050fe00000000$HELLO" client 10.96.0.15:80
    counted waypoint=2 metadata_sent=2
}

@test "a workload's waypoint is met at the workload's address, not by way of a service" {
    waypoint_town
    pod b 10.77.0.12 fd77::12
    hear b b 8080
    workload b "$(by wp 15019)"
    service plain 10.96.0.16 80 "b:8080"
    tables_end
    count_from
    reaches w "01000000060a4d000c1f90fe00000000$HELLO" client 10.77.0.12:8080
    reaches w "01000000060a4d000c1f90fe00000000$HELLO" client '[::ffff:10.77.0.12]:8080'
    reaches w "0100000012fd7700000000000000000000000000121f90fe00000000$HELLO" client '[fd77::12]:8080'
    reaches b $HELLO client 10.96.0.16:80
    counted waypoint=3 metadata_sent=3 steered=1
    reaches b $HELLO w 10.77.0.12:8080
}

@test "a socket used again carries nothing of its former destination" {
    waypoint_town
    waypoint deaf ipv4 9999 "w:9999"
    service deaf 10.96.0.17 80 "a:8080" "$(by deaf 9999)"
    service plain 10.96.0.16 80 "a:8080"
    tables_end
    count_from
    # refused by the waypoint's host or stood, then elsewhere; elsewhere, refused or stood, then by it
    reaches a $HELLO client 10.77.0.11:8080 --first 10.96.0.17:80
    reaches a $HELLO client 10.96.0.16:80 --first 10.96.0.10:80
    reaches w $TLV4$HELLO client 10.96.0.10:80 --first 10.96.0.16:80
    reaches w $TLV4$HELLO client 10.96.0.10:80 --first 10.96.0.17:80
    reaches w $TLV4$HELLO client 10.96.0.10:80 --first 10.96.0.10:80
    counted waypoint=7 miss=1 steered=2 metadata_sent=3
    eventually 2 no_sockets
}

@test "getpeername by a waypoint answers the waypoint, or by setting the address dialled" {
    waypoint_town
    tables_end
    [[ $(dial client 10.96.0.10:80) == *" peer 10.77.0.21:15019" ]]
    settings '{"peername": true}'
    tables_end
    [[ $(dial client 10.96.0.10:80) == "w "*"heard $TLV4$HELLO peer 10.96.0.10:80" ]]
    [[ $(dial client '[fd96::10]:80') == "w "*"heard $TLV6$HELLO peer [fd96::10]:80" ]]
}
