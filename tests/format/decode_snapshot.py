"""A second decoder of edgefold's snapshots, written from docs/format.md only. tests/decoder.rs compares the two.

`python3 decode_snapshot.py FILE` prints the header and every range. It refuses what it cannot read, and ranges that are
out of order. It does not check the checksum (Python has no XXH3), nor everything else that a filter has to refuse."""
import bisect, io, ipaddress, itertools, json, pathlib, re, struct, sys

def check(condition, message):
    if not condition:
        raise ValueError(message)

def read_number(stream):  # A u32 or u64 of the header.
    marker = stream.read(1)[0]
    return marker if marker < 251 else int.from_bytes(stream.read({0xfb: 2, 0xfc: 4, 0xfd: 8}[marker]), "little")

def read_text(stream):
    return stream.read(read_number(stream)).decode()

def read_list(stream, read_item):
    return [read_item() for _ in range(read_number(stream))]

def read_choice(stream, *names):
    choice = read_number(stream)
    check(choice < len(names), f"{choice} is not one of {names}")
    return names[choice]

def read_address(stream):
    return ipaddress.ip_address(stream.read(read_choice(stream, 4, 16)))

def read_refusal(stream):
    yield "status", read_number(stream)
    yield "body", read_text(stream)
    yield "content_type", read_text(stream)
    yield "headers", read_list(stream, lambda: f"{read_text(stream)}: {read_text(stream)}")

def read_settings(stream):
    yield "mode", read_choice(stream, "enforce", "shadow")
    yield from read_refusal(stream)
    source = read_choice(stream, "envoy", "connection", "header")
    yield "client_address", source
    if source == "header":
        yield "name", read_text(stream)
        yield "trusted_hops", read_number(stream)
        yield "trusted_proxies", read_list(stream, lambda: f"{read_address(stream)}-{read_address(stream)}")
    yield "no_address", read_choice(stream, "allow", "deny")
    if read_choice(stream, False, True):
        yield "cut_at", read_number(stream)
        yield "max_age", read_number(stream)
        yield "when_stale", read_choice(stream, "keep", "deny")
    yield "open_connections", read_choice(stream, "keep", "recheck")
    yield "tag_header", read_text(stream)

def read_action(stream):
    action = read_choice(stream, "deny", "shadow", "exempt", "tag")
    if action == "deny":
        share, = stream.read(1)
        check(share <= 100, f"a share of {share} percent")
        action += f" {share}%"
        if read_choice(stream, False, True):
            action += " " + json.dumps(dict(read_refusal(stream)))
    return action

def read_header_of_list(stream):
    return read_text(stream), read_action(stream), *(read_number(stream) for _ in range(3))

def cut_chunks(section, begin, unit, starts):
    check(starts[0] == 0 and starts == sorted(starts), "the starts of the chunks do not ascend from zero")
    check(section[begin + unit * starts[-1]:] == bytes(32), "a section does not end with 32 zeros after its chunks")
    return [section[begin + unit * start:begin + unit * end] for start, end in zip(starts, starts[1:])]

def read_ipv4(section):  # Yields (goes_on, edges) for each chunk. An edge is (address, whether it begins a range).
    bits = section[0]
    check(4 <= bits <= 17, f"the IPv4 index has {bits} bits")
    unit, index_end = 4 if bits <= 8 else 3 if bits <= 16 else 2, 1 + 36 * 2**bits // 16
    index = [(start, word) for start, *words in struct.iter_unpack("<I16H", section[1:index_end]) for word in words]
    starts = [start + (word & 0x7fff) for start, word in index] + [*struct.unpack_from("<I", section, index_end)]
    goes_on = [word >> 15 for _, word in index] + [0]
    for i, chunk in enumerate(cut_chunks(section, index_end + 4, unit, starts)):
        yield goes_on[i], read_ipv4_chunk(chunk, unit, i << 32 - bits, 32 - bits, goes_on[i], goes_on[i + 1])

def read_ipv4_chunk(chunk, unit, base, position_bits, goes_on, next_goes_on):
    if unit > 2 or len(chunk) <= 2 * 32:  # Columns. A list has only the first of them.
        count, rest = len(chunk) // unit, unit - 2
        for i in range(count):
            lower = chunk[2 * count + rest * i:2 * count + rest * (i + 1)]
            edge = int.from_bytes(lower + chunk[2 * i:2 * i + 2], "little")
            yield base + (edge >> 8 * unit - position_bits), edge & 1
    elif len(chunk) != 2 * 2048:  # Split.
        counts = struct.unpack_from("<16B" if len(chunk) <= 2 * 200 else "<16H", chunk)
        halves = chunk[16 if len(chunk) <= 2 * 200 else 32:]
        rest = halves[(counts[15] + 1) // 2:]
        check(len(chunk) < 4096 and 0 <= len(rest) - counts[15] <= 1, "the length of a chunk does not match its counts")
        for i, byte in enumerate(rest[:counts[15]]):
            first_four, next_four = bisect.bisect_right(counts, i), halves[i // 2] >> 4 * (i % 2) & 15
            yield base + (first_four << 11 | next_four << 7 | byte >> 1), byte & 1
    else:  # A bitmap. A bit for the address before it and one for the address after it are added.
        bits = f"{next_goes_on}{int.from_bytes(chunk, 'little'):032768b}{goes_on}"[::-1]
        for change in re.finditer("(?=(01|10))", bits):
            yield base + change.start() - (change[1] == "10"), change[1] == "01"

def read_ipv6(section):  # Yields the same as read_ipv4.
    shared, bits, upper = struct.unpack_from("<BBQ", section)
    check(1 <= bits <= 20 and shared + bits <= 63, f"the IPv6 index has {bits} bits after {shared} shared ones")
    index, position_bits = struct.unpack_from(f"<{2**bits + 1}I", section, 10), 128 - shared - bits
    for i, chunk in enumerate(cut_chunks(section, 14 + 4 * 2**bits, 2, [word & 0x7ffffff for word in index])):
        leaf = read_ipv6_chunk(chunk, 1 + (index[i] >> 28 & 7), (upper << 64) + (i << position_bits), position_bits)
        yield from read_ipv6(chunk + bytes(32)) if index[i] >> 27 & 1 else [(index[i] >> 31, leaf)]

def read_ipv6_chunk(chunk, columns, base, position_bits):
    count, kept_bits = len(chunk) // (2 * columns + 1), min(16 * columns, position_bits)
    words = struct.unpack_from(f"<{columns * count}H", chunk)
    for i, kind in enumerate(chunk[2 * columns * count:(2 * columns + 1) * count]):
        position = int.from_bytes(struct.pack(f">{columns}H", *words[i::count]).ljust(16, b"\0"), "big")
        check(kind >= 254 or kind <= kept_bits, f"an IPv6 entry is of kind {kind}")
        address = base + (position >> 128 - position_bits)
        if kind != 255:
            yield address, 1
        if kind != 254:
            yield address | (1 << position_bits - min(kind, kept_bits)) - 1, 0

def join_edges(chunks):  # Accepts a range of one address with one edge or with two.
    previous, inside = -2, 0
    for goes_on, edges in itertools.chain(chunks, [(0, [])]):  # No range goes on after the last chunk.
        check(goes_on == inside, "goes_on does not match the chunks before")
        for address, begins in edges:
            check(address >= previous + 2 * (not inside) and not (inside and begins), "ranges are not in order")
            if not begins:
                yield previous if inside else address, address
            previous, inside = address, begins

def read_table(table):
    table = io.BytesIO(table)
    sections = (read_ipv4, table.read(*struct.unpack("<I", table.read(4)))), (read_ipv6, table.read())
    return [[*join_edges(read(section))] if section else [] for read, section in sections]

def decode(data):
    stream = io.BytesIO(data[:-8])
    check(stream.read(12) == b"EDGEFOLD\6\0\0\0", "it does not begin like a snapshot of version 6")
    header_length, = struct.unpack("<I", stream.read(4))
    role = read_choice(stream, "whole", "base", "overlay")
    if role == "overlay":
        checksum, length = read_number(stream), read_number(stream)
        removals = read_list(stream, lambda: (read_choice(stream, False, True), *(read_number(stream) for _ in range(3))))
        role += f" over {checksum:016x} of {length} bytes"
    else:
        removals = []
    name, epoch, next_offset = read_text(stream), read_number(stream), read_number(stream)
    has_expiry = read_choice(stream, False, True)
    expiry = read_number(stream) if has_expiry else "none"
    as_of = read_number(stream)
    settings = [*read_settings(stream)]
    lists = read_list(stream, lambda: read_header_of_list(stream))
    check(stream.tell() == 16 + header_length <= 16 + 1048576, "the header does not have the length that it claims")
    print(f"# {role} name={name} epoch={epoch} next_offset={next_offset} expiry={expiry} as_of={as_of}")
    print("#", json.dumps(dict(settings)))
    def print_ranges(title, ipv4, ipv6, table_bytes):
        ranges4, ranges6 = read_table(stream.read(table_bytes)) if table_bytes else ([], [])
        check((len(ranges4), len(ranges6)) == (ipv4, ipv6), "a list counts other ranges than its table has")
        print(f"# {title}, ipv4={ipv4} ipv6={ipv6}")
        for address, ranges in ((ipaddress.IPv4Address, ranges4), (ipaddress.IPv6Address, ranges6)):
            for first, last in ranges:
                print(f"{address(first)}\t{address(last)}")

    for list_name, action, *table in lists:
        check(table[2], "a list has no table")
        print_ranges(f"list {list_name}: {action}", *table)
    check(not removals or len(removals) == len(lists), "an overlay has other removals than lists")
    for (list_name, *_), (extends_base, *table) in zip(lists, removals):
        print_ranges(f"removed from list {list_name}: {'some' if extends_base else 'all'}", *table)
    check(not stream.read(), "there is something after the last table")

try:
    decode(pathlib.Path(sys.argv[1]).read_bytes())
except (ValueError, LookupError, OverflowError, OSError, struct.error) as error:
    sys.exit(f"decode_snapshot.py: {error}")
