// The journal of a conversion. The input is
//   u32 place | records: u8 kind, u16 bytes of the payload, payload
// from which the target makes a journal whose digests are right. What is believed of it is a beginning of its records;
// the same beginning alone says the same; and after one flipped bit nothing from there on is believed. Taken for a
// journal as it is, the input is none.
#include <array>
#include <vector>

#include "libconvert/convert/journal.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/support/bytes.h"

namespace q4::fuzz {
namespace {

using test::AppendU64;
using test::Bytes;

constexpr std::size_t kHeaderBytes = 48;
const Sha256 kRunId = {1, 2, 3};

// The journal of these records, and where each ends.
struct MadeJournal {
  Bytes bytes;
  std::vector<std::size_t> ends;
};

// A second writing of what libconvert/convert/journal.h describes.
MadeJournal MakeJournal(FuzzInput input) {
  constexpr std::string_view kMagic = "Q4JRNL\r\n";
  MadeJournal made;
  made.bytes.assign(kMagic.begin(), kMagic.end());
  made.bytes.insert(made.bytes.end(), kRunId.begin(), kRunId.end());
  AppendU64(Xxh3(made.bytes, 0), &made.bytes);
  while (input.remaining() >= 3) {
    const std::uint8_t kind = input.Byte();
    const auto payload = input.Take(input.Below(1 << 16));
    Bytes seed(kRunId.begin(), kRunId.end());
    AppendU64(made.ends.size(), &seed);
    const std::size_t begin = made.bytes.size();
    const std::array<std::uint8_t, 5> head = {static_cast<std::uint8_t>(payload.size() & 0xFF),
                                              static_cast<std::uint8_t>(payload.size() >> 8), 0, 0, kind};
    made.bytes.insert(made.bytes.end(), head.begin(), head.end());
    made.bytes.insert(made.bytes.end(), payload.begin(), payload.end());
    AppendU64(Xxh3(std::span(made.bytes).subspan(begin), Xxh3(seed, 0)), &made.bytes);
    made.ends.push_back(made.bytes.size());
  }
  return made;
}

bool Same(const Journal& a, const Journal& b) {
  return a.records == b.records && a.bytes == b.bytes && a.owners.size() == b.owners.size() &&
         a.digests.size() == b.digests.size() && a.sealed == b.sealed;
}

void CheckBelieved(const Journal& journal, const MadeJournal& made) {
  Q4_FUZZ_CHECK(journal.records <= made.ends.size());
  Q4_FUZZ_CHECK(journal.bytes == (journal.records == 0 ? kHeaderBytes : made.ends[journal.records - 1]));
  std::uint64_t last = 0;
  for (const JournalOwner& owner : journal.owners) {
    Q4_FUZZ_CHECK(last < owner.records_end && owner.records_end <= journal.records);
    Q4_FUZZ_CHECK(owner.bytes_end == made.ends[owner.records_end - 1]);
    last = owner.records_end;
  }
  const std::span<const std::uint8_t> bytes(made.bytes);
  Q4_FUZZ_CHECK(Same(ParseJournal(bytes.first(journal.bytes), kRunId), journal));
}

// The longest beginning with at most this many owners, cut and parsed.
void CheckCut(const Journal& journal, const MadeJournal& made, std::uint64_t place) {
  if (journal.owners.empty()) return;
  const std::size_t count = 1 + place % journal.owners.size();
  Journal cut = journal;
  cut.CutAfter(count);
  Q4_FUZZ_CHECK(cut.owners.size() == count);
  if (count == journal.owners.size()) return;
  const Journal parsed = ParseJournal(std::span(made.bytes).first(cut.bytes), kRunId);
  Q4_FUZZ_CHECK(parsed.records == cut.records && parsed.bytes == cut.bytes && parsed.owners.size() == count);
}

void CheckFlippedBit(const Journal& journal, MadeJournal made, std::uint64_t place) {
  const std::size_t bit = place % (8 * made.bytes.size());
  made.bytes[bit / 8] = static_cast<std::uint8_t>(made.bytes[bit / 8] ^ (1u << (bit % 8)));
  const Journal damaged = ParseJournal(made.bytes, kRunId);
  Q4_FUZZ_CHECK(damaged.bytes <= bit / 8);
  Q4_FUZZ_CHECK(damaged.records <= journal.records);
}

}  // namespace
}  // namespace q4::fuzz

Q4_FUZZ_TARGET(journal) {
  using namespace q4;
  Q4_FUZZ_CHECK(ParseJournal({data, size}, fuzz::kRunId).records == 0);
  fuzz::FuzzInput input(data, size);
  const std::uint64_t place = input.Below(std::uint64_t{1} << 32);
  const fuzz::MadeJournal made = fuzz::MakeJournal(input);
  const Journal journal = ParseJournal(made.bytes, fuzz::kRunId);
  fuzz::CheckBelieved(journal, made);
  fuzz::CheckCut(journal, made, place);
  fuzz::CheckFlippedBit(journal, made, place);
  return 0;
}
