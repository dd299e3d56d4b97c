// What the readers of weights with scales have in common: tensors by name, what becomes of each, and the scales that
// belong to no weight. Internal to formats/logical/.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "formats/folder/left_out.h"
#include "formats/tensor/source_tensor.h"

namespace q4 {

// The last part of the name of most weights, and where the last part begins: behind the last dot.
inline constexpr std::string_view kWeightLeaf = "weight";
std::size_t LeafOf(std::string_view name);

bool IsAmong(std::span<const std::string_view> names, std::string_view name);

// Whether a tensor of this name, beside a weight, is part of its value and is not read: zero points, orders of columns,
// factors of the inputs.
bool IsOtherForm(std::string_view leaf);

// A list of tensors on the way from what the files hold to what it stands for. Look-ups go by one hash table of names,
// so that a checkpoint of 90,000 tensors takes a tenth of a second. Names must not change before CloseUp().
class Pairing {
 public:
  enum class Fate : std::uint8_t {
    kStays,
    kRead,  // a weight that has become what it stands for
    kGoes,
  };
  static constexpr std::uint32_t kNone = UINT32_MAX;

  // Neither is owned.
  Pairing(std::vector<SourceTensor>* tensors, LeftOutList* left_out);

  // The index of a tensor, or kNone.
  std::uint32_t Find(std::string_view name) const;
  // name[0, keep) with `rest` behind it. One buffer for all: there are a few look-ups for each tensor.
  std::uint32_t Find(std::string_view name, std::size_t keep, std::string_view rest);

  Fate fate(std::uint32_t i) const { return fates_[i]; }
  void Set(std::uint32_t i, Fate fate) { fates_[i] = fate; }
  // Whether the weight of that name has been read, whatever its codes are called.
  bool IsRead(std::string_view name, std::size_t keep, std::string_view rest);

  // Gives tensor `i` this name when the list is closed up.
  void Rename(std::uint32_t i, std::string name) { renamed_.emplace_back(i, std::move(name)); }
  void LeaveOut(std::uint32_t i, std::string_view reason);
  // Leaves tensor `i` out if it is a scale of activations beside a weight that has been read, or one of a cache or of
  // attention. True if so.
  bool LeaveOutScale(std::uint32_t i);

  // Changes names and removes what goes. Order is kept.
  void CloseUp();

 private:
  std::vector<SourceTensor>& tensors_;
  LeftOutList* left_out_;
  std::vector<Fate> fates_;  // by tensor
  std::unordered_map<std::string_view, std::uint32_t> by_name_;
  std::vector<std::pair<std::uint32_t, std::string>> renamed_;
  std::string buffer_;
};

}  // namespace q4
