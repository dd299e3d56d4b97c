// Mutation of a container's index that keeps its section table right. Plain mutation seldom changes the size of a
// section and lets anything behind the table be read; here sections grow, shrink and change while their offsets follow.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <random>
#include <span>
#include <vector>

#include "formats/base/byte_reader.h"
#include "formats/base/byte_writer.h"
#include "formats/q4/layout.h"

// libFuzzer's own mutation, in place; returns the new size.
extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t max_size);

namespace q4::fuzz {

using MutableBytes = std::vector<std::uint8_t>;

// Bytes of one record of sections 1 to 7.
inline constexpr std::array<std::uint64_t, kQ4SectionCount> kSectionRecordBytes = {
    Q4TensorRecord::kBytes, 8, 1, Q4FileRecord::kBytes, kQ4ChunkRecordBytes, kQ4StatsRecordBytes, 1};

// `bytes` changed by libFuzzer to at most `max_size` bytes.
inline MutableBytes MutatePlainly(std::span<const std::uint8_t> bytes, std::size_t max_size) {
  MutableBytes out(bytes.begin(), bytes.end());
  out.resize(std::max({max_size, bytes.size(), std::size_t{1}}));
  out.resize(LLVMFuzzerMutate(out.data(), bytes.size(), out.size()));
  return out;
}

// The contents of the seven sections, as far as the index holds them.
inline std::array<MutableBytes, kQ4SectionCount> SectionsOf(std::span<const std::uint8_t> index) {
  std::array<MutableBytes, kQ4SectionCount> sections;
  ByteReader in(index);
  in.Bytes(8);
  for (MutableBytes& section : sections) {
    const Q4SectionEntry entry = Q4SectionEntry::DecodeFrom(&in);
    if (!in.ok() || entry.offset > index.size()) break;
    const auto rest = index.subspan(entry.offset);
    const auto content = rest.first(std::min<std::uint64_t>(entry.bytes, rest.size()));
    section.assign(content.begin(), content.end());
  }
  return sections;
}

inline MutableBytes JoinSections(const std::array<MutableBytes, kQ4SectionCount>& sections) {
  const auto padding = [](std::uint64_t size) {
    return (kQ4SectionAlignment - size % kQ4SectionAlignment) % kQ4SectionAlignment;
  };
  ByteWriter out;
  out.U32(kQ4SectionCount);
  out.U32(0);
  std::uint64_t offset = 8 + kQ4SectionCount * Q4SectionEntry::kBytes;
  for (std::uint32_t i = 0; i < kQ4SectionCount; ++i) {
    const std::uint64_t bytes = sections[i].size();
    const bool required = IsRequiredSection(static_cast<Q4SectionKind>(i + 1));
    Q4SectionEntry{i + 1, required ? 1u : 0u, offset, bytes}.EncodeTo(&out);
    offset += bytes + padding(bytes);
  }
  for (const MutableBytes& section : sections) {
    out.Bytes(section);
    out.Zeros(padding(section.size()));
  }
  return out.Take();
}

// Repeats, removes, overwrites or mutates one record of `section`.
inline void MutateSection(std::uint64_t record_bytes, std::size_t max_size, std::minstd_rand* random,
                          MutableBytes* section) {
  const std::size_t records = section->size() / record_bytes;
  if (records == 0) {
    section->resize(record_bytes);
    return;
  }
  const auto record = [&](std::size_t i) { return section->begin() + static_cast<std::ptrdiff_t>(i * record_bytes); };
  const std::size_t chosen = (*random)() % records;
  const std::size_t other = (*random)() % records;
  const MutableBytes bytes(record(chosen), record(chosen + 1));
  switch ((*random)() % 6) {
    case 0:
      section->insert(record(other), bytes.begin(), bytes.end());
      break;
    case 1:
      section->erase(record(chosen), record(chosen + 1));
      break;
    case 2:
      std::copy(bytes.begin(), bytes.end(), record(other));
      break;
    case 3:
      *section = MutatePlainly(*section, std::min(max_size, section->size() + record_bytes));
      break;
    default: {
      const MutableBytes mutated = MutatePlainly(bytes, record_bytes);
      std::copy_n(mutated.begin(), std::min<std::size_t>(mutated.size(), record_bytes), record(chosen));
    }
  }
}

// `index` with one to three sections changed, or, one time in four, just changed.
inline MutableBytes MutateQ4Index(std::span<const std::uint8_t> index, std::size_t max_size, unsigned seed) {
  std::minstd_rand random(seed);
  random.discard(2);  // the first value follows the seed too closely
  if (random() % 4 == 0) return MutatePlainly(index, max_size);
  auto sections = SectionsOf(index);
  for (std::size_t left = 1 + random() % 3; left > 0; --left) {
    const std::size_t i = random() % sections.size();
    MutateSection(kSectionRecordBytes[i], max_size, &random, &sections[i]);
  }
  MutableBytes out = JoinSections(sections);
  return out.size() <= max_size ? out : MutatePlainly(index, max_size);
}

}  // namespace q4::fuzz
