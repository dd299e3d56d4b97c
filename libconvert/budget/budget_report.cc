// Text and JSON are made of the same rows. Bits per weight have four decimals, as they are asked for; errors six
// digits.
#include "libconvert/budget/budget_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <string>

#include "formats/base/counted.h"
#include "formats/base/text.h"
#include "libconvert/base/text_table.h"
#include "libconvert/policy/policy.h"
#include "libconvert/scheme/treatment.h"

namespace q4 {
namespace {

double PerWeight(std::uint64_t bits, std::uint64_t elems) {
  return static_cast<double>(bits) / static_cast<double>(elems);
}

// Every tensor as it would be without a choice.
AllocatorOption UsualSum(const std::vector<MeasuredTensor>& tensors) {
  AllocatorOption sum;
  for (const MeasuredTensor& tensor : tensors) {
    sum.bits += tensor.usual().bits;
    sum.error += tensor.usual().error;
  }
  return sum;
}

// The same error as the report of a conversion has it: squared errors of all over squares of all.
double PooledNmse(const MadeChoice& made) {
  double error = 0, squares = 0;
  for (const BudgetItem& item : made.items) {
    for (const std::size_t t : item.tensors) {
      error += made.tensors[t].Find(item.ways[item.chosen])->squared_error;
      squares += made.tensors[t].squares;
    }
  }
  return error == 0 ? 0 : error / squares;
}

std::string UsualName(const ConvertOptions& options) {
  Q4Tensor tensor;
  static_cast<QuantFormat&>(tensor) = options.policy.defaults;
  tensor.encoder = options.policy.defaults.encoder;
  return TreatmentName(tensor);
}

std::string AskedText(const BudgetRequest& request) {
  std::string text;
  if (request.bits_per_weight) text = fmt::format("at most {} bits per weight", *request.bits_per_weight);
  if (request.nmse) text = fmt::format("an NMSE of at most {}", *request.nmse);
  if (request.keep_most_sensitive > 0) {
    text += fmt::format("{}{} % of the weights kept", text.empty() ? "" : ", ", request.keep_most_sensitive);
  }
  return text;
}

const SourceTensor& SourceOf(const MeasuredTensor& tensor) {
  return tensor.of->checkpoint->tensors()[tensor.candidate.source];
}

std::string NameOf(const MeasuredTensor& tensor, const MeasuredWay& way) {
  return TreatmentName(StoredAs(SourceOf(tensor), tensor.candidate, way.stored, *tensor.of->options));
}

// Tensors of two components may have one name.
std::string FullName(const MeasuredTensor& tensor) {
  const std::string& component = tensor.of->component;
  return (component.empty() ? "" : component + "/") + SourceOf(tensor).name;
}

// Why a tensor is what it is, where that was not the allocator.
std::string_view WhyOf(const MeasuredTensor& tensor, const BudgetItem& item) {
  if (tensor.nonfinite) return "not finite";
  if (tensor.candidate.fixed) return "recipe";
  return item.most_sensitive ? "most sensitive" : "";
}

}  // namespace

void ReportChoice(const MadeChoice& made, BudgetChoice* choice) {
  const AllocatorOption usual = UsualSum(made.tensors);
  const double usual_bits = PerWeight(usual.bits, made.elems);
  const double bits = PerWeight(made.allocation.bits, made.elems);

  struct Kind {
    std::size_t tensors = 0;
    std::uint64_t elems = 0, bits = 0;
    double error = 0;
  };
  std::map<std::string, Kind> kinds;
  // Items are in the order of their first tensors; people read the source's order.
  std::vector<std::pair<std::size_t, std::size_t>> order;  // tensor, item
  for (std::size_t i = 0; i < made.items.size(); ++i) {
    for (const std::size_t t : made.items[i].tensors) order.emplace_back(t, i);
  }
  std::sort(order.begin(), order.end());
  Table table({"<tensor", "<chosen", "bits/weight", "NMSE", "part of the error", "<"});
  Json rows = Json::array();
  for (const auto& [t, i] : order) {
    const MeasuredTensor& tensor = made.tensors[t];
    const BudgetItem& item = made.items[i];
    const std::string name = FullName(tensor);
    const MeasuredWay& way = *tensor.Find(item.ways[item.chosen]);
    const std::string treatment = NameOf(tensor, way);
    Kind& kind = kinds[treatment];
    ++kind.tensors;
    kind.elems += tensor.elems;
    kind.bits += way.bits;
    kind.error += way.error;
    const auto nmse = [&](const MeasuredWay& each) {
      return each.squared_error == 0 ? 0 : each.squared_error / tensor.squares;
    };
    const double part = made.allocation.error == 0 ? 0 : way.error / made.allocation.error;
    const std::string_view why = WhyOf(tensor, item);
    table.Add({Printable(name, kWholeName), treatment, fmt::format("{:.4f}", PerWeight(way.bits, tensor.elems)),
               fmt::format("{:.6f}", nmse(way)), fmt::format("{:.2f} %", 100 * part), std::string(why)});
    if (!made.request.wants_json) continue;
    Json row;
    row["name"] = name;
    row["weights"] = tensor.elems;
    row["chosen"] = treatment;
    row["bits_per_weight"] = PerWeight(way.bits, tensor.elems);
    row["nmse"] = nmse(way);
    row["reason"] = why.empty() ? Json(nullptr) : Json(why);
    // Tensors that are chosen alike have one number.
    row["group"] = i;
    Json options = Json::array();
    for (const MeasuredWay& each : tensor.ways) {
      Json option;
      option["treatment"] = NameOf(tensor, each);
      option["bits_per_weight"] = PerWeight(each.bits, tensor.elems);
      option["nmse"] = nmse(each);
      options.push_back(std::move(option));
    }
    row["options"] = std::move(options);
    rows.push_back(std::move(row));
  }
  choice->table = table.Text();

  const std::string usual_name = UsualName(*made.sources.front().options);
  std::string text = fmt::format("budget  {:.4f} bits per weight: NMSE {:.6f}", bits, made.allocation.error);
  if (usual.error > 0) {
    text += fmt::format(", {:.3f} of {} at {:.4f}", made.allocation.error / usual.error, usual_name, usual_bits);
  }
  text += fmt::format("\n        of {} in {}; asked: {}\n", Counted(made.elems, "weight"),
                      Counted(made.tensors.size(), "tensor"), AskedText(made.request));
  for (const auto& [name, kind] : kinds) {
    text +=
        fmt::format("        {:<14} {:>15} {:>7} of the weights {:>9.4f} bits  {:>7} of the error\n", name,
                    Counted(kind.tensors, "tensor"), fmt::format("{:.2f} %", 100 * PerWeight(kind.elems, made.elems)),
                    PerWeight(kind.bits, kind.elems),
                    fmt::format("{:.2f} %", made.allocation.error == 0 ? 0 : 100 * kind.error / made.allocation.error));
  }
  choice->text = std::move(text);

  if (!made.request.wants_json) return;
  Json json;
  const auto number_or_null = [](const std::optional<double>& value) { return value ? Json(*value) : Json(nullptr); };
  json["target_bits_per_weight"] = number_or_null(made.request.bits_per_weight);
  json["target_nmse"] = number_or_null(made.request.nmse);
  json["keep_most_sensitive"] = made.request.keep_most_sensitive;
  json["fused_alike"] = made.request.fused_alike;
  json["weights"] = made.elems;
  json["bits_per_weight"] = bits;
  json["nmse"] = made.allocation.error;
  json["pooled_nmse"] = PooledNmse(made);
  Json range;
  range["bits_per_weight"] =
      Json::array({PerWeight(made.range.least_bits, made.elems), PerWeight(made.range.most_bits, made.elems)});
  range["nmse"] = Json::array({made.range.least_error, made.range.most_error});
  json["range"] = std::move(range);
  Json uniform;
  uniform["treatment"] = usual_name;
  uniform["bits_per_weight"] = usual_bits;
  uniform["nmse"] = usual.error;
  json["uniform"] = std::move(uniform);
  if (made.sources.front().component.empty()) {
    json["recipe"] = RecipeText(choice->recipes.front());
  } else {
    Json recipes = Json::object();
    for (std::size_t s = 0; s < made.sources.size(); ++s) {
      recipes[made.sources[s].component] = RecipeText(choice->recipes[s]);
    }
    json["recipes"] = std::move(recipes);
  }
  json["tensors"] = std::move(rows);
  choice->json = std::make_shared<const Json>(std::move(json));
}

}  // namespace q4
