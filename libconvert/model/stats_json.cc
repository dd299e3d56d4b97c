// Scripts read these members by name and people read them from top to bottom, so the ratios stand before the sums that
// they are made of. The order here is the order in the reports: changing it changes their bytes. Doubles are printed
// with the digits that read back equal.
#include "libconvert/model/stats_json.h"

namespace q4 {

Json StatsJson(const Q4Stats& stats) {
  const DerivedStats derived = Derive(stats);
  Json json;
  // Doubles that are infinite or NaN need no check: the JSON library writes them as null.
  json["count"] = stats.count;
  json["nmse"] = derived.nmse;
  json["sqnr_db"] = derived.sqnr_db;
  json["mse"] = derived.mse;
  json["rmse"] = derived.rmse;
  json["bias"] = derived.bias;
  json["mae"] = derived.mae;
  json["cosine"] = derived.cosine;
  json["max_abs_err"] = stats.max_abs_err;
  json["max_abs_err_index"] = stats.max_abs_err_index;
  json["max_gap_ratio"] = stats.max_gap_ratio;
  json["worst_block"] = stats.worst_block;
  json["worst_block_e2"] = stats.worst_block_e2;
  json["zero_blocks"] = stats.zero_blocks;
  json["tiny_blocks"] = stats.tiny_blocks;
  json["clipped"] = stats.clipped;
  json["overflow"] = stats.overflow;
  json["hist"] = stats.hist;
  json["code_entropy_bits"] = CodeEntropyBits(stats);
  json["sum_e"] = stats.sum_e;
  json["sum_abs_e"] = stats.sum_abs_e;
  json["sum_e2"] = stats.sum_e2;
  json["sum_x2"] = stats.sum_x2;
  json["sum_xy"] = stats.sum_xy;
  return json;
}

Json ModelStatsJson(const ModelStats& model) {
  Json json = StatsJson(model.total);
  // After the totals, because the names only say where the maxima above are.
  json["tensors"] = model.tensors;
  json["max_abs_err_tensor"] = model.max_abs_err_tensor;
  json["max_gap_ratio_tensor"] = model.max_gap_ratio_tensor;
  json["worst_block_tensor"] = model.worst_block_tensor;
  return json;
}

Json ScaleSpreadJson(const ScaleSpread& spread) {
  Json json;
  json["count"] = spread.count;
  json["zeros"] = spread.zeros;
  json["min"] = spread.min;
  json["max"] = spread.max;
  json["negative"] = spread.negative;
  json["least_magnitude"] = spread.least_size;
  json["largest_magnitude"] = spread.greatest_size;
  // An array of pairs, not an object with exponents for keys: keys would be text, sorted "-1", "-10", "-2".
  json["by_exponent"] = Json::array();
  for (const auto& [exponent, count] : spread.by_exponent) {
    json["by_exponent"].push_back({{"exponent", exponent}, {"count", count}});
  }
  return json;
}

std::string JsonReportText(const Json& report) {
  return report.dump(2, ' ', true, Json::error_handler_t::replace) + "\n";
}

}  // namespace q4
