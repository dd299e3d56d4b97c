#include "formats/source/source_remarks.h"

#include <algorithm>
#include <cstddef>

#include "formats/base/counted.h"
#include "formats/base/text.h"

namespace q4 {
namespace {

constexpr std::size_t kNames = 8;             // that are kept
constexpr std::size_t kRemarkNameBytes = 64;  // of one that are shown

}  // namespace

void SourceRemarks::AddName(std::string_view name) { AddShown(Printable(name, kRemarkNameBytes)); }

void SourceRemarks::AddShown(std::string shown) {
  if (names_.size() == kNames) return;
  if (std::find(names_.begin(), names_.end(), shown) == names_.end()) names_.push_back(std::move(shown));
}

void SourceRemarks::AddEntries(std::uint64_t entries, std::uint64_t bytes) {
  entries_ += entries;
  bytes_ += bytes;
}

void SourceRemarks::Add(const SourceRemarks& other) {
  if (empty()) place_ = other.place_;
  for (const std::string& name : other.names_) AddShown(name);
  AddEntries(other.entries_, other.bytes_);
}

std::string SourceRemarks::Text() const {
  std::string text = Counted(entries_, "entry", "entries") + ", " + HumanBytes(bytes_);
  for (std::size_t i = 0; i < names_.size(); ++i) text += (i == 0 ? ": " : ", ") + names_[i];
  if (names_.size() == kNames) text += ", ...";
  return text;
}

}  // namespace q4
