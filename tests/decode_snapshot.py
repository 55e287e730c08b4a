"""A second reader of edgefold's snapshots, written from docs/format.md alone; the tests compare it with edgefold's own.

`python3 decode_snapshot.py FILE` prints the header as one line, then every range as first<TAB>last. If the bytes are not
a snapshot of version 2, it says why on stderr and exits with 1. It finds what keeps it from reading, and ranges that are
out of order; it checks neither the checksum (Python has no XXH3) nor all else that a filter has to refuse."""
import bisect, io, ipaddress, itertools, re, struct, sys

def check(condition, message):
    if not condition:
        raise ValueError(message)

def read_number(stream):  # A u32 or u64 of the header.
    marker = stream.read(1)[0]
    return marker if marker < 251 else int.from_bytes(stream.read({0xfb: 2, 0xfc: 4, 0xfd: 8}[marker]), "little")

def cut_chunks(section, begin, unit, starts):
    check(starts[0] == 0 and starts == sorted(starts), "the starts of the chunks do not rise from zero")
    check(section[begin + unit * starts[-1]:] == bytes(32), "a section does not end with 32 zeros behind its chunks")
    return [section[begin + unit * start:begin + unit * end] for start, end in zip(starts, starts[1:])]

def read_ipv4(section):  # Yields of each chunk: goes on, edges. An edge is an address and whether it begins a range.
    bits = section[0]
    check(4 <= bits <= 17, f"the IPv4 index has {bits} bits")
    unit, index_end = 4 if bits <= 8 else 3 if bits <= 16 else 2, 1 + 36 * 2**bits // 16
    index = [(start, word) for start, *words in struct.iter_unpack("<I16H", section[1:index_end]) for word in words]
    starts = [start + (word & 0x7fff) for start, word in index] + [*struct.unpack_from("<I", section, index_end)]
    goes_on = [word >> 15 for _, word in index] + [0]
    for number, chunk in enumerate(cut_chunks(section, index_end + 4, unit, starts)):
        base, position_bits = number << 32 - bits, 32 - bits
        yield goes_on[number], read_ipv4_chunk(chunk, unit, base, position_bits, goes_on[number], goes_on[number + 1])

def read_ipv4_chunk(chunk, unit, base, position_bits, goes_on, next_goes_on):
    if unit > 2 or len(chunk) <= 2 * 32:  # Columns; a list is columns of which there is only the first.
        count, rest = len(chunk) // unit, unit - 2
        for i in range(count):
            lower = chunk[2 * count + rest * i:2 * count + rest * (i + 1)]
            edge = int.from_bytes(lower + chunk[2 * i:2 * i + 2], "little")
            yield base + (edge >> 8 * unit - position_bits), edge & 1
    elif len(chunk) != 2 * 2048:  # Split.
        counts = struct.unpack_from("<16B" if len(chunk) <= 2 * 200 else "<16H", chunk)
        halves = chunk[16 if len(chunk) <= 2 * 200 else 32:]
        rest = halves[(counts[15] + 1) // 2:]
        check(len(chunk) < 4096 and 0 <= len(rest) - counts[15] <= 1, "a chunk is not as long as its counts ask for")
        for i, byte in enumerate(rest[:counts[15]]):
            first_four, next_four = bisect.bisect_right(counts, i), halves[i // 2] >> 4 * (i % 2) & 15
            yield base + (first_four << 11 | next_four << 7 | byte >> 1), byte & 1
    else:  # A bitmap. Here a range of one address gets two edges, which join_edges takes too.
        for run in re.finditer("1+", f"{int.from_bytes(chunk, 'little'):032768b}"[::-1]):
            if run.start() > 0 or not goes_on:
                yield base + run.start(), 1
            if run.end() < 32768 or not next_goes_on:
                yield base + run.end() - 1, 0

def read_ipv6(section):  # Yields the same as read_ipv4.
    shared, bits, upper = struct.unpack_from("<BBQ", section)
    check(1 <= bits <= 20 and shared + bits <= 63, f"the IPv6 index has {bits} bits behind {shared} shared ones")
    index, position_bits = struct.unpack_from(f"<{2**bits + 1}I", section, 10), 128 - shared - bits
    chunks = cut_chunks(section, 14 + 4 * 2**bits, 2, [word & 0xfffffff for word in index])
    for number, (word, chunk) in enumerate(zip(index, chunks)):
        base, columns = (upper << 64) + (number << position_bits), 1 + (word >> 28 & 7)
        yield word >> 31, read_ipv6_chunk(chunk, columns, base, position_bits)

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

def join_edges(chunks):
    previous, inside = -2, 0
    for goes_on, edges in itertools.chain(chunks, [(0, [])]):  # Nothing goes on behind the last chunk.
        check(goes_on == inside, "'goes on' does not fit the chunks before")
        for address, begins in edges:
            check(address >= previous + 2 * (not inside) and not inside & begins, "ranges overlap, touch or do not rise")
            if not begins:
                yield previous if inside else address, address
            previous, inside = address, begins

def decode(data):
    check(data[:12] == b"EDGEFOLD\2\0\0\0", "it does not begin as a snapshot of version 2 does")
    header_end = 16 + struct.unpack_from("<I", data, 12)[0]
    stream, table = io.BytesIO(data[16:header_end]), data[header_end:-8]
    name, next_offset = stream.read(read_number(stream)).decode(), read_number(stream)
    expiry = read_number(stream) if stream.read(1) == b"\1" else "none"
    as_of, ipv4, ipv6, no_address = (read_number(stream) for _ in range(4))
    check(stream.tell() == header_end - 16 <= 4096, "the header is not as long as its fields, or too long")
    print(f"# list={name} next_offset={next_offset} expiry={expiry} as_of={as_of} ipv4={ipv4} ipv6={ipv6}",
          f"no_address={('allow', 'deny')[no_address]}")
    ipv4_end = 4 + struct.unpack_from("<I", table)[0]
