// The pieces that command lines are described of, for options.cc: what is checked of values, and the options that
// several tools have, with one meaning everywhere.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

namespace q4 {

inline constexpr double kNoLimit = std::numeric_limits<double>::infinity();

// What CLI11 reads as numbers is what C does, with octal, hexadecimal, signs, white space, infinity and NaN; --threads
// 010 would be 8. So what is a number is decided here, and what CLI11 then reads is plain.

// A size with a unit, as plain bytes, at least so many.
CLI::Validator SizeText(std::uint64_t least);
CLI::Validator Count(std::uint64_t least, std::uint64_t most);
CLI::Validator Number(double least, double most);

// One of the words, in upper or lower case: nobody means anything else by NF4 than by nf4. CLI11 stores the word as it
// stands in the list, where this is a transform().
CLI::Validator OneOf(const std::vector<std::string>& words);

// An option that may be given several times, one value each: CLI11 would take all words behind it, INPUT among them.
// The same option.
CLI::Option* Repeatable(CLI::Option* option);

// The heading in --help of the options that are added from here on.
void Group(CLI::App& app, const std::string& heading);
inline constexpr char kWork[] = "How the work is done";
inline constexpr char kMessages[] = "Messages";
inline constexpr char kMachines[] = "On many machines";

// The flags that all tools have.
void AddCommon(CLI::App& app, bool& quiet, bool& json, int& verbose);

// For the tools that work long.
CLI::Option* AddProgress(CLI::App& app, std::string& progress);

// What bounds the work, for the tools that do much of it.
void AddLimits(CLI::App& app, unsigned& threads, std::uint64_t& max_memory);

// Limits on the error: infinity and NaN would be none.
CLI::Option* AddLimit(CLI::App& app, const std::string& name, std::optional<double>& limit, double least,
                      const std::string& about);

// For tools that read a container: the model that it must be.
void AddRoot(CLI::App& app, std::string& root);

// For tools that write model cards.
CLI::Option* AddBaseModel(CLI::App& app, std::string& name);

}  // namespace q4
