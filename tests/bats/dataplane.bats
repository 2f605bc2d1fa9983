#!/usr/bin/env bats
# shellcheck disable=SC2154 # set by lib.bash
# The programs alone, the daemon dead: every outcome of connect(), by real sockets, and the counter
# that it counts into.

load lib
load traffic

HELLO=68656c6c6f

setup() {
    world_begin
    pod client 10.77.0.2 fd77::2
    pod a 10.77.0.11 fd77::11
    pod b 10.77.0.12 fd77::12
    hear a a 8080
    hear b b 8080
    hear leak leak 80 81 udp:10.96.0.10:80
}

teardown() {
    world_end
}

# The client is enrolled; services web of both families lead to a.
plain_town() {
    enrol client
    tables_begin
    workload client
    workload a
    workload b
    service web 10.96.0.10 80 "a:8080"
    service web fd96::10 80 "a:8080"
}

@test "IPv4, IPv6 and v4-mapped connections reach the endpoint" {
    plain_town
    tables_end
    count_from
    reaches a $HELLO client 10.96.0.10:80
    reaches a $HELLO client '[fd96::10]:80'
    reaches a $HELLO client '[::ffff:10.96.0.10]:80'
    counted steered=3
}

@test "a bound socket, an MPTCP socket and both forms of Fast Open reach it, too" {
    plain_town
    tables_end
    count_from
    reaches a $HELLO client 10.96.0.10:80 --bind 10.77.0.2:0
    reaches a $HELLO client '[fd96::10]:80' --bind '[fd77::2]:0'
    reaches a $HELLO client 10.96.0.10:80 --way mptcp
    reaches a $HELLO client 10.96.0.10:80 --way fastopen-msg
    reaches a $HELLO client '[fd96::10]:80' --way fastopen-connect
    counted steered=5
}

@test "an endpoint of the other family: v4-mapped where the socket can, refused where not" {
    plain_town
    service four fd96::4 80 "a:8080:ipv4"
    service six 10.96.0.6 80 "a:8080:ipv6"
    tables_end
    count_from
    reaches a $HELLO client '[fd96::4]:80'
    reaches a $HELLO client '[::ffff:10.96.0.6]:80'
    counted steered=2
    count_from
    ends "connect: Connection refused" client 10.96.0.6:80
    ends "connect: Connection refused" client '[fd96::4]:80' --v6only
    ends "connect: Connection refused" client '[fd96::4]:80' --bind '[fd77::2]:0'
    ends "connect: Connection refused" client '[::ffff:10.96.0.6]:80' --bind '[::ffff:10.77.0.2]:0'
    counted refused_family=4
}

@test "connections are spread over all endpoints, evenly" {
    local got
    plain_town
    service both 10.96.0.20 80 "a:8080 b:8080"
    tables_end
    count_from
    got=$(dial client 10.96.0.20:80 --count 200 | cut -d ' ' -f 1 | sort | uniq -c | awk '{ print $2, $1 }')
    counted steered=200
    # 200 fair coins: fewer than 60 of one side once in 10^8 runs
    [ "$(awk '$2 >= 60' <<<"$got" | cut -d ' ' -f 1 | tr -d '\n')" = ab ] || fail "spread: $got"
}

@test "bypassed pods, unmanaged pods and the host pass untouched" {
    pod stranger 10.77.0.3 fd77::3
    pod passer 10.77.0.4 fd77::4
    enrol client passer:bypass
    tables_begin
    workload a
    service web 10.96.0.10 80 "a:8080"
    service web fd96::10 80 "a:8080"
    tables_end
    count_from
    reaches leak $HELLO stranger 10.96.0.10:80
    reaches leak $HELLO stranger '[fd96::10]:80'
    reaches leak $HELLO node 10.96.0.10:80
    reaches leak $HELLO node '[::ffff:10.96.0.10]:80'
    counted
    reaches leak $HELLO passer 10.96.0.10:80
    reaches leak $HELLO passer '[fd96::10]:80'
    counted bypass=2
    reaches a $HELLO client 10.96.0.10:80
}

@test "UDP passes" {
    plain_town
    tables_end
    count_from
    reaches leak $HELLO client 10.96.0.10:80 --way udp
    counted
}

@test "a miss passes: another port, another address" {
    plain_town
    tables_end
    count_from
    reaches leak $HELLO client 10.96.0.10:81
    reaches leak $HELLO client 10.96.7.7:80
    reaches leak $HELLO client '[fd96::77]:80'
    reaches a $HELLO client 10.77.0.11:8080
    counted miss=4
}

@test "PASSTHROUGH leaves the destination as it is" {
    plain_town
    service through 10.96.0.30 80 "a:8080" '{"mode": "passthrough"}'
    tables_end
    count_from
    reaches leak $HELLO client 10.96.0.30:80
    counted passthrough=1
}

@test "no endpoint: refused where that is certain, passed where it is not" {
    plain_town
    service empty 10.96.0.40 80 "" '{"mode": "strict"}'
    service unknown 10.96.0.41 80 "" '{"synced": false}'
    service partly 10.96.0.42 80 "b:8080" '{"synced": false}'
    tables_end
    count_from
    ends "connect: Connection refused" client 10.96.0.40:80
    ends "connect: Connection refused" client '[::ffff:10.96.0.40]:80'
    reaches leak $HELLO client 10.96.0.41:80
    reaches b $HELLO client 10.96.0.42:80
    counted refused_empty=2 unsynced=1 steered=1
}

@test "getpeername answers the endpoint, or by setting the address dialled" {
    plain_town
    tables_end
    [[ $(dial client 10.96.0.10:80) == *" peer 10.77.0.11:8080" ]]
    [[ $(dial client '[fd96::10]:80') == *" peer [fd77::11]:8080" ]]
    settings '{"peername": true}'
    tables_end
    [[ $(dial client 10.96.0.10:80) == *" peer 10.96.0.10:80" ]]
    [[ $(dial client '[fd96::10]:80') == *" peer [fd96::10]:80" ]]
    [[ $(dial client '[::ffff:10.96.0.10]:80') == *" peer [::ffff:10.96.0.10]:80" ]]
    # a connection that was not steered has its real peer, and so has one on a used socket
    [[ $(dial client 10.96.0.10:81) == *" peer 10.96.0.10:81" ]]
    [[ $(dial client 10.77.0.12:8080 --first 10.96.0.10:80) == "b "*" peer 10.77.0.12:8080" ]]
}

@test "a socket may be used again, after a refusal and after a connection" {
    plain_town
    service empty 10.96.0.40 80 ""
    tables_end
    count_from
    reaches a $HELLO client 10.96.0.10:80 --first 10.96.0.40:80
    reaches a $HELLO client 10.96.0.10:80 --first 10.77.0.12:8080
    counted refused_empty=1 miss=1 steered=2
}

@test "a target port that nobody hears is refused by the endpoint, not by the programs" {
    plain_town
    service deaf 10.96.0.50 80 "a:9999"
    tables_end
    count_from
    ends "connect: Connection refused" client 10.96.0.50:80
    counted steered=1
}

@test "an element of another key, a cleared record: looked up again, then refused, never believed" {
    local key word
    plain_town
    tables_end
    # the word of 10.96.0.10:80 as if it were another key's
    key="0 0 0 0 0 0 0 0 0 0 0xff 0xff 10 96 0 10 0 80 0 0"
    word=$(frontend_word "$key")
    poke kmesh_frontend "$key" "${word% * * * *} 0 0 0 0"
    count_from
    ends "connect: Connection refused" client 10.96.0.10:80
    counted retried=3 refused_stale=1
    reaches a $HELLO client '[fd96::10]:80'
    # the right tag, but the record that it leads to is cleared (as between two writes)
    poke kmesh_frontend "$key" "0xff 0x7f 0 0 ${word#* * * * }"
    count_from
    ends "connect: Connection refused" client 10.96.0.10:80
    counted retried=3 refused_stale=1
    poke kmesh_frontend "$key" "$word"
    reaches a $HELLO client 10.96.0.10:80
}

# frontend_word KEY: the eight bytes of its value
frontend_word() {
    # shellcheck disable=SC2086 # bytes
    bpftool -j map lookup pinned "$KMESH_BPF_ROOT/maps/kmesh_frontend" key $1 | jq -r '.value | join(" ")'
}

# poke MAP KEY VALUE: one element, in bytes
poke() {
    # shellcheck disable=SC2086 # bytes
    bpftool map update pinned "$KMESH_BPF_ROOT/maps/$1" key $2 value $3
}
