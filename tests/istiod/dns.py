#!/usr/bin/env python3
"""A name server for the suite: dns.py ADDRESS PORT NAME=IPV4… answers A queries of these names; all
others do not exist."""
import socket
import struct
import sys

names = dict(pair.split("=") for pair in sys.argv[3:])
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind((sys.argv[1], int(sys.argv[2])))
while True:
    query, peer = server.recvfrom(4096)
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode())
        at += 1 + query[at]
    question = query[12 : at + 5]
    wanted = struct.unpack("!H", query[at + 1 : at + 3])[0]
    address = names.get(".".join(labels).lower())
    answer = b""
    if address and wanted == 1:
        answer = b"\xc0\x0c\x00\x01\x00\x01" + struct.pack("!IH", 5, 4) + socket.inet_aton(address)
    code = 0x8180 if address else 0x8183
    header = query[:2] + struct.pack("!HHHHH", code, 1, 1 if answer else 0, 0, 0)
    server.sendto(header + question + answer, peer)
