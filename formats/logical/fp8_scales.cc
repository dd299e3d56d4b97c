// Shapes of weights and scales come from files: every product of them was checked against limits::kTensorElements by
// the reader, and nothing here divides by a dimension before it is known not to be 0.
#include "formats/logical/fp8_scales.h"

#include <algorithm>

namespace q4 {
namespace {

// Blocks of what writers use where they do not say so: DeepSeek's.
constexpr BlockSize kUsualBlock = {128, 128};

bool Covers(const BlockSize& block, std::uint64_t rows, std::uint64_t columns, std::uint64_t grid_rows,
            std::uint64_t grid_columns) {
  return (rows - 1) / block.first + 1 == grid_rows && (columns - 1) / block.second + 1 == grid_columns;
}

}  // namespace

bool FitScales(const Shape& weight, const Shape& scale, const Fp8Section& section, ScaledF8* out) {
  const std::size_t rank = weight.size();
  out->columns = rank >= 1 ? weight[rank - 1] : 1;
  out->rows = rank >= 2 ? weight[rank - 2] : 1;
  // One block, until the scales say otherwise; of an empty weight nothing is ever read.
  out->block_rows = std::max<std::uint64_t>(out->rows, 1);
  out->block_columns = std::max<std::uint64_t>(out->columns, 1);
  if (std::all_of(scale.begin(), scale.end(), [](std::uint64_t size) { return size == 1; })) return true;
  const bool is_empty = std::count(weight.begin(), weight.end(), 0u) + std::count(scale.begin(), scale.end(), 0u) != 0;
  if (rank < 2 || is_empty) return false;

  // One for each row of a matrix, or for each matrix.
  if (scale.size() == 1) {
    if (rank == 2 && scale[0] == out->rows) {
      out->block_rows = out->row_step = 1;
      return true;
    }
    out->matrix_step = 1;
    return rank == 3 && scale[0] == weight[0];
  }

  Shape grid = scale;
  if (rank == 2 && grid.size() == 4 && grid[1] == 1 && grid[3] == 1) grid = {grid[0], grid[2]};
  if (grid.size() != rank) return false;
  const std::uint64_t grid_rows = grid[rank - 2], grid_columns = grid[rank - 1];
  // All matrices have scales of their own, or share those of one.
  const auto lead = static_cast<std::ptrdiff_t>(rank - 2);
  if (std::equal(grid.begin(), grid.begin() + lead, weight.begin())) {
    out->matrix_step = grid_rows * grid_columns;
  } else if (!std::all_of(grid.begin(), grid.begin() + lead, [](std::uint64_t size) { return size == 1; })) {
    return false;
  }
  out->row_step = grid_columns;
  out->column_step = 1;
  const auto covers = [&](const BlockSize& block) {
    return Covers(block, out->rows, out->columns, grid_rows, grid_columns);
  };
  const auto named = std::find_if(section.blocks.begin(), section.blocks.end(), covers);
  if (named != section.blocks.end()) {
    out->block_rows = named->first;
    out->block_columns = named->second;
  } else if (section.blocks.empty() && covers(kUsualBlock)) {
    out->block_rows = kUsualBlock.first;
    out->block_columns = kUsualBlock.second;
  } else {
    if (out->rows % grid_rows != 0 || out->columns % grid_columns != 0) return false;
    out->block_rows = out->rows / grid_rows;
    out->block_columns = out->columns / grid_columns;
  }
  return true;
}

}  // namespace q4
