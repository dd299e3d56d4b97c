#include "formats/logical/pairing.h"

#include <algorithm>
#include <array>
#include <utility>

namespace q4 {
namespace {

// Beside a weight: of its input or output.
constexpr std::array<std::string_view, 10> kOfActivations = {
    "input_scale",  "activation_scale", "input_scale_ub", "activation_scale_ub", "scale_input",
    "output_scale", "scale_output",     "qscale_act",     "input_zero_point",    "input_global_scale"};
// Anywhere in such a checkpoint, of one element: of the cache of keys and values, or of attention.
constexpr std::array<std::string_view, 8> kOfCaches = {
    "k_scale",    "v_scale",           "q_scale",   "kv_scale",
    "prob_scale", "prob_output_scale", "qscale_kv", "kv_cache_scaling_factor"};
constexpr std::array<std::string_view, 3> kOtherForms = {"weight_zero_point", "weight_g_idx", "pre_quant_scale"};
// What stands behind the name of a weight in that of its codes.
constexpr std::array<std::string_view, 3> kBehindCodes = {"", "_packed", "_blocks"};

}  // namespace

bool IsAmong(std::span<const std::string_view> names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

std::size_t LeafOf(std::string_view name) {
  const std::size_t dot = name.rfind('.');
  return dot == std::string_view::npos ? 0 : dot + 1;
}

bool IsOtherForm(std::string_view leaf) { return IsAmong(kOtherForms, leaf); }

Pairing::Pairing(std::vector<SourceTensor>* tensors, LeftOutList* left_out)
    : tensors_(*tensors), left_out_(left_out), fates_(tensors->size()) {
  by_name_.reserve(tensors_.size());
  for (std::uint32_t i = 0; i < tensors_.size(); ++i) by_name_.emplace(tensors_[i].name, i);
}

std::uint32_t Pairing::Find(std::string_view name) const {
  const auto at = by_name_.find(name);
  return at == by_name_.end() ? kNone : at->second;
}

std::uint32_t Pairing::Find(std::string_view name, std::size_t keep, std::string_view rest) {
  buffer_.assign(name, 0, keep).append(rest);
  return Find(buffer_);
}

bool Pairing::IsRead(std::string_view name, std::size_t keep, std::string_view rest) {
  std::string whole(name.substr(0, keep));
  whole += rest;
  return std::any_of(kBehindCodes.begin(), kBehindCodes.end(), [&](std::string_view behind) {
    const std::uint32_t of = Find(whole, whole.size(), behind);
    return of != kNone && fates_[of] == Fate::kRead;
  });
}

void Pairing::LeaveOut(std::uint32_t i, std::string_view reason) {
  left_out_->Add("", tensors_[i].name, reason, /*warning=*/false);
  fates_[i] = Fate::kGoes;
}

bool Pairing::LeaveOutScale(std::uint32_t i) {
  const std::string_view name = tensors_[i].name;
  const std::size_t leaf_begin = LeafOf(name);
  const std::string_view leaf = name.substr(leaf_begin);
  if (tensors_[i].elems == 1 && IsAmong(kOfCaches, leaf)) {
    LeaveOut(i, "a scale of a cache or of attention");
    return true;
  }
  for (const std::string_view ending : kOfActivations) {
    if (!leaf.ends_with(ending)) continue;
    // Experts in one tensor have it behind their name: gate_up_proj_activation_scale.
    const bool is_leaf = leaf.size() == ending.size();
    if (!is_leaf && (leaf.size() < ending.size() + 2 || leaf[leaf.size() - ending.size() - 1] != '_')) continue;
    const bool read =
        is_leaf ? IsRead(name, leaf_begin, kWeightLeaf) : IsRead(name, name.size() - ending.size() - 1, "");
    if (!read) continue;
    LeaveOut(i, "a scale of activations");
    return true;
  }
  return false;
}

void Pairing::CloseUp() {
  by_name_.clear();  // its keys lie in the tensors
  for (auto& [i, name] : renamed_) tensors_[i].name = std::move(name);
  std::size_t kept = 0;
  for (std::size_t i = 0; i < tensors_.size(); ++i) {
    if (fates_[i] == Fate::kGoes) continue;
    if (kept != i) tensors_[kept] = std::move(tensors_[i]);
    ++kept;
  }
  tensors_.resize(kept);
}

}  // namespace q4
