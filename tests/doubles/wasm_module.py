"""A WebAssembly module for proxies, made byte by byte: it adds a header to each response, and does nothing else.

The format is https://webassembly.github.io/spec/core/binary/, what a proxy calls is proxy-wasm's ABI 0.2.1.
"""

from __future__ import annotations

_I32, _FUNCTION, _END = 0x7F, 0x60, 0x0B
_RESPONSE_HEADERS = 2
_KEY_AT, _VALUE_AT, _HEAP_AT = 16, 64, 1024


def module(key: str = "x-wasm", value: str = "yes") -> bytes:
    """A module that adds this header to responses."""
    signatures = ((0, 0), (1, 1), (3, 1), (5, 1), (2, 1))
    types = _vector(
        bytes([_FUNCTION]) + _vector([bytes([_I32])] * taken) + _vector([bytes([_I32])] * given)
        for taken, given in signatures
    )
    imports = _vector([_name("env") + _name("proxy_add_header_map_value") + b"\0" + _unsigned(3)])
    add = b"".join(map(_constant, (_RESPONSE_HEADERS, _KEY_AT, len(key), _VALUE_AT, len(value)))) + b"\x10\0\x1a"
    # Memory is given out and never taken back: `heap` is returned, and grows by what was asked for.
    allocate = b"\x23\0\x23\0\x20\0\x6a\x24\0"
    functions = (
        ("proxy_abi_version_0_2_1", 0, b""),
        ("_initialize", 0, b""),
        ("malloc", 1, allocate),
        ("proxy_on_vm_start", 4, _constant(1)),
        ("proxy_on_configure", 4, _constant(1)),
        ("proxy_on_response_headers", 2, add + _constant(0)),
    )
    exports = [_name(name) + b"\0" + _unsigned(at) for at, (name, _, _) in enumerate(functions, start=1)]
    bodies = (b"\0" + body + bytes([_END]) for _, _, body in functions)
    texts = ((_KEY_AT, key.encode()), (_VALUE_AT, value.encode()))
    return b"\0asm\x01\0\0\0" + b"".join(
        bytes([number]) + _sized(content)
        for number, content in (
            (1, types),
            (2, imports),
            (3, _vector(_unsigned(type_) for _, type_, _ in functions)),
            (5, _vector([b"\0" + _unsigned(2)])),
            (6, _vector([bytes([_I32, 1]) + _constant(_HEAP_AT) + bytes([_END])])),
            (7, _vector([*exports, _name("memory") + b"\x02\0"])),
            (10, _vector(map(_sized, bodies))),
            (11, _vector(b"\0" + _constant(at) + bytes([_END]) + _sized(text) for at, text in texts)),
        )
    )


def _unsigned(number: int) -> bytes:
    digits = bytearray()
    while True:
        number, low = number >> 7, number & 0x7F
        digits.append(low | (0x80 if number else 0))
        if not number:
            return bytes(digits)


def _constant(number: int) -> bytes:
    """i32.const of a number of at least 0."""
    digits = bytearray(b"\x41")
    while True:
        number, low = number >> 7, number & 0x7F
        done = not number and not low & 0x40
        digits.append(low | (0 if done else 0x80))
        if done:
            return bytes(digits)


def _sized(content: bytes) -> bytes:
    return _unsigned(len(content)) + content


def _name(text: str) -> bytes:
    return _sized(text.encode())


def _vector(items: object) -> bytes:
    found = list(items)  # type: ignore[call-overload]
    return _unsigned(len(found)) + b"".join(found)
