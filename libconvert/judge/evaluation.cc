#include "libconvert/judge/evaluation.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

namespace q4 {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// A new number is a row here, a row in docs/evaluate.md and in python/q4/_evaluation.py, and a property of two schemas.
constexpr std::array<EvaluationNumber, 15> kNumbers{{
    {"kl_mean", "KL divergence, mean (nats)", 0, kInfinity},
    {"kl_median", "KL divergence, median", 0, kInfinity},
    {"kl_p99", "KL divergence, 99th percentile", 0, kInfinity},
    {"kl_max", "KL divergence, largest", 0, kInfinity},
    {"top1_agreement", "same most likely token", 0, 1},
    {"perplexity_original", "perplexity of the original", 0, kInfinity},
    {"perplexity_quantized", "perplexity", 0, kInfinity},
    {"perplexity_ratio", "perplexity, ratio", 0, kInfinity},
    {"perplexity_ratio_low", "perplexity, ratio: 95 % from", 0, kInfinity},
    {"perplexity_ratio_high", "perplexity, ratio: 95 % to", 0, kInfinity},
    {"cosine_mean", "cosine of embeddings, mean", -1, 1},
    {"cosine_min", "cosine of embeddings, least", -1, 1},
    {"layer_error_mean", "error of layers' outputs, mean", 0, kInfinity},
    {"layer_error_median", "error of layers' outputs, median", 0, kInfinity},
    {"layer_error_max", "error of layers' outputs, largest", 0, kInfinity},
}};

}  // namespace

std::span<const EvaluationNumber> EvaluationNumbers() { return kNumbers; }

const EvaluationNumber* FindEvaluationNumber(std::string_view name) {
  const auto at =
      std::find_if(kNumbers.begin(), kNumbers.end(), [&](const auto& number) { return number.name == name; });
  return at == kNumbers.end() ? nullptr : &*at;
}

std::optional<double> Evaluation::Number(std::string_view number) const {
  for (const auto& [known, value] : numbers) {
    if (known->name == number) return value;
  }
  return std::nullopt;
}

std::vector<const EvaluatedLayer*> Evaluation::WorstLayers(std::size_t count) const {
  std::vector<const EvaluatedLayer*> worst;
  for (const EvaluatedLayer& layer : layers) worst.push_back(&layer);
  const auto rank = [](const EvaluatedLayer* layer) { return std::isnan(layer->error) ? kInfinity : layer->error; };
  std::stable_sort(worst.begin(), worst.end(), [&](const auto* a, const auto* b) { return rank(a) > rank(b); });
  if (worst.size() > count) worst.resize(count);
  return worst;
}

}  // namespace q4
