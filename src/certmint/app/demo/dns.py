"""A small authoritative DNS server on loopback: queries, and RFC 2136 updates signed with TSIG.

It stands in for the maker's own server (Knot, BIND …) in the demo and is no part of certmint.
"""

import socketserver
import struct
import threading
from typing import Any

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import dns.tsig
import dns.update

_Key = tuple[dns.name.Name, dns.rdatatype.RdataType]


class LoopbackDNS:
    """Serves one zone on 127.0.0.1, on a port that the system chooses, until `close`."""

    def __init__(self, zone: str, key_name: str, secret: bytes) -> None:
        self.zone = dns.name.from_text(zone)
        self._keyring = {
            dns.name.from_text(key_name): dns.tsig.Key(key_name, secret, dns.tsig.HMAC_SHA256)
        }
        self._records: dict[_Key, dns.rrset.RRset] = {}
        self._lock = threading.Lock()
        answer = self._answer

        class Datagram(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                data, sock = self.request
                sock.sendto(answer(data), self.client_address)

        class Stream(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                head = self.request.recv(2)
                if len(head) == 2:
                    reply = answer(self.request.recv(struct.unpack("!H", head)[0]))
                    self.request.sendall(struct.pack("!H", len(reply)) + reply)

        self._tcp = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Stream)
        self.port: int = self._tcp.server_address[1]
        self._udp = socketserver.ThreadingUDPServer(("127.0.0.1", self.port), Datagram)
        for server in (self._tcp, self._udp):
            threading.Thread(
                target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
            ).start()

    def close(self) -> None:
        """Stop listening."""
        for server in (self._tcp, self._udp):
            server.shutdown()
            server.server_close()

    def _answer(self, wire: bytes) -> bytes:
        try:
            message = dns.message.from_wire(wire, keyring=self._keyring)
        except (dns.tsig.BadSignature, dns.message.UnknownTSIGKey):
            return self._bad_signature(wire)
        except dns.exception.DNSException:
            return wire[:2] + b"\x80\x01" + b"\0" * 8  # FORMERR
        response = dns.message.make_response(message)
        response.flags |= dns.flags.AA
        with self._lock:
            if message.opcode() == dns.opcode.UPDATE:
                response.set_rcode(self._update(message))
            else:
                self._query(message, response)
        return response.to_wire()

    def _bad_signature(self, wire: bytes) -> bytes:
        """NOTAUTH with TSIG error BADSIG (RFC 8945 5.2.2)."""
        refusal = dns.message.Message(id=struct.unpack("!H", wire[:2])[0])
        refusal.flags = dns.flags.QR | dns.opcode.to_flags(dns.opcode.UPDATE)
        refusal.set_rcode(dns.rcode.NOTAUTH)
        refusal.use_tsig(self._keyring, next(iter(self._keyring)), tsig_error=dns.rcode.BADSIG)
        return refusal.to_wire()

    def _update(self, message: Any) -> dns.rcode.Rcode:
        if not message.had_tsig:
            return dns.rcode.REFUSED
        if message.zone[0].name != self.zone:
            return dns.rcode.NOTZONE
        for rrset in message.update:
            key = (rrset.name, rrset.rdtype)
            if rrset.deleting is not None and rrset.rdtype == dns.rdatatype.ANY:
                for known_key in [known for known in self._records if known[0] == rrset.name]:
                    del self._records[known_key]
            elif rrset.deleting is not None:
                self._records.pop(key, None)
            else:
                known = self._records.setdefault(
                    key, dns.rrset.RRset(rrset.name, dns.rdataclass.IN, rrset.rdtype)
                )
                for record in rrset:
                    known.add(record)
        return dns.rcode.NOERROR

    def _query(self, message: dns.message.Message, response: dns.message.Message) -> None:
        question = message.question[0]
        owner = question.name
        wildcard = dns.name.Name((b"*", *owner.labels[1:]))
        for name in (owner, wildcard):
            found = self._records.get((name, question.rdtype))
            found = found or self._records.get((name, dns.rdatatype.CNAME))
            if found is not None:
                answer = dns.rrset.from_rdata_list(owner, 300, list(found))
                response.answer.append(answer)
                return
        if not any(name == owner for name, _ in self._records):
            response.set_rcode(dns.rcode.NXDOMAIN)
