// Runs every fuzz target over its corpus, without libFuzzer: fuzz_corpora FOLDER runs <target> over FOLDER/<target>/*
// and over the inputs in FOLDER/<target>.found (found_inputs.py). The former are also cut after each of their first
// bytes, as a damaged file is. A target that finds something ends the process.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

// fuzz_targets.inc, which the build writes, has a line Q4_FUZZ_TARGET(<target>) for each target. The build also gives
// each target's function the name declared here.
#define Q4_FUZZ_TARGET(target) extern "C" int q4_fuzz_##target(const std::uint8_t* data, std::size_t size);
#include "fuzz_targets.inc"
#undef Q4_FUZZ_TARGET

namespace {

struct Target {
  const char* name;
  int (*run)(const std::uint8_t* data, std::size_t size);
};

constexpr Target kTargets[] = {
#define Q4_FUZZ_TARGET(target) {#target, q4_fuzz_##target},
#include "fuzz_targets.inc"
#undef Q4_FUZZ_TARGET
};

constexpr std::size_t kMostCuts = 4096;

std::vector<std::uint8_t> BytesOf(const std::filesystem::path& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
}

// The inputs packed into the file, each behind its size.
std::vector<std::vector<std::uint8_t>> Unpack(const std::filesystem::path& path) {
  const std::vector<std::uint8_t> packed = BytesOf(path);
  std::vector<std::vector<std::uint8_t>> inputs;
  for (std::size_t at = 0; at < packed.size();) {
    if (packed.size() - at < 4) throw std::runtime_error(path.string() + " ends early");
    std::size_t size = 0;
    for (unsigned i = 0; i < 4; ++i) size |= std::size_t{packed[at + i]} << (8 * i);
    at += 4;
    if (packed.size() - at < size) throw std::runtime_error(path.string() + " ends early");
    const auto begin = packed.begin() + static_cast<std::ptrdiff_t>(at);
    inputs.emplace_back(begin, begin + static_cast<std::ptrdiff_t>(size));
    at += size;
  }
  return inputs;
}

// The number of runs.
std::size_t Replay(const Target& target, const std::filesystem::path& path) {
  const std::vector<std::uint8_t> input = BytesOf(path);
  std::printf("%s: %s, %zu bytes\n", target.name, path.filename().c_str(), input.size());
  std::fflush(stdout);  // so that a crash comes after the name of its input
  target.run(input.data(), input.size());
  const std::size_t cuts = std::min(input.size(), kMostCuts);
  for (std::size_t size = 0; size < cuts; ++size) {
    // Memory of exactly this size, so that a sanitizer sees the first byte too many.
    const std::vector<std::uint8_t> prefix(input.begin(), input.begin() + static_cast<std::ptrdiff_t>(size));
    target.run(prefix.data(), prefix.size());
  }
  return cuts + 1;
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
    return 1;
  }
  std::size_t inputs = 0;
  std::size_t runs = 0;
  for (const Target& target : kTargets) {
    std::set<std::filesystem::path> paths;
    for (const auto& entry : std::filesystem::directory_iterator(std::filesystem::path(argv[1]) / target.name)) {
      paths.insert(entry.path());
    }
    if (paths.empty()) {
      std::fprintf(stderr, "%s: no corpus\n", target.name);
      return 1;
    }
    for (const auto& path : paths) runs += Replay(target, path);
    const auto found = Unpack(std::filesystem::path(argv[1]) / (std::string(target.name) + ".found"));
    for (std::size_t i = 0; i < found.size(); ++i) {
      std::printf("%s: found %zu\n", target.name, i);
      std::fflush(stdout);
      target.run(found[i].data(), found[i].size());
    }
    inputs += paths.size() + found.size();
    runs += found.size();
  }
  std::printf("fuzz: %zu targets, %zu inputs, %zu runs\n", std::size(kTargets), inputs, runs);
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
