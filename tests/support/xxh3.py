"""XXH3 with 64 bits and a seed (xxHash 0.8), in plain Python: slow, and needs no package. What an attacker does who recomputes
the digests of a container."""

import struct

MASK = (1 << 64) - 1
SECRET = bytes.fromhex(
    "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671fcb79e64eccc0e578825ad07dccff7221"
    "b8084674f743248ee03590e6813a264c3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8"
    "a8fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364eac5ac8334d3ebc3c581a0fffa1363eb"
    "170ddd51b7f0da49d316552629d4689e2b16be587d47a1fc8ff8b8d17ad031ce45cb3a8f95160428afd7fbcabb4b407e"
)
P32_1, P32_2, P32_3 = 0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D
P64_1, P64_2, P64_3 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
P64_4, P64_5 = 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5
MIX_1, MIX_2 = 0x165667919E3779F9, 0x9FB21C651E98DF25
STRIPE, LAST_SECRET = 64, len(SECRET) - 64
BLOCK_STRIPES = LAST_SECRET // 8


def u64(data, at):
    return int.from_bytes(data[at : at + 8], "little")


def fold(a, b):
    product = a * b
    return (product & MASK) ^ (product >> 64)


def avalanche(h):
    h ^= h >> 37
    h = h * MIX_1 & MASK
    return h ^ (h >> 32)


def avalanche64(h):
    h = (h ^ (h >> 33)) * P64_2 & MASK
    h = (h ^ (h >> 29)) * P64_3 & MASK
    return h ^ (h >> 32)


def rotl(value, bits):
    return (value << bits | value >> (64 - bits)) & MASK


def swap(value, size):
    return int.from_bytes(value.to_bytes(size, "little"), "big")


def short(data, seed):
    n = len(data)
    if n == 0:
        return avalanche64(seed ^ u64(SECRET, 56) ^ u64(SECRET, 64))
    if n <= 3:
        combined = data[0] << 16 | data[n >> 1] << 24 | data[-1] | n << 8
        key = int.from_bytes(SECRET[:4], "little") ^ int.from_bytes(SECRET[4:8], "little")
        return avalanche64(combined ^ ((key + seed) & MASK))
    if n <= 8:
        seed ^= swap(seed & 0xFFFFFFFF, 4) << 32
        first, last = (int.from_bytes(part, "little") for part in (data[:4], data[-4:]))
        h = (last + (first << 32)) ^ (((u64(SECRET, 8) ^ u64(SECRET, 16)) - seed) & MASK)
        h = (h ^ rotl(h, 49) ^ rotl(h, 24)) * MIX_2 & MASK
        h = (h ^ ((h >> 35) + n)) * MIX_2 & MASK
        return h ^ (h >> 28)
    low = u64(data, 0) ^ (((u64(SECRET, 24) ^ u64(SECRET, 32)) + seed) & MASK)
    high = u64(data, n - 8) ^ (((u64(SECRET, 40) ^ u64(SECRET, 48)) - seed) & MASK)
    return avalanche((n + swap(low, 8) + high + fold(low, high)) & MASK)


def middle(data, seed):
    n = len(data)

    def mix(at, key):
        return fold(
            u64(data, at) ^ ((u64(SECRET, key) + seed) & MASK),
            u64(data, at + 8) ^ ((u64(SECRET, key + 8) - seed) & MASK),
        )

    total = n * P64_1
    if n <= 128:
        for i in range((n - 1) // 32 + 1):
            total += mix(16 * i, 32 * i) + mix(n - 16 * (i + 1), 32 * i + 16)
        return avalanche(total & MASK)
    total = avalanche((total + sum(mix(16 * i, 16 * i) for i in range(8))) & MASK)
    total += mix(n - 16, 119) + sum(mix(16 * i, 16 * (i - 8) + 3) for i in range(8, n // 16))
    return avalanche(total & MASK)


def long(data, seed):
    n = len(data)
    secret = b"".join(
        struct.pack("<QQ", (u64(SECRET, at) + seed) & MASK, (u64(SECRET, at + 8) - seed) & MASK)
        for at in range(0, len(SECRET), 16)
    )
    lanes = [P32_3, P64_1, P64_2, P64_3, P64_4, P32_2, P64_5, P32_1]

    def stripe(at, key_at):
        values = struct.unpack_from("<8Q", data, at)
        keys = struct.unpack_from("<8Q", secret, key_at)
        for i in range(8):
            key = values[i] ^ keys[i]
            lanes[i ^ 1] += values[i]
            lanes[i] += (key & 0xFFFFFFFF) * (key >> 32)

    for number in range((n - 1) // STRIPE):
        stripe(STRIPE * number, 8 * (number % BLOCK_STRIPES))
        if number % BLOCK_STRIPES == BLOCK_STRIPES - 1 and (number + 1) * STRIPE <= (n - 1) // 1024 * 1024:
            for i in range(8):
                lane = lanes[i] & MASK
                lanes[i] = (lane ^ (lane >> 47) ^ u64(secret, LAST_SECRET + 8 * i)) * P32_1 & MASK
    stripe(n - STRIPE, LAST_SECRET - 7)
    lanes = [lane & MASK for lane in lanes]
    total = n * P64_1
    for i in range(4):
        total += fold(lanes[2 * i] ^ u64(secret, 11 + 16 * i), lanes[2 * i + 1] ^ u64(secret, 19 + 16 * i))
    return avalanche(total & MASK)


def same_digest(data, wanted, seed):
    """Other bytes of the same XXH3: `data` with its first 896 bytes replaced by `wanted`, and 128 more solved for. Needs no search.

    In a stripe, a word v of lane i adds v to the accumulator of lane i ^ 1, and to its own the product of the halves of v ^ key.
    A word with a half equal to that of its key makes no product: only its other half counts, and that as it is. So two words of each
    lane, one with the low half given away and one with the high, bring the sum of its words to any value; that settles both what
    the lane adds to its neighbour and what the products of the neighbour's own words have changed.
    """
    data = bytearray(data)
    assert len(wanted) == 14 * STRIPE and len(data) > 1024 + STRIPE, "one whole block, and the last stripe outside of it"
    secret = b"".join(
        struct.pack("<QQ", (u64(SECRET, at) + seed) & MASK, (u64(SECRET, at + 8) - seed) & MASK)
        for at in range(0, len(SECRET), 16)
    )

    def sums(block):
        """Of each lane over the block: its words, and its products."""
        words, products = [0] * 8, [0] * 8
        for number in range(16):
            for i in range(8):
                value = u64(block, STRIPE * number + 8 * i)
                key = value ^ u64(secret, 8 * number + 8 * i)
                words[i] += value
                products[i] += (key & 0xFFFFFFFF) * (key >> 32)
        return words, products

    words, products = sums(data[:1024])
    changed = bytearray(wanted) + bytes(2 * STRIPE)
    keys = [[u64(secret, 8 * (14 + n) + 8 * i) for i in range(8)] for n in range(2)]
    for i in range(8):  # the two words without products, the free halves still 0
        struct.pack_into("<Q", changed, 14 * STRIPE + 8 * i, keys[0][i] & 0xFFFFFFFF)
        struct.pack_into("<Q", changed, 15 * STRIPE + 8 * i, keys[1][i] & ~0xFFFFFFFF)
    now_words, now_products = sums(changed)
    for i in range(8):
        # Lane i ^ 1 must end as before: its own products and the words of lane i.
        missing = (products[i ^ 1] + words[i] - now_products[i ^ 1] - now_words[i]) & MASK
        high, low = missing >> 32, missing & 0xFFFFFFFF
        struct.pack_into("<Q", changed, 14 * STRIPE + 8 * i, u64(changed, 14 * STRIPE + 8 * i) | high << 32)
        struct.pack_into("<Q", changed, 15 * STRIPE + 8 * i, u64(changed, 15 * STRIPE + 8 * i) | low)
    data[:1024] = changed
    return bytes(data)


def xxh3_64(data, seed=0):
    data = bytes(data)
    return short(data, seed) if len(data) <= 16 else middle(data, seed) if len(data) <= 240 else long(data, seed)
