// Every table of the arithmetic: the only copy. The words are those of docs/numerics.md Q2 and Q5, as fp32 bit
// patterns, because decimal literals would be rounded differently by different parsers (Q2.5). Nothing here is computed
// at run time: bitsandbytes' generator of the nested map depends on a fused multiply-add (Q5.6).
//
// Other forms of the same tables are derived from these by the compiler: kernels/nested_search.h (nested bounds by
// direct address), kernels/error_stats_block.h (sorted code values), kernels/cuda_tables.cuh (what device code looks
// up).
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <iterator>

namespace q4 {

// A table as it is written: fp32 bit patterns.
template <std::size_t kSize>
using FloatWords = std::array<std::uint32_t, kSize>;

// The same bits as floats.
template <std::size_t kSize>
constexpr std::array<float, kSize> FloatsOf(const FloatWords<kSize>& words) {
  std::array<float, kSize> floats{};
  for (std::size_t i = 0; i < kSize; ++i) floats[i] = std::bit_cast<float>(words[i]);
  return floats;
}

// TINY of Q4.2, 1e-38: what a block is divided by at least. It is subnormal: where subnormals are flushed, a zero block
// would be divided by zero.
inline constexpr float kTiny = std::bit_cast<float>(std::uint32_t{0x006CE3EE});
// The floor of absmax2, 2^-126 (Q5.3): as a divisor it keeps the reciprocal finite.
inline constexpr float kAbsmax2Floor = std::bit_cast<float>(std::uint32_t{0x00800000});

// clang-format off
// Q2.1: code values by code. NF4 ascends; FP4 carries its sign in bit 3, and its code 8 is -0.0.
inline constexpr std::array<float, 16> kNf4Values = FloatsOf<16>({
    0xBF800000, 0xBF3239B1, 0xBF066B30, 0xBECA32A0, 0xBE91A24D, 0xBE3D353F, 0xBDBA7871, 0x00000000,
    0x3DA2FAFF, 0x3E24CAE3, 0x3E7C04DD, 0x3EAD033A, 0x3EE1A4B8, 0x3F1007AB, 0x3F3913B3, 0x3F800000,
});
// In units of 1/12 of a scale, FP4's magnitudes by code 0 to 7 are 0, 1/16, 8, 12, 4, 6, 2 and 3.
inline constexpr std::array<float, 16> kFp4Values = FloatsOf<16>({
    0x00000000, 0x3BAAAAAB, 0x3F2AAAAB, 0x3F800000, 0x3EAAAAAB, 0x3F000000, 0x3E2AAAAB, 0x3E800000,
    0x80000000, 0xBBAAAAAB, 0xBF2AAAAB, 0xBF800000, 0xBEAAAAAB, 0xBF000000, 0xBE2AAAAB, 0xBE800000,
});

// Q2.3: decision bounds, ascending: midpoints of neighbouring values, rounded to fp32. The number of bounds strictly
// below t selects the code, so that t equal to a bound takes the lower value (Q2.4).
inline constexpr std::array<float, 15> kNf4Bounds = FloatsOf<15>({
    0xBF591CD8, 0xBF1C5270, 0xBEEB8480, 0xBEADEA76, 0xBE703CEC, 0xBE0D38BC, 0xBD3A7871, 0x3D22FAFF,
    0x3DF64862, 0x3E5067E0, 0x3E9582D4, 0x3EC753F9, 0x3F006D04, 0x3F248DAF, 0x3F5C89DA,
});
// FP4's bound 7 is 0: it parts code 0 (t <= 0) from code 8, which is -0.0 and yet stands for small positive t, as in
// bitsandbytes (Q2.4, Q11).
inline constexpr std::array<float, 15> kFp4Bounds = FloatsOf<15>({
    0xBF555556, 0xBF155556, 0xBED55556, 0xBE955556, 0xBE555556, 0xBDB00000, 0xBB2AAAAB, 0x00000000,
    0x3B2AAAAB, 0x3DB00000, 0x3E555556, 0x3E955556, 0x3ED55556, 0x3F155556, 0x3F555556,
});

// Q2.3: the code for each such number. For NF4 it is the number itself.
inline constexpr std::array<std::uint8_t, 16> kNf4Order = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
inline constexpr std::array<std::uint8_t, 16> kFp4Order = {11, 10, 13, 12, 15, 14, 9, 0, 8, 1, 6, 7, 4, 5, 2, 3};


// Q9.4: what the encoder mse tries: reciprocals of multiples of a block's largest magnitude. 1 first, the others by
// ascending multiple. Sixteen of them, and six for effort 1. They were chosen one by one for the least error on normal,
// Student and real weights.
// .86 .89 .91 .93 .95 .97 .98 1.02 1.05 1.08 1.11 1.25 1.32 1.38 1.44; .87 .91 .94 .97 1.04
inline constexpr std::array<float, 16> kNf4Trials = FloatsOf<16>({
    0x3F800000, 0x3F94D653, 0x3F8FD1FA, 0x3F8CA8CB, 0x3F89A269, 0x3F86BCA2, 0x3F83F571, 0x3F829CBC,
    0x3F7AFAFB, 0x3F73CF3D, 0x3F6D097B, 0x3F66A171, 0x3F4CCCCD, 0x3F41F07C, 0x3F3981DB, 0x3F31C71C,
});
inline constexpr std::array<float, 6> kNf4FewTrials = FloatsOf<6>({
    0x3F800000, 0x3F93205E, 0x3F8CA8CB, 0x3F882B93, 0x3F83F571, 0x3F762762,
});
// .78 .81 .84 .86 .88 .90 .92 .94 .96 .98 1.02 1.05 1.09 1.33 1.40; .81 .86 .90 .93 .97
inline constexpr std::array<float, 16> kFp4Trials = FloatsOf<16>({
    0x3F800000, 0x3FA41A42, 0x3F9E0652, 0x3F986186, 0x3F94D653, 0x3F91745D, 0x3F8E38E4, 0x3F8B2164,
    0x3F882B93, 0x3F855555, 0x3F829CBC, 0x3F7AFAFB, 0x3F73CF3D, 0x3F6ADCC5, 0x3F407B30, 0x3F36DB6E,
});
inline constexpr std::array<float, 6> kFp4FewTrials = FloatsOf<6>({
    0x3F800000, 0x3F9E0652, 0x3F94D653, 0x3F8E38E4, 0x3F89A269, 0x3F83F571,
});
// clang-format on

// What code books differ in.
struct CodeBookTables {
  std::array<float, 16> values;        // Q2.1: by code
  std::array<float, 15> bounds;        // Q2.3: ascending
  std::array<std::uint8_t, 16> order;  // Q2.3: codes by the number of bounds below
  std::array<float, 16> trials;        // Q9.4: of efforts 2 and 3
  std::array<float, 6> few_trials;     // and of effort 1
};

enum class CodeBook : std::uint8_t;  // kernels.h

// A row per code book, in the order of their numbers.
inline constexpr CodeBookTables kCodeBooks[] = {
    {kNf4Values, kNf4Bounds, kNf4Order, kNf4Trials, kNf4FewTrials},
    {kFp4Values, kFp4Bounds, kFp4Order, kFp4Trials, kFp4FewTrials},
};
// Kernels that have a code book as a template argument find it among this many.
inline constexpr std::size_t kCodeBookCount = std::size(kCodeBooks);

// REQUIRES: `book` is one of the enumeration, which callers check where a number comes from outside.
constexpr const CodeBookTables& TablesOf(CodeBook book) { return kCodeBooks[static_cast<std::size_t>(book)]; }

// Two properties that SIMD code has a short way for; it has none for a code book with neither.
// The code is the number of bounds below, as NF4's.
constexpr bool CodesAreRanks(CodeBook book) {
  const CodeBookTables& tables = TablesOf(book);
  for (std::size_t rank = 0; rank < 16; ++rank) {
    if (tables.order[rank] != rank) return false;
  }
  return true;
}
// Bit 3 is the sign of values that are symmetric, as FP4's. Zeros of either sign compare equal, so FP4's code 8 passes.
constexpr bool CodesCarrySign(CodeBook book) {
  const CodeBookTables& tables = TablesOf(book);
  for (std::size_t code = 0; code < 8; ++code) {
    if (tables.values[code] < 0 || tables.values[code + 8] != -tables.values[code]) return false;
  }
  return true;
}

// A table for each code book, by its number; a plain array, which device code can index.
template <typename Table>
struct TablePerBook {
  Table of[kCodeBookCount];
};
// By the compiler: make(book) for each book.
template <typename Table>
constexpr TablePerBook<Table> ForEachBook(Table (*make)(CodeBook)) {
  TablePerBook<Table> tables{};
  for (std::size_t book = 0; book < kCodeBookCount; ++book) tables.of[book] = make(static_cast<CodeBook>(book));
  return tables;
}

// clang-format off
// Q5.6: the values of the 8-bit scale codes, ascending; code 127 is 0 and code 255 is 1.
inline constexpr std::uint8_t kNestedZeroCode = 127;
// The ends differ: 1 is an entry, -1 is not; the lowest value is -0.993.
inline constexpr std::array<float, 256> kNestedMap = FloatsOf<256>({
    0xBF7E3333, 0xBF7A999A, 0xBF770000, 0xBF736666, 0xBF6FCCCD, 0xBF6C3333, 0xBF68999A, 0xBF650000,
    0xBF616666, 0xBF5DCCCD, 0xBF5A3333, 0xBF56999A, 0xBF530000, 0xBF4F6666, 0xBF4BCCCD, 0xBF483333,
    0xBF44999A, 0xBF410000, 0xBF3D6666, 0xBF39CCCD, 0xBF363334, 0xBF32999A, 0xBF2F0000, 0xBF2B6666,
    0xBF27CCCD, 0xBF243334, 0xBF20999A, 0xBF1D0000, 0xBF196666, 0xBF15CCCD, 0xBF123334, 0xBF0E999A,
    0xBF0B0000, 0xBF076666, 0xBF03CCCC, 0xBF003333, 0xBEF93332, 0xBEF20000, 0xBEEACCCC, 0xBEE3999A,
    0xBEDC6666, 0xBED53333, 0xBECE0000, 0xBEC6CCCC, 0xBEBF999A, 0xBEB86666, 0xBEB13333, 0xBEAA0000,
    0xBEA2CCCC, 0xBE9B999A, 0xBE946666, 0xBE8D3334, 0xBE860000, 0xBE7D9999, 0xBE6F3333, 0xBE60CCCD,
    0xBE526666, 0xBE440000, 0xBE35999A, 0xBE273333, 0xBE18CCCD, 0xBE0A6666, 0xBDF80000, 0xBDDB3334,
    0xBDC9EB85, 0xBDC428F7, 0xBDBE6667, 0xBDB8A3D7, 0xBDB2E148, 0xBDAD1EB8, 0xBDA75C2A, 0xBDA1999A,
    0xBD9BD70A, 0xBD96147B, 0xBD9051EB, 0xBD8A8F5D, 0xBD84CCCD, 0xBD7E147B, 0xBD728F5D, 0xBD670A3D,
    0xBD5B851F, 0xBD500000, 0xBD447AE1, 0xBD38F5C3, 0xBD2D70A3, 0xBD21EB85, 0xBD166667, 0xBD0AE148,
    0xBCFEB852, 0xBCE7AE15, 0xBCD0A3D7, 0xBCB9999A, 0xBCA28F5D, 0xBC8B851F, 0xBC68F5C3, 0xBC3AE148,
    0xBC1F3B64, 0xBC160418, 0xBC0CCCCD, 0xBC039581, 0xBBF4BC6A, 0xBBE24DD3, 0xBBCFDF3B, 0xBBBD70A4,
    0xBBAB020D, 0xBB989374, 0xBB8624DD, 0xBB676C8A, 0xBB428F5C, 0xBB1DB22D, 0xBAF1A9FC, 0xBAA7EF9D,
    0xBA7765FF, 0xBA59E83E, 0xBA3C6A80, 0xBA1EECC1, 0xBA016F01, 0xB9C7E283, 0xB98CE705, 0xB923D70B,
    0xB8BA1F4B, 0xB88AEFB3, 0xB8378034, 0xB7B24206, 0xB70205FF, 0xB65A1A94, 0xB513A3B7, 0x00000000,
    0x3513A3B7, 0x365A1A94, 0x370205FF, 0x37B24206, 0x38378034, 0x388AEFB3, 0x38BA1F4B, 0x3923D70B,
    0x398CE705, 0x39C7E283, 0x3A016F01, 0x3A1EECC1, 0x3A3C6A80, 0x3A59E83E, 0x3A7765FF, 0x3AA7EF9D,
    0x3AF1A9FC, 0x3B1DB22D, 0x3B428F5C, 0x3B676C8A, 0x3B8624DD, 0x3B989374, 0x3BAB020D, 0x3BBD70A4,
    0x3BCFDF3B, 0x3BE24DD3, 0x3BF4BC6A, 0x3C039581, 0x3C0CCCCD, 0x3C160418, 0x3C1F3B64, 0x3C3AE148,
    0x3C68F5C3, 0x3C8B851F, 0x3CA28F5D, 0x3CB9999A, 0x3CD0A3D7, 0x3CE7AE15, 0x3CFEB852, 0x3D0AE148,
    0x3D166667, 0x3D21EB85, 0x3D2D70A3, 0x3D38F5C3, 0x3D447AE1, 0x3D500000, 0x3D5B851F, 0x3D670A3D,
    0x3D728F5D, 0x3D7E147B, 0x3D84CCCD, 0x3D8A8F5D, 0x3D9051EB, 0x3D96147B, 0x3D9BD70A, 0x3DA1999A,
    0x3DA75C2A, 0x3DAD1EB8, 0x3DB2E148, 0x3DB8A3D7, 0x3DBE6667, 0x3DC428F7, 0x3DC9EB85, 0x3DDB3334,
    0x3DF80000, 0x3E0A6666, 0x3E18CCCD, 0x3E273333, 0x3E35999A, 0x3E440000, 0x3E526666, 0x3E60CCCD,
    0x3E6F3333, 0x3E7D9999, 0x3E860000, 0x3E8D3334, 0x3E946666, 0x3E9B999A, 0x3EA2CCCC, 0x3EAA0000,
    0x3EB13333, 0x3EB86666, 0x3EBF999A, 0x3EC6CCCC, 0x3ECE0000, 0x3ED53333, 0x3EDC6666, 0x3EE3999A,
    0x3EEACCCC, 0x3EF20000, 0x3EF93332, 0x3F003333, 0x3F03CCCC, 0x3F076666, 0x3F0B0000, 0x3F0E999A,
    0x3F123334, 0x3F15CCCD, 0x3F196666, 0x3F1D0000, 0x3F20999A, 0x3F243334, 0x3F27CCCD, 0x3F2B6666,
    0x3F2F0000, 0x3F32999A, 0x3F363334, 0x3F39CCCD, 0x3F3D6666, 0x3F410000, 0x3F44999A, 0x3F483333,
    0x3F4BCCCD, 0x3F4F6666, 0x3F530000, 0x3F56999A, 0x3F5A3333, 0x3F5DCCCD, 0x3F616666, 0x3F650000,
    0x3F68999A, 0x3F6C3333, 0x3F6FCCCD, 0x3F736666, 0x3F770000, 0x3F7A999A, 0x3F7E3333, 0x3F800000,
});

// Q5.7: their decision bounds: exact midpoints rounded down, so that the fp32 comparison t > bound is the exact one.
inline constexpr std::array<float, 255> kNestedBounds = FloatsOf<255>({
    0xBF7C6667, 0xBF78CCCD, 0xBF753333, 0xBF71999A, 0xBF6E0000, 0xBF6A6667, 0xBF66CCCD, 0xBF633333,
    0xBF5F999A, 0xBF5C0000, 0xBF586667, 0xBF54CCCD, 0xBF513333, 0xBF4D999A, 0xBF4A0000, 0xBF466667,
    0xBF42CCCD, 0xBF3F3333, 0xBF3B999A, 0xBF380001, 0xBF346667, 0xBF30CCCD, 0xBF2D3333, 0xBF29999A,
    0xBF260001, 0xBF226667, 0xBF1ECCCD, 0xBF1B3333, 0xBF17999A, 0xBF140001, 0xBF106667, 0xBF0CCCCD,
    0xBF093333, 0xBF059999, 0xBF020000, 0xBEFCCCCC, 0xBEF59999, 0xBEEE6666, 0xBEE73333, 0xBEE00000,
    0xBED8CCCD, 0xBED1999A, 0xBECA6666, 0xBEC33333, 0xBEBC0000, 0xBEB4CCCD, 0xBEAD999A, 0xBEA66666,
    0xBE9F3333, 0xBE980000, 0xBE90CCCD, 0xBE89999A, 0xBE826667, 0xBE766666, 0xBE680000, 0xBE59999A,
    0xBE4B3333, 0xBE3CCCCD, 0xBE2E6667, 0xBE200000, 0xBE11999A, 0xBE033333, 0xBDE9999A, 0xBDD28F5D,
    0xBDC70A3E, 0xBDC147AF, 0xBDBB851F, 0xBDB5C290, 0xBDB00000, 0xBDAA3D71, 0xBDA47AE2, 0xBD9EB852,
    0xBD98F5C3, 0xBD933333, 0xBD8D70A4, 0xBD87AE15, 0xBD81EB86, 0xBD7851EC, 0xBD6CCCCD, 0xBD6147AE,
    0xBD55C290, 0xBD4A3D71, 0xBD3EB852, 0xBD333333, 0xBD27AE14, 0xBD1C28F6, 0xBD10A3D8, 0xBD051EB9,
    0xBCF33334, 0xBCDC28F6, 0xBCC51EB9, 0xBCAE147C, 0xBC970A3E, 0xBC800001, 0xBC51EB86, 0xBC2D0E56,
    0xBC1A9FBE, 0xBC116873, 0xBC083127, 0xBBFDF3B6, 0xBBEB851F, 0xBBD91687, 0xBBC6A7F0, 0xBBB43959,
    0xBBA1CAC1, 0xBB8F5C29, 0xBB79DB22, 0xBB54FDF3, 0xBB3020C5, 0xBB0B4396, 0xBACCCCCD, 0xBA91D14F,
    0xBA68A71F, 0xBA4B295F, 0xBA2DABA1, 0xBA102DE1, 0xB9E56043, 0xB9AA64C4, 0xB95ED28B, 0xB9007359,
    0xB8A2877F, 0xB866AFCD, 0xB808509C, 0xB7734506, 0xB6B88CA4, 0xB5FF0382, 0xB493A3B7, 0x3493A3B7,
    0x35FF0381, 0x36B88CA4, 0x37734505, 0x3808509B, 0x3866AFCD, 0x38A2877F, 0x39007358, 0x395ED28A,
    0x39AA64C4, 0x39E56042, 0x3A102DE1, 0x3A2DABA0, 0x3A4B295F, 0x3A68A71E, 0x3A91D14E, 0x3ACCCCCC,
    0x3B0B4395, 0x3B3020C4, 0x3B54FDF3, 0x3B79DB22, 0x3B8F5C28, 0x3BA1CAC0, 0x3BB43958, 0x3BC6A7EF,
    0x3BD91687, 0x3BEB851E, 0x3BFDF3B6, 0x3C083127, 0x3C116872, 0x3C1A9FBE, 0x3C2D0E56, 0x3C51EB85,
    0x3C800000, 0x3C970A3E, 0x3CAE147B, 0x3CC51EB8, 0x3CDC28F6, 0x3CF33333, 0x3D051EB8, 0x3D10A3D7,
    0x3D1C28F6, 0x3D27AE14, 0x3D333333, 0x3D3EB852, 0x3D4A3D70, 0x3D55C28F, 0x3D6147AE, 0x3D6CCCCD,
    0x3D7851EC, 0x3D81EB85, 0x3D87AE15, 0x3D8D70A4, 0x3D933333, 0x3D98F5C2, 0x3D9EB852, 0x3DA47AE2,
    0x3DAA3D71, 0x3DB00000, 0x3DB5C28F, 0x3DBB851F, 0x3DC147AF, 0x3DC70A3E, 0x3DD28F5C, 0x3DE9999A,
    0x3E033333, 0x3E119999, 0x3E200000, 0x3E2E6666, 0x3E3CCCCD, 0x3E4B3333, 0x3E599999, 0x3E680000,
    0x3E766666, 0x3E826666, 0x3E89999A, 0x3E90CCCD, 0x3E980000, 0x3E9F3333, 0x3EA66666, 0x3EAD9999,
    0x3EB4CCCC, 0x3EBC0000, 0x3EC33333, 0x3ECA6666, 0x3ED19999, 0x3ED8CCCC, 0x3EE00000, 0x3EE73333,
    0x3EEE6666, 0x3EF59999, 0x3EFCCCCC, 0x3F01FFFF, 0x3F059999, 0x3F093333, 0x3F0CCCCD, 0x3F106667,
    0x3F140000, 0x3F179999, 0x3F1B3333, 0x3F1ECCCD, 0x3F226667, 0x3F260000, 0x3F299999, 0x3F2D3333,
    0x3F30CCCD, 0x3F346667, 0x3F380000, 0x3F3B9999, 0x3F3F3333, 0x3F42CCCD, 0x3F466666, 0x3F4A0000,
    0x3F4D9999, 0x3F513333, 0x3F54CCCD, 0x3F586666, 0x3F5C0000, 0x3F5F9999, 0x3F633333, 0x3F66CCCD,
    0x3F6A6666, 0x3F6E0000, 0x3F719999, 0x3F753333, 0x3F78CCCD, 0x3F7C6666, 0x3F7F1999,
});
// clang-format on

}  // namespace q4
