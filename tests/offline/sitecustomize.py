"""Python without a network: whatever isn't this machine is refused. conftest.py takes it, and every
process it starts.
"""

import ipaddress
import socket
import sys

HERE = {"", "localhost", socket.gethostname()}
NAMES = {
    "socket.getaddrinfo": 0,
    "socket.gethostbyname": 0,
}  # where a host's name stands among an event's arguments
ADDRESSES = {"socket.connect": 1, "socket.sendto": 1, "socket.sendmsg": 1}


def is_here(host: object) -> bool:
    """Whether a host's name or address is of this machine."""
    host = host.decode() if isinstance(host, bytes) else host
    if host is None or host in HERE:
        return True
    try:
        address = ipaddress.ip_address(host.split("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def refuse(event: str, arguments: tuple) -> None:
    """An audit hook: OSError for a connection, a datagram or a look-up that leaves this machine."""
    if event in NAMES:
        host = arguments[NAMES[event]]
    elif (
        event in ADDRESSES
        and arguments[0].family in (socket.AF_INET, socket.AF_INET6)
        and arguments[1]
    ):
        host = arguments[ADDRESSES[event]][0]
    else:
        return
    if not is_here(host):
        raise ConnectionRefusedError(f"tests take no network: {host}")


sys.addaudithook(refuse)
